//! See `tests/properties/record.rs`.
#![no_main]

#[path = "../../tests/properties/record.rs"]
mod record;

libfuzzer_sys::fuzz_target!(|input: &[u8]| record::check(input));
