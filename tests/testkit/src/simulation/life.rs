//! One life: a seed, and everything that comes of it.
//!
//! ```text
//!   acts (the app, its user, faults) ──▶ world: files, servers ◀── net ◀─┐
//!        │                                  ▲                            │
//!        └──▶ watch, timer, asks ──▶ agent ─┴── jobs on the files ───────┴── requests
//! ```
//!
//! What must always hold: one event at a time, each at its virtual moment; after each of them the books are looked at.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use waveflow_sync_agent::config::Config;
use waveflow_sync_agent::op::{Outcome, Reply};
use waveflow_sync_agent::record::Record;
use waveflow_sync_agent::status::State;
use waveflow_sync_agent::trigger::slot::Wake;

use super::agenda::{Agenda, Bell, MS, Micros, SECOND};
use super::agent::{Agent, Told};
use super::app::{self, Foreign};
use super::net::{Net, Packet};
use super::plan::{Plan, WatchMode};
use super::world::{Shared, World, lock};

/// The daemon's timer.
pub const TIMER: Micros = 30 * SECOND;
/// The daemon looks into the files whatever `stat` says.
const LOOK_EVERY: Micros = 3600 * SECOND;
/// Events at one virtual moment; more is a loop that never waits.
const AT_ONCE_MAX: u64 = 2_000;
/// `watch.poll_interval`.
const POLL: Micros = SECOND;
/// The daemon lists the profiles once more after `app.db` changed.
const REFRESH_AGAIN: Micros = SECOND;

/// What can happen.
pub enum Event {
    /// A wait of the agent's is over.
    Wake(u64, Rc<Bell<()>>),
    /// A job of the agent's database thread is done.
    Job(u64),
    /// A request reaches a server.
    Arrive(Rc<Packet>),
    /// An answer reaches the agent.
    Answer(Rc<Packet>, Reply),
    /// The file watch sees a database's log; `None`: `app.db`, or that files came or went.
    Watch(Option<usize>),
    /// The profiles are listed once more.
    Refresh,
    /// It is time to look.
    Poll(u64),
    /// The timer.
    Timer(u64),
    /// What the app wrote can be read: so many ops.
    Commit(usize, usize),
    /// The app's own drain has its answer; or a page that it believes.
    Foreign(Box<Foreign>, bool),
    /// The agent starts.
    Start,
    /// Something new happens.
    Act,
    /// Whatever was out of order is in order again.
    Mend,
}

/// What a life came to.
#[derive(Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Events.
    pub steps: u64,
    /// Ops that servers stored.
    pub arrived: usize,
    /// The first thing that did not hold.
    pub breach: Option<String>,
    /// What happened how often.
    pub seen: BTreeMap<&'static str, u64>,
    /// Step by step, where it was asked for.
    pub trace: Vec<String>,
}

/// One life.
pub struct Life {
    pub(super) plan: Plan,
    pub(super) world: Shared,
    pub(super) agenda: Rc<RefCell<Agenda<Event>>>,
    pub(super) net: Rc<Net>,
    pub(super) agent: Option<Agent>,
    /// What the agent wrote down.
    pub(super) record: Record,
    pub(super) config: Config,
    /// The agent hears nothing until then.
    pub(super) frozen_until: Micros,
    pub(super) acts_left: usize,
    /// Accounts whose tokens were in a profile's credential row since it was made.
    pub(super) chain: Vec<Vec<usize>>,
    pub(super) steps: u64,
    /// The agent was asked to end.
    pub(super) stopping: bool,
    at_once: u64,
    job_put: bool,
    last_look: Micros,
    states: BTreeMap<usize, State>,
}

impl Life {
    /// The life that `seed` decides; `trace`: with everything written down.
    pub fn new(seed: u64, config: Config, trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        let mut world = World::new(rng, plan.profiles, trace);
        world.tell(|| format!("seed {seed}: {plan:?}"));
        world.oracle.guarded = plan.is_guarded();
        let world: Shared = Arc::new(Mutex::new(world));
        let agenda = Rc::new(RefCell::new(Agenda::default()));
        let net = Rc::new(Net::new(Arc::clone(&world), Rc::clone(&agenda)));
        let life = Self {
            chain: vec![Vec::new(); plan.profiles],
            acts_left: plan.acts,
            plan,
            world,
            agenda,
            net,
            agent: None,
            record: Record::default(),
            config,
            frozen_until: 0,
            steps: 0,
            stopping: false,
            at_once: 0,
            job_put: false,
            last_look: 0,
            states: BTreeMap::new(),
        };
        life.furnish();
        life
    }

    /// Lives it.
    pub fn live(mut self, seed: u64) -> Report {
        self.put(0, Event::Start);
        self.put(MS, Event::Act);
        self.drive(|life| life.acts_left == 0, Micros::MAX);
        self.come_to_rest();
        let world = &mut *lock(&self.world);
        Report {
            seed,
            steps: self.steps,
            arrived: world.oracle.arrived,
            breach: world.oracle.breach.take(),
            seen: std::mem::take(&mut world.seen),
            trace: world.trace.take().unwrap_or_default(),
        }
    }

    pub(super) fn put(&self, wait: Micros, event: Event) {
        self.agenda.borrow_mut().put(wait, event);
    }

    pub(super) fn now(&self) -> Micros {
        self.agenda.borrow().now()
    }

    pub(super) fn is_broken(&self) -> bool {
        lock(&self.world).oracle.breach.is_some()
    }

    /// Lets things happen until `until` holds, at most for `limit`; whether it does.
    pub(super) fn drive(&mut self, until: impl Fn(&Self) -> bool, limit: Micros) -> bool {
        let end = self.now().saturating_add(limit);
        while !self.is_broken() {
            if until(self) {
                return true;
            }
            if self.now() > end || !self.step() {
                return false;
            }
        }
        false
    }

    /// One event, and what the agent makes of it. Whether there was one.
    fn step(&mut self) -> bool {
        let Some(event) = self.agenda.borrow_mut().take() else { return false };
        if matches!(&event, Event::Wake(_, bell) if Rc::strong_count(bell) == 1) {
            // Nobody waits for it any more.
            return true;
        }
        let now = self.now();
        self.at_once = if lock(&self.world).now == now { self.at_once + 1 } else { 0 };
        if self.at_once > AT_ONCE_MAX {
            lock(&self.world).oracle.breach(|| "time stands still: a busy loop".to_owned());
        }
        lock(&self.world).now = now;
        if now < self.frozen_until && is_the_agents(&event) {
            self.put(self.frozen_until - now, event);
            return true;
        }
        self.steps += 1;
        self.happen(event);
        let Some(agent) = &mut self.agent else { return true };
        agent.run();
        agent.count_states(&mut self.states);
        if !self.job_put && !agent.desk.is_empty() {
            self.job_put = true;
            let (incarnation, wait) = (agent.incarnation, lock(&self.world).rng.u64(20..400));
            self.agenda.borrow_mut().put(wait, Event::Job(incarnation));
        }
        let told = std::mem::take(&mut *agent.told.borrow_mut());
        if self.stopping && agent.is_over() {
            self.ended();
        }
        told.into_iter().for_each(|told| self.check_told(&told));
        true
    }

    /// It did as it was asked, and is started again.
    fn ended(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        self.record = agent.keeper.look(Clone::clone);
        self.stopping = false;
        lock(&self.world).oracle.forget(None);
        self.put(MS, Event::Start);
    }

    fn happen(&mut self, event: Event) {
        let current = self.agent.as_ref().map(|agent| agent.incarnation);
        match event {
            // Who was asked to end hears of nothing new.
            Event::Watch(_) | Event::Refresh | Event::Poll(_) | Event::Timer(_) if self.stopping => {}
            Event::Wake(of, bell) if current == Some(of) => bell.ring(()),
            Event::Job(of) if current == Some(of) => self.work(),
            Event::Arrive(packet) => self.net.arrive(&packet),
            Event::Answer(packet, reply) if current == Some(packet.incarnation) => self.net.hear(&packet, reply),
            Event::Watch(profile) => self.watched(profile),
            Event::Refresh => self.refresh(),
            Event::Poll(of) if current == Some(of) => {
                self.refresh();
                self.put(POLL, Event::Poll(of));
            }
            Event::Timer(of) if current == Some(of) => self.tick(of),
            Event::Commit(profile, count) => {
                let world = &mut *lock(&self.world);
                app::enqueue(world, profile, count, self.plan.sick);
            }
            Event::Foreign(foreign, portal) => {
                app::foreign_end(&mut lock(&self.world), &foreign, portal);
                self.put(50, Event::Watch(Some(foreign.profile)));
            }
            Event::Start => self.start(),
            Event::Act => self.act(),
            Event::Mend => self.mend(),
            Event::Wake(..) | Event::Job(_) | Event::Answer(..) | Event::Poll(_) | Event::Timer(_) => {}
        }
    }

    /// The database thread does its next job.
    pub(super) fn work(&mut self) {
        self.job_put = false;
        if let Some(job) = self.agent.as_ref().and_then(|agent| agent.desk.take()) {
            job();
        }
    }

    fn watched(&mut self, profile: Option<usize>) {
        if self.plan.watch != WatchMode::Auto {
            return;
        }
        if let Some(agent) = &self.agent
            && profile.is_some()
        {
            return agent.wake(profile, Wake::Commit, false);
        }
        self.refresh();
        self.put(REFRESH_AGAIN, Event::Refresh);
    }

    fn refresh(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.refresh();
            agent.wake(None, Wake::Commit, false);
        }
    }

    fn tick(&mut self, incarnation: u64) {
        let due = self.now() - self.last_look >= LOOK_EVERY;
        if due {
            self.last_look = self.now();
        }
        if let Some(agent) = &mut self.agent {
            agent.refresh();
            agent.wake(None, Wake::Commit, due);
        }
        self.put(TIMER, Event::Timer(incarnation));
    }

    pub(super) fn start(&mut self) {
        if self.agent.is_some() {
            return;
        }
        lock(&self.world).tell(|| "the agent starts".to_owned());
        let settings = (self.config.clone(), self.plan.rules, self.plan.waits);
        let agent = Agent::start(&self.world, &self.agenda, &self.net, self.record.clone(), settings);
        self.put(TIMER, Event::Timer(agent.incarnation));
        if self.plan.watch == WatchMode::Poll {
            self.put(POLL, Event::Poll(agent.incarnation));
        }
        self.last_look = self.now();
        self.job_put = false;
        self.agent = Some(agent);
    }

    /// The process is gone, and what it was doing with the files is done, or half done, or not.
    pub(super) fn kill(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        self.stopping = false;
        let (how, left) = {
            let world = &mut *lock(&self.world);
            world.tell(|| "the agent is killed".to_owned());
            world.count("act: kill");
            (world.rng.u8(0..3), world.rng.u32(0..3))
        };
        if how > 0
            && let Some(job) = agent.desk.take()
        {
            lock(&self.world).writes_left = (how == 2).then_some(left);
            job();
            lock(&self.world).writes_left = None;
        }
        self.record = agent.keeper.look(Clone::clone);
        lock(&self.world).oracle.forget(None);
    }

    /// Whoever asks is told the truth: what was committed before is gone where nothing remains.
    fn check_told(&self, told: &Told) {
        let Some(Outcome { skipped: None, error: None, remaining: 0, .. }) = told.outcome else { return };
        let world = &mut *lock(&self.world);
        world.count("told: nothing remains");
        let Some(file) = world.disk.data(told.profile) else { return };
        let waits = file.rows.iter().filter(|(_, row)| row.since < told.asked && row.nature.is_healthy());
        let waits: Vec<_> = waits.map(|(id, row)| (*id, row.operation_id)).collect();
        let known = &world.oracle.ops;
        let missed = waits.iter().find(|(_, op)| known.get(op).is_some_and(|known| !known.late && !known.is_stored()));
        if let Some((id, _)) = missed.copied() {
            let profile = told.profile;
            world.oracle.breach(|| format!("told that nothing remains in profile {profile}, and row {id} waits"));
        }
    }
}

/// Whether a stopped process (SIGSTOP) does not hear of it.
fn is_the_agents(event: &Event) -> bool {
    !matches!(
        event,
        Event::Arrive(_) | Event::Commit(..) | Event::Foreign(..) | Event::Start | Event::Act | Event::Mend
    )
}
