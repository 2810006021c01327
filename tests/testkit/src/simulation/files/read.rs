//! Rows out of the made-up queue, into a body that a made-up server reads.
//!
//! What must always hold: rows are chosen as the agent's `queue::read` chooses them; a body says who it is from and
//! which ops are in it, and is as long as its rows are.

use bytes::Bytes;
use uuid::Uuid;
use waveflow_sync_agent::drain::action::{Answer, Pick, Plan, Refusal, Rows, StoreError};
use waveflow_sync_agent::drain::admission::Admission;
use waveflow_sync_agent::op::{Op, OperationId, Pair, STAMP_LIMIT};

use super::{MadeUpFiles, account};
use crate::simulation::agenda::Micros;
use crate::simulation::disk::{Nature, Row};
use crate::simulation::server::Sent;
use crate::simulation::world::World;

/// An op's fixed part in a body.
const OP_BYTES: usize = 56;

impl MadeUpFiles {
    pub(super) fn read(&self, world: &mut World, plan: &Plan) -> Result<Answer, StoreError> {
        let session = self.session()?;
        let paused = self.keeper.look(|record| record.paused);
        let now = world.now;
        let file = self.data(world, false)?;
        if paused || file.local || account::signed_in(file).as_ref() != Some(&session.signed_in) {
            return Ok(Answer::AccountChanged);
        }
        let mut reading =
            Reading { plan, rows: Rows { cursor: plan.after, ..Rows::default() }, skipped: 0, bytes: 0, gap: false };
        let mut body = Body::new(session.device.as_deref().unwrap_or_default(), self.profile, now);
        let mut overtaken = Vec::new();
        let mut found: Vec<(&i64, &Row)> =
            file.rows.range(plan.after.saturating_add(1)..).take_while(|(id, _)| **id <= plan.until).collect();
        if plan.pick == Pick::Newest {
            found.reverse();
        }
        reading.rows.end = true;
        for (id, row) in found {
            if reading.rows.batch.ops.len() >= plan.max_ops {
                reading.rows.end = false;
                break;
            }
            let operation_id = OperationId::Canonical(row.operation_id);
            let admission = session.admit.admission(*id, &operation_id, row.created_at);
            let wanted = if plan.pick == Pick::Quarantined { Admission::Quarantined } else { Admission::Waiting };
            if admission != wanted {
                overtaken.push(row.operation_id);
            }
            if admission != wanted || reading.is_passed_over() {
                reading.leave(*id);
            } else if !reading.take(*id, operation_id, row) {
                reading.rows.end = false;
                break;
            }
        }
        let mut rows = reading.rows;
        for op in &rows.batch.ops {
            if let Some(row) = file.rows.get(&op.id) {
                body.push(row, op);
            }
        }
        if !rows.batch.ops.is_empty() {
            rows.batch.body = body.finish();
        }
        let probes = plan.pick != Pick::First;
        let late = rows.batch.ops.iter().filter(|_| probes).filter_map(|op| op.operation_id.uuid());
        overtaken.extend(late);
        overtaken.extend(rows.sick.iter().filter_map(|refusal| refusal.operation_id.uuid()));
        overtaken.into_iter().for_each(|operation_id| world.oracle.late(operation_id));
        Ok(Answer::Rows(rows))
    }
}

struct Reading<'a> {
    plan: &'a Plan,
    rows: Rows,
    skipped: usize,
    bytes: usize,
    gap: bool,
}

impl Reading<'_> {
    fn is_passed_over(&mut self) -> bool {
        let Pick::Nth(count) = self.plan.pick else { return false };
        self.skipped += 1;
        self.skipped <= count
    }

    fn leave(&mut self, id: i64) {
        self.rows.cursor = id;
        (self.rows.stays, self.gap) = (true, true);
    }

    /// Whether to go on.
    fn take(&mut self, id: i64, operation_id: OperationId, row: &Row) -> bool {
        if row.nature == Nature::Sick {
            self.rows.sick.push(Refusal { id, operation_id, words: "cannot be read".into() });
            self.leave(id);
            return self.rows.sick.len() < self.plan.max_ops;
        }
        let gap = self.gap;
        let ops = &mut self.rows.batch.ops;
        if let Some(above) = self.plan.above {
            let above = ops.last().map_or(above, |op: &Op| op.stamp);
            if row.stamp <= above || row.stamp >= STAMP_LIMIT {
                self.rows.disorder = Some(id);
                return false;
            }
        }
        let doomed = matches!(row.nature, Nature::Lone | Nature::Doomed);
        let alone = doomed || self.plan.alone.contains(&id);
        self.bytes += row.bytes.max(OP_BYTES);
        let full = alone || self.bytes > self.plan.max_bytes;
        if full && !ops.is_empty() {
            return false;
        }
        let (follows, bytes) = (!gap && !ops.is_empty(), row.bytes.max(OP_BYTES));
        ops.push(Op { id, operation_id, stamp: row.stamp, pair: row.pair, doomed, follows, bytes, queued_at: 0 });
        self.gap = false;
        self.rows.cursor = id;
        !alone
    }
}

/// A body: the profile, the device, when it was read, and for each op a fixed part and as much as fills it up.
struct Body(Vec<u8>);

impl Body {
    fn new(device: &str, profile: usize, now: Micros) -> Self {
        let mut bytes = vec![u8::try_from(profile).unwrap_or(u8::MAX), u8::try_from(device.len()).unwrap_or(u8::MAX)];
        bytes.extend_from_slice(device.as_bytes());
        bytes.extend_from_slice(&now.to_le_bytes());
        Self(bytes)
    }

    fn push(&mut self, row: &Row, op: &Op) {
        let until = self.0.len() + row.bytes.max(OP_BYTES);
        self.0.extend_from_slice(row.operation_id.as_bytes());
        let pair = op.pair.unwrap_or(Pair { wall: 0, logical: 0 });
        let length = i64::try_from(row.bytes.max(OP_BYTES)).unwrap_or(i64::MAX);
        for number in [op.id, op.stamp, pair.wall, pair.logical, length] {
            self.0.extend_from_slice(&number.to_le_bytes());
        }
        self.0.resize(until, 0);
    }

    fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// What a body says; `None` for the empty batch, which the agent writes itself.
pub fn unpack(body: &[u8]) -> Option<(String, Vec<Sent>)> {
    let profile = usize::from(*body.first().filter(|first| **first != b'{')?);
    let device = usize::from(*body.get(1)?);
    let name = String::from_utf8_lossy(body.get(2..2 + device)?).into_owned();
    let read = Micros::from_le_bytes(body.get(2 + device..10 + device)?.try_into().ok()?);
    let mut rest = body.get(10 + device..)?;
    let mut ops = Vec::new();
    while rest.len() >= OP_BYTES {
        let operation_id = Uuid::from_slice(rest.get(..16)?).ok()?;
        let number = |at: usize| Some(i64::from_le_bytes(rest.get(16 + at * 8..24 + at * 8)?.try_into().ok()?));
        let pair = Pair { wall: number(2)?, logical: number(3)? };
        let pair = (pair.wall != 0).then_some(pair);
        ops.push(Sent { operation_id, stamp: number(1)?, pair, profile, row: number(0)?, read });
        rest = rest.get(usize::try_from(number(4)?).ok()?..)?;
    }
    Some((name, ops))
}
