//! The nouns of an op's way: [`Op`], [`Batch`], [`Reply`], [`Outcome`]. Data only; nobody here decides or performs.
//!
//! What must always hold: an [`Op`] carries no payload and no text of the user's, so that nothing that prints one can
//! leak it. Payloads live in [`Batch::body`] alone, which has no `Debug` that shows it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Stamps lie in `1..STAMP_LIMIT`: the later server refuses anything above for ever (contract, section 3).
pub const STAMP_LIMIT: i64 = 1 << 31;

/// The server takes at most this many ops in a request (contract, section 3).
pub const SERVER_MAX_OPS: usize = 1024;

/// The server takes at most this many bytes in a request (contract, section 3).
pub const SERVER_MAX_BYTES: usize = 2_097_152;

/// The idempotency key of an op, as the queue holds it. Compared with the server's answers as a UUID, and with the
/// queue's rows as the text it was.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OperationId {
    /// The text is the UUID's canonical form: lower case, with hyphens.
    Canonical(Uuid),
    /// Any other text: a UUID written otherwise, or none at all.
    Other(Box<str>),
}

impl OperationId {
    /// Takes the text as the queue holds it.
    pub fn new(text: &str) -> Self {
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase()) => Self::Canonical(uuid),
            _ => Self::Other(text.into()),
        }
    }

    /// The UUID this names, if it names one.
    pub fn uuid(&self) -> Option<Uuid> {
        match self {
            Self::Canonical(uuid) => Some(*uuid),
            Self::Other(text) => Uuid::try_parse(text).ok(),
        }
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canonical(uuid) => write!(f, "{}", uuid.hyphenated()),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A hybrid logical clock reading: `wall` in ms since the epoch, `logical` a counter within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// Milliseconds since the epoch.
    pub wall: i64,
    /// Counter within `wall`, `0..2^31`.
    pub logical: i64,
}

/// One row of the queue, without what the user wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Place in the queue; rises, and is never reused within one file.
    pub id: i64,
    /// Idempotency key.
    pub operation_id: OperationId,
    /// Lamport stamp.
    pub stamp: i64,
    /// The pair it is sent with; `None` where it is sent without `hlc`.
    pub pair: Option<Pair>,
    /// The contract says that a server refuses this op for ever; it travels alone.
    pub doomed: bool,
    /// No row that stays behind lies between it and the op before it in its batch.
    pub follows: bool,
    /// What it takes in the request, in bytes.
    pub bytes: usize,
    /// When the app queued it, ms since the epoch.
    pub queued_at: i64,
}

/// Rows that travel in one request, and the request.
#[derive(Clone, Default)]
pub struct Batch {
    /// In queue order.
    pub ops: Vec<Op>,
    /// The whole request body.
    pub body: Bytes,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("ops", &self.ops.len()).field("bytes", &self.body.len()).finish()
    }
}

/// What came back for a request, read but not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// 200 with `{"accepted":[…]}`: the operation ids named, in the server's order.
    Accepted(Vec<Uuid>),
    /// 409 `lamport_regression`.
    Regression {
        /// The device it is about.
        device_id: String,
        /// Highest stamp stored for that device; any `i64`.
        stored_max: i64,
        /// The first stamp that is taken.
        offending: i64,
    },
    /// 409 `hlc_regression`.
    PairRegression {
        /// The device it is about.
        device_id: String,
        /// The first pair that is taken; 0/0 where the op was sent without one.
        offending: Pair,
    },
    /// A whole answer that is none of the above: any other status, or a 200 or 409 with another body.
    Status {
        /// HTTP status code.
        status: u16,
        /// `Retry-After`, capped by nobody yet.
        retry_after: Option<Duration>,
        /// For people: the server's sentence, or what kind of page this was. One short line, without secrets.
        words: String,
    },
    /// No whole answer.
    Failed {
        /// What failed.
        kind: FailedKind,
        /// For people: what failed, on which host. One short line, without secrets.
        words: String,
    },
}

/// Why there is no whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedKind {
    /// Name resolution, connecting, a proxy's refusal, a connection lost while waiting or reading.
    Network,
    /// The connection broke while the request was being sent (a slow uplink behind a proxy's timer looks like this).
    Sending,
    /// The TLS handshake failed: certificate, name, version.
    Tls,
    /// The request took longer than allowed.
    Timeout,
    /// Connecting took longer than allowed: says nothing of how much passes.
    Unreachable,
    /// The answer was longer than an answer of this server can be, or was not HTTP.
    NotHttp,
    /// We refused to send: plain http under `require_tls`.
    Refused,
}

/// `error.kind` of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No connection, or it broke.
    Network,
    /// Certificate, name or version.
    Tls,
    /// Took too long.
    Timeout,
    /// 401 or 403.
    Unauthorized,
    /// The server refused these ops.
    Rejected,
    /// The server failed: 408, 429, 5xx.
    Server,
    /// Whatever answered is no waveflow-server.
    NotTheServer,
    /// Stamps keep being taken.
    Clock,
    /// The app's files could not be read or written.
    Database,
}

/// Why a pass ended before everything was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// For programs.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
}

impl Failure {
    /// Both halves.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// `reason` of the interface: why a profile was not drained at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No server URL.
    NotConfigured,
    /// No token.
    SignedOut,
    /// The user keeps everything local.
    LocalMode,
    /// `canonical_id` is still NULL.
    ProfileNotReady,
    /// No queue table.
    NoQueue,
    /// `pause` is in force.
    Paused,
    /// Every row waits for another account, or for a person.
    Held,
    /// The profile's files cannot be used.
    Unavailable,
}

/// How a pass over one profile ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `None`: drained. Else why nothing was tried.
    pub skipped: Option<Reason>,
    /// Ops the server accepted in this pass.
    pub sent: u64,
    /// Rows still waiting to be sent; quarantined and held ones are not among them.
    pub remaining: u64,
    /// Rows that a server refused, with proof.
    pub quarantined: u64,
    /// Rows of another or an unknown account.
    pub held: u64,
    /// When the oldest row that waits to be sent was queued, ms since the epoch.
    pub oldest: Option<i64>,
    /// What stopped the pass, or what is behind `skipped`, for people.
    pub error: Option<Failure>,
    /// When the next pass makes sense.
    pub next: Next,
}

impl Outcome {
    /// Nothing was tried.
    pub fn skipped(reason: Reason) -> Self {
        Self {
            skipped: Some(reason),
            sent: 0,
            remaining: 0,
            quarantined: 0,
            held: 0,
            oldest: None,
            error: None,
            next: Next::WhenWoken,
        }
    }
}

/// When the next pass over a profile makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// When something was committed, or somebody asks.
    WhenWoken,
    /// At once: the account or the file changed under the pass.
    Now,
    /// When the server's back-off allows it.
    BackOff,
    /// When this profile's own back-off allows it: its files, its clock or one of its ops may be the trouble, and not the
    /// server. Other profiles go on.
    LocalBackOff,
    /// The server named the time; nothing cuts it short.
    RetryAfter(Duration),
    /// After `retry.max`: whatever answers there is no waveflow-server.
    Slow,
    /// When the token changes, else after `retry.max`.
    NewToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_id_is_compared_as_a_uuid_and_printed_as_it_was() {
        let canonical = OperationId::new("00000000-0000-4000-8000-0000000000ab");
        assert!(matches!(canonical, OperationId::Canonical(_)));
        for text in ["00000000-0000-4000-8000-0000000000AB", "000000000000400080000000000000ab"] {
            let other = OperationId::new(text);
            assert_eq!(other.uuid(), canonical.uuid());
            assert_ne!(other, canonical);
            assert_eq!(other.to_string(), text);
        }
        assert_eq!(OperationId::new("not a uuid").uuid(), None);
    }

    #[test]
    fn a_batch_never_prints_its_body() {
        let batch = Batch { ops: Vec::new(), body: Bytes::from_static(b"secret payload") };
        assert!(!format!("{batch:?}").contains("secret"));
    }
}
