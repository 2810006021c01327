//! The two clocks, and fresh stamps from them.
//!
//! What must always hold, for each clock: a block is reserved (the clock raised over it, in a transaction of its own)
//! before any of it is used, so that whatever the app queues meanwhile lies above it; rows get their stamps from the
//! last one backwards, so that an interruption leaves a tail that is above the head, never below; the Lamport clock
//! stays within `1..2^31` and never goes down; a value outside counts as absent.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};

use super::Columns;
use super::Database;
use super::columns::has_table;
use super::database::InDatabase;
use super::mark::mark_one;
use crate::drain::action::{Block, Clock, Reserve, StoreError, StoreErrorKind};
use crate::drain::clock::{self, WALL_LIMIT};
use crate::halt::{self, Place};
use crate::op::STAMP_LIMIT;

const LAMPORT_KEY: &str = "sync.lamport_local_max";
const WALL_KEY: &str = "sync.hlc.last_wall";
const LOGICAL_KEY: &str = "sync.hlc.last_logical";

/// Rows looked for at a time. The clock is looked at after each: a row with a long payload may be written as a whole.
const ROWS_AT_A_TIME: usize = 64;
/// Up to this distance between first and last id a block simply has a stamp for every id; counting rows would cost
/// more than stamps, of which there are 2^31.
const SPAN_UNCOUNTED: i64 = 65_536;

/// The Lamport clock; 0 where it is absent or makes no sense.
pub fn lamport(connection: &Connection) -> Result<i64, StoreError> {
    setting(connection, LAMPORT_KEY).map(clock::lamport)
}

/// The Lamport clock as it stands there, whatever that is; `None` where it is absent or no number.
pub fn lamport_as_it_is(connection: &Connection) -> Result<Option<i64>, StoreError> {
    if has_table(connection, "profile_setting")? { setting(connection, LAMPORT_KEY) } else { Ok(None) }
}

/// Reserves a block for `reserve`'s rows and marks the first of them. `None` where the rows are gone.
pub fn reserve(
    database: &Database,
    reserve: &Reserve,
    columns: Columns,
    now: i64,
) -> Result<Option<Block>, StoreError> {
    if reserve.clock == Clock::Hybrid && !columns.pairs {
        return Ok(None);
    }
    // Whatever walks the queue is done before the lock is taken.
    let seen = database.read(|connection| Seen::look(connection, reserve))?;
    let Some(seen) = seen else { return Ok(None) };
    database.write(|connection| {
        let Some(last) = last_row(connection, reserve)? else { return Ok(None) };
        let room = seen.room(reserve, last);
        let (top, wall) = match reserve.clock {
            Clock::Lamport => (reserve_stamps(connection, reserve, room, now)?, 0),
            Clock::Hybrid => reserve_pairs(connection, seen.pair, room, now)?,
        };
        if let Some(words) = &reserve.words {
            mark_one(connection, reserve.from, words, now)?;
        }
        halt::here(Place::ReserveInside);
        Ok(Some(Block { clock: reserve.clock, from: reserve.from, last, top, wall }))
    })
}

/// What a walk over the rows showed, before the lock was taken.
#[derive(Debug, Clone, Copy)]
struct Seen {
    last: i64,
    /// How many there are; counted only where that is worth it.
    rows: Option<i64>,
    /// The highest pair; for the hybrid clock alone.
    pair: (i64, i64),
}

impl Seen {
    fn look(connection: &Connection, reserve: &Reserve) -> Result<Option<Self>, StoreError> {
        let Some(last) = last_row(connection, reserve)? else { return Ok(None) };
        let rows = (span(reserve, last) > SPAN_UNCOUNTED)
            .then(|| connection.query_row("SELECT count(*) FROM sync_pending_op", [], |row| row.get(0)))
            .transpose()
            .on(connection)?;
        let pair = if reserve.clock == Clock::Hybrid { highest_pair(connection)? } else { (0, 0) };
        Ok(Some(Self { last, rows, pair }))
    }

    /// How many stamps it takes at the most, up to the row `last`. Each row that came since has an id of its own.
    fn room(&self, reserve: &Reserve, last: i64) -> i64 {
        let span = span(reserve, last);
        self.rows.map_or(span, |rows| span.min(rows.saturating_add(last.saturating_sub(self.last).max(0))))
    }
}

fn span(reserve: &Reserve, last: i64) -> i64 {
    last.saturating_sub(reserve.from).saturating_add(1)
}

/// The last row to stamp.
fn last_row(connection: &Connection, reserve: &Reserve) -> Result<Option<i64>, StoreError> {
    let until = if reserve.alone { reserve.from } else { i64::MAX };
    connection
        .prepare_cached("SELECT max(id) FROM sync_pending_op WHERE id >= ?1 AND id <= ?2")
        .and_then(|mut statement| statement.query_row((reserve.from, until), |row| row.get(0)))
        .on(connection)
}

/// The highest pair of any row; 0/0 where none has one.
fn highest_pair(connection: &Connection) -> Result<(i64, i64), StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT hlc_wall, hlc_logical FROM sync_pending_op WHERE hlc_wall > 0 AND hlc_wall < ?1 \
             ORDER BY hlc_wall DESC, hlc_logical DESC LIMIT 1",
        )
        .and_then(|mut statement| statement.query_row([WALL_LIMIT], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .on(connection)?;
    Ok(found.unwrap_or((0, 0)))
}

fn reserve_stamps(connection: &Connection, reserve: &Reserve, room: i64, now: i64) -> Result<i64, StoreError> {
    let highest: Option<i64> = connection
        .prepare_cached("SELECT lamport_ts FROM sync_pending_op WHERE lamport_ts < ?1 ORDER BY lamport_ts DESC LIMIT 1")
        .and_then(|mut statement| statement.query_row([STAMP_LIMIT], |row| row.get(0)).optional())
        .on(connection)?;
    let top = clock::raise(lamport(connection)?, highest, reserve, room).map_err(|base| {
        let message =
            format!("no stamps are left below 2^31 (the highest in use is {base}); sign out and in as a new device");
        StoreError { kind: StoreErrorKind::ClockExhausted, message }
    })?;
    set(connection, LAMPORT_KEY, top, now)?;
    Ok(top)
}

fn reserve_pairs(connection: &Connection, in_rows: (i64, i64), room: i64, now: i64) -> Result<(i64, i64), StoreError> {
    let (wall, logical) = (setting(connection, WALL_KEY)?, setting(connection, LOGICAL_KEY)?);
    let (wall, top) = clock::pairs(wall, logical, in_rows, room, now);
    set(connection, WALL_KEY, wall, now)?;
    set(connection, LOGICAL_KEY, top, now)?;
    Ok((top, wall))
}

/// Stamps rows of `block` from its last one backwards, as many as one short transaction holds; what is left to do, if
/// anything.
pub fn assign(database: &Database, block: &Block) -> Result<Option<Block>, StoreError> {
    let (left, held) = assign_within(database, block, database.pace().work())?;
    if left.is_some() {
        database.learn(|pace| pace.note(held));
    }
    Ok(left)
}

pub(super) fn assign_within(
    database: &Database,
    block: &Block,
    budget: Duration,
) -> Result<(Option<Block>, Duration), StoreError> {
    let work = |connection: &Connection| {
        let left = assign_some(connection, block, budget)?;
        halt::here(Place::AssignInside);
        Ok(left)
    };
    database.write_if(work, |_| true)
}

fn assign_some(connection: &Connection, block: &Block, budget: Duration) -> Result<Option<Block>, StoreError> {
    let began = Instant::now();
    let mut left = block.clone();
    loop {
        let ids = some_rows(connection, &left)?;
        for id in &ids {
            stamp(connection, &mut left, *id)?;
            if began.elapsed() >= budget {
                return Ok(left.is_left().then_some(left));
            }
        }
        if ids.len() < ROWS_AT_A_TIME || !left.is_left() {
            return Ok(None);
        }
    }
}

/// The last rows that still need a stamp, last first.
fn some_rows(connection: &Connection, block: &Block) -> Result<Vec<i64>, StoreError> {
    let sql = match block.clock {
        Clock::Lamport => "SELECT id FROM sync_pending_op WHERE id >= ?1 AND id <= ?2 ORDER BY id DESC LIMIT ?3",
        // A row that is sent without a pair stays without one.
        Clock::Hybrid => {
            "SELECT id FROM sync_pending_op WHERE id >= ?1 AND id <= ?2 AND hlc_wall <> 0 ORDER BY id DESC LIMIT ?3"
        }
    };
    let mut statement = connection.prepare_cached(sql).on(connection)?;
    let limit = i64::try_from(ROWS_AT_A_TIME).unwrap_or(i64::MAX);
    statement.query_map((block.from, block.last, limit), |row| row.get(0)).and_then(Iterator::collect).on(connection)
}

fn stamp(connection: &Connection, block: &mut Block, id: i64) -> Result<(), StoreError> {
    let fresh = block.give(id);
    match block.clock {
        Clock::Lamport => connection
            .prepare_cached("UPDATE sync_pending_op SET lamport_ts = ?1 WHERE id = ?2")
            .and_then(|mut statement| statement.execute((fresh, id))),
        Clock::Hybrid => connection
            .prepare_cached("UPDATE sync_pending_op SET hlc_wall = ?1, hlc_logical = ?2 WHERE id = ?3")
            .and_then(|mut statement| statement.execute((block.wall, fresh, id))),
    }
    .on(connection)?;
    Ok(())
}

/// An integer kept as text; `None` where it is absent or no integer.
fn setting(connection: &Connection, key: &str) -> Result<Option<i64>, StoreError> {
    let text: Option<String> = connection
        .prepare_cached("SELECT CAST(value AS TEXT) FROM profile_setting WHERE key = ?1")
        .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
        .on(connection)?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

fn set(connection: &Connection, key: &str, value: i64, now: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO profile_setting (key, value, value_type, updated_at) VALUES (?1, ?2, 'int', ?3) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        )
        .and_then(|mut statement| statement.execute((key, value.to_string(), now)))
        .on(connection)?;
    Ok(())
}
