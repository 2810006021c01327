//! The queue's rows: as the app writes them, as no app would write them, and as a test reads them.
//!
//! What must always hold: [`AppDb::enqueue`] writes the user's change, the op and the clock in one transaction, or
//! nothing at all; the clock is advanced by the very expression the app uses, its float at `i64::MAX` included.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};

use super::db::{LAMPORT, LAST_LOGICAL, LAST_WALL};
use super::{AppDb, Profile, schema};
use crate::ops::NewOp;
use crate::{Result, time};

/// How the app opens the transaction of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `BEGIN IMMEDIATE`.
    Immediate,
    /// `BEGIN DEFERRED`, a read, then the writes: fails with `SQLITE_BUSY_SNAPSHOT` if anybody commits in between.
    Deferred,
}

impl From<Style> for TransactionBehavior {
    fn from(style: Style) -> Self {
        match style {
            Style::Immediate => Self::Immediate,
            Style::Deferred => Self::Deferred,
        }
    }
}

/// A row of the queue, as a test looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Place in the queue.
    pub id: i64,
    /// As it stands there, canonical or not.
    pub operation_id: String,
    /// `lamport_ts`.
    pub stamp: i64,
    /// Wall and logical; `None` before generation 3 and where the wall is 0.
    pub pair: Option<(i64, i64)>,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub last_attempt_at: Option<i64>,
    /// Attempts the drains have counted.
    pub attempt_count: i64,
    /// What the drains have noted.
    pub last_error: Option<String>,
}

/// A row that is inserted as it is: any value, of any type, in any column. The clock is left alone.
#[derive(Debug, Clone, PartialEq)]
pub struct RawOp {
    columns: Vec<(&'static str, Value)>,
}

impl RawOp {
    /// A row like `op`, with this stamp, open for [`Self::with`].
    pub fn new(op: &NewOp, stamp: i64) -> Self {
        let columns = vec![
            ("operation_id", op.operation_id.to_string().into()),
            ("lamport_ts", stamp.into()),
            ("entity", op.entity.clone().into()),
            ("entity_id", op.entity_id.clone().into()),
            ("field", op.field.clone().into()),
            ("op", op.op.clone().into()),
            ("payload", op.payload.clone().into()),
            ("created_at", op.created_at.unwrap_or_else(time::now_ms).into()),
        ];
        Self { columns }
    }

    /// With this value in this column, whatever its type.
    #[must_use]
    pub fn with(mut self, column: &'static str, value: impl Into<Value>) -> Self {
        self.columns.retain(|(name, _)| *name != column);
        self.columns.push((column, value.into()));
        self
    }

    fn insert(&self, db: &Connection) -> Result<i64> {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        let marks = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO sync_pending_op ({}) VALUES ({marks})", names.join(", "));
        db.execute(&sql, rusqlite::params_from_iter(self.columns.iter().map(|(_, value)| value)))?;
        Ok(db.last_insert_rowid())
    }
}

impl AppDb {
    /// Queues ops as the app does, all in one transaction; their stamps.
    pub fn enqueue(&mut self, ops: &[NewOp]) -> Result<Vec<i64>> {
        self.enqueue_as(Style::Immediate, ops, || ())
    }

    /// [`Self::enqueue`] in either style; `between` runs after the transaction's first read, before its first write.
    ///
    /// In an app of generation "head" nothing writes the queue: the ops go to the newer outbox, and no stamp is drawn.
    pub fn enqueue_as(&mut self, style: Style, ops: &[NewOp], between: impl FnOnce()) -> Result<Vec<i64>> {
        let transaction = Transaction::new_unchecked(self.connection(), style.into())?;
        // The read that makes a deferred transaction depend on nobody else committing.
        let _clock = schema::get(&transaction, "profile_setting", LAMPORT)?;
        between();
        let (hlc, head) = (has_column(&transaction, "hlc_wall")?, has_outbox(&transaction)?);
        let mut stamps = Vec::with_capacity(ops.len());
        for op in ops {
            write_change(&transaction, op)?;
            if head {
                write_outbox(&transaction, op)?;
                continue;
            }
            let stamp = next_stamp(&transaction)?;
            let mut row = RawOp::new(op, stamp);
            if hlc {
                let (wall, logical) = next_pair(&transaction, time::now_ms())?;
                row = row.with("hlc_wall", wall).with("hlc_logical", logical);
            }
            row.insert(&transaction)?;
            stamps.push(stamp);
        }
        transaction.commit()?;
        Ok(stamps)
    }

    /// Inserts a row as it is; its id.
    pub fn insert_raw(&self, row: &RawOp) -> Result<i64> {
        row.insert(self.connection())
    }

    /// The queue, by id.
    pub fn pending(&self) -> Result<Vec<Pending>> {
        let hlc = if has_column(self.connection(), "hlc_wall")? { "hlc_wall, hlc_logical" } else { "0, 0" };
        let sql = format!(
            "SELECT id, operation_id, lamport_ts, {hlc}, created_at, last_attempt_at, attempt_count, last_error \
             FROM sync_pending_op ORDER BY id"
        );
        let mut rows = self.connection().prepare(&sql)?;
        let found = rows.query_map([], read_pending)?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    /// How many rows wait.
    pub fn pending_count(&self) -> Result<usize> {
        count(self.connection(), "sync_pending_op")
    }

    /// How many of the user's changes there are, queued ones and long delivered ones.
    pub fn entity_count(&self) -> Result<usize> {
        count(self.connection(), "entity")
    }

    /// The ids of the user's changes in the order in which they were committed, queued ones and long delivered ones.
    pub fn entities(&self) -> Result<Vec<String>> {
        let mut rows = self.connection().prepare("SELECT id FROM entity ORDER BY rowid")?;
        let found = rows.query_map([], |row| row.get(0))?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    /// The integers of `PRAGMA user_version`, `auto_vacuum`, `page_size` and the number of migrations: what no drain
    /// may change.
    pub fn untouchables(&self) -> Result<Vec<i64>> {
        ["PRAGMA user_version", "PRAGMA auto_vacuum", "PRAGMA page_size", "SELECT COUNT(*) FROM _sqlx_migrations"]
            .iter()
            .map(|sql| Ok(self.connection().query_row(sql, [], |row| row.get(0))?))
            .collect()
    }
}

/// The same on a connection opened for the one call: the app starts, does it, and is closed again.
impl Profile {
    /// See [`AppDb::enqueue`].
    pub fn enqueue(&self, ops: &[NewOp]) -> Result<Vec<i64>> {
        self.open()?.enqueue(ops)
    }

    /// See [`AppDb::insert_raw`].
    pub fn insert_raw(&self, row: &RawOp) -> Result<i64> {
        self.open()?.insert_raw(row)
    }

    /// See [`AppDb::pending`].
    pub fn pending(&self) -> Result<Vec<Pending>> {
        self.open()?.pending()
    }

    /// See [`AppDb::pending_count`].
    pub fn pending_count(&self) -> Result<usize> {
        self.open()?.pending_count()
    }
}

fn read_pending(row: &Row<'_>) -> rusqlite::Result<Pending> {
    let (wall, logical): (i64, i64) = (row.get(3)?, row.get(4)?);
    Ok(Pending {
        id: row.get(0)?,
        operation_id: row.get(1)?,
        stamp: row.get(2)?,
        pair: (wall != 0).then_some((wall, logical)),
        created_at: row.get(5)?,
        last_attempt_at: row.get(6)?,
        attempt_count: row.get(7)?,
        last_error: row.get(8)?,
    })
}

fn count(db: &Connection, table: &str) -> Result<usize> {
    let rows: i64 = db.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0))?;
    Ok(usize::try_from(rows).unwrap_or(0))
}

fn has_column(db: &Connection, column: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('sync_pending_op') WHERE name = ?1)";
    Ok(db.query_row(sql, [column], |row| row.get(0))?)
}

fn has_outbox(db: &Connection) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = 'outbox')";
    Ok(db.query_row(sql, [], |row| row.get(0))?)
}

fn write_change(db: &Connection, op: &NewOp) -> Result<()> {
    db.prepare(
        "INSERT INTO entity (kind, id, value, updated_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (kind, id) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
    )?
    .execute((&op.entity, &op.entity_id, &op.payload, time::now_ms()))?;
    Ok(())
}

fn write_outbox(db: &Connection, op: &NewOp) -> Result<()> {
    db.prepare(
        "INSERT INTO outbox (operation_id, entity, entity_id, payload, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((op.operation_id.to_string(), &op.entity, &op.entity_id, &op.payload, time::now_ms()))?;
    Ok(())
}

/// Draws the next stamp. At `i64::MAX` the sum is a float, and what comes out is 9, then 10: so does the app.
fn next_stamp(db: &Connection) -> Result<i64> {
    let sql = "INSERT INTO profile_setting (key, value, value_type, updated_at) VALUES (?1, '1', 'int', ?2) \
               ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT), \
               updated_at = excluded.updated_at RETURNING CAST(value AS INTEGER)";
    Ok(db.prepare(sql)?.query_row((LAMPORT, time::now_ms()), |row| row.get(0))?)
}

/// Draws the next pair: a later wall starts at 0, the same wall counts on.
fn next_pair(db: &Connection, now: i64) -> Result<(i64, i64)> {
    let last = |key| Ok::<i64, crate::Error>(integer(schema::get(db, "profile_setting", key)?));
    let (last_wall, last_logical) = (last(LAST_WALL)?, last(LAST_LOGICAL)?);
    let pair = if now > last_wall { (now, 0) } else { (last_wall, last_logical + 1) };
    schema::put(db, "profile_setting", LAST_WALL, &pair.0.to_string(), "int")?;
    schema::put(db, "profile_setting", LAST_LOGICAL, &pair.1.to_string(), "int")?;
    Ok(pair)
}

fn integer(text: Option<String>) -> i64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
