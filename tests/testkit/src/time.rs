//! The wall clock, as the app writes it: milliseconds since the epoch.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch; 0 on a machine that believes it is before 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Seconds since the epoch, as a JWT's `exp` counts them.
pub fn now_s() -> i64 {
    now_ms() / 1000
}
