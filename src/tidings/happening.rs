//! What can happen to a profile, as data and as the line that `watch` writes. Pure.
//!
//! What must always hold: each line is one JSON object with `event`; what happened to a profile has `profile` and `time` too;
//! fields are added, never renamed.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::op::{ErrorKind, Outcome};
use crate::status::State;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// A pass began.
    PassStarted,
    /// A batch was sent, and answered or not.
    BatchSent {
        /// Ops in it.
        ops: usize,
        /// Bytes of the request's body.
        bytes: usize,
        /// The status, or what came instead.
        answer: AnswerKind,
        /// Ops that the answer named as accepted.
        accepted: usize,
        /// From sending to the answer.
        took_s: f64,
        /// For each op that was accepted, from its commit to the answer; where the clocks agree, and not where they cannot.
        #[serde(skip)]
        waited_s: Vec<f64>,
    },
    /// Accepted ops left the queue.
    Settled {
        /// How many.
        ops: usize,
        /// One short transaction, from asking for it to its commit.
        took_s: f64,
    },
    /// Stamps were taken, so that rows get fresh ones.
    Restamped {
        /// Whose.
        clock: ClockKind,
    },
    /// A server refused an op, with proof.
    Quarantined {
        /// Which one.
        operation_id: String,
        /// The server's words, or ours.
        message: String,
    },
    /// An op that is in quarantine was tried again, and refused again.
    StillRefused {
        /// Which one.
        operation_id: String,
        /// The server's words, or ours.
        message: String,
    },
    /// The pass is over.
    PassEnded {
        /// `drained` or `skipped`.
        outcome: &'static str,
        /// Why, where it is `skipped`.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<crate::op::Reason>,
        /// Ops the server accepted in it.
        sent: u64,
        /// Rows still waiting.
        remaining: u64,
        /// Rows a server refused.
        quarantined: u64,
        /// Rows of another or an unknown account.
        held: u64,
        /// What stopped it.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<crate::op::Failure>,
        /// From its begin.
        took_s: f64,
    },
    /// The next try waits.
    BackingOff {
        /// For so long.
        wait_s: f64,
        /// Because of this.
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<ErrorKind>,
    },
    /// What it is about has changed.
    StateChanged {
        /// From.
        from: State,
        /// To.
        to: State,
    },
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerKind {
    /// An HTTP status.
    Status(u16),
    /// None, and why.
    None(&'static str),
}

impl fmt::Display for AnswerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::None(why) => f.write_str(why),
        }
    }
}

impl Serialize for AnswerKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Status(status) => serializer.serialize_u16(*status),
            Self::None(why) => serializer.serialize_str(why),
        }
    }
}

/// Which clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockKind {
    /// Lamport stamps.
    Lamport,
    /// Hybrid pairs.
    Hybrid,
}

impl Happening {
    /// The end of a pass.
    pub fn ended(outcome: &Outcome, took: Duration) -> Self {
        Self::PassEnded {
            outcome: if outcome.skipped.is_some() { "skipped" } else { "drained" },
            reason: outcome.skipped,
            sent: outcome.sent,
            remaining: outcome.remaining,
            quarantined: outcome.quarantined,
            held: outcome.held,
            error: outcome.error.clone(),
            took_s: took.as_secs_f64(),
        }
    }

    /// As `watch` writes it, without the line's end.
    pub fn line(&self, profile: i64, time: &str) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(fields) = &mut value {
            fields.insert("profile".to_owned(), profile.into());
            fields.insert("time".to_owned(), time.into());
        }
        value.to_string()
    }
}

/// The line that stands for so many that a slow listener lost.
pub fn dropped(count: u64) -> String {
    json!({"event": "dropped", "count": count}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Failure, Next, Reason};

    #[test]
    fn a_line_is_one_object_with_event_profile_and_time() {
        let sent = Happening::BatchSent {
            ops: 2,
            bytes: 300,
            answer: AnswerKind::Status(409),
            accepted: 0,
            took_s: 0.5,
            waited_s: vec![1.0],
        };
        let line = sent.line(7, "2026-01-01T00:00:00Z");
        let value: Value = serde_json::from_str(&line).unwrap();
        let expected = json!({"event": "batch_sent", "profile": 7, "time": "2026-01-01T00:00:00Z", "ops": 2, "bytes": 300,
            "answer": 409, "accepted": 0, "took_s": 0.5});
        assert_eq!(value, expected);
        assert!(!line.contains('\n'));
    }

    #[test]
    fn the_end_of_a_pass_says_what_drain_now_says() {
        let skipped = Happening::ended(&Outcome::skipped(Reason::SignedOut), Duration::ZERO);
        let value = serde_json::to_value(skipped).unwrap();
        assert_eq!((&value["outcome"], &value["reason"]), (&"skipped".into(), &"signed_out".into()));
        let failed = Outcome {
            skipped: None,
            remaining: 3,
            error: Some(Failure::new(ErrorKind::Network, "no route")),
            next: Next::BackOff,
            ..Outcome::skipped(Reason::Held)
        };
        let value = serde_json::to_value(Happening::ended(&failed, Duration::from_secs(2))).unwrap();
        assert_eq!(value["error"], json!({"kind": "network", "message": "no route"}));
        assert_eq!((&value["outcome"], &value["took_s"]), (&"drained".into(), &2.0.into()));
        assert!(value.get("reason").is_none());
    }
}
