//! A queue is emptied at once, but for a few rows that are put back.
//!
//! `SQLite` drops the pages of a whole table without touching its indexes row by row. So the accepted rows go hundreds of
//! times faster if all go, and the few that are no business of theirs (queued since, held, refused) are written again in
//! the same transaction, as they were: nobody ever sees the queue without them.
//!
//! What must always hold: nothing is emptied without a [`Proof`] that every other row was accepted, and unless the number
//! of rows that went is the number of those that were accepted and those that were put back, everything is taken back.

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params_from_iter};

use super::Database;
use super::census;
use super::database::InDatabase;
use super::read::stored_id;
use crate::drain::action::StoreError;
use crate::drain::run::{Digest, Run};

/// So many rows are put back at the most: it takes a fraction of what is saved.
const CARRIED_MAX: usize = 256;
/// And so many bytes: they are in memory meanwhile.
const CARRIED_BYTES_MAX: usize = 256 << 10;
/// What a number counts as, in bytes.
const NUMBER: usize = size_of::<Value>();

/// Each walks one index from end to end.
pub(super) const INDEXES: [&str; 3] = [
    "SELECT total(length(operation_id)) FROM sync_pending_op",
    "SELECT total(lamport_ts) FROM sync_pending_op",
    "SELECT total(created_at) FROM sync_pending_op",
];

/// What the queue held at one moment: the rows of some runs, and few others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// Of the file at that moment.
    version: i64,
    /// Of its schema: a backup that is restored into the file changes it.
    schema: i64,
    /// The last accepted row; there may be more behind it.
    last: i64,
    /// Rows up to it that are none of the runs'.
    others: Vec<i64>,
    /// All that are none of the runs', up to it and behind.
    carried: usize,
    /// Every row was looked at. Else it is true only while nobody else has written.
    looked: bool,
}

impl Proof {
    /// Rows that were to be put back at that moment.
    pub(super) fn carried(&self) -> usize {
        self.carried
    }

    /// Whether another look would tell more.
    pub(super) fn looked(&self) -> bool {
        self.looked
    }
}

/// Looks for a proof; `None` where there is none. While the version of the file is still `read_at`, the one from before the
/// first row was read, nobody else has written: what was read is what there is, and where nothing of it stays there is no
/// need to look. Else every row is looked at again, without the lock.
pub(super) fn prove(database: &Database, runs: &[Run], read_at: i64, stays: bool) -> Result<Option<Proof>, StoreError> {
    let rows: usize = runs.iter().map(|run| run.rows).sum();
    // One behind the other, so that no row counts twice.
    if !runs.is_sorted_by(|one, next| one.last < next.first) {
        return Ok(None);
    }
    let Some(last) = runs.last().map(|run| run.last) else { return Ok(None) };
    database.read(|connection| {
        if is_followed(connection)? {
            return Ok(None);
        }
        let (version, schema) = (database.version()?, schema(connection)?);
        if version == read_at && !stays {
            return Ok(Some(Proof { version, schema, last, others: Vec::new(), carried: 0, looked: false }));
        }
        let total = usize::try_from(census::total(connection)?).unwrap_or(usize::MAX);
        let Some(carried) = total.checked_sub(rows).filter(|others| *others <= CARRIED_MAX) else { return Ok(None) };
        let others = others(connection, runs, last)?;
        Ok(others.map(|others| Proof { version, schema, last, others, carried, looked: true }))
    })
}

/// Has the system fetch what emptying the queue will read, while nobody waits: the rows were read just now, their indexes
/// perhaps not for days.
pub(super) fn warm(database: &Database) -> Result<(), StoreError> {
    database.read(|connection| {
        for sql in INDEXES {
            connection
                .prepare_cached(sql)
                .and_then(|mut statement| statement.query_row([], |_| Ok(())))
                .on(connection)?;
        }
        Ok(())
    })
}

/// Whether something happens where a row goes: a trigger, or rows of another table that go with it, or keep it there. It
/// would happen to the rows that are put back as well. Looked at in the moment of the proof: a migration may have come
/// since the pass began.
fn is_followed(connection: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE) \
               OR EXISTS (SELECT 1 FROM sqlite_schema AS other, pragma_foreign_key_list(other.name) AS parent \
               WHERE other.type = 'table' AND parent.\"table\" = ?1 COLLATE NOCASE)";
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row(["sync_pending_op"], |row| row.get(0)))
        .on(connection)
}

fn schema(connection: &Connection) -> Result<i64, StoreError> {
    connection
        .prepare_cached("PRAGMA main.schema_version")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .on(connection)
}

/// The rows up to `last` that are in none of `runs`; `None` where a run is not of the rows it was made of.
fn others(connection: &Connection, runs: &[Run], last: i64) -> Result<Option<Vec<i64>>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT id, operation_id FROM sync_pending_op WHERE id <= ?1 ORDER BY id")
        .on(connection)?;
    let mut rows = statement.query([last]).on(connection)?;
    let mut others = Vec::new();
    let mut left = runs.iter().peekable();
    let mut digest = Digest::default();
    while let Some(row) = rows.next().on(connection)? {
        let id: i64 = row.get(0).on(connection)?;
        while let Some(run) = left.next_if(|run| run.last < id) {
            if !run.is_of(&std::mem::take(&mut digest)) {
                return Ok(None);
            }
        }
        match left.peek() {
            Some(run) if run.first <= id => digest.add(id, &stored_id(row, 1)),
            _ if others.len() >= CARRIED_MAX => return Ok(None),
            _ => others.push(id),
        }
    }
    // The last run's end is the last row that was looked at, if it is there at all.
    let whole = left.next().is_some_and(|run| run.is_of(&digest)) && left.next().is_none();
    Ok(whole.then_some(others))
}

/// Empties the queue but for what `proof` says is none of the `rows` accepted ones, within a write transaction. `false`: it
/// is to be taken back.
///
/// Since a proof for which every row was looked at somebody may have committed. Ids are never used again within one file (contract, section 2), so that
/// as many rows as were accepted are the rows that were accepted; a file that became another one shows in its schema.
pub(super) fn clear(
    database: &Database,
    connection: &Connection,
    proof: &Proof,
    rows: usize,
) -> Result<bool, StoreError> {
    let moved = database.version()? != proof.version;
    if moved && (!proof.looked || schema(connection)? != proof.schema) {
        return Ok(false);
    }
    let Some(carried) = Carried::load(connection, proof)? else { return Ok(false) };
    let deleted = connection
        .prepare_cached("DELETE FROM sync_pending_op")
        .and_then(|mut statement| statement.execute([]))
        .on(connection)?;
    if deleted != rows + carried.rows.len() {
        return Ok(false);
    }
    carried.put_back(connection)
}

/// Rows as they were, column by column.
struct Carried {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Carried {
    /// `None` where they are too many, too long, or hold what cannot be put back.
    fn load(connection: &Connection, proof: &Proof) -> Result<Option<Self>, StoreError> {
        let newer =
            rows_of(connection, "SELECT id FROM sync_pending_op WHERE id > ?1 ORDER BY id LIMIT 1024", proof.last)?;
        if proof.others.len() + newer.len() > CARRIED_MAX {
            return Ok(None);
        }
        let ids: Vec<i64> = proof.others.iter().chain(&newer).copied().collect();
        if ids.is_empty() {
            return Ok(Some(Self { columns: Vec::new(), rows: Vec::new() }));
        }
        // Without those that are computed: they come back by themselves.
        let mut carried = Self { columns: names(connection)?, rows: Vec::new() };
        // Asked before any is loaded: nothing bounds a row's length, and somebody may wait for the lock.
        let mut bytes = 0;
        for id in &ids {
            bytes += carried.length(connection, *id)?;
            if bytes > CARRIED_BYTES_MAX {
                return Ok(None);
            }
        }
        for id in ids {
            let sql = format!("SELECT {} FROM sync_pending_op WHERE id = ?1", carried.columns.join(", "));
            let mut statement = connection.prepare_cached(&sql).on(connection)?;
            let mut found = statement.query([id]).on(connection)?;
            // One that is gone by now has nothing to be put back.
            let Some(row) = found.next().on(connection)? else { continue };
            let values: rusqlite::Result<Vec<Value>> = (0..carried.columns.len()).map(|at| row.get(at)).collect();
            // A text that is none is not put back otherwise than it was.
            let Ok(values) = values else { return Ok(None) };
            carried.rows.push(values);
        }
        Ok(Some(carried))
    }

    /// About how many bytes a row has; none where it is gone. The types and lengths stand at its beginning, so that nothing
    /// of what is long is read.
    fn length(&self, connection: &Connection, id: i64) -> Result<usize, StoreError> {
        let of = |name: &String| {
            format!("CASE WHEN typeof({name}) IN ('text', 'blob') THEN octet_length({name}) ELSE {NUMBER} END")
        };
        let lengths: Vec<String> = self.columns.iter().map(of).collect();
        let sql = format!("SELECT {} FROM sync_pending_op WHERE id = ?1", lengths.join(" + "));
        connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_row([id], |row| row.get::<_, i64>(0)).optional())
            .map(|bytes| usize::try_from(bytes.unwrap_or(0)).unwrap_or(CARRIED_BYTES_MAX))
            .on(connection)
    }

    /// `false` where a rule that is younger than a row lets it stay, and does not let it in.
    fn put_back(&self, connection: &Connection) -> Result<bool, StoreError> {
        let places = vec!["?"; self.columns.len()].join(", ");
        let sql = format!("INSERT INTO sync_pending_op ({}) VALUES ({places})", self.columns.join(", "));
        for row in &self.rows {
            let mut statement = connection.prepare_cached(&sql).on(connection)?;
            match statement.execute(params_from_iter(row)) {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => return Ok(false),
                done => done.on(connection)?,
            };
        }
        Ok(true)
    }
}

fn rows_of(connection: &Connection, sql: &str, after: i64) -> Result<Vec<i64>, StoreError> {
    let mut statement = connection.prepare_cached(sql).on(connection)?;
    statement.query_map([after], |row| row.get(0)).and_then(Iterator::collect).on(connection)
}

/// The columns' names, quoted.
fn names(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT name FROM pragma_table_info('sync_pending_op') ORDER BY cid";
    let mut statement = connection.prepare_cached(sql).on(connection)?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).on(connection)?;
    Ok(names.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect())
}
