//! The decisions of a drain, pure: no socket, no file, no clock, no randomness of its own.
//!
//! [`Pass`] is a state machine over two lanes, the database and the wire, with one thing under way on each at most.
//! [`Pass::next`] says what to do, [`Pass::on`] is told what came of it. Read in this order: [`action`] (what goes in
//! and out), [`gate`], [`pass`] (the stream of batches), [`verdict`] (what an answer means), `reply` (what the pass does
//! about it), [`run`] and `settlement` (what leaves the queue, and when), `suspect` (who is to blame), `ending`,
//! [`memory`] and [`backoff`] (what outlives a pass), [`guard`] (whose a row is), [`admission`] (which rows take part),
//! [`clock`] (fresh stamps).
//!
//! What must always hold: an op is acknowledged only when the server named it; order on the wire is queue order but for
//! ops released from quarantine, hold or suspicion; every pass ends.

pub mod action;
pub mod admission;
pub mod backoff;
pub mod clock;
pub mod ending;
pub mod gate;
pub mod guard;
pub mod memory;
pub mod pass;
mod reply;
pub mod run;
mod settlement;
mod suspect;
pub mod verdict;

#[cfg(test)]
mod tests;

pub use pass::{Pass, Rules};
