//! What waits in the queue, counted and by age.

use rusqlite::{Connection, OptionalExtension, Row};

use super::database::InDatabase;
use super::read::stored_id;
use crate::drain::action::StoreError;
use crate::op::OperationId;

/// The highest `id`; `None` where the queue is empty. Touches one page.
pub fn newest(connection: &Connection) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached("SELECT max(id) FROM sync_pending_op")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .on(connection)
}

/// The highest `id` there ever was in this file; the highest possible where nobody keeps count.
pub fn highest(connection: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT max(coalesce(max(seq), 0), coalesce((SELECT max(id) FROM sync_pending_op), 0)) \
               FROM sqlite_sequence WHERE name = 'sync_pending_op'";
    if !connection.table_exists(None, "sqlite_sequence").on(connection)? {
        return Ok(i64::MAX);
    }
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row([], |row| Ok(row.get(0).unwrap_or(i64::MAX))))
        .on(connection)
}

/// How many rows there are. Walks the narrowest index, not the payloads.
pub fn total(connection: &Connection) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT count(*) FROM sync_pending_op")
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)))
        .map(|rows| u64::try_from(rows).unwrap_or(0))
        .on(connection)
}

/// Shows `id` and `created_at` (ms) of every row to `look`, in no particular order. Read from the index on `created_at`,
/// so no payload is touched; a `created_at` that is no integer counts as the latest possible.
pub fn look(connection: &Connection, mut look: impl FnMut(i64, i64)) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT id, created_at FROM sync_pending_op ORDER BY created_at").on(connection)?;
    let mut rows = statement.query([]).on(connection)?;
    while let Some(row) = rows.next().on(connection)? {
        look(row.get(0).on(connection)?, row.get(1).unwrap_or(i64::MAX));
    }
    Ok(())
}

/// A label is for people, and kept in the state file: so many characters of a text that no rule bounds are enough.
const LABEL_CHARS: usize = 64;

/// What a person is told about a row: never its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Place in the queue.
    pub id: i64,
    /// Kind of thing.
    pub entity: String,
    /// `None` for the whole of it.
    pub field: Option<String>,
    /// When the app queued it, ms.
    pub created_at: i64,
}

/// The row that holds `operation_id`, looked for at `id` first (an id that is no text is found no other way).
pub fn find(connection: &Connection, id: i64, operation_id: &OperationId) -> Result<Option<Label>, StoreError> {
    let columns = "SELECT operation_id, id, CAST(entity AS TEXT), CAST(field AS TEXT), created_at FROM sync_pending_op";
    let text = operation_id.to_string();
    let by_id = connection
        .prepare_cached(&format!("{columns} WHERE id = ?1"))
        .and_then(|mut statement| statement.query_row([id], |row| Ok((stored_id(row, 0), label(row)?))).optional())
        .on(connection)?;
    if let Some((found, label)) = by_id
        && found == *operation_id
    {
        return Ok(Some(label));
    }
    connection
        .prepare_cached(&format!("{columns} WHERE operation_id = ?1"))
        .and_then(|mut statement| statement.query_row([text], label).optional())
        .on(connection)
}

/// The row at `id`.
pub fn row(connection: &Connection, id: i64) -> Result<Option<(OperationId, Label)>, StoreError> {
    connection
        .prepare_cached(
            "SELECT operation_id, id, CAST(entity AS TEXT), CAST(field AS TEXT), created_at FROM sync_pending_op WHERE id = ?1",
        )
        .and_then(|mut statement| statement.query_row([id], |row| Ok((stored_id(row, 0), label(row)?))).optional())
        .on(connection)
}

fn label(row: &Row<'_>) -> rusqlite::Result<Label> {
    Ok(Label {
        id: row.get(1)?,
        entity: row.get(2).map(|text: String| shortened(&text)).unwrap_or_default(),
        field: row.get(3).map(|text: Option<String>| text.as_deref().map(shortened)).unwrap_or_default(),
        created_at: row.get(4).unwrap_or(i64::MAX),
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(LABEL_CHARS).collect()
}
