//! Rows the server has accepted leave the queue.
//!
//! What must always hold: a row goes only where both its `id` and its `operation_id` are those that were accepted; no
//! transaction holds the write lock longer than [`BUDGET`], give or take a row.

use std::time::{Duration, Instant};

use super::Database;
use super::database::InDatabase;
use crate::drain::action::{Ack, StoreError};
use crate::halt::{self, Place};

/// How long one transaction goes on deleting. The app waits up to 5 s for the lock and a person notices 100 ms; the
/// promise is 25 ms, and the commit itself takes some of it.
pub const BUDGET: Duration = Duration::from_millis(15);

/// Deletes as many of `acks`, in order, as one short transaction holds; says how many are dealt with. Rows that are
/// gone already count.
pub fn settle(database: &Database, acks: &[Ack]) -> Result<usize, StoreError> {
    settle_within(database, acks, BUDGET)
}

pub(super) fn settle_within(database: &Database, acks: &[Ack], budget: Duration) -> Result<usize, StoreError> {
    database.write(|connection| {
        let began = Instant::now();
        let mut statement = connection
            .prepare_cached("DELETE FROM sync_pending_op WHERE id = ?1 AND operation_id = ?2")
            .on(connection)?;
        let mut done = 0;
        for ack in acks {
            statement.execute((ack.id, ack.operation_id.to_string())).on(connection)?;
            done += 1;
            // After each: deleting a row walks through every page of its payload.
            if began.elapsed() >= budget {
                break;
            }
        }
        halt::here(Place::SettleInside);
        Ok(done)
    })
}

/// Deletes one row, whatever it holds: a person said so.
pub fn discard(database: &Database, id: i64) -> Result<(), StoreError> {
    database.write(|connection| {
        connection
            .prepare_cached("DELETE FROM sync_pending_op WHERE id = ?1")
            .and_then(|mut statement| statement.execute([id]))
            .on(connection)?;
        Ok(())
    })
}
