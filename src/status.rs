//! What the outside may see of a profile and of the daemon: numbers, names, sentences; never a token or a payload.

use std::fmt::Write as _;

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

/// The status as people read it: one block, the answer first. `status` is the document of the socket, so that a newer
/// or older daemon's is shown too.
pub fn for_people(status: &serde_json::Value) -> String {
    let number = |value: &serde_json::Value, key: &str| value[key].as_u64().unwrap_or(0);
    let profiles = status["profiles"].as_array().map(Vec::as_slice).unwrap_or_default();
    let sum = |key: &str| profiles.iter().map(|profile| number(profile, key)).sum::<u64>();
    let (pending, quarantined, held) = (sum("pending"), sum("quarantined"), sum("held"));
    let mut text = String::new();
    if let Some(problem) = status["problem"].as_str() {
        let _ = writeln!(text, "{problem}");
    } else if profiles.iter().any(|profile| profile["state"] == "unavailable") {
        // Nobody looked into these, so nobody knows.
        text.push_str("Not every profile's files can be read, so what waits in them is not known.\n");
    } else if pending + quarantined + held == 0 {
        text.push_str("Everything is on the server.\n");
    } else {
        let _ = writeln!(
            text,
            "Not everything is on the server: {pending} waiting, {held} held back, {quarantined} refused."
        );
    }
    for profile in profiles {
        let state = serde_json::from_value(profile["state"].clone()).unwrap_or(State::Unavailable);
        let name = profile["name"].as_str().unwrap_or_default().replace(char::is_control, " ");
        let _ = write!(text, "Profile {} “{name}”: {}", number(profile, "profile"), State::words(state));
        for (key, what) in [("pending", "waiting"), ("held", "held back"), ("quarantined", "refused")] {
            if number(profile, key) > 0 {
                let _ = write!(text, ", {} {what}", number(profile, key));
            }
        }
        if let Some(seconds) = profile["next_attempt_in_s"].as_u64() {
            let _ = write!(text, ", next try in {seconds} s");
        }
        text.push('\n');
        if let Some(message) = profile["last_error"]["message"].as_str() {
            let _ = writeln!(text, "  {message}");
        }
        if profile["guarded"] == false {
            text.push_str("  Its token does not say whose it is: ops go out under it whoever queued them.\n");
        }
    }
    text
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

    #[test]
    fn the_answer_comes_first() {
        let profile = serde_json::json!({"profile": 1, "name": "A\u{1b}[2J", "state": "backing_off", "pending": 3, "quarantined": 1,
            "held": 0, "next_attempt_in_s": 4, "last_error": {"kind": "network", "message": "no route"}});
        let text = for_people(&serde_json::json!({"profiles": [profile]}));
        assert!(text.starts_with("Not everything is on the server: 3 waiting, 0 held back, 1 refused.\n"));
        assert!(text.contains("3 waiting, 1 refused, next try in 4 s\n  no route\n"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert!(!text.contains("whoever queued"));
        let unguarded = serde_json::json!({"profile": 1, "name": "A", "state": "idle", "guarded": false});
        assert!(for_people(&serde_json::json!({"profiles": [unguarded]})).contains("whoever queued them"));
        let unreadable = serde_json::json!({"profile": 2, "name": "B", "state": "unavailable", "pending": 0});
        let text = for_people(&serde_json::json!({"profiles": [unreadable]}));
        assert!(text.starts_with("Not every profile's files can be read"), "{text}");
        let text = for_people(&serde_json::json!({"profiles": []}));
        assert!(text.starts_with("Everything is on the server."));
    }
}
