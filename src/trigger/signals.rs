//! Signals, as something to wait for: SIGTERM and SIGINT end the agent, SIGHUP reloads and drains.

use std::io;
use std::os::unix::net::UnixStream as StdStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End.
    Stop,
    /// Read the configuration again, and drain.
    Reload,
}

/// Registered signals.
#[derive(Debug)]
pub struct Signals {
    stop: UnixStream,
    reload: UnixStream,
}

impl Signals {
    /// Registers them for the rest of the process.
    pub fn register() -> io::Result<Self> {
        Ok(Self { stop: listen(&[SIGTERM, SIGINT])?, reload: listen(&[SIGHUP])? })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        // One byte a signal, so that a second SIGTERM is a second one.
        let (mut a, mut b) = ([0], [0]);
        tokio::select! {
            _ = self.stop.read(&mut a) => Signal::Stop,
            _ = self.reload.read(&mut b) => Signal::Reload,
        }
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
