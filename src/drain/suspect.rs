//! One op failed alone: is it the op, or the server? Nothing is quarantined without proof.
//!
//! Refused (400, 413, 415, 422): proof is that the server answers an empty batch as only a waveflow-server does, and
//! then refuses the op alone again. Broken (500): proof is that an op behind it is accepted, alone, and then it fails
//! alone again.
//!
//! What must always hold: the ops tried behind a broken one are first the very next ones, one by one, so that healthy
//! neighbours keep their order; only behind [`NEIGHBOURS`] failures in a row are rows skipped, in growing steps, so that
//! any number of broken ops in a row is got over in a bounded number of requests.

use std::time::Duration;

use super::action::{Action, Pick, Plan, Request};
use super::pass::{Pass, Step, Wire, single};
use super::verdict::Verdict;
use crate::op::{Batch, ErrorKind, Next, Op};

/// How many direct neighbours are tried before rows are skipped.
const NEIGHBOURS: usize = 4;
/// The farthest row behind that is tried by distance; after it only the newest of all.
const FARTHEST: usize = 1024;

/// An op that failed alone.
#[derive(Debug)]
pub(super) struct Suspect {
    op: Op,
    words: String,
    doubt: Doubt,
}

#[derive(Debug)]
enum Doubt {
    /// Refused: does the server answer an empty batch as a waveflow-server?
    Empty,
    /// Broken: is an op behind it accepted? `behind` is how far, `None` for the newest.
    Behind { behind: Option<usize>, tried: Vec<i64> },
    /// There is proof that the server is one, or (`lives`) that it stores ops: once more, alone.
    Again { lives: bool, tried: Vec<i64> },
}

impl Suspect {
    pub(super) fn refused(op: Op, words: String) -> Self {
        Self { op, words, doubt: Doubt::Empty }
    }

    pub(super) fn broken(op: Op, words: String) -> Self {
        Self { op, words, doubt: Doubt::Behind { behind: Some(1), tried: Vec::new() } }
    }
}

/// How far behind to look after `behind`: 1, 2, 3, 4, 8, 16 … 1024, then the newest.
fn farther(behind: usize) -> Option<usize> {
    let next = if behind < NEIGHBOURS { behind + 1 } else { behind * 2 };
    (next <= FARTHEST).then_some(next)
}

impl Pass {
    pub(super) fn next_for_suspect(&mut self, _now: Duration) -> Option<Action> {
        if let Some(action) = self.take_ahead() {
            return Some(action);
        }
        let Step::Suspect(suspect) = &self.step else { return None };
        let id = suspect.op.id;
        let plan = match &suspect.doubt {
            Doubt::Empty => {
                self.wire = Some(Wire { ops: Vec::new(), bytes: 0, resume: self.place });
                return Some(Action::SendEmpty);
            }
            Doubt::Behind { behind, .. } => {
                Plan { after: id, ..single(&self.rules, behind.map_or(Pick::Newest, |behind| Pick::Nth(behind - 1))) }
            }
            Doubt::Again { .. } => Plan { after: id - 1, until: id, ..single(&self.rules, Pick::First) },
        };
        Some(self.ask(Request::Read(plan)))
    }

    pub(super) fn rows_for_suspect(&mut self, batch: Batch, now: Duration) {
        let Step::Suspect(suspect) = &mut self.step else { return };
        let found = batch.ops.first().map(|op| op.id);
        match (&mut suspect.doubt, found) {
            (Doubt::Behind { behind: None, tried }, Some(id)) if tried.contains(&id) => self.unproven(now),
            (_, Some(_)) => self.hold_ahead(batch),
            (Doubt::Behind { behind: None, .. }, None) => self.unproven(now),
            (Doubt::Behind { behind, .. }, None) => *behind = None,
            // The row went away by itself: the app's own drain, or the user.
            (Doubt::Again { .. } | Doubt::Empty, None) => {
                let id = suspect.op.id;
                self.pass_over(id, 1);
            }
        }
    }

    /// An answer to the empty batch.
    pub(super) fn replied_to_empty(&mut self, verdict: Verdict) {
        let Step::Suspect(suspect) = &mut self.step else { return };
        match verdict {
            Verdict::Accepted(ids) if ids.is_empty() => {
                suspect.doubt = Doubt::Again { lives: false, tried: Vec::new() }
            }
            Verdict::Refused { words, .. } => {
                let words = format!(
                    "what answers there refuses even an empty batch ({words}): no waveflow-server, or something in front of it"
                );
                self.fail(ErrorKind::NotTheServer, words, Next::BackOff);
            }
            other => {
                let wire = Wire { ops: Vec::new(), bytes: 0, resume: self.place };
                self.stopped(&wire, other);
            }
        }
    }

    /// The suspect itself, or an op behind it, was accepted.
    pub(super) fn suspect_accepted(&mut self, op: &Op) {
        let Step::Suspect(suspect) = &mut self.step else { return };
        if suspect.op.id == op.id {
            return self.pass_over(op.id, 1);
        }
        if let Doubt::Behind { tried, .. } = &mut suspect.doubt {
            suspect.doubt = Doubt::Again { lives: true, tried: std::mem::take(tried) };
            self.alive = true;
            // It lies behind what is still to be read.
            self.settle_all_first();
        }
    }

    pub(super) fn suspect_refused(&mut self, wire: Wire, words: String, now: Duration) {
        let Step::Suspect(suspect) = &self.step else { return };
        match (&suspect.doubt, wire.ops.into_iter().next()) {
            (Doubt::Again { .. }, Some(op)) => self.convict(&op, words),
            (_, Some(op)) => self.one_farther(op.id, now),
            (_, None) => {}
        }
    }

    pub(super) fn suspect_broken(&mut self, wire: Wire, words: String, now: Duration) {
        let Step::Suspect(suspect) = &mut self.step else { return };
        match (&mut suspect.doubt, wire.ops.into_iter().next()) {
            (Doubt::Again { lives: true, .. }, Some(op)) => self.convict(&op, words),
            // Refused alone, then 500 alone: an empty batch does not prove that the server can store.
            (Doubt::Again { lives: false, .. }, Some(op)) => self.step = Step::Suspect(Suspect::broken(op, words)),
            (_, Some(op)) => self.one_farther(op.id, now),
            (_, None) => {}
        }
    }

    /// The op behind failed too.
    fn one_farther(&mut self, id: i64, now: Duration) {
        let Step::Suspect(Suspect { doubt: Doubt::Behind { behind, tried }, .. }) = &mut self.step else { return };
        match *behind {
            Some(distance) => {
                tried.push(id);
                *behind = farther(distance);
            }
            // That was the newest. An app in mid-scan makes a newer one at every look; that is no reason to go on.
            None => self.unproven(now),
        }
    }

    fn convict(&mut self, op: &Op, words: String) {
        if let Step::Suspect(Suspect { doubt: Doubt::Again { tried, .. }, .. }) = &mut self.step {
            let tried = std::mem::take(tried);
            self.suspects.extend(tried);
        }
        self.suspects.retain(|id| *id != op.id);
        self.quarantine(op, words);
    }

    /// Nothing behind it was accepted: the server is down, or there is nothing to compare with.
    fn unproven(&mut self, now: Duration) {
        let Step::Suspect(suspect) = &self.step else { return };
        let words = suspect.words.clone();
        let op = suspect.op.clone();
        self.memory.unproven_at = Some(now);
        self.alive = false;
        self.mark([&op], &words);
        self.fail(ErrorKind::Server, words, Next::LocalBackOff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_tried_one_by_one_then_in_growing_steps() {
        let all: Vec<usize> = std::iter::successors(Some(1), |behind| farther(*behind)).collect();
        assert_eq!(all, [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024]);
    }
}
