//! Plays one life on the real binary.
//!
//! What must always hold: nothing is written by the app while the agent is stopped with the write lock in hand (a
//! person's app would not be, but a stopped agent is a test's doing); the clocks never go down; the agent never ends by
//! itself.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::data_dir::{AppDb, Profile};
use testkit::foreign_drain::{self, Drained, ForeignDrain};
use testkit::ops::NewOp;
use testkit::server::{Fault, Hlc, Reply, Server};
use uuid::Uuid;
use waveflow_sync_agent::halt::Place;

use super::app::{App, op, ops};
use super::plan::{AppKill, End, Plan, Random, Round, Taken, Then};
use super::tally::{RANDOM, Tally};
use crate::common::daemon::{Daemon, SOON, eventually, holds_within};
use crate::common::{DEVICE, Stage, command};

/// See `src/halt.rs`.
const STOP_AT: &str = "WAVEFLOW_SYNC_AGENT_STOP_AT";
/// The longest wait for a number of requests; a queue that is empty makes none.
const PATIENCE: Duration = Duration::from_millis(500);
/// Whose ops they are.
const USER: &str = "alice";
/// Between two passes of the app's own drain.
const OWN_DRAIN_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Life {
    pub(super) server: Server,
    pub(super) stage: Stage,
    pub(super) profiles: [Profile; 2],
    /// Open where the app stays open.
    pub(super) open: Vec<AppDb>,
    pub(super) sick: HashSet<Uuid>,
    /// As they were after the last kill.
    last_clocks: [i64; 2],
    /// Of each profile's ops that were queued last, the stamp of the first, where it is taken.
    offending: [Option<i64>; 2],
    pub(super) tally: Tally,
}

/// Says which life and round it was where the play itself fails.
struct Title(String);

impl Drop for Title {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- in {}", self.0);
        }
    }
}

/// Plays the life, lets the dust settle, and counts.
pub(super) fn live(plan: &Plan) -> Tally {
    let mut life = Life::new(plan);
    for (number, round) in plan.rounds.iter().enumerate() {
        let _title = Title(format!("life {}, round {number}: {round:?}", plan.number));
        life.play(round);
        life.look();
    }
    let _title = Title(format!("life {}, at its end", plan.number));
    life.end();
    life.tally
}

impl Life {
    fn new(plan: &Plan) -> Self {
        let server = Server::start(plan.version).unwrap();
        let stage = Stage::with(plan.generation, &server);
        stage.configure_more(&format!("[drain]\nbatch_ops = {}\n", plan.batch_ops));
        if !plan.has_device {
            stage.dir.set_device_id(None).unwrap();
        } else if plan.largest_taken {
            server.model(|model| model.take_stamps(USER, DEVICE, [i64::MAX]));
        }
        let profiles = ["Zoë", "Ночь"].map(|name| stage.profile(name, USER));
        let open = if plan.stays_open { profiles.iter().map(|one| one.open().unwrap()).collect() } else { Vec::new() };
        let tally = Tally { lives: 1, ..Tally::default() };
        Self { server, stage, profiles, open, sick: HashSet::new(), last_clocks: [0; 2], offending: [None; 2], tally }
    }

    /// From one kill to the next.
    fn play(&mut self, round: &Round) {
        if let Some(kill) = round.app.filter(|kill| !kill.beside) {
            let app = App::start(&self.profiles[kill.profile]);
            self.kill_app(app, kill);
        }
        self.enqueue(round);
        match &round.end {
            End::At(place, time, then) => self.killed_at(*place, *time, *then),
            End::Held(fault, number) => self.killed_while_held(fault, *number, round.app),
            End::Random(random) => self.killed_at_random(random, round.app),
        }
        self.server.clear_faults();
        self.server.release();
    }

    fn enqueue(&mut self, round: &Round) {
        self.offending = [None; 2];
        if round.taken == Some(Taken::Stamps) {
            self.take_stamps(self.clocks(), round.bursts);
        }
        for (at, count) in round.bursts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let mut burst = ops(count);
            if round.sick {
                burst[0] = op().payload_text(r#"{"value":"a\u0000b"}"#);
                self.sick.insert(burst[0].operation_id);
            }
            self.app_enqueues(at, &burst);
        }
        if round.taken == Some(Taken::Pairs) {
            self.take_pairs();
        }
    }

    pub(super) fn app_enqueues(&mut self, at: usize, burst: &[NewOp]) {
        match self.open.get_mut(at) {
            Some(db) => db.enqueue(burst).unwrap(),
            None => self.profiles[at].enqueue(burst).unwrap(),
        };
    }

    /// Some of the stamps that come next in each profile belong to another op.
    fn take_stamps(&mut self, clocks: [i64; 2], bursts: [usize; 2]) {
        let Some(device) = self.stage.dir.device_id().unwrap() else { return };
        for ((clock, burst), offending) in clocks.into_iter().zip(bursts).zip(&mut self.offending) {
            let burst = i64::try_from(burst).unwrap();
            // The first, and some in the middle: what is before the offender keeps its stamp.
            let stamps = [clock + 1, clock + 2, clock + burst / 2].map(|stamp| stamp.max(1));
            self.server.model(|model| model.take_stamps(USER, &device, stamps));
            *offending = Some(stamps[0]);
        }
    }

    /// Some of the pairs in the queues belong to other ops.
    fn take_pairs(&self) {
        let Some(device) = self.stage.dir.device_id().unwrap() else { return };
        for profile in &self.profiles {
            let rows = profile.pending().unwrap();
            let some = rows.iter().step_by(40).filter_map(|row| row.pair);
            let pairs = some.map(|(wall, logical)| Hlc { wall, logical: i32::try_from(logical).unwrap() });
            self.server.model(|model| model.take_pairs(USER, &device, pairs));
        }
    }

    fn launch(&self, stop_at: Option<String>) -> Daemon {
        let mut command = command(self.stage.home());
        command.args(["run", "--log-level", "debug"]);
        command.envs(stop_at.map(|stop_at| (STOP_AT, stop_at)));
        Daemon::launch(&mut command, &self.stage.socket())
    }

    fn killed_at(&mut self, place: Place, time: u32, then: Then) {
        if matches!(place, Place::MarkInside | Place::StateMade | Place::StateWritten | Place::StateRenamed) {
            // Rows are marked, and what stays behind is written down.
            self.server.always(Fault::Answer(Reply::proxy(502)));
        }
        let before = self.clocks();
        let mut daemon = self.launch(Some(format!("{}:{time}", place.name())));
        let stopped = holds_within(SOON, || daemon.is_stopped() || daemon.is_over());
        assert!(stopped && !daemon.is_over(), "it did not come to {} for time {time}: {}", place.name(), daemon.log());
        let is_killed_here = !matches!(then, Then::Continue(_));
        if place == Place::AssignAfter && is_killed_here {
            self.tally.amid += usize::from(self.is_amid(before));
        }
        match then {
            Then::Kill => {}
            Then::AppActs { drains } => self.app_acts(drains),
            Then::Continue(ms) => {
                self.server.clear_faults();
                daemon.signal(Signal::CONT);
                self.tally.continued += 1;
                wait_ms(ms);
            }
        }
        daemon.kill();
        self.tally.killed(if is_killed_here { place.name() } else { RANDOM });
    }

    /// The Lamport clocks as they are.
    fn clocks(&self) -> [i64; 2] {
        self.profiles.each_ref().map(|profile| profile.clock().unwrap().unwrap_or(0))
    }

    /// Whether some rows of a queue have stamps of now, and the first that needs one has its old one yet.
    fn is_amid(&self, before: [i64; 2]) -> bool {
        self.profiles.iter().zip(before).zip(self.offending).any(|((profile, before), offending)| {
            let rows = profile.pending().unwrap();
            rows.iter().any(|row| row.stamp > before) && rows.iter().any(|row| Some(row.stamp) == offending)
        })
    }

    /// The app goes on while the agent is stopped.
    fn app_acts(&mut self, drains: bool) {
        for at in 0..self.profiles.len() {
            self.app_enqueues(at, &ops(3));
            if drains && let Drained::Deleted(rows) = foreign_drain::drain_once(&self.profiles[at], None).unwrap() {
                self.tally.drained += rows;
            }
        }
    }

    fn killed_while_held(&mut self, fault: &Fault, number: u32, app: Option<AppKill>) {
        self.server.next_n(number - 1, Fault::Pass);
        self.server.next(fault.clone());
        let mut daemon = self.launch(None);
        // First the app: in its transaction it has the lock that the agent may need to get that far.
        if let Some((app, kill)) = self.start_beside(app) {
            self.kill_app(app, kill);
        }
        let held = self.server.wait_until_held(SOON);
        assert!(held, "request {number} never came: {}", daemon.log());
        daemon.kill();
        self.tally.killed(match fault {
            Fault::HoldBeforeStore => "request-held-before-storing",
            Fault::HoldAfterStore => "request-held-after-storing",
            _ => "answer-half-sent",
        });
    }

    fn killed_at_random(&mut self, random: &Random, app: Option<AppKill>) {
        for fault in &random.faults {
            self.server.next(fault.clone());
        }
        let requests = self.server.stats().requests + random.requests;
        let own = random.drained.map(|at| ForeignDrain::start(self.profiles[at].clone(), OWN_DRAIN_PAUSE));
        let mut daemon = self.launch(None);
        let app = self.start_beside(app);
        if random.late > 0 {
            self.app_enqueues(0, &ops(random.late));
        }
        if let Some((after, time)) = random.stopped {
            wait_ms(after);
            daemon.signal(Signal::STOP);
            eventually("it is stopped", || daemon.is_stopped());
            wait_ms(time);
            daemon.signal(Signal::CONT);
            self.tally.continued += 1;
        }
        self.server.wait_for(|stats| stats.requests >= requests, PATIENCE);
        wait_ms(random.ms);
        daemon.kill();
        self.tally.killed(RANDOM);
        if let Some((app, kill)) = app {
            self.kill_app(app, kill);
        }
        if let Some(own) = own {
            self.tally.drained += own.stop().deleted;
        }
    }

    fn start_beside(&self, kill: Option<AppKill>) -> Option<(App, AppKill)> {
        let kill = kill.filter(|kill| kill.beside)?;
        Some((App::start(&self.profiles[kill.profile]), kill))
    }

    fn kill_app(&mut self, app: App, kill: AppKill) {
        wait_ms(kill.ms);
        self.tally.app_kills.0 += 1;
        self.tally.app_kills.1 += usize::from(app.kill());
    }

    /// After each kill: the clocks have not gone down, and what the agent remembers is whole.
    fn look(&mut self) {
        let clocks = self.clocks();
        for (clock, last) in clocks.into_iter().zip(self.last_clocks) {
            assert!(clock >= last && clock < 1 << 31, "the clock went from {last} to {clock}");
        }
        self.last_clocks = clocks;
        // Fails where it is half a file.
        self.stage.state();
    }
}

fn wait_ms(ms: u64) {
    let due = Instant::now() + Duration::from_millis(ms);
    thread::sleep(due.saturating_duration_since(Instant::now()));
}
