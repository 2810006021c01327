//! Accepted rows that lie side by side in the queue, remembered as one: [`Run`].
//!
//! What must always hold: a run speaks for exactly the rows it was made of. Whoever settles it looks at what lies between
//! its ends, and where that is not the same rows with the same operation ids, the run is worth nothing: its rows are read
//! again, sent again, and absorbed by the server.
//!
//! A run takes as much memory for a thousand rows as for one, so what waits to be settled does not grow with the queue.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::op::{Op, OperationId};

/// Rows the server has accepted, with nothing else between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The first row's `id`.
    pub first: i64,
    /// The last row's `id`.
    pub last: i64,
    /// How many there are; at most a batch's.
    pub rows: usize,
    /// What they took in the request, in bytes: an idea of how much there is to delete.
    pub bytes: usize,
    /// Of all ids and operation ids, in order.
    digest: u64,
}

impl Run {
    /// Of `rows` in order of their ids; `None` where there are none.
    pub fn of<'a>(rows: impl IntoIterator<Item = (i64, &'a OperationId)>, bytes: usize) -> Option<Self> {
        let mut digest = Digest::default();
        let mut ends = None;
        for (id, operation_id) in rows {
            digest.add(id, operation_id);
            ends = Some((ends.map_or(id, |(first, _)| first), id));
        }
        let (first, last) = ends?;
        Some(Self { first, last, rows: digest.rows, bytes, digest: digest.value() })
    }

    /// Whether `digest` is of the rows this was made of.
    pub fn is_of(&self, digest: &Digest) -> bool {
        (self.rows, self.digest) == (digest.rows, digest.value())
    }

    /// Splits those of `ops` of which `named` is true into runs: one ends where an op is missing, and where a row that stays lies
    /// in between.
    pub fn gather(ops: &[Op], named: &[bool]) -> Vec<Self> {
        let mut runs = Vec::with_capacity(1);
        let mut begin = None;
        for (at, (op, &named)) in ops.iter().zip(named).enumerate() {
            if let Some(from) = begin.filter(|_| !named || !op.follows) {
                runs.extend(Self::of_ops(&ops[from..at]));
                begin = None;
            }
            if named && begin.is_none() {
                begin = Some(at);
            }
        }
        runs.extend(begin.and_then(|from| Self::of_ops(&ops[from..])));
        runs
    }

    fn of_ops(ops: &[Op]) -> Option<Self> {
        let bytes = ops.iter().map(|op| op.bytes).sum();
        Self::of(ops.iter().map(|op| (op.id, &op.operation_id)), bytes)
    }
}

/// What a run remembers of its rows. Two different sets of rows have the same by accident once in 2^64.
#[derive(Debug, Clone, Default)]
pub struct Digest {
    rows: usize,
    hasher: DefaultHasher,
}

impl Digest {
    /// The next row.
    pub fn add(&mut self, id: i64, operation_id: &OperationId) {
        self.rows += 1;
        (id, operation_id).hash(&mut self.hasher);
    }

    fn value(&self) -> u64 {
        self.hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(id: i64, follows: bool) -> Op {
        let operation_id = OperationId::Canonical(uuid::Uuid::from_u128(id.unsigned_abs().into()));
        Op { id, operation_id, stamp: id, pair: None, doomed: false, follows, bytes: 10, queued_at: 0 }
    }

    fn ends(ops: &[Op], missing: &[i64]) -> Vec<(i64, i64, usize, usize)> {
        let named: Vec<bool> = ops.iter().map(|op| !missing.contains(&op.id)).collect();
        let runs = Run::gather(ops, &named);
        runs.iter().map(|run| (run.first, run.last, run.rows, run.bytes)).collect()
    }

    #[test]
    fn a_run_ends_where_a_row_stays() {
        let ops: Vec<Op> = [(1, false), (2, true), (5, true), (9, false), (10, true)].map(|(i, f)| op(i, f)).into();
        assert_eq!(ends(&ops, &[]), [(1, 5, 3, 30), (9, 10, 2, 20)]);
        assert_eq!(ends(&ops, &[2]), [(1, 1, 1, 10), (5, 5, 1, 10), (9, 10, 2, 20)]);
        assert_eq!(ends(&ops, &[1, 10]), [(2, 5, 2, 20), (9, 9, 1, 10)]);
        assert_eq!(ends(&ops, &[1, 2, 5, 9, 10]), []);
        assert_eq!(ends(&[], &[]), []);
    }

    #[test]
    fn other_rows_are_told_apart() {
        let ops: Vec<Op> = (1..=3).map(|id| op(id, true)).collect();
        let run = &Run::gather(&ops, &[true; 3])[0];
        let digest = |ops: &[&Op]| {
            let mut digest = Digest::default();
            ops.iter().for_each(|op| digest.add(op.id, &op.operation_id));
            digest
        };
        let [one, two, three] = [&ops[0], &ops[1], &ops[2]];
        assert!(run.is_of(&digest(&[one, two, three])));
        let swapped = Op { operation_id: three.operation_id.clone(), ..two.clone() };
        let moved = Op { id: 4, ..three.clone() };
        for others in
            [vec![one, two], vec![one, &swapped, three], vec![one, two, &moved], vec![two, one, three], vec![]]
        {
            assert!(!run.is_of(&digest(&others)), "{others:?}");
        }
    }
}
