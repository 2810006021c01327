//! What the pass does about an answer, verdict by verdict.
//!
//! What must always hold: only [`Verdict::Accepted`] acknowledges; a conflict never changes the order; a failure marks
//! the rows it is about and ends the pass, so that waiting is the caller's business.

use std::time::Duration;

use super::action::{Clock, Refusal, Request, Reserve};
use super::memory::STRIKES;
use super::pass::{Pass, Region, Step, Wire};
use super::suspect::Suspect;
use super::verdict::{Verdict, judge};
use crate::op::{ErrorKind, Next, Op, Pair, Reply};

impl Pass {
    pub(super) fn replied(&mut self, reply: Reply, now: Duration) {
        let Some(wire) = self.wire.take() else { return };
        let verdict = judge(reply, &self.device);
        if self.is_ending() {
            return self.replied_late(&wire, verdict, now);
        }
        if wire.ops.is_empty() {
            return self.replied_to_empty(verdict);
        }
        match verdict {
            Verdict::Accepted(named) => self.accepted(&wire, &named.among(&wire.ops), now),
            Verdict::Regression { stored_max, offending, words } => {
                self.regression(&wire, stored_max, offending, words);
            }
            Verdict::PairRegression { offending, words } => self.pair_regression(&wire, offending, words),
            Verdict::Refused { too_large, words } => self.refused(wire, too_large, words, now),
            Verdict::Broken(words) => self.broken(wire, words, now),
            other => self.stopped(&wire, other),
        }
    }

    /// Something else stopped the pass meanwhile: an acceptance counts all the same, and a failure is told unless
    /// another one ended the pass. What would take more requests is left to the next pass.
    fn replied_late(&mut self, wire: &Wire, verdict: Verdict, now: Duration) {
        match verdict {
            Verdict::Accepted(named) => {
                self.acknowledge(&wire.ops, &named.among(&wire.ops), now);
            }
            Verdict::Regression { .. } | Verdict::PairRegression { .. } | Verdict::Refused { .. } => {}
            other => self.stopped(wire, other),
        }
    }

    /// Verdicts that end the pass whatever it was doing.
    pub(super) fn stopped(&mut self, wire: &Wire, verdict: Verdict) {
        match verdict {
            Verdict::Unauthorized(words) => self.fail(ErrorKind::Unauthorized, words, Next::NewToken),
            Verdict::Slow(kind, words) => {
                self.mark(&wire.ops, &words);
                // One op alone cannot be made shorter, and may be what is too long for this uplink: no reason for other
                // profiles to wait, or to send less.
                let next = if wire.ops.len() == 1 { Next::LocalBackOff } else { Next::BackOff };
                if wire.ops.len() > 1 {
                    self.uplink.struck(wire.bytes);
                }
                self.fail(kind, words, next);
            }
            Verdict::Later { kind, words, retry_after, mark } => {
                if mark {
                    self.mark(&wire.ops, &words);
                }
                self.fail(kind, words, retry_after.map_or(Next::BackOff, Next::RetryAfter));
            }
            Verdict::NotTheServer { words, lasting } => {
                self.fail(ErrorKind::NotTheServer, words, if lasting { Next::Slow } else { Next::BackOff });
            }
            // An empty batch touches no database: there is no op to blame.
            Verdict::Broken(words) if wire.ops.is_empty() => self.fail(ErrorKind::Server, words, Next::BackOff),
            Verdict::Broken(words) => self.fail(ErrorKind::Server, words, Next::LocalBackOff),
            Verdict::Accepted(_)
            | Verdict::Regression { .. }
            | Verdict::PairRegression { .. }
            | Verdict::Refused { .. } => self.fail(
                ErrorKind::NotTheServer,
                "what answers there gives answers that fit no request of ours",
                Next::BackOff,
            ),
        }
    }

    pub(super) fn mark<'a>(&mut self, ops: impl IntoIterator<Item = &'a Op>, words: &str) {
        let ids: Vec<i64> = ops.into_iter().map(|op| op.id).collect();
        if !ids.is_empty() {
            self.chores.push_back(Request::Mark { ids, words: words.to_owned() });
        }
    }

    /// `named` says it of each op.
    fn accepted(&mut self, wire: &Wire, named: &[bool], now: Duration) {
        let count = self.acknowledge(&wire.ops, named, now);
        if count > 0 {
            self.memory.progressed();
            self.uplink.worked(wire.bytes, self.rules.batch_bytes);
        }
        let missing = wire.ops.len() - count;
        if missing > 0 {
            let (kind, words) = if count == 0 {
                (ErrorKind::NotTheServer, "answered 200 without naming any of the ops".to_owned())
            } else {
                (ErrorKind::Server, format!("answered 200 without naming {missing} of {} ops", wire.ops.len()))
            };
            let missing = wire.ops.iter().zip(named).filter(|(_, named)| !**named).map(|(op, _)| op);
            self.mark(missing, &words);
            return self.fail(kind, words, Next::BackOff);
        }
        let Some(last) = wire.ops.last() else { return };
        match &self.step {
            Step::Suspect(_) => self.suspect_accepted(last),
            Step::Due(_) => {
                self.chores.push_back(Request::Release(last.operation_id.clone()));
                self.next_due();
            }
            _ if self.region.is_some() => self.pass_over(last.id, wire.ops.len()),
            _ => {}
        }
    }

    fn regression(&mut self, wire: &Wire, stored_max: Option<i64>, offending: i64, words: String) {
        let Some(op) = wire.ops.iter().find(|op| op.stamp == offending).or(wire.ops.first()) else { return };
        let step = if stored_max.is_some() { 0 } else { self.memory.take_step() };
        let floor = stored_max.unwrap_or(0).max(op.stamp);
        self.conflict(wire, Clock::Lamport, op.id, floor, step, words);
    }

    fn pair_regression(&mut self, wire: &Wire, offending: Pair, words: String) {
        let sent_with = wire.ops.iter().find(|op| op.pair == Some(offending));
        let sent_without = wire.ops.iter().find(|op| op.pair.is_none());
        match (sent_with, sent_without) {
            (Some(op), _) => self.conflict(wire, Clock::Hybrid, op.id, 0, 0, words),
            // The server derived the pair from the stamp, so it is the stamp that is taken.
            (None, Some(op)) => {
                let step = self.memory.take_step();
                self.conflict(wire, Clock::Lamport, op.id, op.stamp, step, words);
            }
            (None, None) => {
                if let Some(op) = wire.ops.first() {
                    self.conflict(wire, Clock::Hybrid, op.id, 0, 0, words);
                }
            }
        }
    }

    /// Fresh stamps from `from` on, written down before anything is sent again.
    fn conflict(&mut self, wire: &Wire, clock: Clock, from: i64, floor: i64, step: i64, words: String) {
        self.rewind(wire.resume);
        let alone = matches!(self.step, Step::Due(_));
        let told = words.clone();
        self.chores.push_back(Request::Reserve(Reserve { clock, from, alone, floor, step, words: Some(words) }));
        self.memory.conflicts = self.memory.conflicts.saturating_add(1);
        if self.memory.conflicts >= STRIKES {
            self.fail(ErrorKind::Clock, told, Next::LocalBackOff);
        }
    }

    fn refused(&mut self, wire: Wire, too_large: bool, words: String, now: Duration) {
        if let (Step::Due(_), Some(op)) = (&self.step, wire.ops.first()) {
            return self.still_refused(op, words);
        }
        if matches!(self.step, Step::Suspect(_)) {
            return self.suspect_refused(wire, words, now);
        }
        match <[Op; 1]>::try_from(wire.ops) {
            Ok([op]) => {
                self.rewind(wire.resume);
                self.step = Step::Suspect(Suspect::refused(op, words));
            }
            Err(ops) => {
                if too_large {
                    self.uplink.halve(wire.bytes);
                }
                self.rewind(wire.resume);
                self.narrow(&ops, false);
            }
        }
    }

    fn broken(&mut self, wire: Wire, words: String, now: Duration) {
        if let (Step::Due(_), Some(op)) = (&self.step, wire.ops.first()) {
            return self.still_refused(op, words);
        }
        if matches!(self.step, Step::Suspect(_)) {
            return self.suspect_broken(wire, words, now);
        }
        let isolating = self.region.is_some_and(|region| region.broken);
        if !isolating && !self.may_isolate(&wire.ops, now) {
            self.mark(&wire.ops, &words);
            // It may be these ops and not the server: another profile is not to wait for what may never pass.
            return self.fail(ErrorKind::Server, words, Next::LocalBackOff);
        }
        self.rewind(wire.resume);
        match <[Op; 1]>::try_from(wire.ops) {
            // It failed alone before, a later op was accepted, and now it fails alone again.
            Ok([op]) if self.alive && self.suspects.contains(&op.id) => self.quarantine(&op, words),
            Ok([op]) => self.step = Step::Suspect(Suspect::broken(op, words)),
            Err(ops) => self.narrow(&ops, true),
        }
    }

    fn still_refused(&mut self, op: &Op, words: String) {
        let refusal = Refusal { id: op.id, operation_id: op.operation_id.clone(), words };
        self.chores.push_back(Request::StillRefused(refusal));
        self.next_due();
    }

    /// One of `ops` at least is to blame: the first half next.
    fn narrow(&mut self, ops: &[Op], broken: bool) {
        if let Some(last) = ops.last() {
            self.region = Some(Region { broken, end: last.id, left: ops.len() });
        }
    }

    /// Whether a 500 is worth looking into: after three in a row on one head, or where the contract says that the op is
    /// refused for ever; but not soon again after it proved nothing.
    fn may_isolate(&mut self, ops: &[Op], now: Duration) -> bool {
        let Some(head) = ops.first() else { return false };
        let strikes = self.memory.strike(head.id);
        let lately = self.memory.unproven_at.is_some_and(|at| now.saturating_sub(at) < self.rules.isolate_every);
        let doomed = ops.len() == 1 && head.doomed;
        self.alive || (!lately && (strikes >= STRIKES || doomed))
    }
}
