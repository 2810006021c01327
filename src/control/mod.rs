//! The control socket: one command a line, one JSON object a line.
//!
//! What must always hold: only the owner (and root) is heard; every line, client, and wait has a limit; a client that
//! stalls, floods or vanishes costs nobody else anything.
//!
//! Reading order: [`lines`] (bytes to lines), [`command`] (lines to commands), [`socket`] (making and finding the socket),
//! [`door`] (who is let in), [`reception`] (who answers), [`server`] (what is answered), [`client`],
//! [`stream`] (a client that waits for more than one thing).

pub mod client;
pub mod command;
pub mod door;
pub mod lines;
pub mod reception;
pub mod server;
pub mod socket;
pub mod stream;
