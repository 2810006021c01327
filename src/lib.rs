//! Delivers the operations the WaveFlow desktop app has queued to the user's waveflow-server.

pub mod op;
pub mod push;
pub mod token;
