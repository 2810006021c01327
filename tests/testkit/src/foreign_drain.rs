//! The app's own drain, which may run beside the agent: its good sides and its defects.
//!
//! What must always hold: it behaves as the contract says the app's does (sections 1 and 4), also where that is wrong:
//! it believes any 200 and deletes the whole batch, it marks every row of a failed batch over whatever stood there, and
//! at a 409 it only raises the clock. It knows nothing of quarantine, hold or pause.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::data_dir::{AppDb, Profile};
use crate::http::Client;
use crate::server::PUSH_PATH;
use crate::sync::Shared;
use crate::{Result, time};

/// Rows in a batch.
pub const BATCH: usize = 100;

/// How long one read or write on its connection may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What one batch came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drained {
    /// Nothing to send, no token, or nowhere to send to.
    Nothing,
    /// A 200, whoever said it: so many rows were deleted.
    Deleted(usize),
    /// Anything else: so many rows were marked.
    Marked {
        /// Rows.
        rows: usize,
        /// The status; `None` where there was no answer.
        status: Option<u16>,
    },
}

struct Queued {
    id: i64,
    op: Wire,
}

#[derive(Serialize)]
struct Wire {
    operation_id: String,
    lamport_ts: i64,
    entity: String,
    entity_id: String,
    field: Option<String>,
    op: String,
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile_canonical_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hlc: Option<Value>,
}

/// Sends one batch of this profile to the server in the app's settings, or to `url`.
pub fn drain_once(profile: &Profile, url: Option<&str>) -> Result<Drained> {
    let configured = profile.data_dir().server_url()?;
    let Some(url) = url.map(str::to_owned).or(configured) else { return Ok(Drained::Nothing) };
    let db = profile.open()?;
    let Some(token) = db.token()? else { return Ok(Drained::Nothing) };
    let rows = read(&db, profile)?;
    if rows.is_empty() {
        return Ok(Drained::Nothing);
    }
    let device_id = profile.data_dir().device_id_or_new()?;
    let ops: Vec<_> = rows.iter().map(|row| &row.op).collect();
    let body = serde_json::to_vec(&serde_json::json!({ "device_id": device_id, "ops": ops }))?;
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    match Client::new(&url, TIMEOUT)?.push(PUSH_PATH, Some(token.trim()), &body) {
        Ok(answer) if answer.status == 200 => delete(&db, &ids),
        Ok(answer) => {
            let words = String::from_utf8_lossy(&answer.body).into_owned();
            if answer.status == 409 {
                raise_clock(&db, &answer.body)?;
            }
            mark(&db, &ids, &format!("HTTP {}: {words}", answer.status), Some(answer.status))
        }
        Err(error) => mark(&db, &ids, &error.to_string(), None),
    }
}

fn read(db: &AppDb, profile: &Profile) -> Result<Vec<Queued>> {
    let generation = profile.data_dir().generation();
    let canonical = if generation.has_canonical_id() { profile.canonical_id()? } else { None };
    let canonical = canonical.map(|id| id.to_string());
    let hlc = if generation.has_hlc() { "hlc_wall, hlc_logical" } else { "0, 0" };
    let sql = format!(
        "SELECT id, operation_id, lamport_ts, entity, entity_id, field, op, payload, {hlc} \
         FROM sync_pending_op ORDER BY id LIMIT {BATCH}"
    );
    let mut statement = db.connection().prepare(&sql)?;
    let rows = statement.query_map([], |row| read_row(row, canonical.clone()))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn read_row(row: &Row<'_>, profile_canonical_id: Option<String>) -> rusqlite::Result<Queued> {
    let payload: Option<String> = row.get(7)?;
    let (wall, logical): (i64, i64) = (row.get(8)?, row.get(9)?);
    let op = Wire {
        operation_id: row.get(1)?,
        lamport_ts: row.get(2)?,
        entity: row.get(3)?,
        entity_id: row.get(4)?,
        field: row.get(5)?,
        op: row.get(6)?,
        // What is no JSON it sends as null, and then deletes: one more reason to be replaced.
        payload: payload.and_then(|text| RawValue::from_string(text).ok()),
        profile_canonical_id,
        hlc: (wall != 0).then(|| serde_json::json!({ "wall": wall, "logical": logical })),
    };
    Ok(Queued { id: row.get(0)?, op })
}

fn delete(db: &AppDb, ids: &[i64]) -> Result<Drained> {
    let sql = "DELETE FROM sync_pending_op WHERE id = ?1";
    Ok(Drained::Deleted(for_each(db, ids, |db, id| db.execute(sql, [id]))?))
}

fn mark(db: &AppDb, ids: &[i64], words: &str, status: Option<u16>) -> Result<Drained> {
    let sql = "UPDATE sync_pending_op SET last_error = ?2, last_attempt_at = ?3, attempt_count = attempt_count + 1 \
               WHERE id = ?1";
    let rows = for_each(db, ids, |db, id| db.execute(sql, (id, words, time::now_ms())))?;
    Ok(Drained::Marked { rows, status })
}

/// Makes a change for each id, all in one transaction; how many rows it changed.
fn for_each(db: &AppDb, ids: &[i64], change: impl Fn(&Connection, i64) -> rusqlite::Result<usize>) -> Result<usize> {
    let transaction = Transaction::new_unchecked(db.connection(), TransactionBehavior::Immediate)?;
    let mut changed = 0;
    for id in ids {
        changed += change(&transaction, *id)?;
    }
    transaction.commit()?;
    Ok(changed)
}

#[derive(Deserialize)]
struct Regression {
    stored_max: i64,
}

/// The known-bad answer to a 409: the clock goes up, the rows keep their stamps.
fn raise_clock(db: &AppDb, body: &[u8]) -> Result<()> {
    let Ok(regression) = serde_json::from_slice::<Regression>(body) else { return Ok(()) };
    // In one step: a clock that another drain raised meanwhile must not go down.
    let transaction = Transaction::new_unchecked(db.connection(), TransactionBehavior::Immediate)?;
    if regression.stored_max > db.clock()?.unwrap_or(0) {
        db.set_clock(regression.stored_max)?;
    }
    Ok(transaction.commit()?)
}

/// What a [`ForeignDrain`] has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Batches it found something in.
    pub batches: usize,
    /// Rows it deleted.
    pub deleted: usize,
    /// Rows it marked.
    pub marked: usize,
    /// Passes that failed on the database.
    pub errors: usize,
}

#[derive(Default)]
struct Loop {
    stop: bool,
    totals: Totals,
}

/// The drain in a thread of its own, as in the app: pass after pass until it is told to stop, or dropped.
pub struct ForeignDrain {
    shared: Arc<Shared<Loop>>,
    thread: Option<JoinHandle<()>>,
}

impl ForeignDrain {
    /// Starts draining this profile, with a pause after each pass.
    pub fn start(profile: Profile, pause: Duration) -> Self {
        let shared = Arc::new(Shared::new(Loop::default()));
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            loop {
                let drained = drain_once(&profile, None);
                theirs.change(|state| count(&mut state.totals, &drained));
                if theirs.wait(pause, |state| state.stop) {
                    return;
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// What it has done so far.
    pub fn totals(&self) -> Totals {
        self.shared.lock().totals.clone()
    }

    /// Waits until it has done what is wanted, at most `limit`; whether it had.
    pub fn wait_for(&self, mut condition: impl FnMut(&Totals) -> bool, limit: Duration) -> bool {
        self.shared.wait(limit, |state| condition(&state.totals))
    }

    /// Ends it after the pass it is in; what it has done.
    pub fn stop(mut self) -> Totals {
        self.end();
        self.totals()
    }

    fn end(&mut self) {
        self.shared.change(|state| state.stop = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for ForeignDrain {
    fn drop(&mut self) {
        self.end();
    }
}

fn count(totals: &mut Totals, drained: &Result<Drained>) {
    match drained {
        Ok(Drained::Nothing) => {}
        Ok(Drained::Deleted(rows)) => {
            totals.batches += 1;
            totals.deleted += rows;
        }
        Ok(Drained::Marked { rows, .. }) => {
            totals.batches += 1;
            totals.marked += rows;
        }
        Err(_) => totals.errors += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::{DataDir, Generation};
    use crate::ops::{Mix, NewOp};
    use crate::server::{Fault, Reply, Server, Version};
    use crate::token;

    fn install(generation: Generation, server: &Server) -> (tempfile::TempDir, Profile) {
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::new(temporary.path(), generation).unwrap();
        dir.set_server_url(Some(&server.url())).unwrap();
        let profile = dir.add_profile("Zoë").unwrap();
        profile.sign_in(&token::for_user("alice")).unwrap();
        (temporary, profile)
    }

    #[test]
    fn it_delivers_a_whole_queue_of_every_generation() {
        for generation in Generation::QUEUEING {
            let server = Server::start(Version::Later).unwrap();
            let (_temporary, profile) = install(generation, &server);
            let ops: Vec<_> = Mix::new(11).without_large().take(250).collect();
            profile.enqueue(&ops).unwrap();
            let deleted: Vec<_> = (0..4).map(|_| drain_once(&profile, None).unwrap()).collect();
            let expected = [Drained::Deleted(100), Drained::Deleted(100), Drained::Deleted(50), Drained::Nothing];
            assert_eq!(deleted, expected);
            let stored: Vec<_> = server.stored().iter().map(|row| row.operation_id).collect();
            assert_eq!(stored, ops.iter().map(|op| op.operation_id).collect::<Vec<_>>());
            assert!(server.stored().iter().all(|row| row.hlc.is_some() == generation.has_hlc()));
            let canonical = generation.has_canonical_id().then(|| profile.canonical_id().unwrap().unwrap());
            assert!(server.stored().iter().all(|row| row.profile_canonical_id == canonical));
        }
    }

    #[test]
    fn it_sends_nothing_when_signed_out() {
        let server = Server::start(Version::Later).unwrap();
        let (_temporary, profile) = install(Generation::Three, &server);
        profile.enqueue(&[NewOp::rename(1)]).unwrap();
        profile.sign_out().unwrap();
        assert_eq!(drain_once(&profile, None).unwrap(), Drained::Nothing);
        assert_eq!((server.stats().requests, profile.pending_count().unwrap()), (0, 1));
    }

    #[test]
    fn it_believes_a_captive_portal() {
        let server = Server::start(Version::Later).unwrap();
        let (_temporary, profile) = install(Generation::Three, &server);
        profile.enqueue(&NewOp::renames(3)).unwrap();
        server.next(Fault::Answer(Reply::captive_portal()));
        assert_eq!(drain_once(&profile, None).unwrap(), Drained::Deleted(3));
        assert_eq!((server.stored().len(), profile.pending_count().unwrap()), (0, 0));
    }

    #[test]
    fn at_a_409_it_raises_the_clock_and_is_stuck() {
        let server = Server::start(Version::Later).unwrap();
        let (_temporary, profile) = install(Generation::Three, &server);
        let device = profile.data_dir().device_id_or_new().unwrap();
        server.model(|model| model.take_stamps("alice", &device, 1..=500));
        profile.enqueue(&NewOp::renames(2)).unwrap();
        for attempt in 1..=2 {
            let marked = Drained::Marked { rows: 2, status: Some(409) };
            assert_eq!(drain_once(&profile, None).unwrap(), marked);
            let rows = profile.pending().unwrap();
            assert!(rows.iter().all(|row| row.attempt_count == attempt && row.last_attempt_at.is_some()));
            assert!(rows.iter().all(|row| row.last_error.as_ref().unwrap().contains("lamport_regression")));
            assert_eq!(rows.iter().map(|row| row.stamp).collect::<Vec<_>>(), [1, 2]);
        }
        assert_eq!(profile.clock().unwrap(), Some(500));
    }

    #[test]
    fn it_runs_until_it_is_told_to_stop() {
        let server = Server::start(Version::First).unwrap();
        let (_temporary, profile) = install(Generation::One, &server);
        server.next(Fault::CutBeforeStoring);
        profile.enqueue(&NewOp::renames(150)).unwrap();
        let drain = ForeignDrain::start(profile.clone(), Duration::from_millis(1));
        assert!(drain.wait_for(|totals| totals.deleted == 150, Duration::from_secs(10)));
        let totals = drain.stop();
        assert_eq!(totals, Totals { batches: 3, deleted: 150, marked: 100, errors: 0 });
        profile.enqueue(&[NewOp::rename(1)]).unwrap();
        assert_eq!((server.stored().len(), profile.pending_count().unwrap()), (150, 1));
    }
}
