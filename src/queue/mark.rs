//! An attempt and its failure, in the three columns the app shows in its diagnostics.
//!
//! What must always hold: at most once for each row and minute, and when the failure changes; no write transaction
//! where no row would change; one statement for a batch.

use rusqlite::Connection;

use super::Database;
use super::database::InDatabase;
use crate::drain::action::{Refusal, StoreError};
use crate::halt::{self, Place};

/// A row is marked with the same words at most this often, in ms.
const MARK_EVERY_MS: i64 = 60_000;
/// What stands before the words of a quarantined op (design, "Quarantine").
pub const QUARANTINED: &str = "quarantined: ";

/// Which rows of `?3` (a JSON array of ids) have something new to say. A last attempt in the future is a clock that
/// was set back.
macro_rules! stale_rows {
    () => {
        "id IN (SELECT value FROM json_each(?3)) AND (last_attempt_at IS NULL \
         OR last_attempt_at NOT BETWEEN ?1 - ?4 AND ?1 OR last_error IS NOT ?2)"
    };
}

/// Marks the rows `ids` with `words` at `now` (ms).
pub fn mark(database: &Database, ids: &[i64], words: &str, now: i64) -> Result<(), StoreError> {
    let list = list(ids);
    let arguments = (now, words, &list, MARK_EVERY_MS);
    let stale = database.read(|connection| {
        connection
            .prepare_cached(concat!("SELECT EXISTS (SELECT 1 FROM sync_pending_op WHERE ", stale_rows!(), ")"))
            .and_then(|mut statement| statement.query_row(arguments, |row| row.get::<_, bool>(0)))
            .on(connection)
    })?;
    if !stale {
        return Ok(());
    }
    database.write(|connection| {
        connection
            .prepare_cached(concat!(
                "UPDATE sync_pending_op SET last_attempt_at = ?1, attempt_count = attempt_count + 1, last_error = ?2 WHERE ",
                stale_rows!()
            ))
            .and_then(|mut statement| statement.execute(arguments))
            .on(connection)?;
        halt::here(Place::MarkInside);
        Ok(())
    })
}

/// Copies the words of quarantined ops into their rows; at once, since each is quarantined once.
pub fn mark_quarantined(database: &Database, refusals: &[Refusal], now: i64) -> Result<(), StoreError> {
    database.write(|connection| {
        refusals
            .iter()
            .try_for_each(|refusal| mark_one(connection, refusal.id, &format!("{QUARANTINED}{}", refusal.words), now))
    })
}

/// Marks one row within a transaction that writes anyway.
pub(super) fn mark_one(connection: &Connection, id: i64, words: &str, now: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE sync_pending_op SET last_attempt_at = ?1, attempt_count = attempt_count + 1, last_error = ?2 WHERE id = ?3",
        )
        .and_then(|mut statement| statement.execute((now, words, id)))
        .on(connection)?;
    Ok(())
}

fn list(ids: &[i64]) -> String {
    let mut list = String::with_capacity(ids.len() * 8 + 2);
    list.push('[');
    for (at, id) in ids.iter().enumerate() {
        if at > 0 {
            list.push(',');
        }
        list.push_str(&id.to_string());
    }
    list.push(']');
    list
}
