//! The life of one profile's worker: wait for a reason, pass, wait.
//!
//! What must always hold: never two passes of a profile at once; whoever holds a ticket is answered by a pass that began
//! after it was given; while a server is to be left alone nothing is sent but by who may try for all; with nothing to do
//! the files are closed.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::served::{Served, Standing};
use crate::op::{ErrorKind, Failure, Next, Outcome, Reason};
use crate::status::State;
use crate::tidings::happening::Happening;
use crate::token::Token;
use crate::trigger::signature::Signature;
use crate::trigger::slot::Wake;
use crate::worker::engine::Engine;
use crate::worker::{Files, Worker, left_alone};

/// The files are closed after this long without a reason to look at them.
const CLOSE_AFTER: Duration = Duration::from_secs(3);
/// A log is written, which the file watch sees, before what is in it can be read, which nothing sees; with an fsync in
/// between where the app asks for one, and a program may be interrupted there. So after a wake-up the open files are
/// looked at again after these times; closing them, later, looks once more. Together they are shorter than any timer, so
/// that a timer does not keep the files open.
const ECHOES: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(125),
];
/// While a server is left alone, commits are looked at this often for a new token or address: no user pastes faster.
const PEEK_EVERY: Duration = Duration::from_millis(250);
/// A pass that took its store with it (a bug of ours) is tried anew after this.
const AFTER_A_BUG: Duration = Duration::from_secs(10);

/// `app.db` as it was when the profiles were last listed; `None`: it has to be listed again.
pub type Known = Rc<RefCell<Option<Signature>>>;

/// Serves a profile until it is stopped, with what `hire` hires, again where that was lost to a bug of ours.
pub async fn serve<F: Files>(served: Rc<Served>, engine: Rc<Engine>, registry: Known, hire: impl Fn() -> Worker<F>) {
    let mut life = Life {
        engine,
        registry,
        worker: hire().with_pulse(Rc::clone(&served.pulse)),
        served,
        hire,
        retry: false,
        closed: None,
        open: false,
        quiet_since: Duration::ZERO,
        echoes: 0,
        tried: None,
        next_peek: Duration::ZERO,
    };
    life.served.wake(Wake::Commit);
    while !life.served.is_stopping() {
        life.step().await;
    }
}

struct Life<F, H> {
    served: Rc<Served>,
    engine: Rc<Engine>,
    registry: Known,
    worker: Worker<F>,
    hire: H,
    /// The last pass left something to do when the wait is over.
    retry: bool,
    /// What `stat` said when the files were closed.
    closed: Option<Signature>,
    open: bool,
    /// When there was a reason to have the files open last.
    quiet_since: Duration,
    /// How many of [`ECHOES`] are over since the last wake-up.
    echoes: usize,
    /// A new token that ended a wait already.
    tried: Option<(String, Token)>,
    next_peek: Duration,
}

/// What is to be done when a rest is over.
enum Chore {
    /// Nothing: somebody else's time has come.
    Nothing,
    /// One of [`ECHOES`].
    Echo,
    /// The files are closed.
    Close,
}

impl<F: Files, H: Fn() -> Worker<F>> Life<F, H> {
    async fn step(&mut self) {
        self.served.pulse.beat(self.engine.now());
        let wait = self.worker.wait(&self.engine);
        let next_attempt =
            wait.filter(|_| self.retry || self.served.wanted().is_some()).map(|wait| self.engine.now() + wait);
        self.served.standing.borrow_mut().next_attempt = next_attempt;
        match (self.served.wanted(), wait) {
            (Some(Wake::Ask), Some(_)) if !self.worker.cut(&self.engine) => self.put_off().await,
            (Some(Wake::Ask), _) => self.pass().await,
            (Some(Wake::Commit), None) => self.look().await,
            (Some(Wake::Commit), Some(wait)) => self.peek(wait).await,
            (None, Some(wait)) if self.retry => self.rest(Some(wait)).await,
            (None, None) if self.retry => self.pass().await,
            (None, _) => self.rest(None).await,
        }
    }

    /// The server itself named the time, perhaps to another profile: who asks is told what waits.
    async fn put_off(&mut self) {
        (self.open, self.quiet_since, self.closed) = (true, self.engine.now(), None);
        let way = self.look_for_way().await;
        if self.goes_elsewhere(way.as_ref()) {
            return self.worker.forget_way();
        }
        let covered = self.served.begin();
        let words = left_alone(self.worker.wait(&self.engine).unwrap_or_default());
        let outcome = self.worker.count(&self.engine, Failure::new(ErrorKind::Server, words)).await;
        // What the look saw no pass has seen, and what waits goes when the time has come.
        self.served.doubt();
        self.retry |= outcome.remaining > 0 || outcome.skipped == Some(Reason::Unavailable);
        self.change(|standing| standing.counted(&outcome));
        self.served.finish(covered, outcome);
    }

    /// Whether ops go to another server than they went to.
    fn goes_elsewhere(&self, way: Option<&(String, Token)>) -> bool {
        way.is_some_and(|(url, _)| self.worker.url().is_some_and(|known| known != url))
    }

    /// Something may have been committed: a pass, if it was.
    async fn look(&mut self) {
        self.echoes = 0;
        // What is given while we look is not covered by it.
        let ticket = self.served.latest();
        if !self.served.is_in_doubt() && !self.retry && !self.is_news().await {
            return self.served.nothing_new(ticket);
        }
        self.pass().await;
    }

    async fn is_news(&mut self) -> bool {
        if !self.open {
            return self.closed.is_none() || self.closed != self.worker.files().map(Files::signature);
        }
        self.worker.with_store(&self.engine, |files| files.is_news()).await.unwrap_or(true)
    }

    async fn pass(&mut self) {
        if !self.worker.is_whole() {
            self.worker = (self.hire)().with_pulse(Rc::clone(&self.served.pulse));
        }
        if self.worker.url().is_some_and(|url| self.engine.servers.is_failing(url)) {
            // Nobody waits for a server, or keeps others from it, whose ops go elsewhere.
            (self.open, self.quiet_since, self.closed) = (true, self.engine.now(), None);
            self.served.doubt();
            let way = self.look_for_way().await;
            if self.goes_elsewhere(way.as_ref()) {
                self.worker.forget_way();
            }
        }
        let url = self.worker.url().map(str::to_owned);
        let probe = url.map(|url| self.engine.servers.may_try(&url));
        if let Some(None) = probe {
            return self.wait_for_another().await;
        }
        let covered = self.served.begin();
        self.change(|standing| standing.state = State::Draining);
        let engine = Rc::clone(&self.engine);
        let began = engine.now();
        self.worker.tell(&Happening::PassStarted);
        let outcome = self.worker.drain(&engine, self.served.stop_receiver()).await;
        drop(probe);
        if self.worker.way() == self.tried.as_ref() {
            self.tried = None;
        }
        self.open = true;
        self.quiet_since = self.engine.now();
        self.closed = None;
        self.retry = !matches!(outcome.next, Next::WhenWoken);
        self.worker.tell(&Happening::ended(&outcome, self.quiet_since.saturating_sub(began)));
        self.note(&outcome);
        if let Some(wait) = self.worker.wait(&self.engine).filter(|_| self.retry) {
            let kind = outcome.error.as_ref().map(|failure| failure.kind);
            self.worker.tell(&Happening::BackingOff { wait_s: wait.as_secs_f64(), kind });
        }
        self.served.finish(covered, outcome);
        if !self.worker.is_whole() {
            self.served.pulse.rest();
            self.engine.surroundings.sleep(AFTER_A_BUG).await;
        }
    }

    /// Another profile is trying whether the server is back.
    async fn wait_for_another(&self) {
        self.served.pulse.rest();
        tokio::select! {
            biased;
            () = self.engine.servers.noted() => {}
            () = self.stopping() => {}
        }
    }

    async fn stopping(&self) {
        let mut stop = self.served.stop_receiver();
        // The sender lives as long as `served` does.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Changes how it stands, and tells of another state.
    fn change(&self, change: impl FnOnce(&mut Standing)) {
        let (from, to) = {
            let mut standing = self.served.standing.borrow_mut();
            let from = standing.state;
            change(&mut standing);
            (from, standing.state)
        };
        if from != to {
            self.worker.tell(&Happening::StateChanged { from, to });
        }
    }

    fn note(&self, outcome: &Outcome) {
        self.change(|standing| standing.passed(outcome, self.engine.surroundings.wall()));
        let now = self.engine.now();
        let mut standing = self.served.standing.borrow_mut();
        standing.server = self.worker.url().map(str::to_owned).or(standing.server.take());
        if let Some(news) = standing.news(now) {
            let (profile, name) = (self.served.profile.id, &self.served.profile.name);
            match standing.state {
                State::BackingOff | State::Unauthorized | State::Unavailable => {
                    tracing::warn!("profile {profile} “{name}”: {news}");
                }
                _ => tracing::info!("profile {profile} “{name}”: {news}"),
            }
        }
        if outcome.sent > 0 {
            tracing::debug!(profile = self.served.profile.id, sent = outcome.sent, "sent");
        }
    }

    async fn look_for_way(&mut self) -> Option<(String, Token)> {
        self.worker.with_store(&self.engine, F::look_for_way).await.flatten()
    }

    /// A commit while the server is to be left alone: only a new token or address ends that.
    async fn peek(&mut self, wait: Duration) {
        let now = self.engine.now();
        if now < self.next_peek {
            // Every commit rings; what it brought is looked at in a moment, with all the others.
            self.served.pulse.rest();
            tokio::select! {
                biased;
                () = self.engine.surroundings.sleep(wait.min(self.next_peek.saturating_sub(now))) => {}
                () = self.asked_or_stopped() => {}
            }
            return;
        }
        if !self.open && !self.is_news().await {
            return self.rest(Some(wait)).await;
        }
        self.next_peek = now + PEEK_EVERY;
        if !self.open {
            self.open = true;
            self.quiet_since = now;
        }
        // What the look saw no pass has seen.
        self.served.doubt();
        let way = self.look_for_way().await;
        if self.goes_elsewhere(way.as_ref()) {
            return self.worker.forget_way();
        }
        // Compared with what the last pass travelled under: one that was pasted while it waited for its answer is new.
        if way.is_some() && self.worker.way().is_some() && way.as_ref() != self.worker.way() && way != self.tried {
            self.tried = way;
            self.worker.cut(&self.engine);
            return;
        }
        // The wake-up stays wanted: the pass after the wait covers it.
        self.rest(Some(wait)).await;
    }

    async fn asked_or_stopped(&self) {
        while self.served.wanted() != Some(Wake::Ask) && !self.served.is_stopping() {
            self.served.rung().await;
        }
    }

    /// Until something happens, or `wait` is over; with the files open only for a while.
    async fn rest(&mut self, wait: Option<Duration>) {
        let (limit, chore) = self.chore(wait);
        let over = async {
            match limit {
                Some(limit) => self.engine.surroundings.sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        self.served.pulse.rest();
        tokio::select! {
            biased;
            () = self.served.rung() => return,
            () = over => {}
        }
        self.served.pulse.beat(self.engine.now());
        match chore {
            Chore::Nothing => {}
            Chore::Echo => self.echo().await,
            Chore::Close => self.close().await,
        }
    }

    /// What comes next, and when, where nothing happens before.
    fn chore(&self, wait: Option<Duration>) -> (Option<Duration>, Chore) {
        if !self.open {
            return (wait, Chore::Nothing);
        }
        if wait.is_none()
            && let Some(echo) = ECHOES.get(self.echoes)
        {
            return (Some(*echo), Chore::Echo);
        }
        let close = (self.quiet_since + CLOSE_AFTER).saturating_sub(self.engine.now());
        match wait {
            Some(wait) if wait <= close => (Some(wait), Chore::Nothing),
            _ => (Some(close), Chore::Close),
        }
    }

    async fn echo(&mut self) {
        self.echoes += 1;
        if self.is_news().await {
            self.served.wake(Wake::Commit);
        }
    }

    async fn close(&mut self) {
        self.engine.servers.drop_idle();
        let before = self.worker.files().map(Files::registry);
        if let Some(signature) = self.worker.with_store(&self.engine, F::close).await.flatten() {
            self.open = false;
            self.closed = Some(signature);
            // Our closing shows in `app.db` too, and is no reason to list the profiles again.
            let after = self.worker.files().map(Files::registry);
            let mut known = self.registry.borrow_mut();
            if let Some((before, after)) = before.zip(after)
                && known.as_ref() == Some(&before)
                && after.is_quiet_since(&before)
            {
                *known = Some(after);
            }
        } else {
            // Somebody committed at this very moment.
            self.quiet_since = self.engine.now();
            self.served.wake_in_doubt(Wake::Commit);
        }
    }
}
