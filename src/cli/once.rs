//! `once`: drains every profile without a daemon, then prints the outcome.
//!
//! What must always hold: it runs under the lock of the data directory, as the daemon does; ops that remain, a lock that
//! somebody else holds, or no data directory at all end it with 75; a wait that would outlast `--wait` is not begun.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::directory;
use crate::app::registry::{self, Profile};
use crate::config::{Config, Environment};
use crate::exit::Exit;
use crate::lock::DirectoryLock;
use crate::op::{ErrorKind, Failure, Next, Outcome, Reason};
use crate::worker::Worker;
use crate::worker::engine::Engine;

use super::outcome::{ProfileLabel, Report};

/// Passes with the usual back-off until nothing is left to send or `wait` is over; zero is a single pass.
pub(super) fn run(config: &Config, wait: Duration, json: bool, env: &Environment) -> Exit {
    let found = match directory::find(config.data_dir.as_deref(), env, &directory::touched) {
        Ok(found) => found,
        Err(error) => {
            super::complain(&error.to_string(), "no_data_dir", json);
            return Exit::TryLater;
        }
    };
    let lock = match DirectoryLock::acquire(&found.place.path) {
        Ok(lock) => lock,
        Err(error) => {
            super::complain(&error.to_string(), "locked", json);
            return error.exit();
        }
    };
    let round = match Engine::new(config, env) {
        Ok(engine) => Round { engine, directory: lock.directory().to_owned(), drained: BTreeMap::new() },
        Err((message, exit)) => {
            super::complain(&message, "unusable", json);
            return exit;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::complain(&format!("cannot start: {error}"), "unusable", json);
            return Exit::TryLater;
        }
    };
    let passes = runtime.block_on(round.drain(wait));
    let report = Report::new(&passes);
    let text = if json { report.for_programs() } else { report.for_people() };
    super::answer(&text, report.exit())
}

/// Passes in a row that send nothing although something remains.
const FRUITLESS_MAX: u32 = 3;

/// Everything `once` works with.
struct Round {
    engine: Engine,
    directory: PathBuf,
    /// By the profile's number.
    drained: BTreeMap<i64, Drained>,
}

/// One profile, and how its passes went so far.
struct Drained {
    label: ProfileLabel,
    worker: Worker,
    sent: u64,
    /// Passes in a row that sent nothing.
    fruitless: u32,
    outcome: Outcome,
}

impl Round {
    /// Pass after pass.
    async fn drain(mut self, wait: Duration) -> Vec<(ProfileLabel, Outcome)> {
        let (stop, stopped) = watch::channel(false);
        let deadline = (!wait.is_zero()).then(|| tokio::time::Instant::now() + wait);
        loop {
            let profiles = match self.engine.profiles(self.directory.clone()).await {
                Ok(profiles) => profiles,
                Err(error) => {
                    let failure = Failure::new(ErrorKind::Database, error.message);
                    let label = ProfileLabel { profile: 0, name: registry::FILE.to_owned() };
                    let outcome = Outcome { error: Some(failure), ..Outcome::skipped(Reason::Unavailable) };
                    return vec![(label, outcome)];
                }
            };
            for profile in profiles {
                let pass = self.pass(profile, stopped.clone());
                tokio::pin!(pass);
                tokio::select! {
                    () = &mut pass => {}
                    () = until(deadline) => {
                        // What is on the wire is waited for; nothing new is begun.
                        let _ = stop.send(true);
                        pass.await;
                    }
                }
            }
            let over = *stopped.borrow();
            match self.next_round().filter(|_| !over) {
                Some(time) if deadline.is_some_and(|at| tokio::time::Instant::now() + time < at) => {
                    tokio::time::sleep(time).await;
                }
                _ => break,
            }
        }
        self.drained
            .into_values()
            .map(|drained| (drained.label, Outcome { sent: drained.sent, ..drained.outcome }))
            .collect()
    }

    /// One pass over one profile, unless something has to be waited for.
    async fn pass(&mut self, profile: Profile, stopped: watch::Receiver<bool>) {
        let id = profile.id;
        let label = ProfileLabel { profile: id, name: profile.name.clone() };
        let engine = &self.engine;
        let drained = self.drained.entry(id).or_insert_with(|| {
            let worker = engine.worker(&self.directory, profile);
            let outcome = Outcome { next: Next::Now, ..Outcome::skipped(Reason::Unavailable) };
            Drained { label, worker, sent: 0, fruitless: 0, outcome }
        });
        if *stopped.borrow() && drained.outcome.next != Next::Now || drained.worker.wait(engine).is_some() {
            return;
        }
        let outcome = drained.worker.drain(engine, stopped).await;
        drained.sent += outcome.sent;
        drained.fruitless = if outcome.sent > 0 { 0 } else { drained.fruitless + 1 };
        // A pass that was stopped has nothing to say about why ops remain; the one before has.
        let error = outcome.error.clone().or_else(|| drained.outcome.error.take().filter(|_| outcome.remaining > 0));
        drained.outcome = Outcome { error, ..outcome };
    }

    /// How long until another round makes sense; `None` where nothing is left that time could help.
    fn next_round(&self) -> Option<Duration> {
        self.drained
            .values()
            .filter(|drained| drained.has_hope())
            .map(|drained| drained.worker.wait(&self.engine).unwrap_or_default())
            .min()
    }
}

impl Drained {
    /// Whether another pass could do more than the last one: something remains, and it was sent from, or failed, or
    /// changed under the pass. What the app queued after a pass began, the next one sends; but one that could have sent
    /// and did not is repeated [`FRUITLESS_MAX`] times at the most, for there is no pause between them.
    fn has_hope(&self) -> bool {
        let Outcome { remaining, error, next, .. } = &self.outcome;
        *next == Next::Now
            || *remaining > 0 && (error.is_some() || *next != Next::WhenWoken || self.fruitless < FRUITLESS_MAX)
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
