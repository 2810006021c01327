//! Rows the server has accepted leave the queue.
//!
//! What must always hold: a row goes only where both its `id` and its `operation_id` are those that were accepted; a
//! transaction that somebody may wait for holds the write lock no longer than the [`Pace`](super::Pace) allows, give or
//! take a row.
//!
//! Row by row each one costs a page of the index on `operation_id`, which are spread at random. So where there is little
//! else in it the whole queue goes at once: [`super::clear`].

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::database::InDatabase;
use super::read::stored_id;
use super::{Database, clear};
use crate::drain::action::{Settled, Settlement, StoreError};
use crate::drain::run::{Digest, Run};
use crate::halt::{self, Place};
use crate::op::OperationId;

/// Fewer rows than this are deleted one by one: it costs the same.
pub const CLEAR_LEAST: usize = 8;
/// Rows that go in the time in which one is put back (15 µs).
const CARRIED_WEIGHT: usize = 200;
/// Emptying a table may take so long while nobody else has it open: the app waits up to 5 s for a lock (contract,
/// section 1), and would do so only if it started at this very moment.
const ALONE_MAX: Duration = Duration::from_secs(1);

/// What a settlement is given beside its rows.
#[derive(Default)]
pub struct Terms<'a> {
    /// [`Database::version`] before the first row was read: while it is the same, the queue is what was read of it. `None`
    /// where the queue is not to be emptied at once, because who left has to be told.
    pub version: Option<i64>,
    /// Is told of each row that went, if anybody wants to know.
    pub gone: Option<&'a mut dyn FnMut(&OperationId)>,
}

/// Deletes as much of `settlement` as one short transaction holds. Rows that are gone already count as deleted.
pub fn settle(database: &Database, settlement: &Settlement, terms: Terms<'_>) -> Result<Settled, StoreError> {
    settle_within(database, settlement, terms, database.pace().work())
}

pub(super) fn settle_within(
    database: &Database,
    settlement: &Settlement,
    terms: Terms<'_>,
    budget: Duration,
) -> Result<Settled, StoreError> {
    let rows: usize = settlement.runs.iter().map(|run| run.rows).sum();
    let mut crowded = false;
    if let (true, true, Some(version)) = (settlement.whole, rows >= CLEAR_LEAST, terms.version) {
        match clear(database, settlement, version)? {
            Clearing::Done { alone } => return Ok(Settled { alone, ..Settled::default() }),
            Clearing::TooLong => {}
            Clearing::Unproven => crowded = true,
        }
    }
    // For a few rows it is not worth asking.
    let settled = settle_some(database, &settlement.runs, terms.gone, budget, rows >= CLEAR_LEAST)?;
    Ok(Settled { crowded, ..settled })
}

enum Clearing {
    /// All of them are gone.
    Done {
        /// Nobody else had the file open.
        alone: bool,
    },
    /// Somebody would wait too long for the lock.
    TooLong,
    /// There are too many other rows in the queue, or an accepted one is another one by now.
    Unproven,
}

/// Takes all of `runs` out of the queue at once.
fn clear(database: &Database, settlement: &Settlement, read_at: i64) -> Result<Clearing, StoreError> {
    let runs = &settlement.runs;
    let (rows, bytes) = runs.iter().fold((0, 0_usize), |(r, b), run| (r + run.rows, b.saturating_add(run.bytes)));
    let pace = database.pace();
    if pace.clearing(rows, bytes) > ALONE_MAX {
        return Ok(Clearing::TooLong);
    }
    // A second look at every row takes longer than a short transaction: not before each of many.
    if !pace.may_clear(rows, bytes) && (settlement.stays || database.version()? != read_at) && !is_alone(database)? {
        return Ok(Clearing::TooLong);
    }
    // Once more with a look at every row, where the first proof needed none and somebody wrote behind it.
    for stays in [settlement.stays, true] {
        let Some(proof) = clear::prove(database, runs, read_at, stays)? else { return Ok(Clearing::Unproven) };
        // A row that is put back costs as much as many that go.
        let weight = rows.saturating_add(proof.carried().saturating_mul(CARRIED_WEIGHT));
        let work = |connection: &Connection| {
            let cleared = clear::clear(database, connection, &proof, rows)?;
            halt::here(Place::SettleInside);
            Ok(cleared)
        };
        let is_cleared = |cleared: &bool| *cleared;
        let ((cleared, held), alone) = match database.write_alone(work, is_cleared)? {
            Some(done) => (done, true),
            None if pace.may_clear(weight, bytes) => {
                clear::warm(database)?;
                (database.write_if(work, is_cleared)?, false)
            }
            None => return Ok(Clearing::TooLong),
        };
        database.learn(|pace| pace.note_clearing(weight, bytes, held));
        if cleared {
            return Ok(Clearing::Done { alone });
        }
        if proof.looked() {
            break;
        }
    }
    Ok(Clearing::Unproven)
}

/// Whether nobody else has the file open at this moment.
fn is_alone(database: &Database) -> Result<bool, StoreError> {
    database.write_alone(|_| Ok(()), |()| false).map(|found| found.is_some())
}

/// What lies between the ends of a run.
enum Found {
    /// The rows it was made of.
    All(Vec<(i64, OperationId)>),
    /// Nothing any more.
    Nothing,
    /// Other rows, or not all of them.
    Others,
}

fn find(connection: &Connection, run: &Run) -> Result<Found, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT id, operation_id FROM sync_pending_op WHERE id >= ?1 AND id <= ?2 ORDER BY id")
        .on(connection)?;
    let mut rows = statement.query((run.first, run.last)).on(connection)?;
    let mut found = Vec::with_capacity(run.rows);
    let mut digest = Digest::default();
    while let Some(row) = rows.next().on(connection)? {
        if found.len() >= run.rows {
            return Ok(Found::Others);
        }
        let (id, operation_id) = (row.get(0).on(connection)?, stored_id(row, 1));
        digest.add(id, &operation_id);
        found.push((id, operation_id));
    }
    Ok(match found {
        found if found.is_empty() => Found::Nothing,
        found if run.is_of(&digest) => Found::All(found),
        _ => Found::Others,
    })
}

fn settle_some(
    database: &Database,
    runs: &[Run],
    mut gone: Option<&mut dyn FnMut(&OperationId)>,
    budget: Duration,
    ask_who_is_there: bool,
) -> Result<Settled, StoreError> {
    let mut work = |connection: &Connection| {
        let settled = delete_some(connection, runs, budget, &mut gone)?;
        halt::here(Place::SettleInside);
        Ok(settled)
    };
    if ask_who_is_there && let Some((settled, _)) = database.write_alone(&mut work, |_| true)? {
        return Ok(Settled { alone: true, ..settled });
    }
    let (settled, held) = database.write_if(work, |_| true)?;
    if !settled.left.is_empty() {
        database.learn(|pace| pace.note(held));
    }
    Ok(settled)
}

/// Row by row, until `budget` is used up.
fn delete_some(
    connection: &Connection,
    runs: &[Run],
    budget: Duration,
    gone: &mut Option<&mut dyn FnMut(&OperationId)>,
) -> Result<Settled, StoreError> {
    let began = Instant::now();
    let mut delete = connection.prepare_cached("DELETE FROM sync_pending_op WHERE id = ?1").on(connection)?;
    let mut settled = Settled::default();
    for (at, run) in runs.iter().enumerate() {
        let rows = match find(connection, run)? {
            Found::All(rows) => rows,
            Found::Nothing => continue,
            Found::Others => {
                settled.strange += run.rows;
                continue;
            }
        };
        for (done, (id, operation_id)) in rows.iter().enumerate() {
            delete.execute([id]).on(connection)?;
            if let Some(gone) = gone {
                gone(operation_id);
            }
            // After each: deleting a row walks through every page of its payload.
            if began.elapsed() >= budget {
                let rest = rows[done + 1..].iter().map(|(id, operation_id)| (*id, operation_id));
                let bytes = run.bytes / run.rows.max(1) * (run.rows - done - 1);
                settled.left.extend(Run::of(rest, bytes));
                settled.left.extend_from_slice(&runs[at + 1..]);
                return Ok(settled);
            }
        }
    }
    Ok(settled)
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
