//! What kind of life a seed gets: how many profiles, which servers, what may go wrong.
//!
//! What must always hold: everything is drawn from the seed; where the agent cannot know whose an op is (a wall clock
//! that jumps, a backup that comes back), lives are not judged by that.

use std::time::Duration;

use fastrand::Rng;
use waveflow_sync_agent::drain::Rules;
use waveflow_sync_agent::drain::backoff::Waits;

/// How commits are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// By events.
    Auto,
    /// By looking every second.
    Poll,
    /// By the timer alone.
    Off,
}

/// A life's circumstances.
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that may happen by itself")]
#[derive(Debug, Clone)]
pub struct Plan {
    /// Profiles at the most.
    pub profiles: usize,
    /// Accounts that sign in.
    pub users: usize,
    /// How commits are noticed.
    pub watch: WatchMode,
    /// The servers know pairs.
    pub later: bool,
    /// The queues have pairs.
    pub pairs: bool,
    /// The agent's settings.
    pub rules: Rules,
    /// The agent's settings.
    pub waits: Waits,
    /// In a hundred ops, so many are odd.
    pub sick: u8,
    /// In a hundred acts, so many are kills.
    pub kills: u8,
    /// Backups come back, and power cuts take back the last commits.
    pub rewinds: bool,
    /// The wall clock jumps.
    pub jumps: bool,
    /// The app drains as well.
    pub foreign: bool,
    /// Files fail.
    pub disk_faults: bool,
    /// Profiles are deleted and made again, and replaced.
    pub moves: bool,
    /// Somebody else uses this account's and device's stamps.
    pub strangers: bool,
    /// The clock is near its end.
    pub near_the_end: bool,
    /// Longer bodies never get through; with 413, or with a time-out.
    pub narrow: Option<(usize, bool)>,
    /// In a hundred requests, so many meet something, while it is rough.
    pub rough: u8,
    /// Things the app and its user do.
    pub acts: usize,
}

impl Plan {
    /// Draws one.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut may = |percent: u8| rng.u8(0..100) < percent;
        let (rewinds, jumps, foreign, moves) = (may(20), may(12), may(30), may(20));
        let (disk_faults, strangers, near_the_end, later, pairs) = (may(30), may(35), may(1), may(60), may(60));
        let (narrows, refuses, watched, polled) = (may(12), may(50), may(80), may(50));
        let initial = Duration::from_millis(rng.u64(100..2_000));
        let max = Duration::from_secs(rng.u64(10..300));
        Self {
            profiles: rng.usize(1..=3),
            users: rng.usize(1..=3),
            watch: match (watched, polled) {
                (true, _) => WatchMode::Auto,
                (false, true) => WatchMode::Poll,
                (false, false) => WatchMode::Off,
            },
            later,
            pairs,
            rules: Rules { batch_ops: rng.usize(1..=24), batch_bytes: rng.usize(5_000..20_000), isolate_every: max },
            waits: Waits { initial, max },
            sick: if rng.u8(0..3) == 0 { rng.u8(1..6) } else { 0 },
            kills: if rng.bool() { rng.u8(1..12) } else { 0 },
            rewinds,
            jumps,
            foreign,
            disk_faults,
            moves,
            strangers,
            near_the_end,
            narrow: narrows.then(|| (rng.usize(4_500..9_000), refuses)),
            rough: rng.u8(0..60),
            acts: rng.usize(20..90),
        }
    }

    /// Whether the agent can know whose an op is.
    pub fn is_guarded(&self) -> bool {
        !(self.jumps || self.rewinds && self.users > 1)
    }
}
