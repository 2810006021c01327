//! Signals, as something to wait for: SIGTERM and SIGINT end the agent, SIGHUP reloads and drains; a command may want others.

use std::io;
use std::os::unix::net::UnixStream as StdStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// Registered signals that ask for the same. Those that end the agent are apart from the others, so that they can be
/// waited for whatever else is under way.
#[derive(Debug)]
pub struct Signals(UnixStream);

impl Signals {
    /// Registers those that end the agent, for the rest of the process.
    pub fn stops() -> io::Result<Self> {
        listen(&[SIGTERM, SIGINT]).map(Self)
    }

    /// Registers the one to read the configuration again, and drain; for the rest of the process.
    pub fn reloads() -> io::Result<Self> {
        listen(&[SIGHUP]).map(Self)
    }

    /// Registers these, for the rest of the process.
    pub fn of(signals: &[i32]) -> io::Result<Self> {
        listen(signals).map(Self)
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        // One byte a signal, so that a second SIGTERM is a second one. The other end lives as long as the process.
        let _ = self.0.read(&mut [0]).await;
    }
}

fn listen(signals: &[i32]) -> io::Result<UnixStream> {
    let (ours, handlers) = StdStream::pair()?;
    for signal in signals {
        pipe::register(*signal, handlers.try_clone()?)?;
    }
    ours.set_nonblocking(true)?;
    UnixStream::from_std(ours)
}
