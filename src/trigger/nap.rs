//! Waking from sleep: the monotonic clock stands still while the machine sleeps, the wall clock does not. Pure.

use std::time::Duration;

/// Anything shorter is a clock being set, not a sleep; and nobody misses a wake-up for it.
const SHORTEST_NAP: Duration = Duration::from_secs(10);

/// Whether the machine slept between two looks at both clocks.
pub fn slept(wall: Duration, monotonic: Duration) -> bool {
    wall.saturating_sub(monotonic) >= SHORTEST_NAP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wall_clock_that_ran_ahead_is_a_nap() {
        let s = Duration::from_secs;
        assert!(slept(s(3600), s(30)));
        assert!(!slept(s(30), s(30)));
        assert!(!slept(s(0), s(30)), "set back");
        assert!(!slept(s(35), s(30)));
    }
}
