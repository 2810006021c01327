//! The agent at work, for somebody who has never seen it: `cargo run --release --example demo`.
//!
//! A made-up app, as a process of its own, queues ops in a temporary directory; a reference server listens on loopback
//! and misbehaves in turn; and the agent itself, the daemon as `waveflow-sync-agent run` starts it, carries the ops
//! across. At the end the app's records are held against the server's: the exit code is 0 only if every op is stored
//! once and in order, the poisoned one excepted, which must be in quarantine.
//!
//! What must always hold: nothing outside the temporary directory is touched, and it is gone at the end, Ctrl-C
//! included; the only processes ended here are ones that were started here; it ends within [`world::LIMIT`].
//!
//! Reading order: [`story`] here, then `demo/world.rs`, `demo/app.rs`, `demo/agent.rs`, `demo/stage.rs`,
//! `demo/tally.rs`.

#[path = "demo/agent.rs"]
mod agent;
#[path = "demo/app.rs"]
mod app;
#[path = "demo/stage.rs"]
mod stage;
#[path = "demo/tally.rs"]
mod tally;
#[path = "demo/world.rs"]
mod world;

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use stage::milliseconds;
use tally::Tally;
use testkit::server::{Fault, Reply};
use testkit::{Error, Result};
use world::World;

/// How long the server is away: long enough for the agent to come back to it a few times.
const ABSENCE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    if let Some(exit) = agent::run_as_agent() {
        return exit;
    }
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let played = match arguments.as_slice() {
        [role, directory] if role == app::AS_APP => app::live(Path::new(directory)).map(|()| true),
        _ => demo().map(|tally| tally.is_clean()),
    };
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
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
    let tally = world.tally()?;
    tally.tell(&mut world.stage, began.elapsed())?;
    Ok(tally)
}

fn story(world: &mut World) -> Result<()> {
    the_agent_starts(world)?;
    an_ordinary_evening(world)?;
    a_scan(world)?;
    a_cut_connection(world)?;
    a_server_that_is_away(world)?;
    a_captive_portal(world)?;
    a_restored_backup(world)?;
    a_poisoned_op(world)?;
    a_killed_agent(world)?;
    the_end(world)
}

fn the_agent_starts(world: &mut World) -> Result<()> {
    world.stage.line("The desktop app writes down what its user does; the server wants to know of it; the agent")?;
    world.stage.line("carries it across. App and server are made up here, the agent is the real one.")?;
    world.act("The agent starts", "Three changes wait in the app's queue from before. They leave it at once.")?;
    world.app_does("scatter 3 1")?;
    world.stage.command("waveflow-sync-agent run &")?;
    world.agent.run()?;
    world.delivered()?;
    world.command(&["status"])
}

fn an_ordinary_evening(world: &mut World) -> Result<()> {
    world.act(
        "An ordinary evening",
        "The user changes something now and then. Nobody tells the agent; it sees the app's file being written to. Each \
         time is from the commit in the app to the op being stored by the server.",
    )?;
    world.app_does("scatter 20 250")?;
    world.delivered()?;
    world.delays.sort_unstable();
    let (count, slowest) = (world.delays.len(), world.delays.last().copied().unwrap_or_default());
    let median = world.delays.get(count / 2).copied().unwrap_or_default();
    let (median, slowest) = (milliseconds(median), milliseconds(slowest));
    world.stage.aside(&format!("from commit to stored, {count} ops: median {median}, slowest {slowest}"))
}

fn a_scan(world: &mut World) -> Result<()> {
    world.act(
        "A scan",
        "The app commits 3,000 ops, 200 at a time, while the agent drains behind it: neither waits for the other. Then \
         somebody asks on the socket whether all is done; the answer comes when it is.",
    )?;
    world.app_does("burst 3000")?;
    world.on_the_socket("drain now")?;
    world.delivered()?;
    let slowest = milliseconds(world.slowest);
    world.stage.aside(&format!("app: the slowest of its transactions took {slowest}, all 200 changes included"))
}

fn a_cut_connection(world: &mut World) -> Result<()> {
    world.act(
        "The answer never comes",
        "The server stores, then the connection breaks. The agent cannot know, so it sends again under the same ids, and \
         the server takes none of them twice.",
    )?;
    world.server.next(Fault::CutAfterStoring);
    world.app_does("burst 4")?;
    world.delivered()
}

fn a_server_that_is_away(world: &mut World) -> Result<()> {
    world.act(
        "The server is down, and back",
        "The queue is on the user's disk, where it waits; the agent comes back again and again, at growing distances.",
    )?;
    world.server.go_down();
    world.app_does("scatter 3 50")?;
    world.backing_off()?;
    world.command(&["status"])?;
    world.stage.aside("The user goes on working.")?;
    world.app_does("scatter 3 50")?;
    let until = Instant::now() + ABSENCE;
    world.until("the absence", |_| Ok(Instant::now() > until))?;
    world.command(&["status"])?;
    world.server.come_back()?;
    world.stage.aside("The server is back. Nobody tells the agent.")?;
    world.delivered()
}

fn a_captive_portal(world: &mut World) -> Result<()> {
    world.act(
        "A hotel's network",
        "Everything is answered with 200 and a login page. An op leaves the queue only where an answer names it, and a \
         page names none.",
    )?;
    world.server.always(Fault::Answer(Reply::captive_portal()));
    world.app_does("burst 4")?;
    world.backing_off()?;
    world.command(&["status"])?;
    world.server.clear_faults();
    world.stage.aside("The user has logged in to the hotel's network.")?;
    world.on_the_socket("drain now")?;
    world.delivered()
}

fn a_restored_backup(world: &mut World) -> Result<()> {
    world.act(
        "A restored backup",
        "Old ops are back in the queue and the app's clock is behind, so new ops get stamps that are taken (409). Those \
         get fresh stamps and keep their ids; the old ones are known to the server.",
    )?;
    world.command(&["pause"])?;
    world.app_does("burst 3")?;
    world.app_does("backup")?;
    world.stage.aside("A backup of the app's file is made while 3 ops wait in it.")?;
    world.command(&["resume"])?;
    world.app_does("burst 4")?;
    world.delivered()?;
    world.app_does("restore")?;
    world.stage.aside("The backup is restored: 3 delivered ops wait again, and 4 stamps will be drawn anew.")?;
    world.app_does("burst 4")?;
    world.delivered()
}

fn a_poisoned_op(world: &mut World) -> Result<()> {
    world.act(
        "A poisoned op",
        "One op holds \\u0000, which the server's database refuses for ever (500). The agent proves that it is this one, \
         keeps it in the queue, set aside, and delivers the others.",
    )?;
    world.app_does("poison")?;
    world.delivered()?;
    world.command(&["queue", "list"])
}

fn a_killed_agent(world: &mut World) -> Result<()> {
    world.act(
        "kill -9",
        "The agent is killed while a batch is on the wire: stored, and not yet answered. Nothing it knew is needed; what \
         is still queued is sent again, and the server knows it.",
    )?;
    world.server.hold_after_store();
    world.app_does("burst 200")?;
    world.until("the batch", |world| Ok(world.server.wait_for(|stats| stats.held > 0, Duration::ZERO)))?;
    world.agent.kill()?;
    let waiting = world.waiting()?;
    world
        .stage
        .aside(&format!("The agent is dead. The server has stored the batch, and {waiting} ops are in the queue."))?;
    world.app_does("scatter 3 20")?;
    world.server.release();
    world.stage.command("waveflow-sync-agent run &")?;
    world.agent.run()?;
    world.delivered()
}

fn the_end(world: &mut World) -> Result<()> {
    world.act("The end", "SIGTERM ends the agent after what is on the wire, which is nothing.")?;
    world.command(&["status"])?;
    let code = world.agent.stop()?;
    world.close_act()?;
    if code == 0 { Ok(()) } else { Err(Error::other(format!("the agent ended with {code}"))) }
}
