//! `once`: drains every profile without a daemon, then prints the outcome.
//!
//! What must always hold: it runs under the lock of the data directory, as the daemon does; ops that remain, a lock that
//! somebody else holds, or no data directory at all end it with 75; a wait that would outlast `--wait` is not begun.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::app::directory;
use crate::app::registry::{self, Profile};
use crate::config::{Config, Environment};
use crate::drain::Rules;
use crate::drain::action::StoreError;
use crate::drain::backoff::{BackOff, Waits};
use crate::exit::Exit;
use crate::lock::DirectoryLock;
use crate::op::{ErrorKind, Failure, Next, Outcome, Reason};
use crate::push::{Proxies, Settings};
use crate::record::Keeper;
use crate::state::StateFile;
use crate::worker::Worker;
use crate::worker::servers::Servers;
use crate::worker::store::Store;
use crate::worker::thread::DatabaseThread;

use super::outcome::{ProfileLabel, Report};

/// An idle connection is dropped after this: proxies drop theirs after 60 to 90 s, and ours should go first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

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
    let round = match Round::new(config, lock.directory(), env) {
        Ok(round) => round,
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

/// Everything `once` works with.
struct Round {
    config: Config,
    directory: std::path::PathBuf,
    keeper: Arc<Keeper>,
    database: DatabaseThread,
    servers: Servers,
    waits: Waits,
    began: Instant,
    /// By the profile's number.
    drained: BTreeMap<i64, Drained>,
}

/// One profile, and how its passes went so far.
struct Drained {
    label: ProfileLabel,
    worker: Worker,
    back_off: BackOff,
    sent: u64,
    outcome: Outcome,
}

impl Round {
    fn new(config: &Config, directory: &Path, env: &Environment) -> Result<Self, (String, Exit)> {
        let (file, record) = StateFile::open(&config.state_dir).map_err(|error| (error.to_string(), error.exit()))?;
        let keeper = Arc::new(Keeper::new(Some(file), record));
        let proxy = match &config.server.proxy {
            Some(url) => Proxies::fixed(url).map_err(|message| (message, Exit::Config))?,
            None => Proxies::from_env(|name| env.get(name).and_then(|value| value.to_str()).map(str::to_owned)),
        };
        let settings = Settings {
            connect_timeout: config.server.connect_timeout,
            request_timeout: config.server.request_timeout,
            idle_timeout: IDLE_TIMEOUT,
            ca_file: config.server.ca_file.clone(),
            proxy,
            require_tls: config.server.require_tls,
        };
        let waits = Waits { initial: config.retry.initial, max: config.retry.max };
        let database =
            DatabaseThread::start().map_err(|error| (format!("cannot start a thread: {error}"), Exit::TryLater))?;
        let servers = Servers::new(settings, waits, Arc::clone(&keeper));
        let directory = directory.to_owned();
        let began = Instant::now();
        Ok(Self {
            config: config.clone(),
            directory,
            keeper,
            database,
            servers,
            waits,
            began,
            drained: BTreeMap::new(),
        })
    }

    /// Pass after pass.
    async fn drain(mut self, wait: Duration) -> Vec<(ProfileLabel, Outcome)> {
        let (stop, stopped) = watch::channel(false);
        let deadline = (!wait.is_zero()).then(|| tokio::time::Instant::now() + wait);
        loop {
            let profiles = match self.profiles().await {
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

    async fn profiles(&self) -> Result<Vec<Profile>, StoreError> {
        let directory = self.directory.clone();
        let listed = self.database.call(move || {
            let app = registry::open(&directory)?;
            app.read(|connection| registry::profiles(connection, &directory))
        });
        listed.await.unwrap_or_else(|| Ok(Vec::new()))
    }

    /// One pass over one profile, unless something has to be waited for.
    async fn pass(&mut self, profile: Profile, stopped: watch::Receiver<bool>) {
        let id = profile.id;
        let label = ProfileLabel { profile: id, name: profile.name.clone() };
        let now = self.began.elapsed();
        let drained = self.drained.entry(id).or_insert_with(|| {
            let url = self.config.server.url.clone();
            let store = Store::new(self.directory.clone(), profile, url, Arc::clone(&self.keeper), wall_clock);
            let rules = Rules {
                batch_ops: self.config.drain.batch_ops,
                batch_bytes: self.config.drain.batch_bytes,
                isolate_every: self.config.retry.max,
            };
            let outcome = Outcome { next: Next::Now, ..Outcome::skipped(Reason::Unavailable) };
            Drained { label, worker: Worker::new(store, rules), back_off: BackOff::default(), sent: 0, outcome }
        });
        if *stopped.borrow() && drained.outcome.next != Next::Now || drained.waits(&self.servers, now).is_some() {
            return;
        }
        let mut outcome = drained.worker.drain(&self.database, &self.servers, self.began, stopped.clone()).await;
        if *stopped.borrow() && outcome.remaining > 0 && outcome.sent == 0 {
            // Cut short before anything could be said about the server; the pass before had something to say.
            outcome.error = outcome.error.or(drained.outcome.error.take());
        }
        let now = self.began.elapsed();
        match (outcome.next, drained.worker.url()) {
            // The token is one profile's; the files and the clock are.
            (Next::LocalBackOff | Next::NewToken, _) | (_, None) => {
                drained.back_off.note(outcome.next, self.waits, now, fastrand::u64(..));
            }
            (next, Some(url)) => {
                drained.back_off = BackOff::default();
                self.servers.note(url, next, now);
            }
        }
        drained.sent += outcome.sent;
        drained.outcome = outcome;
    }

    /// How long until another round makes sense; `None` where nothing is left that time could help.
    fn next_round(&self) -> Option<Duration> {
        let now = self.began.elapsed();
        self.drained
            .values()
            .filter(|drained| drained.outcome.remaining > 0 || drained.outcome.next == Next::Now)
            .map(|drained| drained.waits(&self.servers, now).unwrap_or_default())
            .min()
    }
}

impl Drained {
    /// How long to leave the profile alone: its own trouble's time, or its server's.
    fn waits(&self, servers: &Servers, now: Duration) -> Option<Duration> {
        let server = self.worker.url().and_then(|url| servers.wait(url, now));
        self.back_off.wait(now).max(server)
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Milliseconds since the epoch.
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
