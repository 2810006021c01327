//! What was accepted leaves the queue: when, and how much of it at a time.
//!
//! Deleting a row costs more than all the rest of its way, and each transaction may cost the app an action of its user's.
//! So acknowledgements are gathered, and settled when the pass ends, or a second after the first of them.
//!
//! What must always hold: what was acknowledged stays in [`Memory::acked`](super::memory::Memory::acked) until the
//! database has said that it is settled; between two transactions that others may wait for lies [`REST`].

use std::time::Duration;

use super::action::{Action, Request, Settled, Settlement};
use super::pass::{Pass, Step};
use super::run::Run;
use crate::op::Op;

/// Accepted rows stay in the queue no longer than this while more are sent, or the settling of them has begun.
pub(super) const SETTLE_AFTER: Duration = Duration::from_secs(1);
/// Between two short transactions in a row. Whoever waits for the lock asks for it again after 1, 3, 8 and 18 ms, as
/// `SQLite` does: within this time it has asked.
pub(super) const REST: Duration = Duration::from_millis(12);
/// How long settling may go on once the agent is asked to end: what is left is sent again one day, and absorbed.
pub(super) const SETTLE_AFTER_STOP: Duration = Duration::from_secs(2);
/// Rows shown to one short transaction: more than it can hold.
const ROWS_AT_ONCE: usize = 16_384;
/// Runs remembered at the most: 300 kB. A run is a batch or a part of one.
const RUNS_MAX: usize = 8192;

impl Pass {
    /// Takes note of the `ops` that the server named, as `named` says of each; says how many there are.
    pub(super) fn acknowledge(&mut self, ops: &[Op], named: &[bool], now: Duration) -> usize {
        let runs = Run::gather(ops, named);
        let count = runs.iter().map(|run| run.rows).sum();
        if count > 0 {
            self.memory.acked.extend(runs);
            self.sent += count as u64;
            self.oldest_ack.get_or_insert(now);
        }
        count
    }

    /// Rows accepted so far leave the queue before anything is read behind them.
    pub(super) fn settle_all_first(&mut self) {
        self.owed = !self.memory.acked.is_empty();
    }

    /// Whether something has to be written before anything is read again.
    pub(super) fn owes(&self) -> bool {
        (self.owed && !self.memory.acked.is_empty()) || !self.chores.is_empty()
    }

    /// What has to be written first, if it may be now.
    pub(super) fn next_owed(&mut self, now: Duration) -> Option<Action> {
        if self.asked.is_some() || self.rests(now) {
            return None;
        }
        if self.owed && !self.memory.acked.is_empty() {
            return self.settle_some(now, false);
        }
        let chore = self.chores.pop_front()?;
        Some(self.ask(chore))
    }

    /// While more is sent: what is a second old by now.
    pub(super) fn settle_late(&mut self, now: Duration) -> Option<Action> {
        if self.late == 0 && self.oldest_ack.is_some_and(|at| now >= at + SETTLE_AFTER) {
            self.late = self.memory.acked.len();
        }
        let due = self.late > 0 || self.is_full();
        if due { self.settle_some(now, false) } else { None }
    }

    /// Whether nothing more can be remembered until something is settled.
    pub(super) fn is_full(&self) -> bool {
        self.memory.acked.len() >= RUNS_MAX
    }

    /// Whether the pass may end although something is left: it was asked to, and has had its time since the last answer.
    pub(super) fn gives_up(&mut self, now: Duration) -> bool {
        let settles_only = self.stopped && self.wire.is_none();
        settles_only && now >= *self.settle_until.get_or_insert(now + SETTLE_AFTER_STOP)
    }

    /// At the end: all of it.
    pub(super) fn settle_last(&mut self, now: Duration) -> Option<Action> {
        let whole = self.end && !self.crowded;
        if whole {
            // One behind a suspect was accepted before the suspect.
            self.memory.acked.make_contiguous().sort_by_key(|run| run.first);
        }
        self.settle_some(now, whole)
    }

    fn settle_some(&mut self, now: Duration, whole: bool) -> Option<Action> {
        if self.rests(now) {
            return None;
        }
        let mut room = if whole { usize::MAX } else { ROWS_AT_ONCE };
        let fits = |run: &&Run| {
            let fits = room > 0;
            room = room.saturating_sub(run.rows);
            fits
        };
        let runs: Vec<Run> = self.memory.acked.iter().take_while(fits).cloned().collect();
        (!runs.is_empty()).then(|| self.ask(Request::Settle(Settlement { runs, whole, stays: self.stays })))
    }

    pub(super) fn settled(&mut self, asked: &Request, settled: Settled, now: Duration) {
        let Request::Settle(Settlement { runs, .. }) = asked else { return };
        let Settled { left, strange, crowded, alone } = settled;
        let count = runs.len().min(self.memory.acked.len());
        let done = count.saturating_sub(left.len());
        self.memory.acked.drain(..count);
        left.into_iter().rev().for_each(|run| self.memory.acked.push_front(run));
        self.again |= strange > 0;
        self.crowded |= crowded;
        let empty = self.memory.acked.is_empty();
        self.owed &= !empty;
        // Where nobody sees the queue, once in a second is enough: the end is cheaper than all of this.
        self.late = if alone || empty { 0 } else { self.late.saturating_sub(done) };
        if self.late == 0 {
            self.oldest_ack = (!empty).then_some(now);
        }
        if !empty && !alone {
            self.rest(now);
        }
    }

    /// The next short transaction waits a moment.
    pub(super) fn rest(&mut self, now: Duration) {
        self.rest_until = Some(now + REST);
    }

    fn rests(&self, now: Duration) -> bool {
        self.rest_until.is_some_and(|until| now < until)
    }

    /// When [`Event::Tick`](super::action::Event::Tick) is due at the latest, on the clock of [`Pass::next`]. `None` where
    /// a tick would change nothing: a time that is over, and stays so while a lane is busy, would be waited for in a loop
    /// that never waits.
    pub fn deadline(&self) -> Option<Duration> {
        if self.asked.is_some() {
            return None;
        }
        let closes = matches!(self.step, Step::Close) && !self.memory.acked.is_empty();
        if self.owes() || closes {
            return self.rest_until;
        }
        if !matches!(self.step, Step::Stream) || self.ending.is_some() {
            return None;
        }
        if self.late > 0 || self.is_full() {
            return self.rest_until;
        }
        let late = self.oldest_ack? + SETTLE_AFTER;
        Some(self.rest_until.map_or(late, |until| until.max(late)))
    }
}
