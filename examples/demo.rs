//! The agent at work, for somebody who has never seen it: `cargo run --release --example demo`.
//!
//! A made-up app queues ops in a temporary directory, a reference server listens on loopback and misbehaves in turn, and
//! the agent itself, as a process of its own, carries the ops across. At the end the app's records are held against the
//! server's: the exit code is 0 only if every op is stored once and in order, the poisoned one excepted, which must be
//! in quarantine.
//!
//! What must always hold: nothing outside the temporary directory is touched, and it is gone at the end, Ctrl-C
//! included; the only process ended here is one that was started here; it ends within [`LIMIT`].
//!
//! Reading order: [`story`] here, then `demo/agent.rs`, `demo/stage.rs`, `demo/tally.rs`.

#[path = "demo/agent.rs"]
mod agent;
#[path = "demo/stage.rs"]
mod stage;
#[path = "demo/tally.rs"]
mod tally;

use std::io::ErrorKind;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent::{Agent, Running};
use stage::Stage;
use tally::Tally;
use testkit::data_dir::{DataDir, Generation, Profile};
use testkit::made_up_app::{MadeUpApp, Script};
use testkit::ops::NewOp;
use testkit::server::{Fault, Reply, Server, Version};
use testkit::{Error, Result, token};
use uuid::Uuid;

/// It takes a few seconds; a demo that takes this long has gone wrong.
const LIMIT: Duration = Duration::from_secs(60);
/// How often to look whether the agent has ended, where nothing arrives.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Ops the app commits during its scan.
const SCAN_OPS: usize = 3_000;
/// How long the server is away: long enough for the agent to come back to it a few times.
const ABSENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    if let Some(exit) = agent::run_as_agent() {
        return exit;
    }
    match demo() {
        Ok(tally) if tally.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // Whoever read this has left, and gets no verdict: 1, without another word.
        Err(Error::Io(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sets the scene, plays, and tells how it came out.
fn demo() -> Result<Tally> {
    let began = Instant::now();
    let temporary = tempfile::Builder::new().prefix("waveflow-demo-").tempdir()?;
    let mut world = World::new(temporary.path(), began)?;
    story(&mut world)?;
    let tally = Tally::new(&world.committed, &world.server.stored(), &world.profile.pending()?, &world.poisoned);
    tally.tell(&mut world.stage, began.elapsed())?;
    Ok(tally)
}

fn story(world: &mut World) -> Result<()> {
    welcome(world)?;
    a_few_changes(world)?;
    a_scan(world)?;
    a_cut_connection(world)?;
    a_captive_portal(world)?;
    a_restored_backup(world)?;
    a_poisoned_op(world)?;
    a_server_that_is_away(world)
}

fn welcome(world: &mut World) -> Result<()> {
    world.stage.line("The desktop app writes down what its user does; the server wants to know of it; the agent")?;
    world.stage.line("carries it across. App and server are made up here, the agent is the real one.")
}

fn a_few_changes(world: &mut World) -> Result<()> {
    world.stage.act(
        "An ordinary evening",
        "Five changes wait in the app's queue. They leave it once the server named them as stored.",
    )?;
    world.commit(&NewOp::renames(5))?;
    world.drain("30s")
}

fn a_scan(world: &mut World) -> Result<()> {
    world.stage.act(
        "A scan",
        "The app commits thousands of ops, 200 at a time, while the agent drains behind it: neither waits for the other.",
    )?;
    let script = Script { ops: SCAN_OPS, bursts_percent: 25, pause: Duration::from_millis(5), ..Script::default() };
    let app = MadeUpApp::start(&world.profile, &script)?;
    app.wait_for(1, LIMIT);
    world.drain("30s")?;
    let report = app.finish();
    world.committed.extend(&report.committed);
    if let Some(error) = report.error {
        return Err(Error::other(format!("the made-up app: {error}")));
    }
    let slowest = report.latency(1.0).as_millis();
    world.stage.aside(&format!(
        "app: {} ops in {} transactions, the slowest took {slowest} ms; {} failed because the agent wrote meanwhile",
        report.committed.len(),
        report.transactions,
        report.busy_snapshot + report.busy,
    ))?;
    // What came after the last look of the agent's.
    world.drain("30s")
}

fn a_cut_connection(world: &mut World) -> Result<()> {
    world.stage.act(
        "The answer never comes",
        "The server stores, then the connection breaks. The agent cannot know, so it sends again under the same ids, and \
         the server takes none of them twice.",
    )?;
    world.commit(&NewOp::renames(4))?;
    world.server.next(Fault::CutAfterStoring);
    world.drain("30s")
}

fn a_captive_portal(world: &mut World) -> Result<()> {
    world.stage.act(
        "A hotel's network",
        "Everything is answered with 200 and a login page. An op leaves the queue only where an answer names it, and a \
         page names none.",
    )?;
    world.commit(&NewOp::renames(4))?;
    world.server.always(Fault::Answer(Reply::captive_portal()));
    world.drain("0")?;
    world.server.clear_faults();
    world.stage.aside("The user has logged in to the hotel's network.")?;
    world.drain("30s")
}

fn a_restored_backup(world: &mut World) -> Result<()> {
    world.stage.act(
        "A restored backup",
        "Old ops are back in the queue and the app's clock is behind, so new ops get stamps that are taken (409). Those \
         get fresh stamps and keep their ids; the old ones are known to the server.",
    )?;
    world.commit(&NewOp::renames(3))?;
    let backup = world.home.join("backup.db");
    world.profile.export(&backup)?;
    world.commit(&NewOp::renames(4))?;
    world.drain("30s")?;
    world.profile.replace_by_import(&backup)?;
    world.stage.aside("The backup is restored: 3 delivered ops wait again, and 4 stamps will be drawn anew.")?;
    world.commit(&NewOp::renames(4))?;
    world.drain("30s")
}

fn a_poisoned_op(world: &mut World) -> Result<()> {
    world.stage.act(
        "A poisoned op",
        "One op holds \\u0000, which the server's database refuses for ever (500). The agent proves that it is this one, \
         keeps it in the queue, set aside, and delivers the others.",
    )?;
    let poisoned = NewOp::new("playlist", "13", "set").field("name").payload_text(r#"{"value":"Friday\u0000 13"}"#);
    world.poisoned.push(poisoned.operation_id);
    let mut ops = NewOp::renames(5);
    ops.insert(2, poisoned);
    world.commit(&ops)?;
    world.drain("30s")
}

fn a_server_that_is_away(world: &mut World) -> Result<()> {
    world.stage.act(
        "The server is down, and back",
        "The queue is on the user's disk, where it waits; the agent comes back again and again, at growing distances.",
    )?;
    world.server.go_down();
    world.commit(&NewOp::renames(3))?;
    let mut running = world.start("30s")?;
    // Until it has met the closed door, which it notes in the queue for the app's diagnostics.
    while !world.profile.pending()?.iter().any(|row| row.attempt_count > 0 && !tally::is_quarantined(row)) {
        world.look(&mut running, LOOK_EVERY)?;
    }
    world.stage.aside("The agent has found nobody there. The user goes on working.")?;
    world.commit(&NewOp::renames(3))?;
    let until = Instant::now() + ABSENCE;
    while Instant::now() < until {
        world.look(&mut running, LOOK_EVERY)?;
    }
    world.server.come_back()?;
    world.stage.aside("The server is back.")?;
    world.finish(running)
}

/// Everybody on the stage, and what was seen so far.
struct World {
    stage: Stage,
    server: Server,
    profile: Profile,
    agent: Agent,
    home: std::path::PathBuf,
    /// What the app committed, in that order: its own record, taken where it commits.
    committed: Vec<Uuid>,
    /// Of these, the ones no server takes.
    poisoned: Vec<Uuid>,
    /// Stored ops and answers that were shown or passed over.
    seen: (usize, usize),
    deadline: Instant,
    interrupted: Arc<AtomicBool>,
}

impl World {
    fn new(home: &std::path::Path, began: Instant) -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // At a flag and not at once, so that the directory is cleared away.
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let server = Server::start(Version::Later)?;
        let dir = DataDir::new(agent::app_directory(home), Generation::Three)?;
        dir.set_server_url(Some(&server.url()))?;
        let profile = dir.add_profile("Zoë")?;
        dir.set_active(&profile)?;
        profile.sign_in(&token::for_user("zoë"))?;
        Ok(Self {
            stage: Stage::new(),
            server,
            profile,
            agent: Agent::new(home)?,
            home: home.to_owned(),
            committed: Vec::new(),
            poisoned: Vec::new(),
            seen: (0, 0),
            deadline: began + LIMIT,
            interrupted,
        })
    }

    /// The user does something.
    fn commit(&mut self, ops: &[NewOp]) -> Result<()> {
        self.profile.enqueue(ops)?;
        self.committed.extend(ops.iter().map(|op| op.operation_id));
        let waiting = self.profile.pending()?.iter().filter(|row| !tally::is_quarantined(row)).count();
        self.stage.aside(&format!("app: {} ops committed, {waiting} wait in the queue", ops.len()))
    }

    /// Runs the agent from beginning to end.
    fn drain(&mut self, wait: &str) -> Result<()> {
        let running = self.start(wait)?;
        self.finish(running)
    }

    fn start(&mut self, wait: &str) -> Result<Running> {
        self.stage.command(&["waveflow-sync-agent", "once", "--wait", wait])?;
        self.agent.start(&["once", "--wait", wait])
    }

    /// Shows what arrives until the agent ends, then what it said.
    fn finish(&mut self, mut running: Running) -> Result<()> {
        while self.look(&mut running, LOOK_EVERY)? {}
        self.show_arrivals()?;
        self.stage.close_arrivals()?;
        let stats = self.server.stats();
        self.stage.answers(stats.exchanges.get(self.seen.1..).unwrap_or_default())?;
        self.seen.1 = stats.exchanges.len();
        let ended = running.ended()?;
        self.stage.said(&ended)
    }

    /// Waits up to `time` for something to arrive, and shows it; whether the agent still runs.
    fn look(&mut self, running: &mut Running, time: Duration) -> Result<bool> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Error::other("interrupted"));
        }
        if Instant::now() > self.deadline {
            return Err(Error::other(format!("this takes more than {} s", LIMIT.as_secs())));
        }
        let runs = running.runs()?;
        let seen = self.seen.0;
        self.server.wait_for(|stats| stats.stored > seen, if runs { time } else { Duration::ZERO });
        self.show_arrivals()?;
        Ok(runs)
    }

    fn show_arrivals(&mut self) -> Result<()> {
        let arrived = self.server.stored_after(self.seen.0);
        self.seen.0 += arrived.len();
        self.stage.arrivals(&arrived)
    }
}
