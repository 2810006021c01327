//! One reply, one verdict: the table that says what an answer means for the ops that were sent. Pure and total.
//!
//! What must always hold: nothing but a 200 that names an op settles it, and what is not certainly a waveflow-server's
//! answer never counts against an op.

use std::collections::HashSet;
use std::time::Duration;

use uuid::Uuid;

use super::backoff::NAMED_LEAST;
use crate::op::{ErrorKind, FailedKind, Op, Pair, Reply};

/// `Retry-After` is believed up to this: a proxy's "tomorrow" must not stop a user's sync for a day.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What a reply means for the batch it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// These ops are stored.
    Accepted(Named),
    /// A stamp is taken: observe and re-stamp. `stored_max` is `None` where it must not be believed.
    Regression {
        /// Highest stamp stored, where it can be believed.
        stored_max: Option<i64>,
        /// The stamp that is taken.
        offending: i64,
        /// Becomes the row's `last_error`.
        words: String,
    },
    /// A pair is taken.
    PairRegression {
        /// The pair that is taken; 0/0 for an op sent without one.
        offending: Pair,
        /// Becomes the row's `last_error`.
        words: String,
    },
    /// 400, 413, 415, 422: one of these ops is refused, or all are too long together.
    Refused {
        /// 413: less at a time may pass.
        too_large: bool,
        /// The server's words.
        words: String,
    },
    /// 500: passing or for ever; only trying again, alone, tells.
    Broken(String),
    /// 401, 403.
    Unauthorized(String),
    /// It took too long, or broke while sending: perhaps the batch is too long for this uplink.
    Slow(ErrorKind, String),
    /// Not now.
    Later {
        /// What to report.
        kind: ErrorKind,
        /// What to report.
        words: String,
        /// The server named the time.
        retry_after: Option<Duration>,
        /// Whether the rows are marked with it.
        mark: bool,
    },
    /// Whatever answered is no waveflow-server. `lasting`: it will hardly become one within minutes.
    NotTheServer {
        /// What it looked like.
        words: String,
        /// Wait `retry.max` at once.
        lasting: bool,
    },
}

/// The ops a server named, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named(Vec<Uuid>);

impl Named {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which of `ops` are among them, one by one.
    pub fn among(&self, ops: &[Op]) -> Vec<bool> {
        named_among(&self.0, ops.iter().map(|op| op.operation_id.uuid()))
    }
}

/// Which of `ids` are among those that were `named`, one by one.
pub fn named_among(named: &[Uuid], ids: impl ExactSizeIterator<Item = Option<Uuid>> + Clone) -> Vec<bool> {
    // As a server usually does: all of them, in the order in which they were sent.
    if named.len() == ids.len() && named.iter().zip(ids.clone()).all(|(name, id)| id == Some(*name)) {
        return vec![true; ids.len()];
    }
    let named: HashSet<&Uuid> = named.iter().collect();
    ids.map(|id| id.is_some_and(|id| named.contains(&id))).collect()
}

/// Judges `reply` to a batch sent as `device`.
pub fn judge(reply: Reply, device: &str) -> Verdict {
    match reply {
        Reply::Accepted(ids) => Verdict::Accepted(Named(ids)),
        Reply::Regression { device_id, .. } | Reply::PairRegression { device_id, .. } if device_id != device.trim() => {
            strange_conflict("the 409 is about another device".to_owned())
        }
        Reply::Regression { stored_max, offending, .. } => Verdict::Regression {
            stored_max: (stored_max < crate::op::STAMP_LIMIT).then_some(stored_max),
            offending,
            words: format!("409 lamport_regression: stamp {offending} is taken, the server has seen {stored_max}"),
        },
        Reply::PairRegression { offending, .. } => Verdict::PairRegression {
            offending,
            words: format!("409 hlc_regression: pair {}/{} is taken", offending.wall, offending.logical),
        },
        Reply::Status { status, retry_after, words } => judge_status(status, retry_after, &words),
        Reply::Failed { kind, words } => judge_failure(kind, words),
    }
}

/// For how long the server asks to be left alone in `reply`: known before the pass is over, lest another one begins.
pub fn named_time(reply: &Reply) -> Option<Duration> {
    match reply {
        Reply::Status { status: 429 | 501..=599, retry_after: Some(wait), .. } if *wait >= NAMED_LEAST => {
            Some((*wait).min(RETRY_AFTER_MAX))
        }
        _ => None,
    }
}

fn judge_status(status: u16, retry_after: Option<Duration>, words: &str) -> Verdict {
    let said = if words.is_empty() { status.to_string() } else { format!("{status}: {words}") };
    match status {
        200 => Verdict::NotTheServer { words: format!("answered 200 with {words}"), lasting: false },
        300..=399 => Verdict::NotTheServer { words: format!("answered {said}"), lasting: false },
        400 | 413 | 415 | 422 => Verdict::Refused { too_large: status == 413, words: said },
        401 | 403 => Verdict::Unauthorized(format!("the server refuses the token ({said})")),
        408 => Verdict::Slow(ErrorKind::Server, said),
        409 => strange_conflict(said),
        500 => Verdict::Broken(said),
        429 | 501..=599 => {
            let retry_after = retry_after.map(|wait| wait.min(RETRY_AFTER_MAX));
            Verdict::Later { kind: ErrorKind::Server, words: said, retry_after, mark: true }
        }
        _ => Verdict::NotTheServer { words: format!("answered {said}"), lasting: true },
    }
}

fn judge_failure(kind: FailedKind, words: String) -> Verdict {
    let later = |kind, words| Verdict::Later { kind, words, retry_after: None, mark: true };
    match kind {
        FailedKind::Timeout => Verdict::Slow(ErrorKind::Timeout, words),
        FailedKind::Sending => Verdict::Slow(ErrorKind::Network, words),
        FailedKind::Unreachable => later(ErrorKind::Timeout, words),
        FailedKind::Network => later(ErrorKind::Network, words),
        FailedKind::Tls => later(ErrorKind::Tls, words),
        FailedKind::NotHttp => Verdict::NotTheServer { words, lasting: false },
        FailedKind::Refused => Verdict::Later { kind: ErrorKind::Tls, words, retry_after: None, mark: false },
    }
}

fn strange_conflict(words: String) -> Verdict {
    Verdict::Later { kind: ErrorKind::NotTheServer, words, retry_after: None, mark: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> Verdict {
        judge(Reply::Status { status, retry_after: None, words: "w".into() }, "dev")
    }

    #[test]
    fn every_status_has_its_place() {
        for code in 100..=599 {
            let verdict = status(code);
            let fits = match code {
                400 | 413 | 415 | 422 => {
                    matches!(verdict, Verdict::Refused { too_large, .. } if too_large == (code == 413))
                }
                401 | 403 => matches!(verdict, Verdict::Unauthorized(_)),
                408 => matches!(verdict, Verdict::Slow(ErrorKind::Server, _)),
                409 => matches!(verdict, Verdict::Later { kind: ErrorKind::NotTheServer, mark: true, .. }),
                500 => matches!(verdict, Verdict::Broken(_)),
                429 | 501..=599 => matches!(verdict, Verdict::Later { kind: ErrorKind::Server, .. }),
                200 | 300..=399 => matches!(verdict, Verdict::NotTheServer { lasting: false, .. }),
                _ => matches!(verdict, Verdict::NotTheServer { lasting: true, .. }),
            };
            assert!(fits, "{code}: {verdict:?}");
        }
    }

    #[test]
    fn a_stored_max_of_2_31_or_more_is_not_believed() {
        let judged =
            |stored_max| judge(Reply::Regression { device_id: "dev".into(), stored_max, offending: 7 }, " dev ");
        for (stored_max, believed) in [(14, Some(14)), (i64::MIN, Some(i64::MIN)), ((1 << 31) - 1, Some((1 << 31) - 1))]
        {
            assert!(
                matches!(judged(stored_max), Verdict::Regression { stored_max: b, offending: 7, .. } if b == believed)
            );
        }
        for stored_max in [1 << 31, i64::MAX] {
            assert!(matches!(judged(stored_max), Verdict::Regression { stored_max: None, .. }));
        }
    }

    #[test]
    fn a_conflict_about_another_device_does_not_touch_the_clock() {
        let other = Reply::Regression { device_id: "other".into(), stored_max: 5, offending: 5 };
        assert!(matches!(judge(other, "dev"), Verdict::Later { kind: ErrorKind::NotTheServer, .. }));
        let other = Reply::PairRegression { device_id: "other".into(), offending: Pair { wall: 0, logical: 0 } };
        assert!(matches!(judge(other, "dev"), Verdict::Later { kind: ErrorKind::NotTheServer, .. }));
    }

    #[test]
    fn retry_after_is_capped_at_an_hour() {
        let reply = Reply::Status { status: 429, retry_after: Some(Duration::from_secs(86_400)), words: String::new() };
        assert!(matches!(judge(reply, "d"), Verdict::Later { retry_after: Some(RETRY_AFTER_MAX), .. }));
    }
}
