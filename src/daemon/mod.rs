//! The daemon: the only place that spawns, supervises and shuts down.
//!
//! [`house`] is everything from start to signal, [`Daemon`] what it does while it can serve, [`home`] the app's directory
//! as long as it is there, [`agent`] the profiles in it, [`served`] one of them as others see it, [`serve`] the life of its
//! worker, [`vitals`] what the service manager is told of them all, [`alarm`] what a person is told who never looks.
//!
//! What must always hold: every task is joined or aborted by who spawned it; a profile that fails takes no other with
//! it; after the first SIGTERM nothing new is begun and [`GRACE`] is the most it takes.

pub mod agent;
mod alarm;
mod home;
mod house;
pub mod serve;
pub mod served;
pub(crate) mod vitals;

use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use self::agent::Agent;
use self::alarm::Alarm;
pub use self::house::{GRACE, Start, run};
use crate::alert::desktop::Bus;
use crate::clock;
use crate::control::reception::{Reload, Trouble};
use crate::exit::Exit;
use crate::metrics::{Trigger, exporter};
use crate::service::headline::local_time;
use crate::service::manager::Manager;
use crate::trigger::nap::slept;
use crate::trigger::signals::Signals;
use crate::trigger::slot::Wake;
use crate::trigger::watch::{Seen, Watch};
use crate::worker::pulse::Pulse;

/// Whatever `stat` says, the files are looked into this often: a file system may keep no times.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// After `app.db` was written to it is read once more: what the watch saw is visible by then (see `serve`).
const REFRESH_AGAIN: Duration = Duration::from_secs(1);
/// A timer that fires a little early has fired.
const TIMER_SLACK: Duration = Duration::from_millis(50);
/// Looks at the clocks at least this often, so that waking from sleep is noticed soon.
const CLOCKS_EVERY: Duration = Duration::from_secs(30);
/// The service manager is told how things stand at most this often: a busy app changes that a hundred times a second.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// What wakes and supervises the agent's profiles.
struct Daemon<'a> {
    agent: Rc<Agent>,
    manager: &'a Manager,
    reloads: &'a mut Signals,
    asked: &'a mut mpsc::Receiver<Reload>,
    watch: Watch,
    refresh_again: Option<tokio::time::Instant>,
    /// The service manager is to be told how things stand then.
    say_at: Option<tokio::time::Instant>,
    /// Why the last configuration was not taken.
    refused: Option<String>,
    /// Whether it gets on itself, by `began`.
    pulse: Rc<Pulse>,
    began: Instant,
    /// What the clocks said when last looked at.
    clocks: (SystemTime, Instant),
    /// The files were last looked into whatever `stat` said.
    looked: Instant,
    ticked: Instant,
    /// The counters over HTTP.
    exporter: Option<AbortOnDrop>,
    alarm: Alarm,
}

/// A task that ends with who holds this.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What there is to do.
enum Occasion {
    Again,
    Reload(Option<Reload>),
    News,
    Say,
    Seen(Vec<Seen>),
    Timer,
}

impl<'a> Daemon<'a> {
    fn new(
        agent: Rc<Agent>,
        manager: &'a Manager,
        reloads: &'a mut Signals,
        asked: &'a mut mpsc::Receiver<Reload>,
        bus: Option<Bus>,
    ) -> Self {
        let config = &agent.engine().config;
        let now = Instant::now();
        let mut daemon = Self {
            agent,
            manager,
            reloads,
            asked,
            watch: Watch::new(config.watch.mode, config.watch.poll_interval),
            refresh_again: None,
            say_at: None,
            refused: None,
            pulse: Rc::default(),
            began: now,
            clocks: (clock::now(), now),
            looked: now,
            ticked: now,
            exporter: None,
            alarm: Alarm::new(bus),
        };
        daemon.rewatch();
        daemon.export();
        daemon
    }

    /// Serves, and shows the service manager that it does, for ever.
    async fn run(mut self) -> Infallible {
        let signs = vitals::show(Rc::clone(&self.agent), self.manager, Rc::clone(&self.pulse), self.began);
        tokio::select! {
            never = self.live() => never,
            never = signs => never,
        }
    }

    /// For ever.
    async fn live(&mut self) -> Infallible {
        self.manager.ready(&self.headline());
        let mut timer = self.timer();
        loop {
            self.pulse.rest();
            let (again, say_at) = (self.refresh_again, self.say_at);
            let occasion = tokio::select! {
                () = at(again) => Occasion::Again,
                () = self.reloads.next() => Occasion::Reload(None),
                Some(answer) = self.asked.recv() => Occasion::Reload(Some(answer)),
                () = self.agent.news.notified(), if self.manager.listens() && say_at.is_none() => Occasion::News,
                () = at(say_at) => Occasion::Say,
                seen = self.watch.next() => Occasion::Seen(seen),
                _ = timer.tick() => Occasion::Timer,
            };
            self.pulse.beat(self.began.elapsed());
            match occasion {
                Occasion::Again => {
                    self.refresh_again = None;
                    self.refresh().await;
                }
                Occasion::Reload(answer) => {
                    let done = self.reload().await;
                    timer = self.timer();
                    if let Some(answer) = answer {
                        let _ = answer.send(done);
                    }
                }
                Occasion::News => self.say_at = Some(tokio::time::Instant::now() + SAY_EVERY),
                Occasion::Say => {
                    self.say_at = None;
                    self.manager.status(&self.headline());
                }
                Occasion::Seen(seen) => self.seen(seen).await,
                Occasion::Timer => self.tick().await,
            }
        }
    }

    async fn tick(&mut self) {
        let woke = nap(&mut self.clocks);
        let due = self.looked.elapsed() >= LOOK_EVERY;
        if due {
            self.looked = Instant::now();
        }
        let interval = self.agent.engine().config.drain.interval;
        if woke || due || self.ticked.elapsed() + TIMER_SLACK >= interval {
            self.ticked = Instant::now();
            self.agent.engine().tidings.woke(Trigger::Timer);
            self.agent.tick(woke, due).await;
            self.rewatch();
        }
        self.alarm.look(&self.agent).await;
    }

    fn timer(&self) -> tokio::time::Interval {
        let mut timer = interval(self.agent.engine().config.drain.interval.min(CLOCKS_EVERY));
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.reset();
        timer
    }

    async fn seen(&mut self, seen: Vec<Seen>) {
        self.agent.engine().tidings.woke(Trigger::Watch);
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

    async fn reload(&mut self) -> Result<String, Trouble> {
        self.manager.reloading();
        let done = self.agent.reload().await;
        match &done {
            Ok(_) => {
                let engine = self.agent.engine();
                self.watch = Watch::new(engine.config.watch.mode, engine.config.watch.poll_interval);
                self.rewatch();
                self.export();
            }
            Err(message) => tracing::error!("the configuration is as before: {message}"),
        }
        self.refused = done.as_ref().err().cloned();
        self.manager.ready(&self.headline());
        done.map_err(|message| (message, Exit::Config))
    }

    fn headline(&self) -> String {
        let mut headline = vitals::headline(&self.agent);
        if let Some(why) = &self.refused {
            headline.trouble = Some(format!("the configuration is as before: {why}"));
        }
        headline.words(local_time)
    }

    /// Shows the counters where the configuration says.
    fn export(&mut self) {
        // The old one first: it may have the same port.
        self.exporter = None;
        let scraped = Rc::downgrade(&self.agent);
        let scrape = move || scraped.upgrade().map(|agent| vitals::metrics(&agent)).unwrap_or_default();
        let listen = self.agent.engine().config.metrics.listen;
        self.exporter = listen.map(|address| AbortOnDrop(tokio::task::spawn_local(exporter::serve(address, scrape))));
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
