//! A waveflow-server's rules, without JSON: what [`crate::server`] does, fast enough for a million lives.
//!
//! What must always hold: the rules are those of [`crate::server::Model`], in its order: a stored op is absorbed, then
//! pairs are derived, then stamps, then pairs are looked at; a batch is stored whole or not at all.

use std::collections::{BTreeSet, HashMap, HashSet};

use uuid::Uuid;
use waveflow_sync_agent::op::{Pair, Reply};

use super::agenda::Micros;

/// An op on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Idempotency key.
    pub operation_id: Uuid,
    /// Stamp.
    pub stamp: i64,
    /// Pair.
    pub pair: Option<Pair>,
    /// Whose queue it was in.
    pub profile: usize,
    /// Its row there.
    pub row: i64,
    /// When it was read there.
    pub read: Micros,
}

/// What a (user, device) has stored.
#[derive(Default)]
struct Device {
    ids: HashMap<Uuid, i64>,
    stamps: BTreeSet<i64>,
    pairs: HashSet<Pair>,
}

/// One server.
#[derive(Default)]
pub struct Server {
    /// It knows pairs.
    pub later: bool,
    devices: HashMap<(usize, String), Device>,
    /// Ops it answers with 500, and with 422.
    pub poison: HashSet<Uuid>,
    /// See `poison`.
    pub refused: HashSet<Uuid>,
    /// Tokens that are not good any more.
    pub revoked: HashSet<(usize, u64)>,
}

/// A status and its words.
pub fn status(status: u16, words: &str) -> Reply {
    Reply::Status { status, retry_after: None, words: words.into() }
}

impl Server {
    /// Answers a batch of `user` and `device`; new ops are added to `stored`.
    pub fn answer(&mut self, user: usize, serial: u64, device: &str, ops: &[Sent], stored: &mut Vec<Sent>) -> Reply {
        if self.revoked.contains(&(user, serial)) {
            return status(401, "");
        }
        let all = ops.iter().map(|op| op.operation_id);
        if ops.is_empty() {
            return Reply::Accepted(Vec::new());
        }
        let key = (user, device.to_owned());
        let found = self.devices.entry(key).or_default();
        let (mut new, mut stamps, mut pairs, mut ids) = (Vec::new(), Vec::new(), Vec::new(), HashSet::new());
        for op in ops {
            // What the server's database refuses it refuses before it looks whether it has it.
            if self.refused.contains(&op.operation_id) {
                return status(422, "no such thing");
            }
            if self.poison.contains(&op.operation_id) {
                return status(500, "insert failed");
            }
            if found.ids.contains_key(&op.operation_id) || !ids.insert(op.operation_id) {
                continue;
            }
            let pair = match op.pair {
                Some(pair) => pair,
                None if !self.later => Pair { wall: 0, logical: op.stamp },
                None if op.stamp < 1 << 31 => Pair { wall: 0, logical: op.stamp },
                None => return status(500, "insert failed"),
            };
            if found.stamps.contains(&op.stamp) || stamps.contains(&op.stamp) {
                let known = found.stamps.contains(&op.stamp);
                let stored_max = found.stamps.last().copied().filter(|_| known).unwrap_or(0);
                return Reply::Regression { device_id: device.to_owned(), stored_max, offending: op.stamp };
            }
            if self.later && (found.pairs.contains(&pair) || pairs.contains(&pair)) {
                let offending = op.pair.unwrap_or(Pair { wall: 0, logical: 0 });
                return Reply::PairRegression { device_id: device.to_owned(), offending };
            }
            stamps.push(op.stamp);
            pairs.push(pair);
            new.push(*op);
        }
        for (op, pair) in new.iter().zip(pairs) {
            found.ids.insert(op.operation_id, op.stamp);
            found.stamps.insert(op.stamp);
            found.pairs.insert(pair);
        }
        stored.append(&mut new);
        Reply::Accepted(all.collect())
    }

    /// Makes stamps taken, as if another program of this user and device had stored ops under them.
    pub fn take(&mut self, user: usize, device: &str, stamps: impl IntoIterator<Item = i64>) {
        let device = self.devices.entry((user, device.to_owned())).or_default();
        for stamp in stamps {
            device.stamps.insert(stamp);
            device.pairs.insert(Pair { wall: 0, logical: stamp });
        }
    }

    /// The same with pairs.
    pub fn take_pairs(&mut self, user: usize, device: &str, pairs: impl IntoIterator<Item = Pair>) {
        self.devices.entry((user, device.to_owned())).or_default().pairs.extend(pairs);
    }
}
