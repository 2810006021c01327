//! See `tests/properties/rows.rs`.
#![no_main]

#[path = "../../tests/properties/rows.rs"]
mod rows;

libfuzzer_sys::fuzz_target!(|input: &[u8]| rows::check(input));
