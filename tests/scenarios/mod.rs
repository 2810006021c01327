//! The scenarios, one file for each subject.

mod accounts;
mod bad_input;
mod conflicts;
mod delivery;
mod gates;
mod kill;
mod memory;
mod quarantine;
mod secrets;
mod sigkill;
mod strangers;
mod tls;
mod unnoticed;
mod usage;
