//! See `tests/properties/configuration.rs`.
#![no_main]

#[path = "../../tests/properties/configuration.rs"]
mod configuration;

libfuzzer_sys::fuzz_target!(|input: &[u8]| configuration::check(input));
