//! One profile that is served: what everybody else may do with it (wake it, wait for it, look at it).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::app::registry::Profile;
use crate::op::{Failure, Outcome, Reason};
use crate::status::State;
use crate::trigger::slot::{Slot, Wake};
use crate::worker::pulse::Pulse;

/// A repeated failure is logged at most this often.
const REPEAT_EVERY: Duration = Duration::from_secs(30);

/// How far passes have come.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// Every ticket up to this one is covered.
    pub covered: u64,
    /// How the last pass ended.
    pub outcome: Option<Outcome>,
}

/// One profile.
#[derive(Debug)]
pub struct Served {
    /// As `app.db` lists it.
    pub profile: Profile,
    slot: Cell<Slot>,
    bell: Notify,
    finished: watch::Sender<Finished>,
    stop: watch::Sender<bool>,
    /// The files are to be looked into even where `stat` sees no change.
    doubt: Cell<bool>,
    /// What `status` shows.
    pub standing: RefCell<Standing>,
    /// Whether its worker gets on.
    pub pulse: Rc<Pulse>,
    news: Rc<Notify>,
}

/// What is known without looking.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Since when, and what.
    pub state: State,
    /// Ops accepted since the daemon started.
    pub sent_total: u64,
    /// Whether the last pass came so far as to count; where a gate was shut, nobody did.
    pub counted: bool,
    /// Rows that the last pass left to be sent.
    pub pending: u64,
    /// Rows that a server refused, as the last pass counted them.
    pub quarantined: u64,
    /// Rows of another or an unknown account, likewise.
    pub held: u64,
    /// When the oldest waiting row was queued, likewise; ms since the epoch.
    pub oldest: Option<i64>,
    /// Wall clock, ms.
    pub last_success: Option<i64>,
    /// What stopped the last pass.
    pub last_error: Option<Failure>,
    /// On the engine's clock.
    pub next_attempt: Option<Duration>,
    /// Where ops go.
    pub server: Option<String>,
    said: Option<(State, String)>,
    said_at: Duration,
    unsaid: u32,
}

impl Served {
    /// Not yet looked at. Each time its standing may have changed, it tells `news`.
    pub fn new(profile: Profile, news: Rc<Notify>) -> Self {
        let standing = Standing {
            state: State::Idle,
            sent_total: 0,
            counted: false,
            pending: 0,
            quarantined: 0,
            held: 0,
            oldest: None,
            last_success: None,
            last_error: None,
            next_attempt: None,
            server: None,
            said: None,
            said_at: Duration::ZERO,
            unsaid: 0,
        };
        Self {
            profile,
            slot: Cell::default(),
            bell: Notify::new(),
            finished: watch::Sender::new(Finished::default()),
            stop: watch::Sender::new(false),
            doubt: Cell::new(true),
            standing: RefCell::new(standing),
            pulse: Rc::default(),
            news,
        }
    }

    /// Wakes it; the ticket that a later pass will cover.
    pub fn wake(&self, wake: Wake) -> u64 {
        let mut slot = self.slot.get();
        let ticket = slot.wake(wake);
        self.slot.set(slot);
        self.bell.notify_one();
        ticket
    }

    /// Wakes it, and has it look into the files whatever `stat` says.
    pub fn wake_in_doubt(&self, wake: Wake) -> u64 {
        self.doubt.set(true);
        self.wake(wake)
    }

    /// What is wanted.
    pub fn wanted(&self) -> Option<Wake> {
        self.slot.get().wanted()
    }

    /// A pass begins: what it covers.
    pub fn begin(&self) -> u64 {
        let mut slot = self.slot.get();
        let covered = slot.begin();
        self.slot.set(slot);
        self.doubt.set(false);
        self.news.notify_one();
        covered
    }

    /// The last ticket that was given: what a look that begins now covers.
    pub fn latest(&self) -> u64 {
        self.slot.get().latest()
    }

    /// Whether the files have to be looked into; until the next pass begins.
    pub fn is_in_doubt(&self) -> bool {
        self.doubt.get()
    }

    /// The files have to be looked into by the next pass, without a wake-up.
    pub fn doubt(&self) {
        self.doubt.set(true);
    }

    /// Waits for a wake-up.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// For the worker's passes.
    pub fn stop_receiver(&self) -> watch::Receiver<bool> {
        let mut stop = self.stop.subscribe();
        // What was said before counts too: a pass may begin right behind it.
        stop.mark_changed();
        stop
    }

    /// Ends it after what is on the wire.
    pub fn stop(&self) {
        self.stop.send_replace(true);
        self.bell.notify_one();
    }

    /// Whether it is to end.
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Everything up to `covered` was answered by `outcome`.
    pub fn finish(&self, covered: u64, outcome: Outcome) {
        self.finished.send_replace(Finished { covered, outcome: Some(outcome) });
        self.news.notify_one();
    }

    /// Whether how it stands is from a pass.
    pub fn has_passed(&self) -> bool {
        self.finished.borrow().outcome.is_some()
    }

    /// Nothing had to be done for anything up to `covered`.
    pub fn nothing_new(&self, covered: u64) {
        let mut slot = self.slot.get();
        slot.cover(covered);
        self.slot.set(slot);
        self.finished.send_modify(|finished| finished.covered = covered);
    }

    /// The outcome of a pass that began after `ticket` was given; `None` where the profile went away.
    pub async fn outcome(&self, ticket: u64) -> Option<Outcome> {
        let mut finished = self.finished.subscribe();
        let mut stop = self.stop.subscribe();
        tokio::select! {
            found = finished.wait_for(|finished| finished.covered >= ticket && finished.outcome.is_some()) => {
                found.ok().and_then(|found| found.outcome.clone())
            }
            _ = stop.wait_for(|stop| *stop) => None,
        }
    }
}

impl Standing {
    /// A pass ended; `wall` in ms.
    pub fn passed(&mut self, outcome: &Outcome, wall: i64) {
        self.state = State::after(outcome);
        self.sent_total += outcome.sent;
        self.count(outcome);
        self.last_error.clone_from(&outcome.error);
        if outcome.skipped.is_none() && outcome.error.is_none() {
            self.last_success = Some(wall);
        }
    }

    fn count(&mut self, outcome: &Outcome) {
        (self.pending, self.quarantined, self.held) = (outcome.remaining, outcome.quarantined, outcome.held);
        self.oldest = outcome.oldest;
        self.counted = matches!(outcome.skipped, None | Some(Reason::Held));
    }

    /// The rows were counted, without a pass. That the server refuses the token is not known better by that.
    pub fn counted(&mut self, outcome: &Outcome) {
        self.count(outcome);
        if self.state != State::Unauthorized {
            self.state = State::after(outcome);
            self.last_error.clone_from(&outcome.error);
        }
    }

    /// The line to log about where it stands now, if there is one: each change, and a repeated failure now and then,
    /// with its count.
    pub fn news(&mut self, now: Duration) -> Option<String> {
        let message = self.last_error.as_ref().map_or_else(String::new, |failure| failure.message.clone());
        let is = (self.state, message);
        let repeated = self.said.as_ref() == Some(&is);
        let quiet = self.state == State::Idle && self.said.is_none();
        if repeated && (is.1.is_empty() || now.saturating_sub(self.said_at) < REPEAT_EVERY) || quiet {
            self.unsaid += u32::from(repeated);
            return None;
        }
        let mut line = self.state.words().to_owned();
        if !is.1.is_empty() {
            line = format!("{line}: {}", is.1);
        }
        if repeated && self.unsaid > 0 {
            line = format!("{line} ({} times since)", self.unsaid + 1);
        }
        self.unsaid = 0;
        self.said_at = now;
        self.said = Some(is);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{ErrorKind, Next};

    fn failed(message: &str) -> Outcome {
        let error = Some(Failure::new(ErrorKind::Network, message));
        Outcome { skipped: None, error, next: Next::BackOff, ..Outcome::skipped(Reason::Held) }
    }

    #[test]
    fn each_change_is_said_once_and_a_repeated_failure_now_and_then_with_its_count() {
        let served = Served::new(Profile { id: 1, name: "A".into(), path: None }, Rc::default());
        let mut standing = served.standing.borrow_mut();
        let mut say = |outcome: &Outcome, second: u64| {
            let now = Duration::from_secs(second);
            standing.passed(outcome, 0);
            standing.news(now)
        };
        let fine = Outcome { skipped: None, ..Outcome::skipped(Reason::Held) };
        assert_eq!(say(&fine, 0), None, "nothing to say while all is well");
        assert!(say(&failed("no route"), 1).unwrap().contains("no route"));
        for second in 2..31 {
            assert_eq!(say(&failed("no route"), second), None);
        }
        assert!(say(&failed("no route"), 31).unwrap().contains("(30 times since)"));
        assert!(say(&failed("timed out"), 32).unwrap().contains("timed out"));
        assert!(say(&fine, 33).unwrap().contains("up to date"));
        assert_eq!(say(&fine, 34), None);
    }
}
