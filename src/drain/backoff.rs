//! When to try again. One [`BackOff`] for each server, shared by all profiles that use it, and one for each profile's
//! own troubles: its files, its clock, its token, and what may be one of its ops (a 500, one op that takes too long): a
//! server whose database is down is therefore tried by each profile for itself.
//!
//! What must always hold: the wait never exceeds `max` (an hour for an answer that has not been a waveflow-server's for
//! a day, or where the server named the time); new commits do not shorten it; what a server named, nothing shortens.

use std::time::Duration;

use crate::op::Next;

/// How long something that is no waveflow-server may answer before it is asked once an hour only.
const STRANGER_PATIENCE: Duration = Duration::from_secs(86_400);
/// How often it is asked then.
const STRANGER_WAIT: Duration = Duration::from_secs(3_600);

/// A server that names less names nothing: no time at all, or a date that is over by a clock that may be years off, is no
/// leave to hammer.
pub const NAMED_LEAST: Duration = Duration::from_secs(1);

/// `retry.initial` and `retry.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Ceiling of the first wait.
    pub initial: Duration,
    /// Ceiling of every later one.
    pub max: Duration,
}

/// Exponential, with full jitter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackOff {
    failures: u32,
    until: Option<Duration>,
    /// The server named the time.
    named: bool,
    stranger_since: Option<Duration>,
}

impl BackOff {
    /// Takes note of how a pass ended at `now` (monotonic). `random` is any number; its value decides the jitter.
    pub fn note(&mut self, next: Next, waits: Waits, now: Duration, random: u64) {
        // A pass that was under way when another one was named a time: that time stands.
        if let Some(named) = self.named_wait(now) {
            if let Next::RetryAfter(wait) = next {
                self.until = Some(now + wait.max(named));
            }
            return;
        }
        let stranger_since = self.stranger_since.take();
        self.named = false;
        match next {
            Next::WhenWoken | Next::Now => *self = Self::default(),
            Next::RetryAfter(wait) if wait >= NAMED_LEAST => {
                self.failures = self.failures.saturating_add(1);
                self.named = true;
                self.until = Some(now + wait);
            }
            Next::BackOff | Next::LocalBackOff | Next::RetryAfter(_) => {
                let ceiling = waits.initial.saturating_mul(1 << self.failures.min(20)).min(waits.max);
                self.failures = self.failures.saturating_add(1);
                self.until = Some(now + jitter(ceiling, random));
            }
            Next::Slow => {
                let since = stranger_since.unwrap_or(now);
                self.stranger_since = Some(since);
                let patient = now.saturating_sub(since) < STRANGER_PATIENCE;
                self.until = Some(now + if patient { waits.max } else { STRANGER_WAIT });
            }
            Next::NewToken => self.until = Some(now + waits.max),
        }
    }

    /// How long to wait still; `None`: not at all.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        self.until.and_then(|until| until.checked_sub(now)).filter(|wait| !wait.is_zero())
    }

    /// How long the server asked to be left alone still.
    pub fn named_wait(&self, now: Duration) -> Option<Duration> {
        self.wait(now).filter(|_| self.named)
    }

    /// Somebody asked for a pass now, the token or the URL is new, or the machine woke up: the wait ends, unless the
    /// server itself named it. Says whether the way is free.
    pub fn cut(&mut self, now: Duration) -> bool {
        if !self.named {
            self.until = None;
        }
        self.wait(now).is_none()
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Anything from nothing to `ceiling`, evenly.
fn jitter(ceiling: Duration, random: u64) -> Duration {
    let micros = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX - 1);
    Duration::from_micros(random % (micros + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Waits = Waits { initial: Duration::from_secs(1), max: Duration::from_secs(300) };
    const NOW: Duration = Duration::from_secs(1000);

    /// The longest wait that jitter allows.
    fn longest(back_off: &BackOff) -> Duration {
        let ceiling = |random| {
            let mut copy = back_off.clone();
            copy.note(Next::BackOff, WAITS, NOW, random);
            copy.wait(NOW).unwrap_or_default()
        };
        (0..2000).map(|i| ceiling(i * 9_999_991)).max().unwrap()
    }

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum_and_a_success_resets_it() {
        let mut back_off = BackOff::default();
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let longest = longest(&back_off);
            assert!(longest <= Duration::from_secs(seconds), "{longest:?} after {}", back_off.failures());
            assert!(longest >= Duration::from_secs(seconds).mul_f64(0.9), "{longest:?}");
            back_off.note(Next::BackOff, WAITS, NOW, 0);
        }
        back_off.note(Next::WhenWoken, WAITS, NOW, 0);
        assert_eq!(back_off, BackOff::default());
    }

    #[test]
    fn asking_cuts_a_back_off_but_not_what_the_server_named() {
        let mut back_off = BackOff::default();
        back_off.note(Next::NewToken, WAITS, NOW, 0);
        assert_eq!(back_off.wait(NOW), Some(WAITS.max));
        assert!(back_off.cut(NOW));
        back_off.note(Next::RetryAfter(Duration::from_secs(9)), WAITS, NOW, 0);
        assert!(!back_off.cut(NOW));
        assert_eq!(back_off.wait(NOW), Some(Duration::from_secs(9)));
        assert!(back_off.cut(NOW + Duration::from_secs(9)));
    }

    #[test]
    fn a_time_that_is_over_is_no_leave_to_hammer() {
        let mut back_off = BackOff::default();
        for _ in 0..5 {
            back_off.note(Next::RetryAfter(Duration::ZERO), WAITS, NOW, 900_000);
            assert_eq!(back_off.wait(NOW), Some(Duration::from_millis(900)));
            assert!(back_off.clone().cut(NOW), "nothing was named");
        }
        assert_eq!(back_off.failures(), 5);
    }

    #[test]
    fn a_stranger_is_asked_once_an_hour_after_a_day() {
        let mut back_off = BackOff::default();
        back_off.note(Next::Slow, WAITS, NOW, 0);
        assert_eq!(back_off.wait(NOW), Some(WAITS.max));
        let later = NOW + STRANGER_PATIENCE;
        back_off.note(Next::Slow, WAITS, later, 0);
        assert_eq!(back_off.wait(later), Some(STRANGER_WAIT));
        back_off.note(Next::BackOff, WAITS, later, 0);
        back_off.note(Next::Slow, WAITS, later, 0);
        assert_eq!(back_off.wait(later), Some(WAITS.max));
    }
}
