//! Generations of the queue, told apart by looking at the columns.

use rusqlite::Connection;

use super::database::InDatabase;
use crate::drain::action::{StoreError, StoreErrorKind};

/// Every generation has these.
const NEEDED: [&str; 12] = [
    "id",
    "operation_id",
    "lamport_ts",
    "entity",
    "entity_id",
    "field",
    "op",
    "payload",
    "created_at",
    "last_attempt_at",
    "attempt_count",
    "last_error",
];

/// What the queue of a profile can hold. Columns nobody knows yet change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// `hlc_wall` and `hlc_logical` are there (generation 3 on).
    pub pairs: bool,
}

/// Looks; `None` where there is no queue.
///
/// # Errors
/// The table is there and lacks a column that every generation has.
pub fn look(connection: &Connection) -> Result<Option<Columns>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT name FROM pragma_table_info('sync_pending_op')").on(connection)?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).on(connection)?;
    if names.is_empty() {
        return Ok(None);
    }
    let has = |name: &str| names.iter().any(|n| n == name);
    if let Some(missing) = NEEDED.into_iter().find(|name| !has(name)) {
        let message = format!(
            "{}: the queue has no column `{missing}`: made by a WaveFlow this agent does not know",
            connection.path().unwrap_or("database")
        );
        return Err(StoreError { kind: StoreErrorKind::Failed, message });
    }
    Ok(Some(Columns { pairs: has("hlc_wall") && has("hlc_logical") }))
}

/// Whether a table is there.
pub fn has_table(connection: &Connection, name: &str) -> Result<bool, StoreError> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)")
        .and_then(|mut statement| statement.query_row([name], |row| row.get(0)))
        .on(connection)
}
