//! What came of a life, and of all of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use testkit::server::{Server, StoredOp};
use uuid::Uuid;

/// Kills, and what they cost.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) lives: usize,
    /// Of the agent, by what it was killed at.
    pub(super) kills: BTreeMap<String, usize>,
    /// Of these, between two transactions of one re-stamp.
    pub(super) amid: usize,
    /// Of the app, and of these in a transaction.
    pub(super) app_kills: (usize, usize),
    /// SIGSTOP, then SIGCONT.
    pub(super) continued: usize,
    /// Rows the app's own drain deleted.
    pub(super) drained: usize,
    /// Ops the app committed.
    pub(super) committed: usize,
    /// Of these, what no server takes; still in the queue, in quarantine.
    pub(super) sick: usize,
    /// Committed and not stored.
    pub(super) lost: usize,
    /// Stored a second time.
    pub(super) doubled: usize,
    /// Stored behind a later op of their profile, or under a stamp that is not above those before.
    pub(super) out_of_order: usize,
    /// Stored and never committed.
    pub(super) made_up: usize,
}

/// What is killed where no place was named.
pub(super) const RANDOM: &str = "at random moments";

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.lives += other.lives;
        for (at, count) in other.kills {
            *self.kills.entry(at).or_default() += count;
        }
        self.amid += other.amid;
        self.app_kills.0 += other.app_kills.0;
        self.app_kills.1 += other.app_kills.1;
        self.continued += other.continued;
        self.drained += other.drained;
        self.committed += other.committed;
        self.sick += other.sick;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.made_up += other.made_up;
    }

    pub(super) fn killed(&mut self, at: &str) {
        *self.kills.entry(at.to_owned()).or_default() += 1;
    }

    pub(super) fn kills_at(&self, at: &str) -> usize {
        self.kills.get(at).copied().unwrap_or(0)
    }

    /// What is wrong, if anything.
    pub(super) fn trouble(&self) -> Option<String> {
        let Self { lost, doubled, out_of_order, made_up, .. } = self;
        (lost + doubled + out_of_order + made_up > 0).then(|| {
            format!("{lost} lost, {doubled} doubled, {out_of_order} out of order, {made_up} that were never committed")
        })
    }

    /// Holds what the app committed in each profile, in order, against what the server has.
    pub(super) fn judge(&mut self, server: &Server, committed: &[Vec<Uuid>], sick: &HashSet<Uuid>) {
        let stored = server.stored();
        let stale = by_the_apps_own_drain(server);
        let distinct: HashSet<Uuid> = stored.iter().map(|row| row.operation_id).collect();
        self.doubled += stored.len() - distinct.len();
        self.sick += sick.len();
        let mut known: HashSet<Uuid> = HashSet::new();
        for ops in committed {
            self.committed += ops.len();
            self.lost += ops.iter().filter(|id| !distinct.contains(id) && !sick.contains(id)).count();
            known.extend(ops);
            self.out_of_order += out_of_order(&stored, ops, &stale);
        }
        self.made_up += distinct.iter().filter(|id| !known.contains(id)).count();
    }
}

/// Ops that the app's own drain may have stored: it sends rows as it read them, whatever stamps they have got since.
fn by_the_apps_own_drain(server: &Server) -> HashSet<Uuid> {
    let exchanges = server.stats().exchanges;
    let foreign = exchanges.iter().filter(|exchange| exchange.request.user_agent.is_none() && exchange.stored > 0);
    foreign.flat_map(|exchange| &exchange.request.operation_ids).filter_map(|id| Uuid::try_parse(id).ok()).collect()
}

fn out_of_order(stored: &[StoredOp], ops: &[Uuid], stale: &HashSet<Uuid>) -> usize {
    let places: HashMap<Uuid, usize> = ops.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let (mut last, mut highest, mut count) = (None, 0, 0);
    for row in stored {
        let Some(&place) = places.get(&row.operation_id) else { continue };
        let falls = row.lamport_ts <= highest && !stale.contains(&row.operation_id);
        count += usize::from(last.is_some_and(|last| place <= last) || falls);
        last = last.max(Some(place));
        highest = highest.max(row.lamport_ts);
    }
    count
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: usize = self.kills.values().sum();
        let named: usize = all - self.kills_at(RANDOM);
        write!(f, "kills: {all} of the real binary ({named} at pause points:")?;
        for (at, count) in self.kills.iter().filter(|(at, _)| *at != RANDOM) {
            write!(f, " {at} {count},")?;
        }
        write!(f, " {} {RANDOM}), {} of them amid a re-stamp, ", self.kills_at(RANDOM), self.amid)?;
        let (app, amid) = self.app_kills;
        write!(f, "{app} of the app ({amid} in a transaction), {} times stopped and continued, ", self.continued)?;
        write!(f, "{} rows drained by the app itself; ", self.drained)?;
        write!(f, "{} lives, {} ops committed, {} in quarantine: ", self.lives, self.committed, self.sick)?;
        write!(f, "{} lost, {} doubled, {} out of order", self.lost, self.doubled, self.out_of_order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::server::{PUSH_PATH, Request, Version};

    /// Rows of these ops and stamps, in this order.
    fn rows(all: &[(u128, i64)]) -> Vec<StoredOp> {
        let server = Server::start(Version::First).unwrap();
        for (id, stamp) in all {
            let op = serde_json::json!({ "operation_id": Uuid::from_u128(*id), "lamport_ts": stamp, "entity": "e",
                "entity_id": "1", "op": "noop", "field": null, "payload": null });
            let body = serde_json::json!({ "device_id": "d", "ops": [op] }).to_string();
            server.model(|model| {
                model.handle(&Request {
                    method: "POST",
                    path: PUSH_PATH,
                    content_type: Some("application/json"),
                    user: Some("alice"),
                    body: body.as_bytes(),
                    now_ms: 0,
                })
            });
        }
        server.stored()
    }

    #[test]
    fn an_op_behind_a_later_one_and_a_stamp_that_falls_are_out_of_order() {
        let ops: Vec<Uuid> = (1..=4).map(Uuid::from_u128).collect();
        let count = |all: &[(u128, i64)], stale: &[u128]| {
            out_of_order(&rows(all), &ops, &stale.iter().copied().map(Uuid::from_u128).collect())
        };
        assert_eq!(count(&[(1, 1), (2, 2), (9, 5), (3, 3), (4, 4)], &[]), 0, "9 is another profile's");
        assert_eq!(count(&[(1, 1), (3, 3), (2, 4), (4, 5)], &[]), 1);
        assert_eq!(count(&[(1, 11), (2, 12), (3, 3), (4, 13)], &[]), 1);
        assert_eq!(count(&[(1, 11), (2, 12), (3, 3), (4, 13)], &[3]), 0);
    }
}
