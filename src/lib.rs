//! Delivers the operations the `WaveFlow` desktop app has queued to the user's waveflow-server.

pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod drain;
pub mod exit;
pub mod lock;
pub mod log;
pub mod op;
pub mod push;
pub mod queue;
pub mod record;
pub mod state;
pub mod status;
pub mod survey;
pub mod token;
pub mod trigger;
pub mod worker;
