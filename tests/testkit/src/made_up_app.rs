//! A program that plays the app: ops at random moments, bursts as in a scan, and actions that read before they write.
//!
//! What must always hold: it ends by itself; an op that is in its report was committed, in that order within its
//! thread; one that failed is not in it. It counts what other writers cost the user: failed actions, and slow ones.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::data_dir::{AppDb, Profile, Style};
use crate::ops::{Mix, NewOp};
use crate::sync::Shared;
use crate::{Error, Result};

/// Ops in one transaction of a scan.
pub const BURST: usize = 200;

/// What the app is to do.
#[derive(Debug, Clone)]
pub struct Script {
    /// Where the randomness starts.
    pub seed: u64,
    /// Ops it tries to commit in all, over all threads; failed ones count.
    pub ops: usize,
    /// Connections that work at once, each in its thread.
    pub threads: usize,
    /// Of 100 transactions, how many are bursts of [`BURST`] ops.
    pub bursts_percent: u8,
    /// Of 100 single ops, how many read first and write later in a deferred transaction.
    pub deferred_percent: u8,
    /// The longest pause between two transactions; each is drawn anew.
    pub pause: Duration,
    /// How long a deferred transaction thinks between its read and its write.
    pub think: Duration,
    /// Whether 250 kB payloads occur.
    pub large: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            seed: 1,
            ops: 1000,
            threads: 1,
            bursts_percent: 5,
            deferred_percent: 30,
            pause: Duration::from_millis(2),
            think: Duration::from_micros(300),
            large: false,
        }
    }
}

/// What the app did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Ops that were committed, in the order of one thread; with several threads, theirs one after the other.
    pub committed: Vec<Uuid>,
    /// Transactions that were committed.
    pub transactions: usize,
    /// Actions that failed with `SQLITE_BUSY_SNAPSHOT`.
    pub busy_snapshot: usize,
    /// Actions that failed with any other `SQLITE_BUSY`, after five seconds of waiting.
    pub busy: usize,
    /// How long each committed transaction took, thinking not counted, in ascending order.
    pub latencies: Vec<Duration>,
    /// The first failure that was none of these; there should be none.
    pub error: Option<String>,
}

impl Report {
    /// The latency that `share` (0 to 1) of the transactions did not exceed; zero where there was none.
    pub fn latency(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a count of things in memory"
        )]
        let place = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
        self.latencies.get(place).copied().unwrap_or_default()
    }

    fn add(&mut self, other: Self) {
        self.committed.extend(other.committed);
        self.transactions += other.transactions;
        self.busy_snapshot += other.busy_snapshot;
        self.busy += other.busy;
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
        self.error = self.error.take().or(other.error);
    }
}

#[derive(Default)]
struct Progress {
    stop: bool,
    committed: usize,
}

/// The app, running.
pub struct MadeUpApp {
    progress: Arc<Shared<Progress>>,
    threads: Vec<JoinHandle<Report>>,
}

impl MadeUpApp {
    /// Starts playing on this profile.
    pub fn start(profile: &Profile, script: &Script) -> Result<Self> {
        let progress = Arc::new(Shared::new(Progress::default()));
        let mut app = Self { progress, threads: Vec::new() };
        let count = script.threads.max(1);
        for number in 0..count {
            let ops = script.ops / count + usize::from(number < script.ops % count);
            let seed = script.seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
            let mut player = Player::new(profile.open()?, script.clone(), seed, Arc::clone(&app.progress));
            app.threads.push(thread::spawn(move || player.play(ops)));
        }
        Ok(app)
    }

    /// Waits until so many ops are committed, at most `limit`; whether they were.
    pub fn wait_for(&self, ops: usize, limit: Duration) -> bool {
        self.progress.wait(limit, |progress| progress.committed >= ops)
    }

    /// Waits for the end of the script.
    pub fn finish(mut self) -> Report {
        self.join()
    }

    /// Ends it after the transactions it is in.
    pub fn stop(mut self) -> Report {
        self.progress.change(|progress| progress.stop = true);
        self.join()
    }

    fn join(&mut self) -> Report {
        let mut report = Report::default();
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(part) => report.add(part),
                Err(_) => report.error = Some("a thread of the made-up app panicked".into()),
            }
        }
        report
    }
}

impl Drop for MadeUpApp {
    fn drop(&mut self) {
        self.progress.change(|progress| progress.stop = true);
        self.join();
    }
}

struct Player {
    db: AppDb,
    script: Script,
    random: fastrand::Rng,
    mix: Mix,
    progress: Arc<Shared<Progress>>,
    report: Report,
}

impl Player {
    fn new(db: AppDb, script: Script, seed: u64, progress: Arc<Shared<Progress>>) -> Self {
        let mix = if script.large { Mix::new(seed) } else { Mix::new(seed).without_large() };
        Self { db, script, random: fastrand::Rng::with_seed(seed), mix, progress, report: Report::default() }
    }

    fn play(&mut self, ops: usize) -> Report {
        let mut left = ops;
        while left > 0 && self.report.error.is_none() {
            let burst = self.random.u8(..100) < self.script.bursts_percent;
            let size = if burst { BURST.min(left) } else { 1 };
            let deferred = !burst && self.random.u8(..100) < self.script.deferred_percent;
            let style = if deferred { Style::Deferred } else { Style::Immediate };
            let batch: Vec<_> = self.mix.by_ref().take(size).collect();
            self.act(style, &batch);
            left -= size;
            let pause = self.script.pause.mul_f64(self.random.f64());
            if self.progress.wait(pause, |progress| progress.stop) {
                break;
            }
        }
        std::mem::take(&mut self.report)
    }

    fn act(&mut self, style: Style, ops: &[NewOp]) {
        let think = if style == Style::Deferred { self.script.think } else { Duration::ZERO };
        let start = Instant::now();
        match self.db.enqueue_as(style, ops, || thread::sleep(think)) {
            Ok(_) => {
                self.report.latencies.push(start.elapsed().saturating_sub(think));
                self.report.committed.extend(ops.iter().map(|op| op.operation_id));
                self.report.transactions += 1;
                self.progress.change(|progress| progress.committed += ops.len());
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &Error) {
        if error.is_busy_snapshot() {
            self.report.busy_snapshot += 1;
        } else if error.is_busy() {
            self.report.busy += 1;
        } else {
            self.report.error = Some(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::data_dir::{DataDir, Generation};

    fn install() -> (tempfile::TempDir, Profile) {
        let temporary = tempfile::tempdir().unwrap();
        let profile = DataDir::new(temporary.path(), Generation::Three).unwrap().add_profile("Zoë").unwrap();
        (temporary, profile)
    }

    #[test]
    fn one_thread_commits_everything_it_was_told_to_in_order() {
        let (_temporary, profile) = install();
        let script = Script { ops: 500, pause: Duration::ZERO, think: Duration::ZERO, ..Script::default() };
        let report = MadeUpApp::start(&profile, &script).unwrap().finish();
        assert_eq!((report.error.as_ref(), report.busy, report.busy_snapshot), (None, 0, 0));
        let pending: Vec<_> = profile.pending().unwrap().iter().map(|row| row.operation_id.clone()).collect();
        assert_eq!(pending, report.committed.iter().map(Uuid::to_string).collect::<Vec<_>>());
        assert_eq!((report.committed.len(), report.transactions), (500, report.latencies.len()));
        assert!(report.transactions < 500, "there were bursts");
        assert!(report.latency(1.0) >= report.latency(0.5) && report.latency(0.5) > Duration::ZERO);
    }

    #[test]
    fn the_same_seed_plays_the_same_ops() {
        let play = |seed| {
            let (_temporary, profile) = install();
            let script = Script { seed, ops: 60, pause: Duration::ZERO, ..Script::default() };
            MadeUpApp::start(&profile, &script).unwrap().finish().committed
        };
        assert_eq!(play(4), play(4));
        assert_ne!(play(4), play(5));
    }

    #[test]
    fn what_other_writers_cost_is_counted() {
        let (_temporary, profile) = install();
        let script = Script {
            ops: 100_000,
            bursts_percent: 0,
            deferred_percent: 100,
            pause: Duration::ZERO,
            ..Script::default()
        };
        let app = MadeUpApp::start(&profile, &script).unwrap();
        assert!(app.wait_for(1, Duration::from_secs(10)));
        let intruder = profile.open().unwrap();
        for mode in 0..200 {
            intruder.set_mode(&mode.to_string()).unwrap();
        }
        let report = app.stop();
        assert!(report.busy_snapshot > 0);
        assert_eq!(report.error, None);
        assert!(report.committed.len() + report.busy_snapshot + report.busy < 100_000, "it was stopped");
        let pending: HashSet<_> = profile.pending().unwrap().iter().map(|row| row.operation_id.clone()).collect();
        assert_eq!(pending, report.committed.iter().map(Uuid::to_string).collect());
    }

    #[test]
    fn several_threads_share_the_ops_and_the_clock() {
        let (_temporary, profile) = install();
        let script = Script { ops: 101, threads: 3, deferred_percent: 0, pause: Duration::ZERO, ..Script::default() };
        let report = MadeUpApp::start(&profile, &script).unwrap().finish();
        assert_eq!((report.committed.len(), report.error), (101, None));
        assert_eq!(profile.clock().unwrap(), Some(101));
    }
}
