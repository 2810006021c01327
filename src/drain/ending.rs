//! How a pass ends: what stopped it, what is left, when the next one makes sense.
//!
//! What must always hold: the first failure is the one that is told; what was acknowledged stays known unless its file
//! is gone; a pass that cannot even count says that something is left.

use super::action::{Counts, Request, StoreError, StoreErrorKind};
use super::memory::Memory;
use super::pass::{Ending, Pass, Step};
use crate::op::{ErrorKind, Failure, Next, Outcome, Reason};

/// What came of a pass that sent so many, and left so many.
pub fn outcome(sent: u64, counts: Counts, error: Option<Failure>, next: Next) -> Outcome {
    let only_held = error.is_none() && sent == 0 && counts.remaining == 0 && counts.held > 0;
    Outcome {
        skipped: only_held.then_some(Reason::Held),
        sent,
        remaining: counts.remaining,
        quarantined: counts.quarantined,
        held: counts.held,
        oldest: counts.oldest,
        error,
        next,
    }
}

impl Pass {
    pub(super) fn closed(&mut self, counts: Counts) {
        let ending = self.ending.take().filter(|_| !self.not_yet || counts.remaining > 0);
        // Rows that were accepted and are other ones by now were passed by.
        let next = if self.again && counts.remaining > 0 { Next::Now } else { Next::WhenWoken };
        let ending = ending.unwrap_or(Ending { failure: None, next });
        self.step = Step::Finish(Box::new(outcome(self.sent, counts, ending.failure, ending.next)));
    }

    fn finish(&mut self, skipped: Option<Reason>, ending: Ending, counts: Counts) {
        let Ending { failure, next } = ending;
        self.step = Step::Finish(Box::new(Outcome { skipped, ..outcome(self.sent, counts, failure, next) }));
    }

    pub(super) fn not_stored(&mut self, asked: &Request, error: StoreError) {
        self.stale_read = false;
        if error.kind == StoreErrorKind::Gone {
            // Another file: what was accepted from the old one has no row here.
            self.memory = Memory::default();
            self.oldest_ack = None;
        }
        (self.owed, self.late) = (false, 0);
        let kind = match error.kind {
            StoreErrorKind::ClockExhausted => ErrorKind::Clock,
            StoreErrorKind::Gone | StoreErrorKind::Broken | StoreErrorKind::Failed => ErrorKind::Database,
        };
        let failure = Failure::new(kind, error.message);
        match asked {
            Request::Begin => {
                let ending = Ending { failure: Some(failure), next: Next::LocalBackOff };
                self.finish(Some(Reason::Unavailable), ending, Counts::default());
            }
            // The failure that is being marked is the one to report.
            Request::Mark { .. } => {}
            Request::Close => self.finish_uncounted(failure),
            Request::Settle(_) if matches!(self.step, Step::Close) => self.finish_uncounted(failure),
            _ => {
                self.chores.clear();
                self.end(Some(failure), Next::LocalBackOff);
            }
        }
    }

    /// The files do not even say what is left; something is.
    fn finish_uncounted(&mut self, failure: Failure) {
        let ending = self.ending.take().filter(|ending| ending.failure.is_some());
        let ending = ending.unwrap_or(Ending { failure: Some(failure), next: Next::LocalBackOff });
        let acked: usize = self.memory.acked.iter().map(|run| run.rows).sum();
        let remaining = u64::try_from(acked).unwrap_or(u64::MAX).max(1);
        self.finish(None, ending, Counts { remaining, ..Counts::default() });
    }

    /// Ends the pass as soon as both lanes are idle. The first reason is the one that is told.
    pub(super) fn end(&mut self, failure: Option<Failure>, next: Next) {
        self.ahead = None;
        // What was read and is not sent, or was sent and not accepted, or may not be: an answer that is still on its way.
        self.stays = true;
        if self.ending.as_ref().is_none_or(|ending| ending.failure.is_none() && failure.is_some()) {
            self.ending = Some(Ending { failure, next });
        }
    }

    pub(super) fn fail(&mut self, kind: ErrorKind, message: impl Into<String>, next: Next) {
        self.end(Some(Failure::new(kind, message)), next);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }
}
