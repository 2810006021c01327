//! What was measured: all of it, and nothing else goes into a table or a picture.
//!
//! What must always hold: it is kept as one JSON document below `target/`, from which everything that is shown can be
//! made again; times are in the unit that the name says, or milliseconds in a [`Spread`].

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use testkit::{Error, Result};

use super::loops::REFERENCE;
use super::numbers::float;

/// The agent's name among the contestants.
pub(crate) const AGENT: &str = "**the agent**";

/// What a contest is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Setting {
    /// A full queue, a server that answers at once.
    Near,
    /// Ten times as many.
    Many,
    /// The full queue again, and a server that is 20 ms away.
    Far,
}

/// The machine, in words that name none.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) filesystem: String,
}

/// How one contestant did in one setting: medians over the rounds, and the highest peak.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Contest {
    pub(crate) setting: Setting,
    pub(crate) contestant: String,
    pub(crate) ops: usize,
    pub(crate) rounds: usize,
    pub(crate) requests: usize,
    pub(crate) seconds: f64,
    pub(crate) processor_s: Option<f64>,
    pub(crate) peak_kb: Option<u64>,
    pub(crate) written: Option<u64>,
}

impl Contest {
    /// Ops in a second.
    pub(crate) fn rate(&self) -> f64 {
        float(self.ops as u64) / self.seconds
    }
}

/// Median, 99th percentile and the worst, in milliseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// From commit to stored, at one rate of commits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Delay {
    pub(crate) per_second: u32,
    pub(crate) commits: usize,
    pub(crate) spread: Spread,
}

/// What the app feels while its queue is drained, or while nobody drains.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Neighbour {
    /// Who drains.
    pub(crate) contestant: String,
    /// How often the whole queue was drained.
    pub(crate) drains: usize,
    /// All of that together.
    pub(crate) seconds: f64,
    /// The app's immediate transactions in that time.
    pub(crate) commits: usize,
    pub(crate) spread: Spread,
    /// The slowest of them in the half second behind.
    pub(crate) max_behind_ms: f64,
    /// The app's transactions that read first and write later.
    pub(crate) deferred: usize,
    /// Of these, the ones that failed with `SQLITE_BUSY_SNAPSHOT`: somebody had committed in between.
    pub(crate) busy_snapshot: usize,
    /// And with `SQLITE_BUSY`: somebody held the write lock. No `busy_timeout` helps a transaction that has read.
    pub(crate) busy: usize,
    /// Immediate transactions that failed with `SQLITE_BUSY`, after five seconds.
    pub(crate) timed_out: usize,
}

impl Neighbour {
    /// So many in one drain of the whole queue: that is what the user feels.
    pub(crate) fn each(&self, count: usize) -> f64 {
        float(count as u64) / float(self.drains.max(1) as u64)
    }

    /// The user's actions that failed, in one drain.
    pub(crate) fn failed(&self) -> f64 {
        self.each(self.busy_snapshot + self.busy + self.timed_out)
    }
}

/// What the daemon occupies over some time.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Occupied {
    pub(crate) seconds: f64,
    pub(crate) rss_kb: Option<u64>,
    pub(crate) peak_kb: Option<u64>,
    pub(crate) threads: Option<u64>,
    pub(crate) descriptors: Option<u64>,
    /// Voluntary and involuntary, of all threads.
    pub(crate) switches: Option<u64>,
    pub(crate) written: Option<u64>,
}

/// What the agent weighs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Footprint {
    pub(crate) binary_bytes: u64,
    /// From exec to an answered `ping`; the median.
    pub(crate) ready_ms: f64,
    pub(crate) starts: usize,
    pub(crate) draining: Occupied,
    pub(crate) idle: Occupied,
}

/// Everything of one run.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) contests: Vec<Contest>,
    pub(crate) delays: Vec<Delay>,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) footprint: Option<Footprint>,
    /// What could not be measured here, and why.
    pub(crate) skipped: Vec<String>,
    /// Whether this was the whole bench at its full size.
    pub(crate) complete: bool,
}

impl Results {
    /// How a contestant did in a setting.
    pub(crate) fn contest(&self, setting: Setting, contestant: &str) -> Option<&Contest> {
        self.contests.iter().find(|contest| contest.setting == setting && contest.contestant == contestant)
    }

    /// How the reference did in a setting.
    pub(crate) fn reference(&self, setting: Setting) -> Option<&Contest> {
        self.contest(setting, REFERENCE.name)
    }

    /// How many times as fast as the reference a contest went.
    pub(crate) fn ratio(&self, contest: &Contest) -> Option<f64> {
        Some(contest.rate() / self.reference(contest.setting)?.rate())
    }

    /// What the app felt under a contestant.
    pub(crate) fn neighbour(&self, contestant: &str) -> Option<&Neighbour> {
        self.neighbours.iter().find(|neighbour| neighbour.contestant == contestant)
    }

    /// Keeps it; where.
    pub(crate) fn save(&self) -> Result<PathBuf> {
        let path = place(self.complete);
        fs::write(&path, serde_json::to_vec_pretty(self)?)?;
        Ok(path)
    }

    /// What the last whole run left.
    pub(crate) fn load() -> Result<Self> {
        let path = place(true);
        let bytes = fs::read(&path).map_err(|error| Error::other(format!("{}: {error}", path.display())))?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// A try-out does not take the place of a whole run.
fn place(complete: bool) -> PathBuf {
    let name = if complete { "drain.json" } else { "drain-tried.json" };
    [env!("CARGO_TARGET_TMPDIR"), name].iter().collect()
}
