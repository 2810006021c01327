//! See `tests/properties/lines.rs`.
#![no_main]

#[path = "../../tests/properties/lines.rs"]
mod lines;

libfuzzer_sys::fuzz_target!(|input: &[u8]| lines::check(input));
