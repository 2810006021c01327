//! What the app feels while its queue is drained: its commits, and its actions that read first and write later.
//!
//! The app is played here, at a steady pace, on a connection as the app has it; the queue is drained by nobody, by the
//! daemon, or by the loop that all ratios are about. An action is what the app does for one change of the user's: the
//! change, the stamp and the op, in one transaction.
//!
//! What must always hold: what counts is what the app did between the start of whoever drains and the moment when the
//! queue that was full at that moment was gone; who drains longer is felt longer. Whatever the app committed is
//! delivered in order or still in the queue, else there is no figure.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::data_dir::{AppDb, Style};
use testkit::ops::Mix;
use testkit::{Error, Result};

use super::daemon::Daemon;
use super::delay::spread;
use super::echo::Echo;
use super::ground::{Install, Original, verify_order};
use super::numbers::milliseconds;
use super::process::Owned;
use super::results::Neighbour;
use super::throughput::Contestant;

/// From one action of the app's to the next; every second one reads first and writes later.
const PACE: Duration = Duration::from_millis(3);
/// How long such an action thinks in between.
const THINK: Duration = Duration::from_millis(1);
/// How long the app goes on when the queue is gone: somebody may have left it work to do, a checkpoint for instance.
const BEHIND: Duration = Duration::from_millis(500);
/// A drain that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked whether the queue is gone, once everything has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Committed,
    BusySnapshot,
    Busy,
}

/// One action of the app's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Act {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) deferred: bool,
    pub(crate) end: End,
    pub(crate) id: u128,
}

/// A time that was watched: from, to.
pub(crate) type Span = (Instant, Instant);

/// What the app feels when nobody drains, for so long.
pub(crate) fn alone(queue: &Original, time: Duration) -> Result<Neighbour> {
    let server = Echo::start(Duration::ZERO)?;
    let install = queue.copy(&server)?;
    let played = play(&install, || {
        let began = Instant::now();
        thread::sleep((began + time).saturating_duration_since(Instant::now()));
        let due = BEHIND;
        let span = (began, Instant::now());
        thread::sleep(due);
        Ok(span)
    })?;
    verify(&install, queue, &server, &played.0)?;
    Ok(sum_up("nobody", &[played]))
}

/// What it feels while its queue is drained, so many times.
pub(crate) fn beside(who: Contestant, queue: &Original, drains: usize) -> Result<Neighbour> {
    let server = Echo::start(Duration::ZERO)?;
    let mut played = Vec::new();
    for _ in 0..drains {
        let install = queue.copy(&server)?;
        server.take();
        let mut drainer = None;
        let acts = play(&install, || {
            let began = Instant::now();
            drainer = Some(Drainer::start(who, &install)?);
            wait_until_gone(&install, queue.ids.len(), &server)?;
            let span = (began, Instant::now());
            let due = BEHIND;
            thread::sleep(due);
            Ok(span)
        })?;
        drainer.map_or(Ok(()), Drainer::end)?;
        verify(&install, queue, &server, &acts.0)?;
        played.push(acts);
    }
    Ok(sum_up(who.name(), &played))
}

/// Who drains.
enum Drainer {
    Daemon(Daemon),
    Bare(Owned),
}

impl Drainer {
    fn start(who: Contestant, install: &Install) -> Result<Self> {
        match who {
            Contestant::Bare(bare) => {
                let mut command = bare.command(install.data())?;
                command.stdin(Stdio::null()).stdout(Stdio::null());
                Ok(Self::Bare(Owned::spawn(&mut command)?))
            }
            _ => Ok(Self::Daemon(Daemon::start(install)?)),
        }
    }

    /// The daemon is told to end; a loop ends when it finds the queue empty.
    fn end(self) -> Result<()> {
        match self {
            Self::Daemon(daemon) => daemon.stop(),
            Self::Bare(mut process) => process.end_within(LIMIT),
        }
    }
}

/// Waits until the first `rows` rows are gone from the queue.
fn wait_until_gone(install: &Install, rows: usize, server: &Echo) -> Result<()> {
    server.wait_for(rows, LIMIT)?;
    let db = install.profile.open()?;
    let deadline = Instant::now() + LIMIT;
    let mut statement = db.connection().prepare("SELECT EXISTS (SELECT 1 FROM sync_pending_op WHERE id <= ?1)")?;
    while statement.query_row([i64::try_from(rows).unwrap_or(i64::MAX)], |row| row.get(0))? {
        if Instant::now() > deadline {
            return Err(Error::other("everything arrived, and rows stay in the queue"));
        }
        let due = LOOK_EVERY;
        thread::sleep(due);
    }
    Ok(())
}

/// Has the app act for as long as `meanwhile` takes; what it did, and the span that counts.
fn play(install: &Install, meanwhile: impl FnOnce() -> Result<Span>) -> Result<(Vec<Act>, Span)> {
    let mut app = install.profile.open()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let player = scope.spawn(|| act_until(&mut app, &over));
        let span = meanwhile();
        over.store(true, Ordering::Relaxed);
        let acts = player.join().map_err(|_| Error::other("the app panicked"))??;
        Ok((acts, span?))
    })
}

fn act_until(app: &mut AppDb, over: &AtomicBool) -> Result<Vec<Act>> {
    let mut acts = Vec::new();
    let mut next = Instant::now();
    for op in Mix::new(2).without_large() {
        let due = next.saturating_duration_since(Instant::now());
        thread::sleep(due);
        next = (next + PACE).max(Instant::now());
        if over.load(Ordering::Relaxed) {
            break;
        }
        let deferred = acts.len().is_multiple_of(2);
        let (style, think) = if deferred { (Style::Deferred, THINK) } else { (Style::Immediate, Duration::ZERO) };
        let (id, began) = (op.operation_id.as_u128(), Instant::now());
        let end = match app.enqueue_as(style, &[op], || thread::sleep(think)) {
            Ok(_) => End::Committed,
            Err(error) if error.is_busy_snapshot() => End::BusySnapshot,
            Err(error) if error.is_busy() => End::Busy,
            Err(error) => return Err(error),
        };
        acts.push(Act { began, took: began.elapsed(), deferred, end, id });
    }
    Ok(acts)
}

/// Fails unless what arrived and what still waits is what was queued before and by the app, in order.
fn verify(install: &Install, queue: &Original, server: &Echo, acts: &[Act]) -> Result<()> {
    let committed = acts.iter().filter(|act| act.end == End::Committed).map(|act| act.id);
    let queued: Vec<u128> = queue.ids.iter().copied().chain(committed).collect();
    let mut there = server.take().ids;
    there.extend(install.waiting()?);
    verify_order(&queued, &there)
}

/// Counts what happened in the spans.
pub(crate) fn sum_up(who: &str, played: &[(Vec<Act>, Span)]) -> Neighbour {
    let within = |act: &&Act, (from, to): &Span| act.began >= *from && act.began <= *to;
    let inside: Vec<Act> =
        played.iter().flat_map(|(acts, span)| acts.iter().filter(move |act| within(act, span)).copied()).collect();
    let behind = played.iter().flat_map(|(acts, span)| acts.iter().filter(|act| act.began > span.1));
    let plain = |act: &&Act| !act.deferred && act.end == End::Committed;
    let commits: Vec<Duration> = inside.iter().filter(plain).map(|act| act.took).collect();
    let slowest = behind.filter(plain).map(|act| act.took).max().unwrap_or_default();
    let count = |wanted: &dyn Fn(&Act) -> bool| inside.iter().filter(|act| wanted(act)).count();
    Neighbour {
        contestant: who.to_owned(),
        drains: played.len(),
        seconds: played.iter().map(|(_, (from, to))| to.duration_since(*from).as_secs_f64()).sum(),
        commits: commits.len(),
        spread: spread(&commits),
        max_behind_ms: milliseconds(slowest),
        deferred: count(&|act| act.deferred),
        busy_snapshot: count(&|act| act.end == End::BusySnapshot),
        busy: count(&|act| act.end == End::Busy && act.deferred),
        timed_out: count(&|act| act.end == End::Busy && !act.deferred),
    }
}
