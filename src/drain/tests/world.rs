//! A made-up queue and a made-up server for the pass's unit tests: no file, no socket, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::drain::action::*;
use crate::drain::memory::{Memory, Uplink};
use crate::drain::run::{Digest, Run};
use crate::drain::{Pass, Rules};
use crate::op::*;

/// A body counts this many bytes for each op.
pub(super) const OP_BYTES: usize = 1000;

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) uuid: Uuid,
    pub(super) stamp: i64,
    pub(super) doomed: bool,
    /// It cannot be put into a request.
    pub(super) sick: bool,
    pub(super) words: Option<String>,
}

/// What the app and the agent share, and what the agent keeps.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) rows: BTreeMap<i64, Row>,
    pub(super) clock: i64,
    pub(super) quarantined: BTreeMap<i64, String>,
    pub(super) held: BTreeSet<i64>,
    pub(super) due: Vec<i64>,
    pub(super) snapshot: Snapshot,
    /// Requests performed, newest last.
    pub(super) log: Vec<Request>,
    /// How many stamps one `Assign` gives out.
    pub(super) stride: usize,
    /// The n-th request from now on fails, or the world ends there.
    pub(super) fail_at: Option<(usize, StoreError)>,
    pub(super) end_at: Option<usize>,
    pub(super) switch_account_at: Option<usize>,
}

impl Table {
    pub(super) fn with(count: i64) -> Self {
        let mut table = Self { stride: 3, ..Self::default() };
        table.snapshot = Snapshot {
            queue: true,
            url: true,
            token: true,
            device: Some("dev".into()),
            file: 1,
            ..Snapshot::default()
        };
        for id in 1..=count {
            table.add(id, id);
        }
        table
    }

    pub(super) fn add(&mut self, id: i64, stamp: i64) {
        let uuid = Uuid::from_u128(u128::from(id.unsigned_abs()) | 1 << 100);
        self.rows.insert(id, Row { uuid, stamp, doomed: false, sick: false, words: None });
        self.clock = self.clock.max(stamp);
    }

    fn read(&self, plan: &Plan) -> Rows {
        let mut rows = Rows { cursor: plan.after, ..Rows::default() };
        let wanted = |id: &i64| match plan.pick {
            Pick::Quarantined => self.quarantined.contains_key(id),
            _ => !self.quarantined.contains_key(id) && !self.held.contains(id),
        };
        let mut found: Vec<(&i64, &Row)> =
            self.rows.range(plan.after + 1..).filter(|(id, _)| **id <= plan.until && wanted(id)).collect();
        match plan.pick {
            Pick::Newest => found = found.pop().into_iter().collect(),
            Pick::Nth(count) => drop(found.drain(..count.min(found.len()))),
            Pick::First | Pick::Quarantined => {}
        }
        let mut above = plan.above;
        rows.end = true;
        for (id, row) in found {
            if rows.batch.ops.len() >= plan.max_ops {
                rows.end = false;
                break;
            }
            if row.sick {
                let operation_id = OperationId::Canonical(row.uuid);
                rows.sick.push(Refusal { id: *id, operation_id, words: "cannot be read".into() });
                rows.cursor = *id;
                if rows.sick.len() < plan.max_ops {
                    continue;
                }
                rows.end = false;
                break;
            }
            let alone = row.doomed || plan.alone.contains(id);
            let full = rows.batch.ops.len() >= plan.max_ops || (rows.batch.ops.len() + 1) * OP_BYTES > plan.max_bytes;
            if !rows.batch.ops.is_empty() && (full || alone) {
                rows.end = false;
                break;
            }
            if above.is_some_and(|above| row.stamp <= above || row.stamp >= STAMP_LIMIT) {
                rows.disorder = Some(*id);
                rows.end = false;
                break;
            }
            above = above.map(|_| row.stamp);
            let operation_id = OperationId::Canonical(row.uuid);
            let before = rows.batch.ops.last().map(|op: &Op| op.id);
            let follows = before.is_some_and(|before| self.rows.range(before + 1..*id).next().is_none());
            let (doomed, bytes) = (row.doomed, OP_BYTES);
            rows.batch.ops.push(Op {
                id: *id,
                operation_id,
                stamp: row.stamp,
                pair: None,
                doomed,
                follows,
                bytes,
                queued_at: 0,
            });
            rows.cursor = *id;
            if alone {
                rows.end = false;
                break;
            }
        }
        rows.batch.body = Bytes::from(vec![0; rows.batch.ops.len() * OP_BYTES]);
        rows
    }

    pub(super) fn perform(&mut self, request: &Request) -> Result<Answer, StoreError> {
        self.log.push(request.clone());
        if let Some((left, error)) = &mut self.fail_at {
            if *left == 0 {
                return Err(error.clone());
            }
            *left -= 1;
        }
        Ok(match request {
            Request::Begin => Answer::Begun(Snapshot {
                newest: self.rows.keys().next_back().copied(),
                due: self.due.clone(),
                ..self.snapshot.clone()
            }),
            Request::EnsureDevice => {
                self.snapshot.device = Some("dev".into());
                Answer::DeviceReady("dev".into())
            }
            Request::Read(plan) => {
                if let Some(left) = &mut self.switch_account_at {
                    if *left == 0 {
                        return Ok(Answer::AccountChanged);
                    }
                    *left -= 1;
                }
                Answer::Rows(self.read(plan))
            }
            Request::Settle(settlement) => Answer::Settled(self.settle(settlement)),
            Request::Mark { ids, words } => {
                for id in ids {
                    if let Some(row) = self.rows.get_mut(id) {
                        row.words = Some(words.clone());
                    }
                }
                Answer::Done
            }
            Request::Reserve(reserve) => Answer::Reserved(self.reserve(reserve)),
            Request::Assign(block) => Answer::Assigned(self.assign(block)),
            Request::Quarantine(refusals) => {
                self.quarantined.extend(refusals.iter().map(|refusal| (refusal.id, refusal.words.clone())));
                Answer::Done
            }
            Request::StillRefused(_) => Answer::Done,
            Request::Release(operation_id) => {
                let rows = &self.rows;
                self.quarantined
                    .retain(|id, _| rows.get(id).is_some_and(|r| OperationId::Canonical(r.uuid) != *operation_id));
                Answer::Done
            }
            Request::Close => {
                let held = self.rows.keys().filter(|id| self.held.contains(id)).count() as u64;
                let quarantined = self.rows.keys().filter(|id| self.quarantined.contains_key(id)).count() as u64;
                Answer::Closed(Counts {
                    remaining: self.rows.len() as u64 - held - quarantined,
                    quarantined,
                    held,
                    oldest: None,
                })
            }
        })
    }

    /// Half of it, to show that a short transaction need not hold all.
    fn settle(&mut self, settlement: &Settlement) -> Settled {
        let mut settled = Settled { crowded: settlement.whole, ..Settled::default() };
        let rows: usize = settlement.runs.iter().map(|run| run.rows).sum();
        let mut room = rows.div_ceil(2);
        for run in &settlement.runs {
            let found: Vec<(i64, OperationId)> = self
                .rows
                .range(run.first..=run.last)
                .map(|(id, row)| (*id, OperationId::Canonical(row.uuid)))
                .collect();
            let mut digest = Digest::default();
            found.iter().for_each(|(id, operation_id)| digest.add(*id, operation_id));
            if !run.is_of(&digest) {
                settled.strange += if found.is_empty() { 0 } else { run.rows };
                continue;
            }
            let (gone, rest) = found.split_at(room.min(found.len()));
            room -= gone.len();
            gone.iter().for_each(|(id, _)| drop(self.rows.remove(id)));
            settled.left.extend(Run::of(rest.iter().map(|(id, operation_id)| (*id, operation_id)), 1));
        }
        settled
    }

    fn reserve(&mut self, reserve: &Reserve) -> Option<Block> {
        let last = if reserve.alone { reserve.from } else { *self.rows.keys().next_back()? };
        let highest = self.rows.values().map(|row| row.stamp).filter(|stamp| *stamp < STAMP_LIMIT).max()?;
        let base = self.clock.max(reserve.floor).max(highest) + reserve.step;
        self.clock = base + (last - reserve.from + 1);
        assert!(self.clock < STAMP_LIMIT, "the clock left its range");
        Some(Block { clock: reserve.clock, from: reserve.from, last, top: self.clock, wall: 0 })
    }

    fn assign(&mut self, block: &Block) -> Option<Block> {
        let ids: Vec<i64> =
            self.rows.range(block.from..=block.last).rev().take(self.stride).map(|(id, _)| *id).collect();
        let mut left = block.clone();
        let mut taken: BTreeSet<i64> = self.rows.values().map(|row| row.stamp).collect();
        for id in &ids {
            assert!(taken.insert(left.top), "stamp {} is taken twice", left.top);
            self.rows.get_mut(id).unwrap().stamp = left.top;
            left.last = id - 1;
            left.top -= 1;
        }
        (ids.len() == self.stride && left.last >= left.from).then_some(left)
    }
}

/// Answers before the server does.
pub(super) type Front = Box<dyn FnMut(usize, &[Op]) -> Option<Reply>>;

/// The contract's server, and what stands in front of it.
#[derive(Default)]
pub(super) struct Server {
    pub(super) stored: HashMap<Uuid, i64>,
    pub(super) stamps: BTreeSet<i64>,
    /// Ids in the order they were stored.
    pub(super) order: Vec<Uuid>,
    pub(super) requests: usize,
    /// Answers before the server does; gets the request's number from 0.
    pub(super) front: Option<Front>,
    /// Ops that get 500 whatever comes.
    pub(super) poison: BTreeSet<Uuid>,
    /// Ops that are refused.
    pub(super) refused: BTreeSet<Uuid>,
    pub(super) told_max: Option<i64>,
}

pub(super) fn status(status: u16, words: &str) -> Reply {
    Reply::Status { status, retry_after: None, words: words.into() }
}

impl Server {
    pub(super) fn answer(&mut self, ops: &[Op]) -> Reply {
        let number = self.requests;
        self.requests += 1;
        if let Some(front) = &mut self.front
            && let Some(reply) = front(number, ops)
        {
            return reply;
        }
        let uuids: Vec<Uuid> = ops.iter().map(|op| op.operation_id.uuid().unwrap()).collect();
        if uuids.iter().any(|uuid| self.refused.contains(uuid)) {
            return status(422, "no such thing");
        }
        if uuids.iter().any(|uuid| self.poison.contains(uuid)) {
            return status(500, "insert failed");
        }
        let taken =
            |op: &&Op| !self.stored.contains_key(&op.operation_id.uuid().unwrap()) && self.stamps.contains(&op.stamp);
        if let Some(op) = ops.iter().find(taken) {
            let stored_max = self.told_max.or(self.stamps.last().copied()).unwrap_or(0);
            return Reply::Regression { device_id: "dev".into(), stored_max, offending: op.stamp };
        }
        for (op, uuid) in ops.iter().zip(&uuids) {
            if self.stored.insert(*uuid, op.stamp).is_none() {
                self.stamps.insert(op.stamp);
                self.order.push(*uuid);
            } else {
                self.stored.insert(*uuid, *self.stored.get(uuid).unwrap());
            }
        }
        Reply::Accepted(uuids)
    }
}

pub(super) const RULES: Rules =
    Rules { batch_ops: 10, batch_bytes: 1_000_000, isolate_every: Duration::from_secs(300) };

/// All of it, pass after pass.
pub(super) struct World {
    pub(super) table: Table,
    pub(super) server: Server,
    pub(super) memory: Memory,
    pub(super) uplink: Uplink,
    pub(super) now: Duration,
    pub(super) rules: Rules,
    /// Tell the pass to stop before the n-th event.
    pub(super) stop_at: Option<usize>,
}

impl World {
    pub(super) fn new(table: Table) -> Self {
        Self {
            table,
            server: Server::default(),
            memory: Memory::default(),
            uplink: Uplink::new(RULES.batch_bytes),
            now: Duration::from_secs(1000),
            rules: RULES,
            stop_at: None,
        }
    }

    /// One pass; `None` where the world ended in it.
    pub(super) fn pass(&mut self) -> Option<Outcome> {
        let mut pass = Pass::new(self.rules, self.memory.clone(), self.uplink.clone());
        let (mut asked, mut sent): (Option<Request>, Option<Vec<Op>>) = (None, None);
        for step in 0..100_000 {
            while let Some(action) = pass.next(self.now) {
                match action {
                    Action::Finish(outcome) => {
                        (self.memory, self.uplink) = pass.into_memory();
                        return Some(outcome);
                    }
                    Action::Store(request) => assert!(asked.replace(request).is_none(), "two requests at a time"),
                    Action::Send(batch) => assert!(sent.replace(batch.ops).is_none(), "two batches at a time"),
                    Action::SendEmpty => assert!(sent.replace(Vec::new()).is_none(), "two batches at a time"),
                }
            }
            assert!(pass.deadline().is_none_or(|at| at > self.now), "a tick that is due changes nothing: a busy loop");
            if self.stop_at == Some(step) {
                pass.on(Event::Stop, self.now);
                continue;
            }
            // The database first: that is where reading ahead shows.
            let event = if let Some(request) = asked.take() {
                if let Some(left) = &mut self.table.end_at {
                    if *left == 0 {
                        return None;
                    }
                    *left -= 1;
                }
                Event::Stored(self.table.perform(&request))
            } else if let Some(ops) = sent.take() {
                Event::Replied(self.server.answer(&ops))
            } else {
                self.now = pass.deadline().expect("a pass that waits for nothing");
                Event::Tick
            };
            pass.on(event, self.now);
        }
        panic!("the pass does not end");
    }

    /// Passes until one leaves nothing, a failure each at most `most` times, far enough apart for any back-off.
    pub(super) fn drain(&mut self, most: usize) -> Outcome {
        for _ in 0..most {
            let outcome = self.pass().expect("the world did not end");
            self.now += Duration::from_secs(10);
            if outcome.remaining == 0 {
                return outcome;
            }
        }
        panic!("not drained after {most} passes: {:?}", self.table.rows.keys().collect::<Vec<_>>());
    }

    #[expect(clippy::unused_self, reason = "reads as the world's op")]
    pub(super) fn uuid(&self, id: i64) -> Uuid {
        Uuid::from_u128(u128::from(id.unsigned_abs()) | 1 << 100)
    }

    /// Everything of `1..=count` but `but` is stored, in order, with rising stamps.
    pub(super) fn assert_stored(&self, count: i64, but: &[i64]) {
        let expected: Vec<Uuid> = (1..=count).filter(|id| !but.contains(id)).map(|id| self.uuid(id)).collect();
        assert_eq!(self.server.order, expected, "stored order is queue order");
        let stamps: Vec<i64> = expected.iter().map(|uuid| self.server.stored[uuid]).collect();
        assert!(stamps.is_sorted_by(|a, b| a < b), "stamps rise: {stamps:?}");
    }
}
