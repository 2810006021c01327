//! Performs what the pass asks: the one place where queue, push and pass meet.
//!
//! What must always hold: no `SQLite` call and no file of ours is touched on the reactor's thread; the database and the
//! wire are used side by side, one thing on each; nothing is decided here about an op. What a server said of itself counts
//! for all profiles that use it, at once.
//!
//! Reading order: [`store`] (requests on the database thread), [`thread`] (that thread), [`connections`], [`servers`] (what
//! is known about each), [`engine`] (all of them), then [`Worker::drain`], and [`pulse`], by which others see that it gets on.

pub mod connections;
pub mod engine;
pub mod pulse;
pub mod servers;
pub mod store;
pub mod thread;

use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use self::engine::Engine;
use self::pulse::Pulse;
use self::servers::Servers;
use self::store::{Store, Way};
use self::thread::DatabaseThread;
use crate::drain::action::{Action, Answer, Event, Request, StoreError};
use crate::drain::backoff::BackOff;
use crate::drain::memory::{Memory, Uplink};
use crate::drain::verdict::named_time;
use crate::drain::{Pass, Rules};
use crate::drain::{ending, gate};
use crate::op::{ErrorKind, FailedKind, Failure, Next, Outcome, Reason, Reply};
use crate::push::wire::empty_batch;
use crate::surroundings::Surroundings;
use crate::tidings::Teller;
use crate::tidings::happening::Happening;
use crate::tidings::observer::Observer;
use crate::token::Token;
use crate::trigger::signature::Signature;

/// What the database thread does for a pass. [`Store`], and in tests one that stops at a chosen write.
pub trait Perform: Send + 'static {
    /// Does one thing; one transaction at the most. Blocks.
    fn perform(&mut self, request: Request) -> Result<Answer, StoreError>;
    /// Where ops go and under which token; known once the gates were open.
    fn way(&self) -> Option<Way>;
}

/// What is done with a profile's files between passes. [`Store`], and in simulations files that are made up.
pub trait Files: Perform {
    /// Whether somebody else committed since the last pass looked. Blocks.
    fn is_news(&self) -> bool;
    /// Closes what is open, unless somebody committed meanwhile; the files as they are then. Blocks.
    fn close(&mut self) -> Option<Signature>;
    /// Where ops would go now, and under which token. Blocks.
    fn look_for_way(&mut self) -> Option<(String, Token)>;
    /// What `stat` says of the files.
    fn signature(&self) -> Signature;
    /// What `stat` says of the app's own file alone.
    fn registry(&self) -> Signature;
}

/// What drains one profile, pass after pass.
#[derive(Debug)]
pub struct Worker<P = Store> {
    /// Away while a pass is under way; gone for good where a request of it never came back.
    store: Option<P>,
    memory: Memory,
    rules: Rules,
    /// Where ops went, and under which token, when last a pass knew.
    way: Option<(String, Token)>,
    /// For troubles that are this profile's own.
    back_off: BackOff,
    pulse: Rc<Pulse>,
    teller: Option<Teller>,
}

type Lane<T> = Option<Pin<Box<dyn Future<Output = T>>>>;
type Stored<P> = Option<(P, Result<Answer, StoreError>)>;

impl<P: Perform> Worker<P> {
    /// Drains what `store` opens.
    pub fn new(store: P, rules: Rules) -> Self {
        let (memory, back_off, pulse) = (Memory::default(), BackOff::default(), Rc::default());
        Self { store: Some(store), memory, rules, way: None, back_off, pulse, teller: None }
    }

    /// The same, and what its passes do is told.
    #[must_use]
    pub fn with_teller(self, teller: Teller) -> Self {
        Self { teller: Some(teller), ..self }
    }

    /// Tells of its profile, if somebody is to be told.
    pub fn tell(&self, happening: &Happening) {
        self.teller.iter().for_each(|teller| teller.tell(happening));
    }

    /// The same, with each step of a pass told to `pulse`.
    #[must_use]
    pub fn with_pulse(self, pulse: Rc<Pulse>) -> Self {
        Self { pulse, ..self }
    }

    /// The server of the last pass that knew one.
    pub fn url(&self) -> Option<&str> {
        self.way.as_ref().map(|(url, _)| url.as_str())
    }

    /// Where ops went in the last pass that knew, and under which token.
    pub fn way(&self) -> Option<&(String, Token)> {
        self.way.as_ref()
    }

    /// Ops go elsewhere from now on: what is known of the old server is no reason to wait.
    pub fn forget_way(&mut self) {
        (self.way, self.back_off) = (None, BackOff::default());
    }

    /// One pass, from the gates to the outcome. `stop` turning true ends it after what is on the wire.
    pub async fn drain(&mut self, engine: &Engine, mut stop: watch::Receiver<bool>) -> Outcome {
        let Engine { database, servers, surroundings, .. } = engine;
        let uplink = Uplink::new(self.rules.batch_bytes);
        let mut pass = Pass::new(self.rules, self.memory.clone(), uplink);
        let mut lanes = Lanes { store: self.store.take(), storing: None, sending: None, way: None };
        let mut observer = Observer::default();
        let outcome = loop {
            if let Some(action) = pass.next(surroundings.now()) {
                observer.acts(&action, surroundings.now());
                if let Some(outcome) = lanes.perform(action, database, servers) {
                    break outcome;
                }
                continue;
            }
            let tick = pass.deadline().map(|at| at.saturating_sub(surroundings.now()));
            // In a fixed order, as everything that a seed is to bring back; each of them comes once.
            let event = tokio::select! {
                biased;
                stored = lane(&mut lanes.storing) => match lanes.stored(stored) {
                    Some(result) => Event::Stored(result),
                    None => break lost(),
                },
                reply = lane(&mut lanes.sending) => {
                    lanes.sending = None;
                    // Known to the others at once, and not when the pass is over.
                    if let (Some(way), Some(wait)) = (&lanes.way, named_time(&reply)) {
                        servers.note(&way.url, Next::RetryAfter(wait), surroundings.now(), surroundings.random());
                    }
                    Event::Replied(reply)
                }
                () = sleep(tick, surroundings.as_ref()) => Event::Tick,
                () = stopping(&mut stop) => Event::Stop,
            };
            let begun = matches!(event, Event::Stored(Ok(Answer::Begun(_))));
            let sent = pass.sent();
            self.pulse.beat(surroundings.now());
            let happened = observer.sees(&event, surroundings.now(), surroundings.wall());
            happened.iter().for_each(|happening| self.tell(happening));
            pass.on(event, surroundings.now());
            if let Some(way) = lanes.way.as_ref().filter(|_| pass.sent() > sent) {
                servers.works(&way.url);
            }
            if let (true, Some(way)) = (begun, &lanes.way) {
                pass.adopt(servers.uplink(&way.url, self.rules.batch_bytes));
                // Whoever began this pass did not know of it: another server, or it was named at this very moment.
                if let Some(wait) = servers.named_wait(&way.url, surroundings.now()) {
                    pass.on(Event::NotYet(left_alone(wait)), surroundings.now());
                }
            }
        };
        let (memory, uplink) = pass.into_memory();
        if let Some(way) = &lanes.way {
            self.way = Some((way.url.clone(), way.token.clone()));
        }
        if let Some(url) = lanes.way.map(|way| way.url)
            && let Some(bytes) = servers.remember(&url, uplink, self.rules.batch_bytes)
        {
            let keeper = Arc::clone(&engine.keeper);
            database.call(move || keeper.change(|record| record.set_uplink(&url, bytes))).await;
        }
        self.memory = memory;
        self.store = lanes.store;
        self.note(engine, &outcome);
        outcome
    }

    /// The files are the profile's own trouble, and so are its clock, its token, and what may be one of its ops; the rest is
    /// the server's.
    fn note(&mut self, engine: &Engine, outcome: &Outcome) {
        let (next, now) = (outcome.next, engine.now());
        match (next, self.url().map(str::to_owned)) {
            // Nothing was sent, so nothing is known of the server: another profile's wait for it goes on.
            (Next::WhenWoken | Next::Now, Some(_)) if outcome.sent == 0 => self.back_off = BackOff::default(),
            (Next::LocalBackOff | Next::NewToken, _) | (_, None) => {
                self.back_off.note(next, engine.waits, now, engine.surroundings.random());
            }
            (next, Some(url)) => {
                self.back_off = BackOff::default();
                engine.servers.note(&url, next, now, engine.surroundings.random());
            }
        }
    }

    /// How long to leave the profile alone: its own trouble's time, or its server's.
    pub fn wait(&self, engine: &Engine) -> Option<Duration> {
        let now = engine.now();
        let server = self.url().and_then(|url| engine.servers.wait(url, now));
        self.back_off.wait(now).max(server)
    }

    /// Ends the wait, unless the server itself named it; says whether the way is free.
    pub fn cut(&mut self, engine: &Engine) -> bool {
        let now = engine.now();
        let server = self.url().is_none_or(|url| engine.servers.cut(url, now));
        self.back_off.cut(now) && server
    }

    /// Does something with the store on the database thread, between passes; `None` where it is gone.
    pub async fn with_store<T: Send + 'static>(
        &mut self,
        engine: &Engine,
        work: impl FnOnce(&mut P) -> T + Send + 'static,
    ) -> Option<T> {
        let mut store = self.store.take()?;
        let (store, done) = engine
            .database
            .call(move || {
                let done = work(&mut store);
                (store, done)
            })
            .await?;
        self.store = Some(store);
        Some(done)
    }

    /// How things stand, without anything being sent: as a pass that `failure` stopped before its first request.
    pub async fn count(&mut self, engine: &Engine, failure: Failure) -> Outcome {
        let counted = self.with_store(engine, |files| -> Result<_, StoreError> {
            let Answer::Begun(snapshot) = files.perform(Request::Begin)? else { return Ok(None) };
            if let Some(reason) = gate::shut(&snapshot) {
                return Ok(Some(Err(reason)));
            }
            let Answer::Closed(counts) = files.perform(Request::Close)? else { return Ok(None) };
            Ok(Some(Ok(counts)))
        });
        let unavailable = |failure| Outcome { error: failure, ..Outcome::skipped(Reason::Unavailable) };
        match counted.await {
            Some(Ok(Some(Ok(counts)))) => {
                ending::outcome(0, counts, (counts.remaining > 0).then_some(failure), Next::WhenWoken)
            }
            Some(Ok(Some(Err(reason)))) => Outcome::skipped(reason),
            Some(Err(error)) => unavailable(Some(Failure::new(ErrorKind::Database, error.message))),
            Some(Ok(None)) | None => unavailable(None),
        }
    }

    /// The profile's files, between passes.
    pub fn files(&self) -> Option<&P> {
        self.store.as_ref()
    }

    /// Whether there is still something to drain with: `false` after a bug of ours took the store.
    pub fn is_whole(&self) -> bool {
        self.store.is_some()
    }
}

/// The two things that may be under way at a time.
struct Lanes<P> {
    store: Option<P>,
    storing: Lane<Stored<P>>,
    sending: Lane<Reply>,
    way: Option<Way>,
}

impl<P: Perform> Lanes<P> {
    /// Starts what `action` asks for; an outcome where that was all.
    fn perform(&mut self, action: Action, database: &DatabaseThread, servers: &Servers) -> Option<Outcome> {
        match action {
            Action::Finish(outcome) => return Some(outcome),
            Action::Store(request) => {
                let Some(mut store) = self.store.take() else { return Some(lost()) };
                self.storing = Some(Box::pin(database.call(move || {
                    let result = store.perform(request);
                    (store, result)
                })));
            }
            Action::Send(batch) => self.send(servers, batch.body),
            Action::SendEmpty => {
                let device = self.way.as_ref().map_or("", |way| way.device.as_str());
                let body = empty_batch(device);
                self.send(servers, body);
            }
        }
        None
    }

    fn send(&mut self, servers: &Servers, body: Bytes) {
        self.sending = Some(if let Some(way) = &self.way {
            Box::pin(servers.push(&way.url, way.token.clone(), body))
        } else {
            let words = "no server is known".to_owned();
            Box::pin(std::future::ready(Reply::Failed { kind: FailedKind::Refused, words }))
        });
    }

    /// The database thread is done with something; `None` where it ended under it.
    fn stored(&mut self, stored: Stored<P>) -> Option<Result<Answer, StoreError>> {
        self.storing = None;
        let (store, result) = stored?;
        if matches!(result, Ok(Answer::Begun(_) | Answer::DeviceReady(_))) {
            self.way = store.way();
        }
        self.store = Some(store);
        Some(result)
    }
}

/// For people: a server named a time.
pub fn left_alone(wait: Duration) -> String {
    format!("the server asked to be left alone for another {} s", wait.as_secs() + 1)
}

/// Waits for what is on a lane; for ever where nothing is.
async fn lane<T>(lane: &mut Lane<T>) -> T {
    match lane {
        Some(under_way) => under_way.await,
        None => pending().await,
    }
}

async fn sleep(time: Option<Duration>, surroundings: &dyn Surroundings) {
    match time {
        Some(time) => surroundings.sleep(time).await,
        None => pending().await,
    }
}

/// Returns once, when `stop` has turned true.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    loop {
        // Whoever could say stop is gone, or said it already: then nobody will.
        if stop.changed().await.is_err() {
            pending::<()>().await;
        }
        if *stop.borrow_and_update() {
            return;
        }
    }
}

/// The database thread died in mid-request: a bug of ours, and no reason to touch anything.
fn lost() -> Outcome {
    let failure = Failure::new(ErrorKind::Database, "the database thread ended; restart the agent");
    Outcome { error: Some(failure), next: Next::LocalBackOff, ..Outcome::skipped(Reason::Unavailable) }
}
