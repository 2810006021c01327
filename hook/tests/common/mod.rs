//! What every test here needs: an install of the app, the agent, and other programs beside them.

mod agent;
mod ear;
mod programs;
mod stage;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

pub(crate) use agent::Agent;
pub(crate) use ear::Ear;
pub(crate) use programs::{Program, python, shell, valgrind, with_sqlx};
pub(crate) use stage::{OP, Stage};

/// The most that anything may take.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Between two looks at a condition nobody rings a bell for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until `condition` holds, at most [`SOON`].
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(SOON, condition), "in vain: {what}");
}

/// Whether `condition` came to hold within `limit`.
pub(crate) fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The hooks on a connection that is used by this thread alone.
pub(crate) fn install(db: &Connection, socket: &Path) {
    // SAFETY: it is used below, while the connection is open.
    let handle = unsafe { db.handle() };
    // SAFETY: open, and no hook of it runs.
    unsafe { waveflow_sync_hook::install_at(handle.cast(), socket) }.unwrap();
}

/// Of times in any order.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}
