//! The scenarios, one file for each subject.

mod accounts;
mod bad_input;
mod conflicts;
mod daemon_drain_now;
mod daemon_latency;
mod daemon_server;
mod delivery;
mod gates;
mod kill;
mod quarantine;
mod sigkill;
mod strangers;
mod tls;
mod unnoticed;
mod usage;
