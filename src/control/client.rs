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
const ANSWER_MAX: u64 = 64 << 20;

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
    #[error("the agent behind {path} went away before it answered")]
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
    let answer = ask_at(&control.socket, line);
    match (&answer, &control.other) {
        (Err(ClientError::NoDaemon { .. }), Some(other)) => match ask_at(other, line) {
            Err(ClientError::NoDaemon { .. } | ClientError::NotPermitted { .. }) => answer,
            found => found,
        },
        _ => answer,
    }
}

/// What the agent behind `path` says to a `ping`; `None` where nobody does, or not within `patience`.
pub fn ping(path: &Path, patience: Duration) -> Option<Value> {
    ask_for(path, "ping", Some(patience)).ok().map(|answer| answer.value).filter(|answer| answer["pong"] == true)
}

fn ask_at(path: &Path, line: &str) -> Result<Answer, ClientError> {
    ask_for(path, line, None)
}

/// Sends `line` to the agent behind `path`, and waits so long for the answer.
pub(crate) fn ask_for(path: &Path, line: &str, patience: Option<Duration>) -> Result<Answer, ClientError> {
    let shown = path.display().to_string();
    if is_strangers(path) {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user");
        return Err(ClientError::NotPermitted { path: shown, source });
    }
    let mut stream = UnixStream::connect(path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotPermitted { path: shown.clone(), source },
        _ => ClientError::NoDaemon { path: shown.clone(), source },
    })?;
    let ended = |_| ClientError::Ended { path: shown.clone() };
    stream.set_read_timeout(patience).map_err(ended)?;
    stream.write_all(line.as_bytes()).and_then(|()| stream.write_all(b"\n")).map_err(ended)?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut answer).map_err(ended)?;
    match serde_json::from_str(&answer) {
        Ok(value) => Ok(Answer { line: answer, value }),
        Err(_) => Err(ClientError::Ended { path: shown }),
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
