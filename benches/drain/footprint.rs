//! What the daemon weighs: memory, threads, descriptors, how often it gets a processor, what it writes; at work and at
//! rest. And how long it takes to be there.
//!
//! What must always hold: it is looked at from outside, through `/proc`, which wakes nobody; the rest is the one behind
//! the work, so that what the work leaves behind is in it.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Error, Result};

use super::daemon::Daemon;
use super::echo::Echo;
use super::ground::{Install, Original};
use super::numbers::{median, milliseconds};
use super::process::{number, number_in};
use super::results::{Footprint, Occupied};

/// How often it is looked at while it works.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A drain that takes longer hangs; so does a daemon that does not close the app's files.
const LIMIT: Duration = Duration::from_secs(120);
/// The app's files have to stay closed for so long, to count as closed.
const CLOSED_FOR: Duration = Duration::from_secs(1);
/// Where nobody may look at the descriptors: the files are closed three seconds behind the last work.
const UNSEEN: Duration = Duration::from_secs(8);

/// Weighs it: at work on this queue, then at rest for so long, and so many starts.
pub(crate) fn weigh(queue: &Original, rest: Duration, settle: bool, starts: usize) -> Result<Footprint> {
    let server = Echo::start(Duration::ZERO)?;
    let install = queue.copy(&server)?;
    let daemon = Daemon::start(&install)?;
    let draining = at_work(&daemon, &install)?;
    if settle {
        wait_until_quiet(&daemon)?;
    }
    let mut idle = at_rest(&daemon, rest);
    idle.peak_kb = idle.peak_kb.max(draining.peak_kb);
    daemon.stop()?;
    install.verify(&queue.ids, &server.take().ids)?;
    Ok(Footprint {
        binary_bytes: fs::metadata(env!("CARGO_BIN_EXE_waveflow-sync-agent"))?.len(),
        ready_ms: milliseconds(median(&self::starts(starts, &server)?).unwrap_or_default()),
        starts,
        draining,
        idle,
    })
}

/// Looks until the queue is empty: the most of everything, and the sums at the end.
fn at_work(daemon: &Daemon, install: &Install) -> Result<Occupied> {
    let began = Instant::now();
    let mut most = Occupied::default();
    let db = install.profile.open()?;
    let mut statement = db.connection().prepare("SELECT EXISTS (SELECT 1 FROM sync_pending_op)")?;
    loop {
        let now = look(daemon.id());
        most.rss_kb = most.rss_kb.max(now.rss_kb);
        most.peak_kb = most.peak_kb.max(now.peak_kb);
        most.threads = most.threads.max(now.threads);
        most.descriptors = most.descriptors.max(now.descriptors);
        (most.switches, most.written) = (now.switches, now.written);
        most.seconds = began.elapsed().as_secs_f64();
        let waiting: bool = statement.query_row([], |row| row.get(0))?;
        if !waiting {
            return Ok(most);
        }
        if began.elapsed() > LIMIT {
            return Err(Error::other("the daemon does not drain"));
        }
        let due = LOOK_EVERY;
        thread::sleep(due);
    }
}

/// Waits until it has nothing to do but wait for its timer.
fn wait_until_quiet(daemon: &Daemon) -> Result<()> {
    let began = Instant::now();
    let mut closed_since = None;
    loop {
        match has_open_databases(daemon.id()) {
            None if began.elapsed() > UNSEEN => return Ok(()),
            Some(false) if closed_since.get_or_insert_with(Instant::now).elapsed() > CLOSED_FOR => return Ok(()),
            Some(true) => closed_since = None,
            _ => {}
        }
        if began.elapsed() > LIMIT {
            return Err(Error::other("the daemon does not close the app's files"));
        }
        let due = LOOK_EVERY;
        thread::sleep(due);
    }
}

/// What it occupies when it rests, and what happened in that time.
fn at_rest(daemon: &Daemon, rest: Duration) -> Occupied {
    let before = look(daemon.id());
    let began = Instant::now();
    let due = rest;
    thread::sleep(due);
    let after = look(daemon.id());
    let more = |before: Option<u64>, after: Option<u64>| Some(after?.saturating_sub(before?));
    Occupied {
        seconds: began.elapsed().as_secs_f64(),
        switches: more(before.switches, after.switches),
        written: more(before.written, after.written),
        ..after
    }
}

/// How long it takes from exec to an answer on the socket, so many times.
fn starts(times: usize, server: &Echo) -> Result<Vec<Duration>> {
    let install = Install::new()?;
    install.deliver_to(server)?;
    (0..times)
        .map(|_| {
            let daemon = Daemon::start(&install)?;
            let ready = daemon.ready;
            daemon.stop().map(|()| ready)
        })
        .collect()
}

/// What it occupies now, and the sums since its start.
fn look(process: u32) -> Occupied {
    // Read once, so that no peak is below what it is the peak of.
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    Occupied {
        seconds: 0.0,
        rss_kb: number_in(&status, "VmRSS"),
        peak_kb: number_in(&status, "VmHWM"),
        threads: number_in(&status, "Threads"),
        descriptors: fs::read_dir(format!("/proc/{process}/fd")).ok().map(|entries| entries.count() as u64),
        switches: switches(process),
        written: number(process, "io", "write_bytes"),
    }
}

/// How often its threads were given a processor; of threads that have ended, nobody knows any more.
fn switches(process: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok());
    Some(texts.map(|text| switches_in(&text)).sum())
}

/// The two counts in the text of `/proc/PID/task/TID/status`.
pub(crate) fn switches_in(text: &str) -> u64 {
    ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"].iter().filter_map(|key| number_in(text, key)).sum()
}

/// Whether it has one of the app's databases open; `None` where nobody may look.
fn has_open_databases(process: u32) -> Option<bool> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let mut paths = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Some(paths.any(|path| path.to_string_lossy().contains(".db")))
}
