//! What the app committed, held against what waits and what the server has.
//!
//! What must always hold: nothing the agent says goes in here; an op that is neither stored nor queued is lost, whoever
//! lost it.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::data_dir::Pending;
use crate::server::StoredOp;

/// What the books keep of a stored op.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    id: Uuid,
    user: String,
    stamp: i64,
}

impl Arrival {
    pub(super) fn of(row: &StoredOp) -> Self {
        Self { id: row.operation_id, user: row.user.clone(), stamp: row.lamport_ts }
    }
}

/// One profile.
pub(super) struct Books<'a> {
    /// Whose it is.
    pub(super) user: &'a str,
    /// In the order of the commits.
    pub(super) committed: &'a [Uuid],
    /// Looked at after these were committed, and before the last arrivals.
    pub(super) queued: &'a [Pending],
    /// May be stored later than those behind them.
    pub(super) late: &'a HashSet<Uuid>,
}

/// The numbers, over all profiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ops the app committed.
    pub committed: usize,
    /// Of these, the ones the server has.
    pub stored: usize,
    /// Rows in the queues.
    pub pending: usize,
    /// Committed, but neither on the server nor in a queue.
    pub lost: usize,
    /// Rows on the server beyond the one for each op.
    pub doubled: usize,
    /// Stored before an op that was committed earlier, or under a stamp that is not above the one before.
    pub out_of_order: usize,
    /// Those: place in the order of commits and stamp of both neighbours, as they were stored.
    pub disorder: Vec<[(usize, i64); 2]>,
    /// Stored under another account than the profile's.
    pub astray: usize,
}

/// Everything the server has stored, in that order.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    arrivals: Vec<Arrival>,
}

impl Ledger {
    pub(super) fn len(&self) -> usize {
        self.arrivals.len()
    }

    pub(super) fn extend(&mut self, arrivals: impl IntoIterator<Item = Arrival>) {
        self.arrivals.extend(arrivals);
    }

    pub(super) fn tally(&self, lanes: &[Books<'_>]) -> Tally {
        let distinct: HashSet<Uuid> = self.arrivals.iter().map(|arrival| arrival.id).collect();
        let mut tally = Tally { doubled: self.arrivals.len() - distinct.len(), ..Tally::default() };
        for lane in lanes {
            self.add(lane, &distinct, &mut tally);
        }
        tally
    }

    fn add(&self, lane: &Books<'_>, stored: &HashSet<Uuid>, tally: &mut Tally) {
        let places: HashMap<Uuid, usize> = lane.committed.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let queued: HashSet<Uuid> =
            lane.queued.iter().filter_map(|row| Uuid::try_parse(&row.operation_id).ok()).collect();
        let theirs: Vec<(usize, &Arrival)> =
            self.arrivals.iter().filter_map(|arrival| Some((*places.get(&arrival.id)?, arrival))).collect();
        let disordered = |two: &&[(usize, &Arrival)]| match two {
            [(earlier, first), (later, second)] => earlier >= later || first.stamp >= second.stamp,
            _ => false,
        };
        tally.committed += lane.committed.len();
        tally.stored += lane.committed.iter().filter(|id| stored.contains(id)).count();
        tally.pending += lane.queued.len();
        tally.lost += lane.committed.iter().filter(|id| !stored.contains(id) && !queued.contains(id)).count();
        let before = tally.disorder.len();
        let in_turn: Vec<_> = theirs.iter().filter(|(_, arrival)| !lane.late.contains(&arrival.id)).copied().collect();
        tally.disorder.extend(in_turn.windows(2).filter(disordered).filter_map(|two| match two {
            [(earlier, first), (later, second)] => Some([(*earlier, first.stamp), (*later, second.stamp)]),
            _ => None,
        }));
        tally.out_of_order += tally.disorder.len() - before;
        tally.astray += theirs.iter().filter(|(_, arrival)| arrival.user != lane.user).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn row(number: u128) -> Pending {
        Pending {
            id: 1,
            operation_id: id(number).to_string(),
            stamp: 1,
            pair: None,
            created_at: 0,
            last_attempt_at: None,
            attempt_count: 0,
            last_error: None,
        }
    }

    /// Ops 1, 2 and 3 are alice's, 11 and 12 bob's, committed in that order.
    fn tally(arrivals: &[(u128, &str, i64)], queued: &[u128]) -> Tally {
        let mut ledger = Ledger::default();
        let arrival = |(number, user, stamp): &(u128, &str, i64)| Arrival {
            id: id(*number),
            user: (*user).to_owned(),
            stamp: *stamp,
        };
        ledger.extend(arrivals.iter().map(arrival));
        let queued: Vec<_> = queued.iter().copied().map(row).collect();
        let (first, second) = ([id(1), id(2), id(3)], [id(11), id(12)]);
        let late = HashSet::new();
        ledger.tally(&[
            Books { user: "alice", committed: &first, queued: &queued, late: &late },
            Books { user: "bob", committed: &second, queued: &[], late: &late },
        ])
    }

    const GOOD: [(u128, &str, i64); 4] = [(1, "alice", 1), (11, "bob", 1), (2, "alice", 5), (12, "bob", 2)];

    #[test]
    fn what_is_stored_or_waits_is_not_lost() {
        let expected = Tally { committed: 5, stored: 4, pending: 1, ..Tally::default() };
        assert_eq!(tally(&GOOD, &[3]), expected);
        let late = [GOOD.as_slice(), &[(3, "alice", 6)]].concat();
        assert_eq!(tally(&late, &[3]).lost, 0, "stored, and not settled yet");
    }

    #[test]
    fn whatever_is_wrong_is_seen() {
        let seen = |tally: &Tally| [tally.lost, tally.doubled, tally.out_of_order, tally.astray];
        assert_eq!(seen(&tally(&GOOD, &[])), [1, 0, 0, 0]);
        let with = |more: (u128, &'static str, i64)| tally(&[GOOD.as_slice(), &[more]].concat(), &[3]);
        assert_eq!(seen(&with((3, "bob", 6))), [0, 0, 0, 1]);
        assert_eq!(seen(&with((3, "alice", 5))), [0, 0, 1, 0]);
        assert_eq!(seen(&with((2, "alice", 9))), [0, 1, 1, 0]);
        let swapped = [(2, "alice", 1), (1, "alice", 2), (11, "bob", 1), (12, "bob", 2)];
        assert_eq!(seen(&tally(&swapped, &[3])), [0, 0, 1, 0]);
    }

    #[test]
    fn what_a_person_let_go_may_come_later() {
        let arrival = |(number, stamp)| Arrival { id: id(number), user: "alice".to_owned(), stamp };
        let mut ledger = Ledger::default();
        ledger.extend([(2, 1), (3, 2), (1, 9)].map(arrival));
        let disorder = |late: &[u128]| {
            let late = late.iter().copied().map(id).collect();
            let committed = [id(1), id(2), id(3)];
            ledger.tally(&[Books { user: "alice", committed: &committed, queued: &[], late: &late }]).out_of_order
        };
        assert_eq!((disorder(&[]), disorder(&[1]), disorder(&[2])), (1, 0, 1));
    }
}
