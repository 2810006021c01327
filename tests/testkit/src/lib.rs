//! A made-up desktop app and a reference waveflow-server, for the agent's tests.

pub mod data_dir;
mod error;
pub mod http;
pub mod ops;
pub mod server;
mod sync;
pub mod time;
pub mod token;

pub use error::{Error, Result};
