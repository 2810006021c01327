//! What the outside may see of a profile and of the daemon: numbers, names, sentences; never a token or a payload.

use serde::{Deserialize, Serialize};

use crate::op::{ErrorKind, Failure, Outcome, Reason};

/// `state` of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Everything that can be sent is sent.
    Idle,
    /// A pass is under way.
    Draining,
    /// The last pass failed; the next one waits.
    BackingOff,
    /// The server refuses the token.
    Unauthorized,
    /// The user keeps everything local.
    Local,
    /// No token.
    SignedOut,
    /// No server.
    NotConfigured,
    /// `pause` is in force.
    Paused,
    /// The profile's files cannot be used, or hold no queue.
    Unavailable,
    /// What waits is another account's.
    Held,
    /// No `canonical_id` yet.
    ProfileNotReady,
}

impl State {
    /// After a pass that ended so.
    pub fn after(outcome: &Outcome) -> Self {
        match (outcome.skipped, outcome.error.as_ref().map(|failure| failure.kind)) {
            (Some(reason), _) => Self::from(reason),
            (None, Some(ErrorKind::Unauthorized)) => Self::Unauthorized,
            (None, Some(_)) => Self::BackingOff,
            (None, None) => Self::Idle,
        }
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Idle => "up to date",
            Self::Draining => "sending",
            Self::BackingOff => "trying again",
            Self::Unauthorized => "the server refuses the token: sign in again from WaveFlow's settings",
            Self::Local => "kept local, as set in WaveFlow",
            Self::SignedOut => "signed out: sign in from WaveFlow's settings",
            Self::NotConfigured => "no server: enter its address in WaveFlow's settings",
            Self::Paused => "paused: go on with `waveflow-sync-agent resume`",
            Self::Unavailable => "its files cannot be used",
            Self::Held => "held back: queued under another account, or before this one signed in; see `queue list`",
            Self::ProfileNotReady => "not ready: start WaveFlow once with this profile",
        }
    }
}

impl From<Reason> for State {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::NotConfigured => Self::NotConfigured,
            Reason::SignedOut => Self::SignedOut,
            Reason::LocalMode => Self::Local,
            Reason::ProfileNotReady => Self::ProfileNotReady,
            Reason::NoQueue | Reason::Unavailable => Self::Unavailable,
            Reason::Paused => Self::Paused,
            Reason::Held => Self::Held,
        }
    }
}

/// One profile, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProfileStatus {
    /// Its number in the app.
    pub profile: i64,
    /// Its name in the app.
    pub name: String,
    /// What it is about.
    pub state: State,
    /// Rows waiting to be sent.
    pub pending: u64,
    /// Rows a server refused.
    pub quarantined: u64,
    /// Rows of another or an unknown account.
    pub held: u64,
    /// How long the oldest waiting row has waited.
    pub oldest_pending_s: Option<u64>,
    /// Ops the server accepted since the daemon started.
    pub sent_total: u64,
    /// When a pass last ended with nothing left, RFC 3339.
    pub last_success: Option<String>,
    /// What stopped the last pass.
    pub last_error: Option<Failure>,
    /// When the next try is due.
    pub next_attempt_in_s: Option<u64>,
    /// Where ops go.
    pub server: Option<String>,
    /// Whether the token says whose it is, so that no op goes out under another account than its own. `None`: nothing
    /// can be sent anyway.
    pub guarded: Option<bool>,
}

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Of the agent.
    pub version: &'static str,
    /// `None`: no daemon is running, this is what the files say.
    pub pid: Option<u32>,
    /// Of the daemon.
    pub uptime_s: Option<u64>,
    /// `pause` is in force.
    pub paused: bool,
    /// What is wrong with all profiles at once, if anything: no data directory, for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// By number.
    pub profiles: Vec<ProfileStatus>,
}

/// Milliseconds since the epoch as RFC 3339.
pub fn timestamp(ms: i64) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Next;

    #[test]
    fn every_reason_has_its_state_and_every_failure_too() {
        let skipped = |reason| State::after(&Outcome::skipped(reason));
        assert_eq!(skipped(Reason::LocalMode), State::Local);
        assert_eq!(skipped(Reason::NoQueue), State::Unavailable);
        let failed = |kind| {
            let outcome =
                Outcome { error: Some(Failure::new(kind, "")), next: Next::BackOff, ..Outcome::skipped(Reason::Held) };
            State::after(&Outcome { skipped: None, ..outcome })
        };
        assert_eq!(failed(ErrorKind::Unauthorized), State::Unauthorized);
        assert_eq!(failed(ErrorKind::Network), State::BackingOff);
    }
}
