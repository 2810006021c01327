//! What a pass is seen to do: from its actions and what came of them. Pure.
//!
//! What must always hold: it only looks; a pass that nobody watches does the same.

use std::time::Duration;

use uuid::Uuid;

use super::happening::{AnswerKind, ClockKind, Happening};
use crate::drain::action::{Action, Answer, Clock, Event, Request};
use crate::drain::verdict::named_among;
use crate::op::{FailedKind, Reply};

/// An op that seems to have waited for longer has a clock's mistake for its time, and one of 1970 outweighs a life's worth of
/// others in a sum.
const WAITED_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

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
    StillRefused(String, String),
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
            Action::Store(Request::StillRefused(op)) => {
                self.stored = Some(Stored::StillRefused(op.operation_id.to_string(), op.words.clone()));
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
                let accepted = if let Reply::Accepted(ids) = reply { waited(&sent.ops, ids, wall) } else { Vec::new() };
                let waited_s = accepted.iter().filter(|waited| **waited <= WAITED_MAX).map(Duration::as_secs_f64);
                vec![Happening::BatchSent {
                    ops: sent.ops.len(),
                    bytes: sent.bytes,
                    answer: kind(reply),
                    accepted: accepted.len(),
                    took_s: now.saturating_sub(sent.at).as_secs_f64(),
                    waited_s: waited_s.collect(),
                }]
            }
            Event::Stored(stored) => {
                let Some(asked) = self.stored.take() else { return restamped(stored.as_ref().ok()) };
                match (asked, stored) {
                    (Stored::Settle { ops, at }, Ok(Answer::Settled(settled))) => {
                        let left: usize = settled.left.iter().map(|run| run.rows).sum();
                        let ops = ops.saturating_sub(left + settled.strange);
                        vec![Happening::Settled { ops, took_s: now.saturating_sub(at).as_secs_f64() }]
                    }
                    (Stored::Quarantine(refused), Ok(_)) => refused
                        .into_iter()
                        .map(|(operation_id, message)| Happening::Quarantined { operation_id, message })
                        .collect(),
                    (Stored::StillRefused(operation_id, message), Ok(_)) => {
                        vec![Happening::StillRefused { operation_id, message }]
                    }
                    (_, _) => Vec::new(),
                }
            }
            Event::NotYet(_) | Event::Tick | Event::Stop => Vec::new(),
        }
    }
}

/// How long each op that is named has waited, by its own word.
fn waited(ops: &[(Option<Uuid>, i64)], named: &[Uuid], wall: i64) -> Vec<Duration> {
    // As the pass counts them.
    let accepted = named_among(named, ops.iter().map(|(id, _)| *id));
    // A clock that was set back makes no negative time.
    let waited = |queued_at: i64| Duration::from_millis(wall.saturating_sub(queued_at).try_into().unwrap_or(0));
    let ops = ops.iter().zip(accepted).filter(|(_, accepted)| *accepted);
    ops.map(|((_, queued_at), _)| waited(*queued_at)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::action::{Refusal, Settled, Settlement};
    use crate::drain::run::Run;
    use crate::op::{Batch, Op, OperationId};

    fn op(number: u8) -> Op {
        let operation_id = OperationId::Canonical(Uuid::from_u128(number.into()));
        let (id, queued_at) = (number.into(), 1000 * i64::from(number));
        Op { id, operation_id, stamp: id, pair: None, doomed: false, follows: false, bytes: 10, queued_at }
    }

    #[test]
    fn ops_that_are_named_in_another_order_or_beside_others_are_accepted_all_the_same() {
        let mut observer = Observer::default();
        let batch = Batch { ops: vec![op(1), op(2), op(3)], ..Batch::default() };
        observer.acts(&Action::Send(batch), Duration::ZERO);
        let named = [3, 99, 1].map(Uuid::from_u128).to_vec();
        let seen = observer.sees(&Event::Replied(Reply::Accepted(named)), Duration::from_secs(1), 4000);
        let [Happening::BatchSent { ops: 3, accepted: 2, waited_s, .. }] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!(waited_s, &[3.0, 1.0]);
    }

    #[test]
    fn an_op_from_before_there_were_any_is_accepted_and_has_not_waited() {
        let mut observer = Observer::default();
        let ops = vec![Op { queued_at: 0, ..op(1) }, Op { queued_at: 1_799_999_999_000, ..op(2) }];
        observer.acts(&Action::Send(Batch { ops, ..Batch::default() }), Duration::ZERO);
        let named = [1, 2].map(Uuid::from_u128).to_vec();
        let seen = observer.sees(&Event::Replied(Reply::Accepted(named)), Duration::ZERO, 1_800_000_000_000);
        let [Happening::BatchSent { accepted: 2, waited_s, .. }] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!(waited_s, &[1.0]);
    }

    #[test]
    fn an_op_that_is_refused_again_is_told_of_and_is_no_second_one() {
        let mut observer = Observer::default();
        let refusal = Refusal { id: 1, operation_id: op(1).operation_id, words: "500: insert failed".to_owned() };
        observer.acts(&Action::Store(Request::StillRefused(refusal)), Duration::ZERO);
        let seen = observer.sees(&Event::Stored(Ok(Answer::Done)), Duration::ZERO, 0);
        let [Happening::StillRefused { operation_id, message }] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((operation_id, message.as_str()), (&op(1).operation_id.to_string(), "500: insert failed"));
    }

    #[test]
    fn rows_that_stay_because_others_are_among_them_are_not_settled() {
        let mut observer = Observer::default();
        let ids = [op(1), op(2)].map(|op| (op.id, op.operation_id));
        let run = Run::of(ids.iter().map(|(id, operation_id)| (*id, operation_id)), 1).unwrap();
        let settlement = Settlement { runs: vec![run.clone(), run.clone(), run.clone()], whole: false, stays: false };
        observer.acts(&Action::Store(Request::Settle(settlement)), Duration::ZERO);
        let settled = Settled { left: vec![run], strange: 2, ..Settled::default() };
        let seen = observer.sees(&Event::Stored(Ok(Answer::Settled(settled))), Duration::ZERO, 0);
        assert!(matches!(seen[..], [Happening::Settled { ops: 2, .. }]), "{seen:?}");
    }
}
