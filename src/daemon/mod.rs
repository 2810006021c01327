//! The daemon: the only place that spawns, supervises and shuts down.
//!
//! [`home`] is the app's directory as long as it is there, [`agent`] the profiles in it, [`served`] one of them as
//! others see it, [`serve`] the life of its worker; [`Daemon::run`] holds them together.
//!
//! What must always hold: every task is joined or aborted by who spawned it; a profile that fails takes no other with
//! it; after the first SIGTERM nothing new is begun and [`GRACE`] is the most it takes.

pub mod agent;
mod home;
pub mod serve;
pub mod served;

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

use self::agent::{Agent, Reload};
use crate::clock;
use crate::config::{Config, Environment, Flags};
use crate::control::door;
use crate::exit::Exit;
use crate::trigger::nap::slept;
use crate::trigger::signals::Signals;
use crate::trigger::slot::Wake;
use crate::trigger::watch::{Seen, Watch};

/// How long what is on the wire may take after the first signal to stop: the service manager's patience is longer.
pub const GRACE: Duration = Duration::from_millis(4500);
/// Whatever `stat` says, the files are looked into this often: a file system may keep no times.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Clients that wait for a reload; more than there are clients.
const RELOADS: usize = 64;
/// After `app.db` was written to it is read once more: what the watch saw is visible by then (see `serve`).
const REFRESH_AGAIN: Duration = Duration::from_secs(1);
/// A timer that fires a little early has fired.
const TIMER_SLACK: Duration = Duration::from_millis(50);
/// Looks at the clocks at least this often, so that waking from sleep is noticed soon.
const CLOCKS_EVERY: Duration = Duration::from_secs(30);

/// Runs until a signal ends it.
///
/// # Errors
/// For people, and how to end with it.
pub fn run(config: &Config, flags: Flags, env: Environment) -> Result<Exit, (String, Exit)> {
    let internal = |what: &str, error: &dyn std::fmt::Display| (format!("{what}: {error}"), Exit::TryLater);
    // Whatever we make is the owner's alone; the app's databases keep their own modes (SQLite sees to that).
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| internal("cannot start", &error))?;
    let tasks = LocalSet::new();
    let exit = {
        // Sockets and signals belong to the reactor from the start.
        let _entered = runtime.enter();
        let stops = Signals::stops().map_err(|error| internal("signals", &error))?;
        Daemon::start(config, flags, env).map(|daemon| tasks.block_on(&runtime, daemon.run(stops)))
    };
    drop(tasks);
    // A lookup that hangs in the resolver must not keep us.
    runtime.shutdown_background();
    exit
}

struct Daemon {
    agent: Rc<Agent>,
    reloads: Signals,
    asked: mpsc::Receiver<Reload>,
    watch: Watch,
    listener: door::Listener,
    refresh_again: Option<tokio::time::Instant>,
}

impl Daemon {
    fn start(config: &Config, flags: Flags, env: Environment) -> Result<Self, (String, Exit)> {
        let reloads = Signals::reloads().map_err(|error| (format!("signals: {error}"), Exit::TryLater))?;
        let listener = door::Listener::bind(&config.control.socket)?;
        let (sender, asked) = mpsc::channel(RELOADS);
        let watch = Watch::new(config.watch.mode, config.watch.poll_interval);
        let agent = Rc::new(Agent::new(config, flags, env, sender)?);
        Ok(Self { agent, reloads, asked, watch, listener, refresh_again: None })
    }

    async fn run(mut self, mut stops: Signals) -> Exit {
        let agent = Rc::clone(&self.agent);
        if let Err((message, exit)) = agent.enter().await {
            tracing::error!("{message}");
            self.listener.remove();
            return exit;
        }
        let serving = tokio::task::spawn_local(door::serve(self.listener.take(), Rc::clone(&agent)));
        self.rewatch();
        tracing::info!(
            "waveflow-sync-agent {} serves {} profile(s); socket {}",
            env!("CARGO_PKG_VERSION"),
            agent.served().len(),
            self.listener.path().display()
        );
        // Whatever is under way, a reload that waits for a server for one: the signal is heard.
        tokio::select! {
            () = self.live() => {}
            () = stops.next() => {}
        }
        tracing::info!("stopping");
        serving.abort();
        self.listener.remove();
        tokio::select! {
            () = agent.leave() => {}
            () = tokio::time::sleep(GRACE) => tracing::warn!("what is on the wire takes too long; it will be sent again"),
            () = stops.next() => {}
        }
        Exit::Done
    }

    /// For ever.
    async fn live(&mut self) {
        let agent = Rc::clone(&self.agent);
        let mut timer = self.timer();
        let mut clocks = (clock::now(), Instant::now());
        let (mut looked, mut ticked) = (Instant::now(), Instant::now());
        loop {
            let again = self.refresh_again;
            tokio::select! {
                () = at(again) => {
                    self.refresh_again = None;
                    self.refresh().await;
                }
                () = self.reloads.next() => {
                    if let Err(message) = self.reload().await {
                        tracing::error!("the configuration is as before: {message}");
                    }
                    timer = self.timer();
                }
                Some(answer) = self.asked.recv() => {
                    let done = self.reload().await;
                    timer = self.timer();
                    let _ = answer.send(done);
                }
                seen = self.watch.next() => self.seen(seen).await,
                _ = timer.tick() => {
                    let woke = nap(&mut clocks);
                    let due = looked.elapsed() >= LOOK_EVERY;
                    if due {
                        looked = Instant::now();
                    }
                    let interval = agent.engine().config.drain.interval;
                    if woke || due || ticked.elapsed() + TIMER_SLACK >= interval {
                        ticked = Instant::now();
                        agent.tick(woke, due).await;
                        self.rewatch();
                    }
                }
            }
        }
    }

    fn timer(&self) -> tokio::time::Interval {
        let mut timer = interval(self.agent.engine().config.drain.interval.min(CLOCKS_EVERY));
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.reset();
        timer
    }

    async fn seen(&mut self, seen: Vec<Seen>) {
        let mut refresh = false;
        for what in seen {
            match what {
                Seen::Profile(directory) => self.agent.wake_directory(&directory),
                Seen::Registry | Seen::Tree => refresh = true,
                Seen::Anything => {
                    refresh |= self.agent.is_registry_new();
                    self.agent.wake_all(Wake::Commit);
                }
            }
        }
        if refresh {
            self.refresh_again = Some(tokio::time::Instant::now() + REFRESH_AGAIN);
            self.refresh().await;
        }
    }

    async fn refresh(&mut self) {
        self.agent.refresh().await;
        self.agent.wake_all(Wake::Commit);
        self.rewatch();
    }

    async fn reload(&mut self) -> Result<String, String> {
        let done = self.agent.reload().await?;
        let engine = self.agent.engine();
        self.watch = Watch::new(engine.config.watch.mode, engine.config.watch.poll_interval);
        self.rewatch();
        Ok(done)
    }

    fn rewatch(&mut self) {
        let interval = self.agent.engine().config.watch.poll_interval;
        self.watch.set(&self.agent.directories(), interval);
    }
}

async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Whether the machine slept since the last look.
fn nap(clocks: &mut (SystemTime, Instant)) -> bool {
    let wall = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (now, monotonic) = (clock::now(), Instant::now());
    let slept = slept(wall(now).saturating_sub(wall(clocks.0)), monotonic.duration_since(clocks.1));
    *clocks = (now, monotonic);
    slept
}
