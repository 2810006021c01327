//! The agent, one life of it: the daemon's own code on made-up time, files and network.
//!
//! What must always hold: everything that decides is the agent's: [`serve`], its workers, their passes, what is known of
//! servers; dropping this is a kill.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use waveflow_sync_agent::app::registry::Profile;
use waveflow_sync_agent::buffer::Buffers;
use waveflow_sync_agent::config::{Config, Environment, Flags, Platform, load};
use waveflow_sync_agent::daemon::serve::{Known, serve};
use waveflow_sync_agent::daemon::served::Served;
use waveflow_sync_agent::drain::Rules;
use waveflow_sync_agent::drain::backoff::Waits;
use waveflow_sync_agent::op::Outcome;
use waveflow_sync_agent::record::{Keeper, Record};
use waveflow_sync_agent::status::State;
use waveflow_sync_agent::surroundings::{Sleep, Surroundings};
use waveflow_sync_agent::trigger::slot::Wake;
use waveflow_sync_agent::worker::Worker;
use waveflow_sync_agent::worker::engine::Engine;
use waveflow_sync_agent::worker::servers::Servers;
use waveflow_sync_agent::worker::thread::DatabaseThread;

use super::agenda::{Agenda, Bell, Desk, Hearing, Micros, Tasks};
use super::files::MadeUpFiles;
use super::life::Event;
use super::net::Net;
use super::world::{Shared, lock};

/// Polls in a row without anything happening; a task that is still not at rest never will be.
const POLLS_MAX: usize = 10_000;

/// Clocks and waiting, made up.
struct Virtual {
    world: Shared,
    agenda: Rc<RefCell<Agenda<Event>>>,
    incarnation: u64,
}

impl Surroundings for Virtual {
    fn now(&self) -> Duration {
        // The machine had been up for a while.
        Duration::from_micros(self.agenda.borrow().now() + 1_000_000_000)
    }

    fn wall(&self) -> i64 {
        lock(&self.world).wall()
    }

    fn sleep(&self, time: Duration) -> Sleep {
        let bell = Rc::new(Bell::default());
        let wait = Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX);
        self.agenda.borrow_mut().put(wait, Event::Wake(self.incarnation, Rc::clone(&bell)));
        Box::pin(Hearing(bell))
    }

    fn random(&self) -> u64 {
        lock(&self.world).rng.u64(..)
    }
}

/// What a `drain now` was told.
pub struct Told {
    /// About which profile.
    pub profile: usize,
    /// When it was asked.
    pub asked: Micros,
    /// `None` where the profile went away.
    pub outcome: Option<Outcome>,
}

/// A running agent.
pub struct Agent {
    /// Its number.
    pub incarnation: u64,
    /// What it remembers.
    pub keeper: Arc<Keeper>,
    /// What its database thread has to do.
    pub desk: Arc<Desk>,
    /// Who is served, by the profile's place.
    pub served: BTreeMap<usize, Rc<Served>>,
    /// Answers to `drain now`.
    pub told: Rc<RefCell<Vec<Told>>>,
    world: Shared,
    engine: Rc<Engine>,
    rules: Rules,
    tasks: Tasks,
    /// Profiles that were sent away, until they have left.
    leaving: BTreeMap<usize, Rc<Bell<()>>>,
}

/// The configuration an agent without any has; loaded once for all lives.
pub fn defaults() -> Option<Config> {
    let home = Path::new("/nonexistent");
    let env = Environment::new(Platform::CURRENT, home, [("HOME", "/nonexistent")]);
    load(&Flags::default(), &env).ok().map(|loaded| loaded.config)
}

impl Agent {
    /// Starts one that remembers `record`.
    pub fn start(
        world: &Shared,
        agenda: &Rc<RefCell<Agenda<Event>>>,
        net: &Rc<Net>,
        record: Record,
        (config, rules, waits): (Config, Rules, Waits),
    ) -> Self {
        net.incarnation.set(net.incarnation.get() + 1);
        // A server's time lives as long as the process that heard it.
        net.named.set([(0, 0); 2]);
        net.stopped_at.set(None);
        let incarnation = net.incarnation.get();
        let keeper = Arc::new(Keeper::new(None, record));
        let desk = Arc::new(Desk::default());
        let hands: Arc<Desk> = Arc::clone(&desk);
        let wire: Rc<Net> = Rc::clone(net);
        let surroundings = Virtual { world: Arc::clone(world), agenda: Rc::clone(agenda), incarnation };
        let engine = Engine {
            config,
            servers: Servers::new(wire, waits, Arc::clone(&keeper)),
            keeper: Arc::clone(&keeper),
            database: DatabaseThread::of(hands),
            waits,
            buffers: Buffers::default(),
            surroundings: Rc::new(surroundings),
        };
        let mut agent = Self {
            incarnation,
            keeper,
            desk,
            served: BTreeMap::new(),
            told: Rc::default(),
            world: Arc::clone(world),
            engine: Rc::new(engine),
            rules,
            tasks: Tasks::default(),
            leaving: BTreeMap::new(),
        };
        agent.refresh();
        agent
    }

    /// Looks which profiles there are, as the daemon does when `app.db` changed.
    pub fn refresh(&mut self) {
        let listed: Vec<usize> = {
            let world = lock(&self.world);
            let profiles = world.disk.profiles.iter().enumerate();
            profiles.filter(|(_, profile)| profile.listed).map(|(at, _)| at).collect()
        };
        let gone: Vec<usize> = self.served.keys().copied().filter(|at| !listed.contains(at)).collect();
        for at in gone {
            if let Some(served) = self.served.remove(&at) {
                served.stop();
            }
        }
        for at in listed {
            if !self.served.contains_key(&at) {
                self.serve(at);
            }
        }
    }

    fn serve(&mut self, at: usize) {
        let id = i64::try_from(at).unwrap_or(0) + 1;
        let path = Path::new("profiles").join(id.to_string()).join("data.db");
        let served =
            Rc::new(Served::new(Profile { id, name: format!("profile {at}"), path: Some(path) }, Rc::default()));
        let (world, keeper, rules) = (Arc::clone(&self.world), Arc::clone(&self.keeper), self.rules);
        let hire = move || Worker::new(MadeUpFiles::new(Arc::clone(&world), Arc::clone(&keeper), at), rules);
        let life = serve(Rc::clone(&served), Rc::clone(&self.engine), Known::default(), hire);
        // Whoever comes under the same number waits for whoever leaves.
        let (before, left) = (self.leaving.remove(&at), Rc::new(Bell::default()));
        self.leaving.insert(at, Rc::clone(&left));
        self.tasks.spawn(async move {
            if let Some(before) = before {
                Hearing(before).await;
            }
            life.await;
            left.ring(());
        });
        self.served.insert(at, served);
    }

    /// Wakes a profile, or all.
    pub fn wake(&self, profile: Option<usize>, wake: Wake, doubt: bool) {
        for (at, served) in &self.served {
            if profile.is_none_or(|profile| profile == *at) {
                if doubt {
                    served.wake_in_doubt(wake)
                } else {
                    served.wake(wake)
                };
            }
        }
    }

    /// `drain now`.
    pub fn ask(&mut self, profile: usize, now: Micros) {
        let Some(served) = self.served.get(&profile).map(Rc::clone) else { return };
        let ticket = served.wake_in_doubt(Wake::Ask);
        let told = Rc::clone(&self.told);
        self.tasks.spawn(async move {
            let outcome = served.outcome(ticket).await;
            told.borrow_mut().push(Told { profile, asked: now, outcome });
        });
    }

    /// Runs what can run.
    pub fn run(&mut self) {
        if !self.tasks.settle(POLLS_MAX) {
            lock(&self.world).oracle.breach(|| "the agent never rests: a busy loop".to_owned());
        }
    }

    /// SIGTERM.
    pub fn stop(&mut self) {
        self.served.values().for_each(|served| served.stop());
    }

    /// Whether every profile has ended.
    pub fn is_over(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether a profile is at work, or waits for a server, or was sent away and has not left yet.
    pub fn is_busy(&self) -> bool {
        let rests = |served: &Rc<Served>| {
            !matches!(served.standing.borrow().state, State::Draining | State::BackingOff | State::Unauthorized)
        };
        self.tasks.len() > self.served.len() || !self.served.values().all(rests)
    }

    /// Counts the states the profiles are in.
    pub fn count_states(&self, last: &mut BTreeMap<usize, State>) {
        for (at, served) in &self.served {
            let state = served.standing.borrow().state;
            if last.insert(*at, state) != Some(state) {
                lock(&self.world).count(name(state));
            }
        }
    }
}

fn name(state: State) -> &'static str {
    match state {
        State::Idle => "state: idle",
        State::Draining => "state: draining",
        State::BackingOff => "state: backing off",
        State::Unauthorized => "state: unauthorized",
        State::Local => "state: local",
        State::SignedOut => "state: signed out",
        State::NotConfigured => "state: not configured",
        State::Paused => "state: paused",
        State::Unavailable => "state: unavailable",
        State::Held => "state: held",
        State::ProfileNotReady => "state: profile not ready",
    }
}
