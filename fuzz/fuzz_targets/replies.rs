//! See `tests/properties/replies.rs`.
#![no_main]

#[path = "../../tests/properties/replies.rs"]
mod replies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| replies::check(input));
