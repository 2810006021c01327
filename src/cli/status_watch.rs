//! `status --watch`: the status, kept current from what the daemon tells of.
//!
//! On a terminal it has a screen of its own, redrawn in place. Into a pipe or a file, where nothing can be drawn over, a
//! block with its time is written whenever something has changed, so that it reads as a log; with `--json`, a line.
//!
//! What must always hold: the daemon is asked about its files only when it told of something, never more than a part of
//! the time, and beside that rarely: it is watched while it works, and watching must not be its work. The terminal is given
//! back however this ends. A daemon that goes away is waited for, and what is shown says so.

use std::future::pending;
use std::io;
use std::pin::Pin;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::low_level::emulate_default_handler;
use tokio::time::{Duration, Instant, sleep_until};

use self::show::Show;
use crate::config::{Config, Control, Environment};
use crate::control::client::{Answer, ClientError};
use crate::control::stream::{self, Conversation};
use crate::exit::Exit;
use crate::trigger::signals::Signals;

mod show;

/// Ages and countdowns are in seconds.
const TICK: Duration = Duration::from_secs(1);
/// As often a daemon that went away is looked for.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// It is asked again after this, should there be something that no event told of.
const ASK_AT_LEAST_EVERY: Duration = Duration::from_secs(30);
/// For each second that it takes the daemon to look, it is left alone for so many.
const REST: u32 = 4;
/// A daemon that does not say how it stands within this is as good as away.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(config: &Config, json: bool, env: &Environment) -> Exit {
    let failed = |error: io::Error| {
        super::complain(&format!("cannot watch: {error}"), "unusable", json);
        Exit::TryLater
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(error),
    };
    runtime.block_on(async {
        let mut watching = match Watching::begin(&config.control).await {
            Ok(watching) => watching,
            Err(error) => return super::status::unanswered(&error, config, json, env),
        };
        if watching.known.answer.value["error"]["code"].is_string() {
            return super::daemon::refused(&watching.known.answer.value, json);
        }
        match watching.go_on(json, env).await {
            Ok(()) => Exit::Done,
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Err(error) => failed(error),
        }
    })
}

/// What is known of the daemon.
struct Known {
    answer: Answer,
    /// When it came.
    at: Instant,
    /// Since when there is nobody who could say how things are now.
    gone: Option<Instant>,
}

type Asking<'a> = Pin<Box<dyn Future<Output = Option<Answer>> + 'a>>;

struct Watching<'a> {
    control: &'a Control,
    events: Option<Conversation>,
    connected: Instant,
    known: Known,
    /// Something has happened since it was asked.
    stale: bool,
    asking: Option<Asking<'a>>,
    asked: Instant,
    /// Not before this it is asked again.
    ask_after: Instant,
    /// Not before this it is looked for, where it has hung up.
    connect_after: Instant,
}

impl<'a> Watching<'a> {
    /// Listens, then asks, so that nothing happens unseen in between.
    async fn begin(control: &'a Control) -> Result<Self, ClientError> {
        let events = Conversation::begin(control, "watch").await?;
        let answer = stream::ask(control, "status").await?;
        let now = Instant::now();
        let known = Known { answer, at: now, gone: None };
        Ok(Self {
            control,
            events: Some(events),
            connected: now,
            known,
            stale: false,
            asking: None,
            asked: now,
            ask_after: now,
            connect_after: now,
        })
    }

    /// Until a signal, or until nobody reads.
    async fn go_on(&mut self, json: bool, env: &Environment) -> io::Result<()> {
        let mut stops = Signals::of(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
        let mut suspends = Signals::of(&[SIGTSTP])?;
        let mut resizes = Signals::of(&[SIGWINCH])?;
        let mut show = Show::new(json, env)?;
        let pace = show.pace();
        loop {
            show.update(&self.known, env)?;
            self.ask_if_due();
            let due = self.due();
            tokio::select! {
                biased;
                () = stops.next() => return Ok(()),
                () = suspends.next() => {
                    show.pause();
                    emulate_default_handler(SIGTSTP)?;
                    show.resume()?;
                }
                () = resizes.next() => show.resize(),
                answer = answered(&mut self.asking) => self.learn(answer, pace),
                () = sleep_until(due) => self.look_for_it().await,
                event = next(&mut self.events) => self.hear(event.is_some()),
            }
        }
    }

    /// It told of something, or hung up.
    fn hear(&mut self, told: bool) {
        self.stale |= told;
        if !told {
            // Looked for at once, unless it does nothing but hang up.
            (self.events, self.connect_after) = (None, self.connected + RETRY_EVERY);
        }
    }

    /// When there is something to do that nobody tells of.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let wanted = match (&self.events, &self.asking) {
            (None, _) => self.connect_after,
            (Some(_), None) if self.stale => self.ask_after,
            _ => now + TICK,
        };
        wanted.clamp(now, now + TICK)
    }

    fn ask_if_due(&mut self) {
        let now = Instant::now();
        let old = now >= self.asked + ASK_AT_LEAST_EVERY;
        if self.asking.is_none() && self.events.is_some() && (old || self.stale && now >= self.ask_after) {
            let asking = tokio::time::timeout(PATIENCE, stream::ask(self.control, "status"));
            self.asking = Some(Box::pin(async { asking.await.ok()?.ok() }));
            (self.stale, self.asked) = (false, now);
        }
    }

    fn learn(&mut self, answer: Option<Answer>, pace: Duration) {
        let now = Instant::now();
        self.asking = None;
        self.ask_after = now + pace.max((now - self.asked) * REST);
        // One that reads its configuration for the first time, or a wrong one, says nothing of its profiles.
        match answer.filter(|answer| answer.value["profiles"].is_array()) {
            Some(answer) => self.known = Known { answer, at: now, gone: None },
            None => self.lose(now),
        }
    }

    fn lose(&mut self, now: Instant) {
        self.events = None;
        self.known.gone.get_or_insert(now);
        self.connect_after = now + RETRY_EVERY;
    }

    async fn look_for_it(&mut self) {
        let now = Instant::now();
        if self.events.is_none() && now >= self.connect_after {
            match Conversation::begin(self.control, "watch").await {
                // What was said before is no news any more.
                Ok(events) => (self.events, self.connected, self.stale) = (Some(events), now, true),
                Err(_) => self.lose(now),
            }
        }
    }
}

async fn answered(asking: &mut Option<Asking<'_>>) -> Option<Answer> {
    match asking {
        Some(asking) => asking.await,
        None => pending().await,
    }
}

async fn next(events: &mut Option<Conversation>) -> Option<Answer> {
    match events {
        Some(events) => events.next().await,
        None => pending().await,
    }
}
