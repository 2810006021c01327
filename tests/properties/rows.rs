//! Rows of the queue: what is put into a request is what stands in them, and a server takes it unless it was foretold that
//! it would not.
//!
//! The input's first line has the most ops and the most bytes of a request, and a `c` where ops carry a canonical id. Rows
//! follow, one behind each byte 0x1e, their columns behind each 0x1f: a letter for the type (`t`ext, `b`lob, `i`nteger,
//! `r`eal, `n`ull; anything else: what a healthy row has), then the value.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use testkit::server::{Model, PUSH_PATH, Request, Version};
use waveflow_sync_agent::buffer::Buffers;
use waveflow_sync_agent::drain::action::{Pick, Plan, Rows};
use waveflow_sync_agent::drain::admission::Admission;
use waveflow_sync_agent::op::Op;
use waveflow_sync_agent::queue::Columns;
use waveflow_sync_agent::queue::read::{Sender, read};

const DEVICE: &str = "a \"device\"";
const CANONICAL: &str = "00000000-0000-4000-8000-0000000000cc";
/// A queue of more rows shows nothing new.
const ROWS_MAX: usize = 12;
/// What is said of a sick row.
const WORDS_MAX: usize = 200;
/// Beyond this, readers of numbers differ; see [`is_caution`].
const SURE_NUMBER: f64 = 1e308;

const COLUMNS: [&str; 10] = [
    "operation_id",
    "created_at",
    "lamport_ts",
    "entity",
    "entity_id",
    "field",
    "op",
    "payload",
    "hlc_wall",
    "hlc_logical",
];

/// The places of columns in [`COLUMNS`].
mod at {
    pub(super) const ID: usize = 0;
    pub(super) const CREATED: usize = 1;
    pub(super) const STAMP: usize = 2;
    pub(super) const ENTITY: usize = 3;
    pub(super) const ENTITY_ID: usize = 4;
    pub(super) const FIELD: usize = 5;
    pub(super) const OP: usize = 6;
    pub(super) const PAYLOAD: usize = 7;
    pub(super) const WALL: usize = 8;
    pub(super) const LOGICAL: usize = 9;
}

/// One value; text need not be UTF-8.
#[derive(Clone)]
enum Cell {
    Text(Vec<u8>),
    Other(Sql),
}

struct Queue {
    max_ops: usize,
    max_bytes: usize,
    canonical: bool,
    rows: Vec<Vec<Cell>>,
}

/// What travels of a healthy row.
struct Healthy<'a> {
    id: &'a str,
    stamp: i64,
    entity: &'a str,
    entity_id: &'a str,
    field: Option<&'a str>,
    op: &'a str,
    payload: Option<&'a str>,
    wall: i64,
    logical: i64,
}

/// See the module.
pub(crate) fn check(input: &[u8]) {
    let queue = Queue::of(input);
    let connection = queue.store().expect("any value of SQLite's can be stored");
    let canonical_id = queue.canonical.then_some(CANONICAL);
    let sender = Sender { device: DEVICE, canonical_id, admit: &|_, _, _| Admission::Waiting };
    let mut seen = 0;
    loop {
        let plan = queue.plan(seen);
        let rows = read(&connection, Columns { pairs: true }, &plan, &sender, Buffers::default().take())
            .expect("it can be read");
        queue.check_read(&plan, &rows);
        assert!(rows.end || rows.cursor > seen, "it does not get on");
        seen = rows.cursor;
        if rows.end {
            break;
        }
    }
    assert_eq!(usize::try_from(seen), Ok(queue.rows.len()), "a row was passed over");
}

impl Queue {
    fn of(input: &[u8]) -> Self {
        let mut parts = input.split(|byte| *byte == 0x1e);
        let head = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let mut words = head.split_whitespace();
        let mut number = |otherwise: u16| words.next().and_then(|word| word.parse().ok()).unwrap_or(otherwise);
        let (max_ops, max_bytes) = (number(1000).clamp(1, 1024), number(u16::MAX));
        Self {
            max_ops: max_ops.into(),
            max_bytes: max_bytes.into(),
            canonical: head.contains('c'),
            rows: parts.take(ROWS_MAX).enumerate().map(|(place, row)| cells(place + 1, row)).collect(),
        }
    }

    /// In a table that converts nothing.
    fn store(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open_in_memory()?;
        let columns = COLUMNS.join(", ");
        connection.execute_batch(&format!("CREATE TABLE sync_pending_op (id INTEGER PRIMARY KEY, {columns})"))?;
        for row in &self.rows {
            let marks: Vec<_> =
                row.iter().map(|cell| if matches!(cell, Cell::Text(_)) { "CAST(? AS TEXT)" } else { "?" }).collect();
            let sql = format!("INSERT INTO sync_pending_op ({columns}) VALUES ({})", marks.join(", "));
            let values = row.iter().map(|cell| match cell {
                Cell::Text(bytes) => Sql::Blob(bytes.clone()),
                Cell::Other(value) => value.clone(),
            });
            connection.execute(&sql, params_from_iter(values))?;
        }
        Ok(connection)
    }

    fn plan(&self, after: i64) -> Plan {
        let (max_ops, max_bytes) = (self.max_ops, self.max_bytes);
        Plan { after, until: i64::MAX, max_ops, max_bytes, pick: Pick::First, alone: vec![], above: None }
    }

    /// The row with this id; `None`: it is sick for its columns' sake.
    fn healthy(&self, id: i64) -> Option<Healthy<'_>> {
        let row = &self.rows[usize::try_from(id).unwrap() - 1];
        integer(row, at::CREATED)?;
        Some(Healthy {
            id: text(row, at::ID).ok()??,
            stamp: integer(row, at::STAMP)?,
            entity: text(row, at::ENTITY).ok()??,
            entity_id: text(row, at::ENTITY_ID).ok()??,
            field: text(row, at::FIELD).ok()?,
            op: text(row, at::OP).ok()??,
            payload: text(row, at::PAYLOAD).ok()?,
            wall: integer(row, at::WALL)?,
            logical: integer(row, at::LOGICAL)?,
        })
    }

    fn check_read(&self, plan: &Plan, rows: &Rows) {
        let mut ids: Vec<i64> =
            rows.batch.ops.iter().map(|op| op.id).chain(rows.sick.iter().map(|sick| sick.id)).collect();
        ids.sort_unstable();
        assert_eq!(ids, (plan.after + 1..=rows.cursor).collect::<Vec<_>>(), "each row once");
        assert!(rows.batch.ops.is_sorted_by_key(|op| op.id) && rows.batch.ops.len() <= self.max_ops);
        assert_eq!(rows.disorder, None);
        for sick in &rows.sick {
            let payload = self.healthy(sick.id).map(|row| row.payload.unwrap_or("null").to_owned());
            assert!(payload.is_none_or(|text| serde_json::from_str::<Value>(&text).is_err()), "{}", sick.words);
            assert!(sick.words.len() <= WORDS_MAX && !sick.words.contains(char::is_control), "{:?}", sick.words);
        }
        if let Some(first) = rows.batch.ops.first() {
            self.check_batch(&rows.batch.ops, first, &rows.batch.body);
        } else {
            assert!(rows.batch.body.is_empty());
        }
    }

    fn check_batch(&self, ops: &[Op], first: &Op, body: &[u8]) {
        assert!(ops.len() == 1 || body.len() <= self.max_bytes, "{} bytes", body.len());
        assert!(ops.len() == 1 || ops.iter().all(|op| !op.doomed), "what is doomed travels alone");
        let text = std::str::from_utf8(body).expect("a body is UTF-8");
        serde_json::from_str::<IgnoredAny>(text).expect("a body is JSON");
        let rows: Vec<Healthy<'_>> = ops.iter().map(|op| self.healthy(op.id).expect("a sick row travels")).collect();
        for (op, row) in ops.iter().zip(&rows) {
            let pair = (row.wall != 0).then_some((row.wall, row.logical));
            assert_eq!((op.stamp, op.pair.map(|pair| (pair.wall, pair.logical))), (row.stamp, pair));
            assert_eq!(op.operation_id.to_string(), row.id);
            assert!(text.contains(&format!("\"payload\":{}", row.payload.unwrap_or("null"))), "not byte for byte");
        }
        if !first.doomed {
            let expected: Vec<Value> = rows.iter().map(|row| row.tree(self.canonical)).collect();
            let tree: Value = serde_json::from_str(text).expect("what is not doomed is a tree");
            assert_eq!(tree, json!({ "device_id": DEVICE, "ops": expected }));
        }
        check_server(body, first, &rows);
    }
}

/// The server's word for it: see the contract, section 3.
fn check_server(body: &[u8], first: &Op, rows: &[Healthy<'_>]) {
    for version in [Version::First, Version::Later] {
        let request = Request {
            method: "POST",
            path: PUSH_PATH,
            content_type: Some("application/json"),
            user: Some("alice"),
            body,
            now_ms: 0,
        };
        let answer = Model::new(version).handle(&request);
        let words = String::from_utf8_lossy(&answer.body);
        let taken = matches!(answer.status, 200 | 409) || (answer.status == 500 && words == "apply failed");
        if first.doomed {
            let foretold = !taken || version == Version::First || is_caution(&rows[0]);
            assert!(foretold, "nothing is wrong with it: {:?}", rows[0].payload);
        } else {
            assert!(taken, "refused without being foretold: {} {words}", answer.status);
        }
    }
}

/// Where the agent sends an op alone for fear of what other servers may do: numbers at the edge of what fits, stamps below
/// 1, a NUL under a key that comes twice.
fn is_caution(row: &Healthy<'_>) -> bool {
    let payload = row.payload.unwrap_or_default();
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    let mut numbers = payload.split(|c| !is_number(c)).filter_map(|text| text.parse::<f64>().ok());
    row.stamp < 1 || payload.contains("\\u0000") || numbers.any(|number| number.abs() > SURE_NUMBER)
}

impl Healthy<'_> {
    fn tree(&self, canonical: bool) -> Value {
        let payload: Value = self.payload.map_or(Value::Null, |text| serde_json::from_str(text).expect("it is JSON"));
        let mut tree = json!({
            "operation_id": self.id, "lamport_ts": self.stamp, "entity": self.entity, "entity_id": self.entity_id,
            "field": self.field, "op": self.op, "payload": payload,
        });
        if self.wall != 0 {
            tree["hlc"] = json!({ "wall": self.wall, "logical": self.logical });
        }
        if canonical {
            tree["profile_canonical_id"] = json!(CANONICAL);
        }
        tree
    }
}

/// The row is sick for this column's sake.
struct Sick;

/// `None` for a NULL; what is neither that nor text, or is not UTF-8, is sick.
fn text(row: &[Cell], column: usize) -> Result<Option<&str>, Sick> {
    match &row[column] {
        Cell::Text(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|_| Sick),
        Cell::Other(Sql::Null) => Ok(None),
        Cell::Other(_) => Err(Sick),
    }
}

fn integer(row: &[Cell], column: usize) -> Option<i64> {
    match row[column] {
        Cell::Other(Sql::Integer(value)) => Some(value),
        _ => None,
    }
}

fn cells(place: usize, row: &[u8]) -> Vec<Cell> {
    let mut given = row.split(|byte| *byte == 0x1f);
    (0..COLUMNS.len()).map(|column| cell(place, column, given.next().unwrap_or_default())).collect()
}

fn cell(place: usize, column: usize, given: &[u8]) -> Cell {
    let Some((kind, value)) = given.split_first() else { return usual(place, column) };
    let words = String::from_utf8_lossy(value);
    match kind {
        b't' => Cell::Text(value.to_vec()),
        b'b' => Cell::Other(Sql::Blob(value.to_vec())),
        b'i' => Cell::Other(Sql::Integer(words.trim().parse().unwrap_or(0))),
        b'r' => Cell::Other(Sql::Real(words.trim().parse().unwrap_or(0.5))),
        b'n' => Cell::Other(Sql::Null),
        _ => usual(place, column),
    }
}

/// What a healthy row has.
fn usual(place: usize, column: usize) -> Cell {
    let number = i64::try_from(place).unwrap_or_default();
    let text = |text: &str| Cell::Text(text.as_bytes().to_vec());
    match column {
        at::ID => text(&format!("00000000-0000-4000-8000-{place:012x}")),
        at::CREATED | at::STAMP => Cell::Other(Sql::Integer(number)),
        at::ENTITY => text("playlist"),
        at::ENTITY_ID => text("7"),
        at::FIELD => text("colour"),
        at::OP => text("set"),
        at::PAYLOAD => text("{\"value\":1}"),
        _ => Cell::Other(Sql::Integer(0)),
    }
}
