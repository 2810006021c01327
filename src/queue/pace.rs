//! How much is done in one write transaction: [`Pace`], learnt from how long the last ones held the lock.
//!
//! What must always hold: no transaction is planned to hold the lock longer than [`HELD_MAX`] where somebody may wait
//! for it. Work is stopped earlier, since the commit writes all that was touched while it holds the lock still.

use std::time::Duration;

/// The promise: the app waits no longer than this for a transaction of ours.
pub const HELD_MAX: Duration = Duration::from_millis(25);
/// What is aimed at. Whoever waits for the lock asks again after 1, 3, 8 and 18 ms, and then only after 33.
const HELD: Duration = Duration::from_millis(14);
/// The first transaction's time, before anything is known: half of it may be the commit's.
const FIRST: Duration = Duration::from_millis(7);
/// Less than this is not worth a transaction.
const LEAST: Duration = Duration::from_millis(1);
/// What takes less says nothing of what takes long.
const TELLING: Duration = Duration::from_millis(2);

/// Emptying a table at once, for each row: its four cells, in the table and three indexes.
const CLEAR_ROW: Duration = Duration::from_nanos(50);
/// And for each 4 KiB of the rows: a page is read, since an emptied table's pages are listed as free one by one.
const CLEAR_PAGE: Duration = Duration::from_nanos(500);
/// Bytes of a page (contract, section 1).
const PAGE: usize = 4096;
/// Emptying may take so long where others may wait for the lock: three quarters of the promise, as it is a guess.
const CLEAR_HELD: Duration = Duration::from_millis(19);

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    work: Duration,
    /// How much slower than the guess emptying a table was when last it was done.
    slowness: f64,
}

impl Default for Pace {
    fn default() -> Self {
        // Measured on the machine the constants are from: 0.9 to 1.1.
        Self { work: FIRST, slowness: 1.2 }
    }
}

impl Pace {
    /// How long to go on within a transaction, before its commit.
    pub fn work(&self) -> Duration {
        self.work
    }

    /// A transaction that was stopped after [`Pace::work`] held the lock for `held`.
    pub fn note(&mut self, held: Duration) {
        if held < TELLING {
            return;
        }
        let scale = (HELD.as_secs_f64() / held.as_secs_f64()).clamp(0.25, 1.25);
        self.work = self.work.mul_f64(scale).clamp(LEAST, HELD);
    }

    /// How long emptying a table of `rows` with `bytes` in them will take.
    pub fn clearing(&self, rows: usize, bytes: usize) -> Duration {
        (times(CLEAR_ROW, rows) + times(CLEAR_PAGE, bytes / PAGE)).mul_f64(self.slowness)
    }

    /// Whether that fits where others may wait for the lock.
    pub fn may_clear(&self, rows: usize, bytes: usize) -> bool {
        self.clearing(rows, bytes) <= CLEAR_HELD
    }

    /// It took `held`. What takes too little to tell much tells at least that it was no slower: else a file that was slow
    /// once would never again get a chance to show that it is not.
    pub fn note_clearing(&mut self, rows: usize, bytes: usize, held: Duration) {
        let guess = self.clearing(rows, bytes).as_secs_f64() / self.slowness;
        let slowness = (held.max(TELLING).as_secs_f64() / guess).clamp(0.5, 50.0);
        self.slowness = if held >= TELLING { slowness } else { slowness.min(self.slowness) };
    }
}

fn times(one: Duration, count: usize) -> Duration {
    one.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn work_is_shortened_until_the_lock_is_held_no_longer_than_aimed_at() {
        // A disk on which the commit takes three times as long as the work.
        let mut pace = Pace::default();
        for _ in 0..8 {
            pace.note(pace.work() * 4);
        }
        assert!(pace.work() * 4 <= HELD + ms(1), "{pace:?}");
        // One on which it takes no time.
        for _ in 0..8 {
            pace.note(pace.work());
        }
        assert!(pace.work() > ms(10) && pace.work() <= HELD, "{pace:?}");
        pace.note(ms(60_000));
        pace.note(ms(60_000));
        assert!(pace.work() >= LEAST && HELD_MAX > HELD);
        let before = pace.work();
        pace.note(Duration::ZERO);
        assert_eq!(pace.work(), before, "a transaction with little to do tells nothing");
    }

    #[test]
    fn a_table_is_emptied_at_once_while_that_is_short() {
        let mut pace = Pace::default();
        assert!(pace.may_clear(100_000, 43_000_000));
        assert!(!pace.may_clear(1_000_000, 430_000_000));
        assert!(!pace.may_clear(1_000, 250_000_000), "long payloads have pages of their own");
        pace.note_clearing(100_000, 43_000_000, ms(50));
        assert!(!pace.may_clear(100_000, 43_000_000), "it was slower than that");
        pace.note_clearing(10_000, 4_300_000, ms(2));
        assert!(pace.clearing(10_000, 4_300_000) > ms(1) && pace.clearing(10_000, 4_300_000) < ms(3));
        pace.note_clearing(10_000, 4_300_000, ms(500));
        assert!(!pace.may_clear(10_000, 4_300_000), "something held it up");
        pace.note_clearing(8, 4_000, Duration::ZERO);
        assert!(!pace.may_clear(10_000, 4_300_000), "so few rows tell nothing of many");
        pace.note_clearing(5_000, 2_150_000, ms(1));
        assert!(pace.may_clear(10_000, 4_300_000), "it does so no more");
        pace.note_clearing(0, 0, ms(5));
        assert!(!pace.may_clear(usize::MAX, usize::MAX));
    }
}
