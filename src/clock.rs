//! The wall clock, for all that looks at it: what time it is for people, for the app's rows and for the server.
//!
//! What must always hold: it may jump by years in either direction at any moment, so nothing waits by it but the daily try
//! of what was refused and a word to the user, which both know of that; no release build can be told another time than
//! the system's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::seal;

/// In debug builds: a file with the milliseconds by which the clock is off. It is read at each look, so that a test can
/// move the clock of a running agent. Times of files stay the system's own.
const OFFSET_IN: &str = "WAVEFLOW_SYNC_AGENT_CLOCK_OFFSET_IN";

/// Now.
pub fn now() -> SystemTime {
    let now = SystemTime::now();
    let Some(offset) = offset() else { return now };
    let distance = Duration::from_millis(offset.unsigned_abs());
    let moved = if offset < 0 { now.checked_sub(distance) } else { now.checked_add(distance) };
    moved.unwrap_or(now)
}

/// Now, in milliseconds since the epoch; 0 before it.
pub fn now_ms() -> i64 {
    let since = now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How much time passed since some moment before this process began, sleep included, whatever the wall clock says.
pub fn passed() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    // It counts sleep there.
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

fn offset() -> Option<i64> {
    let path = seal::asked(OFFSET_IN)?;
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
