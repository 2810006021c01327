//! Rows out of the queue and into a request body.
//!
//! What must always hold: a row is looked at once, and its payload copied once, into the body; no more of a payload is
//! loaded than [`PAYLOAD_MAX`]; a row that cannot be put into a request spoils nothing but itself.

use std::fmt::Write as _;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::Columns;
use super::database::InDatabase;
use crate::buffer::Buffer;
use crate::drain::action::{Pick, Plan, Refusal, Rows, StoreError};
use crate::drain::admission::Admission;
use crate::op::{Batch, Op, OperationId, Pair, STAMP_LIMIT};
use crate::push::wire::{Envelope, Row, lint};

/// The longest payload that is loaded at all, in bytes: four times what a server takes. Anything up to here is offered
/// to the server, so that it is the server's word that refuses it; beyond it, memory is the limit.
pub const PAYLOAD_MAX: i64 = 8 << 20;

/// Who the ops are sent as, and which rows take part.
pub struct Sender<'a> {
    /// Device id.
    pub device: &'a str,
    /// Sent with each op where the profile table has the column.
    pub canonical_id: Option<&'a str>,
    /// By `id`, operation id, and `created_at` (ms).
    pub admit: &'a dyn Fn(i64, &OperationId, i64) -> Admission,
}

/// Reads as `plan` says, building the body in `buffer`.
pub fn read(
    connection: &Connection,
    columns: Columns,
    plan: &Plan,
    sender: &Sender<'_>,
    buffer: Buffer,
) -> Result<Rows, StoreError> {
    let mut statement = connection.prepare_cached(sql(columns, plan.pick)).on(connection)?;
    let mut found = statement.query((plan.after, plan.until, PAYLOAD_MAX)).on(connection)?;
    let mut reading = Reading::new(plan, sender, buffer);
    loop {
        match found.next().on(connection)? {
            None => {
                reading.rows.end = true;
                break;
            }
            Some(row) => {
                if reading.take(row).is_break() {
                    break;
                }
            }
        }
    }
    Ok(reading.finish())
}

fn sql(columns: Columns, pick: Pick) -> &'static str {
    macro_rules! select {
        ($pairs:literal, $order:literal) => {
            concat!(
                "SELECT id, operation_id, created_at, lamport_ts, entity, entity_id, field, op, ",
                "coalesce(octet_length(payload), 0), ",
                "CASE WHEN octet_length(payload) <= ?3 THEN payload END, ",
                $pairs,
                " FROM sync_pending_op WHERE id > ?1 AND id <= ?2 ORDER BY id ",
                $order
            )
        };
    }
    match (columns.pairs, pick) {
        (true, Pick::Newest) => select!("hlc_wall, hlc_logical", "DESC"),
        (true, _) => select!("hlc_wall, hlc_logical", "ASC"),
        (false, Pick::Newest) => select!("0, 0", "DESC"),
        (false, _) => select!("0, 0", "ASC"),
    }
}

type Flow = std::ops::ControlFlow<()>;

struct Reading<'a> {
    plan: &'a Plan,
    sender: &'a Sender<'a>,
    envelope: Envelope,
    ops: Vec<Op>,
    rows: Rows,
    skipped: usize,
    /// A row was left out since the last op.
    gap: bool,
}

impl<'a> Reading<'a> {
    fn new(plan: &'a Plan, sender: &'a Sender<'a>, buffer: Buffer) -> Self {
        let envelope = Envelope::new(buffer, sender.device, sender.canonical_id);
        let rows = Rows { cursor: plan.after, ..Rows::default() };
        Self { plan, sender, envelope, ops: Vec::new(), rows, skipped: 0, gap: false }
    }

    fn finish(mut self) -> Rows {
        if !self.ops.is_empty() {
            self.rows.batch = Batch { ops: self.ops, body: self.envelope.finish() };
        }
        self.rows
    }

    /// `Break` leaves the row, and all behind it, for the next read.
    fn take(&mut self, row: &rusqlite::Row<'_>) -> Flow {
        if self.ops.len() >= self.plan.max_ops {
            return Flow::Break(());
        }
        let id = row.get(0).unwrap_or_default();
        let operation_id = stored_id(row, 1);
        let created_at = row.get(2);
        let admission = (self.sender.admit)(id, &operation_id, created_at.as_ref().copied().unwrap_or(i64::MAX));
        let wanted = if self.plan.pick == Pick::Quarantined { Admission::Quarantined } else { Admission::Waiting };
        if admission != wanted || self.is_passed_over() {
            self.leave(id);
            return Flow::Continue(());
        }
        let fields = created_at.map_err(|_| "created_at").and_then(|at: i64| Ok((at, Fields::of(row)?)));
        let (queued_at, wire) = match &fields {
            Ok((at, fields)) => (*at, fields.wire()),
            Err(column) => {
                return self.sick(
                    id,
                    operation_id,
                    format!("the row's `{column}` cannot be read as what it should be"),
                );
            }
        };
        if let Some(bytes) = too_long(row) {
            return self.sick(id, operation_id, format!("the payload has {bytes} bytes; a server takes 2 MiB"));
        }
        let doomed = match lint(&wire) {
            Ok(doomed) => doomed,
            Err(words) => return self.sick(id, operation_id, words),
        };
        self.add(id, operation_id, &wire, doomed, queued_at)
    }

    fn is_passed_over(&mut self) -> bool {
        let Pick::Nth(count) = self.plan.pick else { return false };
        self.skipped += 1;
        self.skipped <= count
    }

    /// The row stays where it is.
    fn leave(&mut self, id: i64) {
        self.rows.cursor = id;
        self.rows.stays = true;
        self.gap = true;
    }

    fn sick(&mut self, id: i64, operation_id: OperationId, words: String) -> Flow {
        self.rows.sick.push(Refusal { id, operation_id, words });
        self.leave(id);
        if self.rows.sick.len() < self.plan.max_ops { Flow::Continue(()) } else { Flow::Break(()) }
    }

    fn add(&mut self, id: i64, operation_id: OperationId, wire: &Row<'_>, doomed: bool, queued_at: i64) -> Flow {
        if let Some(above) = self.plan.above {
            let above = self.ops.last().map_or(above, |op| op.stamp);
            if wire.lamport_ts <= above || wire.lamport_ts >= STAMP_LIMIT {
                self.rows.disorder = Some(id);
                return Flow::Break(());
            }
        }
        let alone = doomed || self.plan.alone.contains(&id);
        let before = self.envelope.len();
        if (alone && !self.ops.is_empty()) || !self.envelope.push_within(wire, self.plan.max_bytes) {
            return Flow::Break(());
        }
        let bytes = self.envelope.len() - before;
        let follows = !std::mem::take(&mut self.gap) && !self.ops.is_empty();
        self.ops.push(Op {
            id,
            operation_id,
            stamp: wire.lamport_ts,
            pair: wire.pair,
            doomed,
            follows,
            bytes,
            queued_at,
        });
        self.rows.cursor = id;
        if alone { Flow::Break(()) } else { Flow::Continue(()) }
    }
}

/// The columns of a row that travel.
struct Fields<'r> {
    operation_id: &'r str,
    lamport_ts: i64,
    entity: &'r str,
    entity_id: &'r str,
    field: Option<&'r str>,
    op: &'r str,
    payload: Option<&'r str>,
    pair: Option<Pair>,
}

impl<'r> Fields<'r> {
    /// # Errors
    /// The name of the column that holds something else than it should.
    fn of(row: &'r rusqlite::Row<'_>) -> Result<Self, &'static str> {
        let wall = integer(row, 10, "hlc_wall")?;
        let logical = integer(row, 11, "hlc_logical")?;
        Ok(Self {
            // As it stands there: what is no text has a stand-in (see [`stored_id`]), which must not travel in its place.
            operation_id: text(row, 1, "operation_id")?.ok_or("operation_id")?,
            lamport_ts: integer(row, 3, "lamport_ts")?,
            entity: text(row, 4, "entity")?.ok_or("entity")?,
            entity_id: text(row, 5, "entity_id")?.ok_or("entity_id")?,
            field: text(row, 6, "field")?,
            op: text(row, 7, "op")?.ok_or("op")?,
            payload: text(row, 9, "payload")?,
            pair: (wall != 0).then_some(Pair { wall, logical }),
        })
    }

    fn wire(&self) -> Row<'r> {
        Row {
            operation_id: self.operation_id,
            lamport_ts: self.lamport_ts,
            entity: self.entity,
            entity_id: self.entity_id,
            field: self.field,
            op: self.op,
            payload: self.payload,
            pair: self.pair,
        }
    }
}

/// A payload's length, where it is over [`PAYLOAD_MAX`].
fn too_long(row: &rusqlite::Row<'_>) -> Option<i64> {
    row.get(8).ok().filter(|bytes| *bytes > PAYLOAD_MAX)
}

/// The operation id as text; what is no text is shown as `SQLite` would write it.
pub(super) fn stored_id(row: &rusqlite::Row<'_>, index: usize) -> OperationId {
    match row.get_ref(index) {
        Ok(ValueRef::Text(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => OperationId::new(text),
            Err(_) => hex(bytes),
        },
        Ok(ValueRef::Blob(bytes)) => hex(bytes),
        Ok(ValueRef::Integer(value)) => OperationId::new(&value.to_string()),
        Ok(ValueRef::Real(value)) => OperationId::new(&value.to_string()),
        Ok(ValueRef::Null) | Err(_) => OperationId::new("NULL"),
    }
}

fn hex(bytes: &[u8]) -> OperationId {
    let mut text = String::from("x'");
    for byte in bytes.iter().take(64) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\'');
    OperationId::new(&text)
}

fn integer(row: &rusqlite::Row<'_>, index: usize, name: &'static str) -> Result<i64, &'static str> {
    match row.get_ref(index) {
        Ok(ValueRef::Integer(value)) => Ok(value),
        _ => Err(name),
    }
}

fn text<'r>(row: &'r rusqlite::Row<'_>, index: usize, name: &'static str) -> Result<Option<&'r str>, &'static str> {
    match row.get_ref(index) {
        Ok(ValueRef::Text(bytes)) => std::str::from_utf8(bytes).map(Some).map_err(|_| name),
        Ok(ValueRef::Null) => Ok(None),
        _ => Err(name),
    }
}
