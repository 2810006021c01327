//! How it came out: what the app committed, held against what the server has and what is still in the queue.
//!
//! What must always hold: nothing the agent says goes in here; an op that is neither stored nor queued counts as lost,
//! whoever lost it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use testkit::Result;
use testkit::data_dir::Pending;
use testkit::server::StoredOp;
use uuid::Uuid;

use crate::stage::Stage;

/// What the agent writes into the queue's `last_error` of an op that is set aside, before the server's words.
const QUARANTINED: &str = "quarantined: ";

/// Whether the app's diagnostics would show this row as quarantined.
pub(super) fn is_quarantined(row: &Pending) -> bool {
    row.last_error.as_deref().is_some_and(|words| words.starts_with(QUARANTINED))
}

/// The numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// Ops the app committed.
    committed: usize,
    /// Of these, the ones the server has.
    stored: usize,
    /// Committed, but neither on the server nor in the queue.
    lost: usize,
    /// Rows on the server beyond the one for each op.
    doubled: usize,
    /// Stored ops that were committed after an op that was stored later.
    out_of_order: usize,
    /// On the server, and never committed.
    invented: usize,
    /// In the queue, not stored, not quarantined.
    waiting: usize,
    /// In the queue and set aside: id and words.
    quarantined: Vec<(String, String)>,
    /// The quarantined are exactly the poisoned.
    as_expected: bool,
}

impl Tally {
    pub(super) fn new(committed: &[Uuid], stored: &[StoredOp], queue: &[Pending], poisoned: &[Uuid]) -> Self {
        let places: HashMap<Uuid, usize> = committed.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        let ids: Vec<Uuid> = stored.iter().map(|row| row.operation_id).collect();
        Self::of_ids(&places, &ids, queue, poisoned)
    }

    fn of_ids(places: &HashMap<Uuid, usize>, stored: &[Uuid], queue: &[Pending], poisoned: &[Uuid]) -> Self {
        let distinct: HashSet<Uuid> = stored.iter().copied().collect();
        let queued = |row: &Pending| Uuid::try_parse(&row.operation_id).ok();
        let in_queue: HashSet<Uuid> = queue.iter().filter_map(queued).collect();
        let aside: BTreeSet<Uuid> = queue.iter().filter(|row| is_quarantined(row)).filter_map(queued).collect();
        let order: Vec<usize> = stored.iter().filter_map(|id| places.get(id).copied()).collect();
        Self {
            committed: places.len(),
            stored: places.keys().filter(|id| distinct.contains(id)).count(),
            lost: places.keys().filter(|id| !distinct.contains(id) && !in_queue.contains(id)).count(),
            doubled: stored.len() - distinct.len(),
            out_of_order: order.windows(2).filter(|two| two[0] > two[1]).count(),
            invented: distinct.iter().filter(|id| !places.contains_key(id)).count(),
            waiting: in_queue.iter().filter(|id| !aside.contains(id) && !distinct.contains(id)).count(),
            quarantined: queue.iter().filter(|row| is_quarantined(row)).map(named).collect(),
            as_expected: aside == poisoned.iter().copied().collect(),
        }
    }

    /// Whether everything is where it belongs.
    pub(super) fn is_clean(&self) -> bool {
        let astray = [self.lost, self.doubled, self.out_of_order, self.invented, self.waiting];
        self.as_expected && astray.iter().all(|&number| number == 0)
    }

    /// Says it.
    pub(super) fn tell(&self, stage: &mut Stage, took: Duration) -> Result<()> {
        stage.heading(&format!(
            "What came of it, from the app's and the server's own records, after {:.1} s",
            took.as_secs_f64()
        ))?;
        let all = self.stored + self.quarantined.len() == self.committed;
        stage.result("committed", self.committed, true)?;
        stage.result("stored", self.stored, all)?;
        stage.result("lost", self.lost, self.lost == 0)?;
        stage.result("doubled", self.doubled, self.doubled == 0)?;
        stage.result("out of order", self.out_of_order, self.out_of_order == 0)?;
        if self.invented > 0 {
            stage.result("invented", self.invented, false)?;
        }
        if self.waiting > 0 {
            stage.result("waiting", self.waiting, false)?;
        }
        stage.result("quarantined", self.quarantined.len(), self.as_expected)?;
        for (id, words) in &self.quarantined {
            stage.line(&format!("     {id}: {words}"))?;
        }
        Ok(())
    }
}

fn named(row: &Pending) -> (String, String) {
    let words = row.last_error.as_deref().unwrap_or_default();
    (row.operation_id.clone(), words.strip_prefix(QUARANTINED).unwrap_or(words).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn row(number: u128, last_error: Option<&str>) -> Pending {
        Pending {
            id: 1,
            operation_id: id(number).to_string(),
            stamp: 1,
            pair: None,
            created_at: 0,
            last_attempt_at: None,
            attempt_count: 0,
            last_error: last_error.map(str::to_owned),
        }
    }

    fn tally(stored: &[u128], queue: &[Pending]) -> Tally {
        let places = (1..=3).map(|number| (id(number), number as usize)).collect();
        let stored: Vec<Uuid> = stored.iter().copied().map(id).collect();
        Tally::of_ids(&places, &stored, queue, &[id(2)])
    }

    #[test]
    fn all_but_the_poisoned_one_stored_is_clean() {
        let tally = tally(&[1, 3], &[row(2, Some("quarantined: 500: insert failed"))]);
        assert!(tally.is_clean(), "{tally:?}");
        assert_eq!((tally.committed, tally.stored), (3, 2));
        assert_eq!(tally.quarantined, [(id(2).to_string(), "500: insert failed".to_owned())]);
    }

    #[test]
    fn whatever_is_astray_is_seen() {
        let aside = || row(2, Some("quarantined: no"));
        let seen = |tally: &Tally| {
            let numbers = [tally.lost, tally.doubled, tally.out_of_order, tally.invented, tally.waiting];
            (numbers, tally.is_clean())
        };
        assert_eq!(seen(&tally(&[1], &[aside()])), ([1, 0, 0, 0, 0], false));
        assert_eq!(seen(&tally(&[1, 3, 3], &[aside()])), ([0, 1, 0, 0, 0], false));
        assert_eq!(seen(&tally(&[3, 1], &[aside()])), ([0, 0, 1, 0, 0], false));
        assert_eq!(seen(&tally(&[1, 3, 9], &[aside()])), ([0, 0, 0, 1, 0], false));
        let waiting = row(3, Some("500: insert failed"));
        assert_eq!(seen(&tally(&[1], &[aside(), waiting])), ([0, 0, 0, 0, 1], false));
        assert!(!tally(&[1, 2, 3], &[]).is_clean(), "the poisoned one cannot have been stored");
        assert!(!tally(&[3], &[aside(), row(1, Some("quarantined: no"))]).is_clean(), "a healthy one was set aside");
    }
}
