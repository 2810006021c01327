//! What a pass is seen to do: from its actions and what came of them. Pure.
//!
//! What must always hold: it only looks; a pass that nobody watches does the same.

use std::time::Duration;

use uuid::Uuid;

use super::happening::{AnswerKind, ClockKind, Happening};
use crate::drain::action::{Action, Answer, Clock, Event, Request};
use crate::op::{FailedKind, Reply};

/// Looks at one pass.
#[derive(Debug, Default)]
pub struct Observer {
    sent: Option<Sent>,
    stored: Option<Stored>,
}

#[derive(Debug)]
struct Sent {
    ops: Vec<(Option<Uuid>, i64)>,
    bytes: usize,
    at: Duration,
}

#[derive(Debug)]
enum Stored {
    Settle { ops: usize, at: Duration },
    Quarantine(Vec<(String, String)>),
}

impl Observer {
    /// It asks for something, at this time.
    pub fn acts(&mut self, action: &Action, now: Duration) {
        match action {
            Action::Send(batch) => {
                let ops = batch.ops.iter().map(|op| (op.operation_id.uuid(), op.queued_at)).collect();
                self.sent = Some(Sent { ops, bytes: batch.body.len(), at: now });
            }
            Action::Store(Request::Settle(settlement)) => {
                let ops = settlement.runs.iter().map(|run| run.rows).sum();
                self.stored = Some(Stored::Settle { ops, at: now });
            }
            Action::Store(Request::Quarantine(refusals)) => {
                let refused = |op: &crate::drain::action::Refusal| (op.operation_id.to_string(), op.words.clone());
                self.stored = Some(Stored::Quarantine(refusals.iter().map(refused).collect()));
            }
            Action::Store(_) | Action::SendEmpty | Action::Finish(_) => {}
        }
    }

    /// This came of it, at this time; `wall` is ms since the epoch.
    pub fn sees(&mut self, event: &Event, now: Duration, wall: i64) -> Vec<Happening> {
        match event {
            Event::Replied(reply) => {
                // The answer to an empty batch is no batch's.
                let Some(sent) = self.sent.take() else { return Vec::new() };
                let waited_s = if let Reply::Accepted(ids) = reply { waited(&sent.ops, ids, wall) } else { Vec::new() };
                vec![Happening::BatchSent {
                    ops: sent.ops.len(),
                    bytes: sent.bytes,
                    answer: kind(reply),
                    accepted: waited_s.len(),
                    took_s: now.saturating_sub(sent.at).as_secs_f64(),
                    waited_s,
                }]
            }
            Event::Stored(stored) => {
                let Some(asked) = self.stored.take() else { return restamped(stored.as_ref().ok()) };
                match (asked, stored) {
                    (Stored::Settle { ops, at }, Ok(Answer::Settled(settled))) => {
                        let left: usize = settled.left.iter().map(|run| run.rows).sum();
                        let ops = ops.saturating_sub(left);
                        vec![Happening::Settled { ops, took_s: now.saturating_sub(at).as_secs_f64() }]
                    }
                    (Stored::Quarantine(refused), Ok(_)) => refused
                        .into_iter()
                        .map(|(operation_id, message)| Happening::Quarantined { operation_id, message })
                        .collect(),
                    (_, _) => Vec::new(),
                }
            }
            Event::NotYet(_) | Event::Tick | Event::Stop => Vec::new(),
        }
    }
}

/// How long each op that is named has waited. A server names them in their order, so a look at the next one is enough.
fn waited(ops: &[(Option<Uuid>, i64)], named: &[Uuid], wall: i64) -> Vec<f64> {
    let mut named = named.iter().copied().peekable();
    let ops = ops.iter().filter(|(id, _)| id.is_some() && named.next_if(|name| Some(*name) == *id).is_some());
    // A clock that was set back makes no negative time.
    let waited = |queued_at: i64| Duration::from_millis(wall.saturating_sub(queued_at).try_into().unwrap_or(0));
    ops.map(|(_, queued_at)| waited(*queued_at).as_secs_f64()).collect()
}

fn restamped(answer: Option<&Answer>) -> Vec<Happening> {
    let Some(Answer::Reserved(Some(block))) = answer else { return Vec::new() };
    let clock = match block.clock {
        Clock::Lamport => ClockKind::Lamport,
        Clock::Hybrid => ClockKind::Hybrid,
    };
    vec![Happening::Restamped { clock }]
}

fn kind(reply: &Reply) -> AnswerKind {
    match reply {
        Reply::Accepted(_) => AnswerKind::Status(200),
        Reply::Regression { .. } | Reply::PairRegression { .. } => AnswerKind::Status(409),
        Reply::Status { status, .. } => AnswerKind::Status(*status),
        Reply::Failed { kind, .. } => AnswerKind::None(match kind {
            FailedKind::Network => "network",
            FailedKind::Sending => "sending",
            FailedKind::Tls => "tls",
            FailedKind::Timeout => "timeout",
            FailedKind::Unreachable => "unreachable",
            FailedKind::NotHttp => "not_http",
            FailedKind::Refused => "refused",
        }),
    }
}
