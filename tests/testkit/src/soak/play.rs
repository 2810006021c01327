//! What the app writes, what its user does, and what befalls the agent's process.
//!
//! What must always hold: an op that is in a lane's record was committed, in that order; where the user signs out,
//! nothing waits and nothing is queued until somebody is signed in again, since the agent would rightly hold that back.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{ACTIVE, Lane, World, locked};
use crate::data_dir::{AppDb, Style};
use crate::foreign_drain::{self, Drained};
use crate::ops::Mix;
use crate::{Result, time, token};

/// Of 100 transactions, so many are a scan's, with up to [`SCAN`] ops.
const SCANS_PERCENT: u8 = 2;
/// Ops in a scan's transaction at the most.
const SCAN: u32 = 200;
/// Of 100 transactions, so many hold a few ops.
const FEW_PERCENT: u8 = 20;
/// Of 100 transactions, so many read before they write.
const DEFERRED_PERCENT: u8 = 20;
/// The user's doings and the process's troubles come more slowly than the server's faults.
const USER_PACE: f64 = 3.0;
/// See [`USER_PACE`].
const TROUBLE_PACE: f64 = 3.0;
/// What lasts, lasts up to so many times the pace of the faults: 2 s where they come each second.
const LASTING: f64 = 2.0;
/// A queue that does not empty within this is signed out another time.
const SIGN_OUT_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at that queue.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The app on one profile: commits at its share of the rate until it is over.
pub(super) fn write(world: &World<'_>, number: usize) -> Result<()> {
    let part = 10 + number as u64;
    let mut random = world.random(part);
    let mut mix = Mix::new(random.u64(..));
    let lane = &world.lanes[number];
    let mut app = lane.profile.open()?;
    // Each lane has its share of the rate.
    let pause = Duration::from_secs_f64(1.0 / world.options.rate) * u32::try_from(world.lanes.len()).unwrap_or(1);
    let mut due = Instant::now();
    while !world.is_over_within(due.saturating_duration_since(Instant::now())) {
        let size = size(&mut random);
        due += pause * size;
        let ops: Vec<_> = mix.by_ref().take(size as usize).collect();
        let style = if random.u8(..100) < DEFERRED_PERCENT { Style::Deferred } else { Style::Immediate };
        let _turn = locked(&lane.turn);
        match app.enqueue_as(style, &ops, || ()) {
            Ok(_) => locked(&lane.committed).extend(ops.iter().map(|op| op.operation_id)),
            // What other writers cost the user; such an op was never committed.
            Err(error) if error.is_busy() => world.count("the app was told that its file is busy"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn size(random: &mut fastrand::Rng) -> u32 {
    match random.u8(..100) {
        roll if roll < SCANS_PERCENT => random.u32(SCAN / 4..=SCAN),
        roll if roll < FEW_PERCENT => random.u32(2..=10),
        _ => 1,
    }
}

/// What lasts for a while, less where it is over before.
fn a_while(world: &World<'_>, random: &mut fastrand::Rng) {
    world.is_over_within(world.options.fault_every.mul_f64(random.f64() * LASTING));
}

/// What the user and the app do besides.
pub(super) fn user(world: &World<'_>) -> Result<()> {
    let mut random = world.random(2);
    let apps: Vec<AppDb> = world.lanes.iter().map(|lane| lane.profile.open()).collect::<Result<_>>()?;
    while !world.is_over_within(world.options.fault_every.mul_f64(random.f64() * USER_PACE * 2.0)) {
        let number = random.usize(..world.lanes.len());
        let (lane, app) = (&world.lanes[number], &apps[number]);
        let done = match random.u8(..5) {
            0 => keep_the_lock(world, app, &mut random),
            1 => checkpoint(world, app),
            2 => {
                world.count("token pasted over");
                app.paste_token(&fresh_token(lane, &mut random))
            }
            3 => sign_out_and_in(world, lane, app, &mut random),
            _ => app_drains(world, &mut random),
        };
        match done {
            Err(error) if error.is_busy() => world.count("the user was told that a file is busy"),
            done => done?,
        }
    }
    Ok(())
}

fn keep_the_lock(world: &World<'_>, app: &AppDb, random: &mut fastrand::Rng) -> Result<()> {
    app.connection().execute_batch("BEGIN IMMEDIATE")?;
    world.count("write lock kept");
    a_while(world, random);
    Ok(app.connection().execute_batch("ROLLBACK")?)
}

fn checkpoint(world: &World<'_>, app: &AppDb) -> Result<()> {
    // Told and not failed where somebody reads: then it is done as far as it goes.
    app.connection().query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    world.count("checkpoint");
    Ok(())
}

/// Another token of the same user's.
fn fresh_token(lane: &Lane, random: &mut fastrand::Rng) -> String {
    token::jwt(lane.user, token::ISSUER, time::now_s() + random.i64(86_400..864_000))
}

fn sign_out_and_in(world: &World<'_>, lane: &Lane, app: &AppDb, random: &mut fastrand::Rng) -> Result<()> {
    let _turn = locked(&lane.turn);
    let deadline = Instant::now() + SIGN_OUT_WITHIN;
    while app.pending_count()? > 0 {
        if world.is_over() || Instant::now() > deadline {
            world.count("sign-out put off");
            return Ok(());
        }
        thread::sleep(LOOK_EVERY);
    }
    app.sign_out()?;
    a_while(world, random);
    let token = fresh_token(lane, random);
    // Nobody stays signed out: what is queued then is held back, and rightly.
    loop {
        match app.sign_in(&token) {
            Err(error) if error.is_busy() && !world.is_over() => {}
            done => break done?,
        }
    }
    world.count("signed out and in");
    Ok(())
}

/// The app drains its active profile until it has found something, for a while: the agent is there first most times.
fn app_drains(world: &World<'_>, random: &mut fastrand::Rng) -> Result<()> {
    let until = Instant::now() + world.options.fault_every.mul_f64(random.f64() * LASTING);
    let mut found = "the app found nothing to drain";
    world.app_drains.store(true, Ordering::SeqCst);
    let drained = loop {
        match foreign_drain::drain_once(&world.lanes[ACTIVE].profile, None) {
            Ok(Drained::Nothing) if Instant::now() < until && !world.is_over_within(LOOK_EVERY / 10) => continue,
            Ok(Drained::Nothing) => {}
            Ok(Drained::Deleted(_)) => found = "the app drained a batch",
            Ok(Drained::Marked { .. }) => found = "the app drained in vain",
            Err(error) => break Err(error),
        }
        break Ok(());
    };
    world.app_drains.store(false, Ordering::SeqCst);
    world.count(found);
    drained
}

/// What befalls the agent's process and the server's.
pub(super) fn trouble(world: &World<'_>) -> Result<()> {
    let mut random = world.random(3);
    while !world.is_over_within(world.options.fault_every.mul_f64(random.f64() * TROUBLE_PACE * 2.0)) {
        match random.u8(..10) {
            0..=4 if world.may_kill() => kill(world, &mut random)?,
            0..=4 => {}
            5 | 6 => stop_and_go_on(world, &mut random)?,
            7 | 8 => {
                world.count("SIGHUP");
                locked(&world.agent).signal(Signal::HUP)?;
            }
            _ => {
                world.count("server restarted");
                world.server.go_down();
                a_while(world, &mut random);
                world.server.come_back()?;
            }
        }
    }
    Ok(())
}

fn kill(world: &World<'_>, random: &mut fastrand::Rng) -> Result<()> {
    locked(&world.agent).kill()?;
    world.count(super::KILLS);
    // Now and then nobody starts it again for a while.
    if random.bool() {
        a_while(world, random);
    }
    locked(&world.agent).start()
}

fn stop_and_go_on(world: &World<'_>, random: &mut fastrand::Rng) -> Result<()> {
    world.count("SIGSTOP and SIGCONT");
    locked(&world.agent).signal(Signal::STOP)?;
    a_while(world, random);
    locked(&world.agent).signal(Signal::CONT)
}
