//! How long an op takes from its commit in another connection to the server, in each way the daemon may notice it.
//!
//! What must always hold: both ends are told by one clock; the bound that fails a test is one a loaded machine with
//! unoptimised code keeps, and what was measured is printed.

use std::thread;
use std::time::{Duration, Instant};

use testkit::data_dir::{AppDb, Generation};
use testkit::ops::NewOp;
use testkit::server::{Server, Version};

use crate::common::daemon::{Daemon, SOON};
use crate::common::{Stage, assert_delivered};

/// Commits at the promised pace.
const COMMITS: u64 = 200;
/// Ten a second.
const PACE: Duration = Duration::from_millis(100);
/// Median and 99th percentile. The promise, 2 ms and 10 ms, is about optimised code on a machine of its own.
const BOUNDS: (Duration, Duration) = if cfg!(debug_assertions) {
    (Duration::from_millis(60), Duration::from_secs(1))
} else {
    (Duration::from_millis(20), Duration::from_millis(500))
};

struct Case {
    server: Server,
    stage: Stage,
    app: AppDb,
    ops: Vec<NewOp>,
}

impl Case {
    fn new(settings: &str) -> (Self, Daemon) {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        stage.configure_more(settings);
        let app = stage.profile("Zoë", "alice").open().unwrap();
        let daemon = Daemon::start(&stage);
        let mut case = Self { server, stage, app, ops: Vec::new() };
        // Not the first op, for which the connection is made.
        case.stored_after_commit(&daemon);
        (case, daemon)
    }

    /// From the commit of one op to its storing.
    fn stored_after_commit(&mut self, daemon: &Daemon) -> Duration {
        let op = NewOp::rename(self.ops.len() as u64 + 1);
        self.app.enqueue(std::slice::from_ref(&op)).unwrap();
        let committed = Instant::now();
        self.ops.push(op);
        let wanted = self.ops.len();
        assert!(self.server.wait_for(|stats| stats.stored >= wanted, SOON), "never stored: {}", daemon.log());
        committed.elapsed()
    }

    /// `count` commits, one every `pace`: how long each took, in ascending order.
    fn measure(&mut self, daemon: &Daemon, count: u64, pace: Duration) -> Vec<Duration> {
        let began = Instant::now();
        let mut taken = Vec::new();
        for number in 0..count {
            let due = began + pace * u32::try_from(number).unwrap();
            thread::sleep(due.saturating_duration_since(Instant::now()));
            taken.push(self.stored_after_commit(daemon));
        }
        taken.sort_unstable();
        assert_delivered(&self.server, &self.ops);
        taken
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

#[test]
fn daemon_latency_of_a_commit_that_the_file_watch_sees() {
    let (mut case, daemon) = Case::new("[drain]\ninterval = \"1h\"\n");
    let taken = case.measure(&daemon, COMMITS, PACE);
    let (median, late) = (percentile(&taken, 50), percentile(&taken, 99));
    println!("from commit to storing: median {median:?}, p99 {late:?}, most {:?}", taken.last().unwrap());
    assert!(median < BOUNDS.0 && late < BOUNDS.1, "median {median:?}, p99 {late:?}");
    drop(case.stage);
}

#[test]
fn a_commit_in_poll_mode_is_sent_within_its_interval() {
    let settings = "[drain]\ninterval = \"1h\"\n[watch]\nmode = \"poll\"\npoll_interval = \"200ms\"\n";
    let (mut case, daemon) = Case::new(settings);
    let taken = case.measure(&daemon, 20, Duration::from_millis(37));
    println!("poll: median {:?}, most {:?}", percentile(&taken, 50), taken[19]);
    assert!(percentile(&taken, 50) <= Duration::from_millis(350), "{taken:?}");
    assert!(taken[19] <= Duration::from_millis(1500), "{taken:?}");
}

#[test]
fn a_commit_that_nothing_watches_is_sent_by_the_timer() {
    let (mut case, daemon) = Case::new("[drain]\ninterval = \"1s\"\n[watch]\nmode = \"off\"\n");
    // Long enough after one another for the looks that follow a pass to be over.
    let taken = case.measure(&daemon, 5, Duration::from_millis(1370));
    println!("timer: median {:?}, most {:?}", percentile(&taken, 50), taken[4]);
    assert!(taken[4] <= Duration::from_millis(2500), "{taken:?}");
    assert!(taken[4] >= Duration::from_millis(150), "something else than the timer woke it: {taken:?}");
}
