//! The wake-up slot of one profile: any number of wake-ups, one pass. Pure.
//!
//! What must always hold: whoever wakes gets a ticket; a pass that begins covers every ticket given before it began and
//! none given after; so the ticket of the last commit is covered by a pass that began after it.

/// Why a pass is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// Something may have been committed. Back-off goes on.
    Commit,
    /// Somebody asks for it, or there is a reason to try at once. Back-off ends.
    Ask,
}

/// Counts wake-ups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot {
    given: u64,
    begun: u64,
    /// The highest ticket that was given to somebody who asks.
    asked: u64,
}

impl Slot {
    /// Notes a wake-up; the ticket that the next pass to begin will cover.
    pub fn wake(&mut self, wake: Wake) -> u64 {
        self.given += 1;
        if wake == Wake::Ask {
            self.asked = self.given;
        }
        self.given
    }

    /// What is wanted and not begun yet; the strongest reason.
    pub fn wanted(&self) -> Option<Wake> {
        if self.asked > self.begun {
            Some(Wake::Ask)
        } else if self.given > self.begun {
            Some(Wake::Commit)
        } else {
            None
        }
    }

    /// The last ticket that was given.
    pub fn latest(&self) -> u64 {
        self.given
    }

    /// Nothing had to be done for any ticket up to this one; what was given later is still wanted.
    pub fn cover(&mut self, ticket: u64) {
        self.begun = self.begun.max(ticket);
    }

    /// A pass begins now; it covers every ticket up to the answer.
    pub fn begin(&mut self) -> u64 {
        self.begun = self.given;
        self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10,000 wake-ups from four sources, passes beginning at any moment between them: whatever the order, the last
    /// commit is seen by a pass that began later, and no pass begins without a reason.
    #[test]
    fn after_the_last_of_10_000_wake_ups_there_is_a_pass_that_began_later() {
        for seed in 0..64 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut slot = Slot::default();
            // What is committed, what the last pass to begin could see, and the pass that is under way.
            let (mut committed, mut seen, mut running) = (0_u64, 0_u64, None);
            let mut passes = 0;
            for _ in 0..10_000 {
                let source = random.u8(..4);
                // The file watch and the hook come after a commit; the timer and the socket come as they like.
                if source < 2 {
                    committed += 1;
                }
                let ticket = slot.wake(if source == 3 { Wake::Ask } else { Wake::Commit });
                assert!(slot.wanted().is_some());
                for _ in 0..random.u8(..3) {
                    match running.take() {
                        Some(snapshot) => seen = snapshot,
                        None if slot.wanted().is_some() => {
                            assert!(slot.begin() >= ticket || running.is_some());
                            running = Some(committed);
                            passes += 1;
                        }
                        None => {}
                    }
                }
            }
            while running.is_some() || slot.wanted().is_some() {
                if let Some(snapshot) = running.take() {
                    seen = snapshot;
                } else {
                    slot.begin();
                    running = Some(committed);
                    passes += 1;
                }
            }
            assert_eq!(seen, committed, "seed {seed}");
            assert!(passes < 10_001, "wake-ups are not queued up");
        }
    }

    #[test]
    fn a_ticket_given_while_somebody_looks_in_vain_is_still_wanted() {
        let mut slot = Slot::default();
        let before = slot.wake(Wake::Commit);
        assert_eq!(slot.latest(), before);
        slot.wake(Wake::Ask);
        slot.cover(before);
        assert_eq!(slot.wanted(), Some(Wake::Ask));
        slot.cover(slot.latest());
        assert_eq!(slot.wanted(), None);
        slot.wake(Wake::Commit);
        slot.cover(before);
        assert_eq!(slot.wanted(), Some(Wake::Commit), "an old ticket covers nothing new");
    }

    #[test]
    fn a_ticket_given_while_a_pass_runs_belongs_to_the_next_one() {
        let mut slot = Slot::default();
        let first = slot.wake(Wake::Commit);
        assert_eq!(slot.wanted(), Some(Wake::Commit));
        assert_eq!(slot.begin(), first);
        assert_eq!(slot.wanted(), None);
        let second = slot.wake(Wake::Ask);
        assert!(second > first);
        slot.wake(Wake::Commit);
        assert_eq!(slot.wanted(), Some(Wake::Ask));
        assert!(slot.begin() > second);
        assert_eq!(slot.wanted(), None);
    }
}
