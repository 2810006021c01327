//! The command line's side of the control socket. Blocking: a command has nothing else to do.

use std::fs::{self, Metadata};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::config::Control;
use crate::trust::{self, TrustError};

/// The longest answer that is read: a list of a few thousand ops fits.
pub(super) const ANSWER_MAX: u64 = 64 << 20;

/// What the daemon answered.
#[derive(Debug)]
pub struct Answer {
    /// As it came.
    pub line: String,
    /// As it reads.
    pub value: Value,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is behind the socket.
    #[error("no agent is running behind {path} ({source}); start one with `waveflow-sync-agent run`")]
    NoDaemon {
        /// The socket.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The socket is somebody else's.
    #[error("{path}: {source}")]
    NotPermitted {
        /// The socket.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended, or answered something else than JSON.
    #[error(
        "the agent behind {path} went away before it answered; its log says why, and `waveflow-sync-agent status` whether it is back"
    )]
    Ended {
        /// The socket.
        path: String,
    },
}

/// Sends `line` to the agent and reads the one answer. Where nobody is behind its socket, the other place it may have been
/// started with is tried.
///
/// # Errors
/// Nobody answers.
pub fn ask(control: &Control, line: &str) -> Result<Answer, ClientError> {
    let (stream, path) = connect(control)?;
    ask_on(stream, path, line, None)
}

/// What the agent behind `path` says to a `ping`; `None` where nobody does, or not within `patience`.
pub fn ping(path: &Path, patience: Duration) -> Option<Value> {
    let answer = ask_for(path, "ping", Some(patience)).ok()?;
    Some(answer.value).filter(|answer| answer["pong"] == true)
}

/// A connection to the agent, and where it was found: at its socket, else at the other place it may have been started with.
///
/// # Errors
/// Nobody is there, or not who should be.
pub fn connect(control: &Control) -> Result<(UnixStream, &Path), ClientError> {
    match (connect_to(&control.socket), &control.other) {
        // What is wrong with the other place is nobody's business: the first is where one is looked for.
        (Err(error @ ClientError::NoDaemon { .. }), Some(other)) => {
            connect_to(other).map(|stream| (stream, other.as_path())).map_err(|_| error)
        }
        (stream, _) => Ok((stream?, &control.socket)),
    }
}

/// Sends `line` to the agent behind `path`, and waits so long for the answer.
pub(crate) fn ask_for(path: &Path, line: &str, patience: Option<Duration>) -> Result<Answer, ClientError> {
    ask_on(connect_to(path)?, path, line, patience)
}

fn connect_to(path: &Path) -> Result<UnixStream, ClientError> {
    let shown = path.display().to_string();
    if is_strangers(path) {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user");
        return Err(ClientError::NotPermitted { path: shown, source });
    }
    UnixStream::connect(path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotPermitted { path: shown, source },
        _ => ClientError::NoDaemon { path: shown, source },
    })
}

fn ask_on(mut stream: UnixStream, path: &Path, line: &str, patience: Option<Duration>) -> Result<Answer, ClientError> {
    let ended = |_| ClientError::Ended { path: path.display().to_string() };
    stream.set_read_timeout(patience).map_err(ended)?;
    stream.write_all(line.as_bytes()).and_then(|()| stream.write_all(b"\n")).map_err(ended)?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut answer).map_err(ended)?;
    Answer::read(answer).ok_or(ClientError::Ended { path: path.display().to_string() })
}

impl Answer {
    /// `None`: it is no document, or not all of one.
    pub(super) fn read(line: String) -> Option<Self> {
        let value = serde_json::from_str(&line).ok()?;
        Some(Self { line, value })
    }
}

/// Whoever made the socket answers what he likes: that all is delivered, or paused. Root may ask anybody.
fn is_strangers(path: &Path) -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    let theirs = |found: io::Result<Metadata>| found.is_ok_and(|found| !trust::is_trusted(found.uid()));
    let way = path.parent().map(trust::check_way);
    // The link as well as what is behind it: what is looked at is what is connected to.
    matches!(way, Some(Err(TrustError::Stranger { .. })))
        || theirs(fs::symlink_metadata(path))
        || theirs(fs::metadata(path))
}
