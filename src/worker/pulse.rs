//! Whether a worker gets on: the sign of life that a watchdog is fed with.
//!
//! What must always hold: who has nothing to do is well; who has something to do and brings nothing about for longer than
//! anything takes is not.

use std::cell::Cell;
use std::time::Duration;

/// When something came of a worker's work last; `None` while it is at rest.
#[derive(Debug, Default)]
pub struct Pulse(Cell<Option<Duration>>);

impl Pulse {
    /// Something came of it, or it begins; on the engine's clock.
    pub fn beat(&self, now: Duration) {
        self.0.set(Some(now));
    }

    /// It waits for something to do, or until it may go on.
    pub fn rest(&self) {
        self.0.set(None);
    }

    /// For how long it has brought nothing about.
    pub fn still_for(&self, now: Duration) -> Duration {
        self.0.get().map_or(Duration::ZERO, |last| now.saturating_sub(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_rests_is_well_and_who_works_has_to_get_on() {
        let second = Duration::from_secs;
        let pulse = Pulse::default();
        assert_eq!(pulse.still_for(second(100)), second(0));
        pulse.beat(second(100));
        assert_eq!(pulse.still_for(second(130)), second(30));
        pulse.beat(second(130));
        assert_eq!(pulse.still_for(second(131)), second(1));
        pulse.rest();
        assert_eq!(pulse.still_for(second(900)), second(0));
    }
}
