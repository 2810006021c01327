//! The hook, the agent and the reference server together.
//!
//! What must always hold: the agent is the real one, optimised, with its file watch off and its timer an hour away, so that
//! an op that arrives was told of by the hook; where a program is missing the test says so.

#![cfg(test)]

mod common;

mod burst;
mod checkpoints;
mod hooks;
mod latency;
mod overhead;
