//! App, agent and server for as long as told, with everything going wrong at once, and the books kept all the while.
//!
//! ```text
//!   app    three writers, one for each profile ──▶ queues ──▶ [agent] ──▶ server ◀── faults, one after the other
//!           ▲                                                    ▲           ▲
//!   user    └ locks, checkpoints, tokens, signs out and in       │           │
//!   trouble                        SIGKILL, SIGSTOP, SIGHUP ─────┘  restarts ┘
//!
//!   ledger  what the app committed, what waits, what the server has          usage  what the agent takes
//! ```
//!
//! What must always hold: every choice comes out of the one seed (when it meets what, the machine decides); the agent is
//! a process and nothing of its code is in here; each wait has an end; what is counted is what the app committed and the
//! server stored, never what the agent says. Nobody is killed in the second half, so that it shows whether one process
//! stays as it is.
//!
//! Two of the profiles share an account, and with it a device and its stamps, so that they conflict all the time. The
//! app's own drain runs on the third: where stamps are being replaced it may store old ones behind fresh ones, which
//! nobody could help.

mod agent;
mod faults;
mod ledger;
mod play;
mod report;
mod usage;

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::data_dir::{DataDir, Generation, Profile};
use crate::server::{Server, Version};
use crate::sync::Shared;
use crate::{Result, token};

use agent::Agent;
use ledger::{Ledger, Tally};
pub use report::Outcome;
use usage::Course;

/// How often the agent is looked at.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// How often the end looks whether all has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The profiles, and whose they are.
const LANES: [(&str, &str); 3] = [("Zoë", "alice"), ("Zoë at work", "alice"), ("Max", "bob")];
/// The lane whose profile is the active one: the app's own drain runs there, and nowhere else.
const ACTIVE: usize = 2;
/// Counted under this name.
const LET_GO: &str = "held op that a person let go";
/// Likewise.
const KILLS: &str = "SIGKILL";
/// Likewise; one that meets nobody before the next one comes has met nobody.
const ARMED: &str = "fault of the server's armed";

/// How it is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The agent's program.
    pub agent: PathBuf,
    /// A directory that is there, for everybody's files.
    pub home: PathBuf,
    /// How long things go wrong.
    pub time: Duration,
    /// Ops a second, over all profiles.
    pub rate: f64,
    /// Where the randomness starts.
    pub seed: u64,
    /// A fault of the server's each time; the other troubles keep this pace.
    pub fault_every: Duration,
    /// A line of the report each time.
    pub line_every: Duration,
    /// How long everything may take to arrive when nothing goes wrong any more.
    pub patience: Duration,
}

/// How often what happened.
type Counts = BTreeMap<&'static str, u64>;

/// One profile, as its writer and the books see it.
struct Lane {
    profile: Profile,
    user: &'static str,
    /// Held by whoever makes the app do something here: nothing is queued while nobody is signed in.
    turn: Mutex<()>,
    /// The app's own record, in the order of the commits.
    committed: Mutex<Vec<Uuid>>,
}

/// Everybody, as the threads share them.
struct World<'o> {
    options: &'o Options,
    server: Server,
    lanes: Vec<Lane>,
    agent: Mutex<Agent>,
    began: Instant,
    /// Nothing goes wrong and nothing is queued any more.
    over: Shared<bool>,
    counts: Shared<Counts>,
    /// The app's own drain is at work; see [`faults`].
    app_drains: Arc<AtomicBool>,
    /// The server's faults that met somebody.
    met: Arc<faults::Met>,
    /// What a thread ended with that should not have.
    failed: Mutex<Option<crate::Error>>,
    /// Ops that a person let go: they may come later than those behind them.
    late: Mutex<HashSet<Uuid>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays it all, a line of figures at a time, and says how it came out.
///
/// # Errors
/// It could not be played to its end; the outcome is another matter.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<Outcome> {
    let world = World::new(options)?;
    report::heading(options, out)?;
    locked(&world.agent).start()?;
    let (mut ledger, mut course) = (Ledger::default(), Course::default());
    thread::scope(|scope| {
        // Whatever ends this ends the threads, and the scope with them.
        let end = End(&world);
        for number in 0..world.lanes.len() {
            let world = &world;
            scope.spawn(move || world.watched(|| play::write(world, number)));
        }
        for part in [faults::play, play::user, play::trouble] {
            let world = &world;
            scope.spawn(move || world.watched(|| part(world)));
        }
        let watched = watch(&world, &mut ledger, &mut course, out);
        drop(end);
        watched
    })?;
    if let Some(error) = locked(&world.failed).take() {
        return Err(error);
    }
    world.calm()?;
    arrive(&world)?;
    let sample = locked(&world.agent).sample()?;
    let code = locked(&world.agent).stop()?;
    let tally = world.tally(&mut ledger)?;
    report::line(&world, &tally, sample.map(|(_, usage)| usage), out)?;
    let outcome = Outcome::new(&world, tally, course, code)?;
    outcome.tell(out)?;
    Ok(outcome)
}

/// Ends the threads when it goes.
struct End<'w, 'o>(&'w World<'o>);

impl Drop for End<'_, '_> {
    fn drop(&mut self) {
        self.0.over.change(|over| *over = true);
    }
}

/// Samples and tells until the time is over.
fn watch(world: &World<'_>, ledger: &mut Ledger, course: &mut Course, out: &mut dyn Write) -> Result<()> {
    let mut next_line = world.options.line_every;
    loop {
        let due = world.began.elapsed() + SAMPLE_EVERY.min(world.options.line_every);
        if due > world.options.time || world.is_over_within(due.saturating_sub(world.began.elapsed())) {
            return Ok(());
        }
        let sample = locked(&world.agent).sample()?;
        course.extend(sample);
        if world.began.elapsed() >= next_line {
            next_line += world.options.line_every;
            let tally = world.tally(ledger)?;
            report::line(world, &tally, sample.map(|(_, usage)| usage), out)?;
        }
    }
}

/// Waits until nothing is queued any more, as long as there is patience. A sign-in and a token pasted behind it may both go
/// unseen by an agent that is killed or stopped; what was queued between them is held back, and needs a person.
fn arrive(world: &World<'_>) -> Result<()> {
    let (half, deadline) = (world.options.patience / 2, Instant::now() + world.options.patience);
    let mut person_comes = Some(Instant::now() + half);
    while Instant::now() < deadline {
        if person_comes.take_if(|at| Instant::now() >= *at).is_some() {
            let let_go = locked(&world.agent).let_go();
            let_go.iter().for_each(|_| world.count(LET_GO));
            locked(&world.late).extend(let_go);
        }
        let mut waiting = 0;
        for lane in &world.lanes {
            waiting += lane.profile.pending_count()?;
        }
        if waiting == 0 {
            break;
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

impl<'o> World<'o> {
    fn new(options: &'o Options) -> Result<Self> {
        let server = Server::start(Version::Later)?;
        let agent = Agent::new(&options.agent, &options.home)?;
        let dir = DataDir::new(agent.app_directory(), Generation::Three)?;
        dir.set_server_url(Some(&server.url()))?;
        let mut lanes = Vec::new();
        for (name, user) in LANES {
            let profile = dir.add_profile(name)?;
            profile.sign_in(&token::for_user(user))?;
            lanes.push(Lane { profile, user, turn: Mutex::default(), committed: Mutex::default() });
        }
        dir.set_active(&lanes[ACTIVE].profile)?;
        Ok(Self {
            options,
            server,
            lanes,
            agent: Mutex::new(agent),
            began: Instant::now(),
            over: Shared::default(),
            counts: Shared::default(),
            app_drains: Arc::default(),
            met: Arc::default(),
            failed: Mutex::default(),
            late: Mutex::default(),
        })
    }

    /// Runs a thread's part; where it fails everybody ends.
    fn watched(&self, part: impl FnOnce() -> Result<()>) {
        if let Err(error) = part() {
            locked(&self.failed).get_or_insert(error);
            drop(End(self));
        }
    }

    /// Waits so long, or until it is over; whether it is.
    fn is_over_within(&self, limit: Duration) -> bool {
        self.over.wait(limit, |over| *over)
    }

    fn is_over(&self) -> bool {
        *self.over.lock()
    }

    fn count(&self, what: &'static str) {
        self.counts.change(|counts| *counts.entry(what).or_default() += 1);
    }

    /// The randomness of one part.
    fn random(&self, part: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.options.seed.wrapping_mul(1_000_003).wrapping_add(part))
    }

    /// Whether the agent may still be killed.
    fn may_kill(&self) -> bool {
        self.began.elapsed() * 2 < self.options.time
    }

    /// Nothing goes wrong from here on.
    fn calm(&self) -> Result<()> {
        self.server.clear_faults();
        self.server.release();
        locked(&self.agent).start_if_dead()
    }

    fn tally(&self, ledger: &mut Ledger) -> Result<Tally> {
        // In this order: an op that has left the queue in between is found with the server, and was committed before.
        let committed: Vec<_> = self.lanes.iter().map(|lane| locked(&lane.committed).clone()).collect();
        let mut queued = Vec::new();
        for lane in &self.lanes {
            queued.push(lane.profile.pending()?);
        }
        let known = ledger.len();
        let new = self.server.model(|model| {
            let rows = model.stored().get(known..).unwrap_or_default();
            rows.iter().map(ledger::Arrival::of).collect::<Vec<_>>()
        });
        ledger.extend(new);
        let late = locked(&self.late);
        let lanes = self.lanes.iter().zip(&committed).zip(&queued);
        let lanes: Vec<_> = lanes
            .map(|((lane, ids), queued)| ledger::Books { user: lane.user, committed: ids, queued, late: &late })
            .collect();
        Ok(ledger.tally(&lanes))
    }
}
