//! What must hold of whatever comes from outside, for any bytes: one property function for each way in.
//!
//! What must always hold: a function panics where its property is broken, and for no other reason; each file stands by
//! itself, because the fuzzer (`fuzz/`) includes it in a program of its own. `scenarios/corpus.rs` shows them every
//! committed input.

pub(crate) mod configuration;
pub(crate) mod lines;
pub(crate) mod record;
pub(crate) mod replies;
pub(crate) mod rows;
