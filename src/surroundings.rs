//! What the long run takes from outside: two clocks, waiting, and randomness.
//!
//! What must always hold: nothing that decides in a profile's life, in its worker and in what is known of servers asks the
//! system for any of these but through here, so that a simulation in which years pass in a second runs the very code that
//! the daemon runs. (The files' own times are the store's, and the wall clock it writes is [`crate::clock`].)

use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::clock;

/// A wait that is over at its time.
pub type Sleep = Pin<Box<dyn Future<Output = ()>>>;

/// Clocks, waiting, randomness.
pub trait Surroundings {
    /// Monotonic time since a moment before anything began.
    fn now(&self) -> Duration;
    /// Milliseconds since the epoch; may jump.
    fn wall(&self) -> i64;
    /// Waits so long, in monotonic time.
    fn sleep(&self, time: Duration) -> Sleep;
    /// Any number, for jitter.
    fn random(&self) -> u64;
}

/// The machine we run on.
#[derive(Debug)]
pub struct System {
    began: Instant,
}

impl Default for System {
    fn default() -> Self {
        Self { began: Instant::now() }
    }
}

impl Surroundings for System {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn wall(&self) -> i64 {
        clock::now_ms()
    }

    fn sleep(&self, time: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(time))
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}
