//! Living under a service manager: what the agent is given at its start, and what it tells while it runs.
//!
//! What must always hold: none of it is needed; the same binary does the same work in a terminal.

pub mod activation;
pub mod headline;
pub mod manager;
