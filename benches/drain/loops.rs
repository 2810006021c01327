//! The bare loops: what a competent programmer would write into the app instead, with nothing around it.
//!
//! Read the next rows, write them into one request, send it on a connection that stays, look for the ids in the answer,
//! delete. No retries, no back-off, no account, no other profile, no daemon: the least that delivers a queue at all.
//! They differ in how much they send at a time and in when they delete. Each runs as a process of its own: the bench
//! starts itself once more, with a first argument nobody would type.
//!
//! What must always hold: a row is deleted only after the answer named it, in every one of them but for where it is
//! said; the connection has the pragmas of the app's.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rusqlite::{Connection, Row, TransactionBehavior};
use testkit::{Error, Result};
use uuid::Uuid;

use super::{echo, scan};

/// Be a loop, with the arguments behind this one: which, the app's directory.
const AS_A_LOOP: &str = "--as-a-loop";
/// The app's `busy_timeout`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// When it deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delete {
    /// After so many batches, a `DELETE` for each row, all in one transaction.
    Each(usize),
    /// After so many batches, one `DELETE` for all their rows.
    Range(usize),
    /// At the end, one `DELETE` for all.
    AtTheEnd,
    /// At the end, everything that is in the table: with an app beside it that would lose what it queued meanwhile.
    Everything,
}

/// One of the loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loop {
    /// In the table.
    pub(crate) name: &'static str,
    batch: usize,
    delete: Delete,
}

/// The loop that all ratios are about.
pub(crate) const REFERENCE: Loop =
    Loop { name: "bare loop, 100 ops a batch, delete each", batch: 100, delete: Delete::Each(1) };

/// All of them.
pub(crate) const LOOPS: [Loop; 5] = [
    REFERENCE,
    Loop { name: "bare loop, 1024 a batch, delete each", batch: 1024, delete: Delete::Each(1) },
    Loop { name: "the same, one delete for 8 batches", batch: 1024, delete: Delete::Range(8) },
    Loop { name: "the same, one delete at the end", batch: 1024, delete: Delete::AtTheEnd },
    Loop { name: "the same, `DELETE` without `WHERE` at the end", batch: 1024, delete: Delete::Everything },
];

impl Loop {
    /// This loop on the app's directory, as a process of its own.
    pub(crate) fn command(self, data: &Path) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(AS_A_LOOP).arg(self.name).arg(data);
        Ok(command)
    }
}

/// Is a loop where the process was started as one; `None` where it is the bench.
pub(crate) fn run_as_loop() -> Option<Result<()>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [role, name, data] = arguments.as_slice() else { return None };
    if role != AS_A_LOOP {
        return None;
    }
    let known = LOOPS.into_iter().find(|known| name == known.name);
    Some(known.ok_or_else(|| Error::other("no such loop")).and_then(|known| Runner::new(known, Path::new(data))?.run()))
}

/// Where to, as whom.
struct Way {
    device: String,
    canonical_id: String,
    head: String,
}

struct Runner {
    plan: Loop,
    db: Connection,
    way: Way,
    stream: TcpStream,
    body: Vec<u8>,
    answer: Vec<u8>,
    /// Rows of the batch: place in the queue, and idempotency key.
    batch: Vec<(i64, u128)>,
    /// Places of the rows that were accepted and are still there.
    accepted: Vec<i64>,
    batches: usize,
}

impl Runner {
    fn new(plan: Loop, data: &Path) -> Result<Self> {
        let app = Connection::open(data.join("app.db"))?;
        let setting = |key: &str| -> Result<String> {
            Ok(app.query_row("SELECT value FROM app_setting WHERE key = ?1", [key], |row| row.get(0))?)
        };
        let (device, url) = (setting("sync.device_id")?, setting("app.waveflow_server_url")?);
        let sql = "SELECT canonical_id, data_dir FROM profile";
        let (canonical_id, directory): (String, PathBuf) = app.query_row(sql, [], |row| {
            let directory: String = row.get(1)?;
            Ok((row.get(0)?, directory.into()))
        })?;
        let db = Connection::open(data.join(directory).join("data.db"))?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        let sql = "SELECT token_encrypted FROM auth_credential WHERE provider = 'waveflow_server'";
        let token: Vec<u8> = db.query_row(sql, [], |row| row.get(0))?;
        let host = url.strip_prefix("http://").ok_or_else(|| Error::other("plain http only"))?;
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        let head = format!(
            "POST /api/v1/sync/ops HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: ",
            String::from_utf8_lossy(&token)
        );
        let way = Way { device, canonical_id, head };
        let (body, answer, batch, accepted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { plan, db, way, stream, body, answer, batch, accepted, batches: 0 })
    }

    fn run(mut self) -> Result<()> {
        let mut last = 0;
        loop {
            self.read(last)?;
            let Some(&(id, _)) = self.batch.last() else { break };
            last = id;
            self.send()?;
            self.check()?;
            self.batches += 1;
            match self.plan.delete {
                Delete::Each(batches) if self.batches.is_multiple_of(batches) => self.delete_each()?,
                Delete::Range(batches) if self.batches.is_multiple_of(batches) => self.delete_range()?,
                _ => {}
            }
        }
        match self.plan.delete {
            Delete::Each(_) => self.delete_each(),
            Delete::Range(_) | Delete::AtTheEnd => self.delete_range(),
            Delete::Everything => Ok(self.db.execute("DELETE FROM sync_pending_op", []).map(|_| ())?),
        }
    }

    /// Reads the rows behind `last` straight into a request.
    fn read(&mut self, last: i64) -> Result<()> {
        self.batch.clear();
        self.body.clear();
        write!(self.body, "{{\"device_id\":\"{}\",\"ops\":[", self.way.device)?;
        let mut statement = self.db.prepare_cached(
            "SELECT id, operation_id, lamport_ts, entity, entity_id, field, op, payload, hlc_wall, hlc_logical \
             FROM sync_pending_op WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let mut rows = statement.query((last, i64::try_from(self.plan.batch).unwrap_or(i64::MAX)))?;
        while let Some(row) = rows.next()? {
            if !self.batch.is_empty() {
                self.body.push(b',');
            }
            let id = write_op(row, &self.way.canonical_id, &mut self.body)?;
            self.batch.push((row.get(0)?, id));
        }
        self.body.extend_from_slice(b"]}");
        Ok(())
    }

    /// Sends the request and reads the whole answer.
    fn send(&mut self) -> Result<()> {
        let head = format!("{}{}\r\n\r\n", self.way.head, self.body.len());
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(&self.body)?;
        self.answer.resize(self.answer.len().max(16 * 1024), 0);
        let mut filled = 0;
        let begin = loop {
            match self.stream.read(&mut self.answer[filled..])? {
                0 => return Err(Error::other("the server hung up")),
                read => filled += read,
            }
            if let Some(end) = self.answer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        if !self.answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(Error::other("the server refuses"));
        }
        let end = begin + echo::content_length(&self.answer[..begin])?;
        self.answer.resize(end.max(self.answer.len()), 0);
        self.stream.read_exact(&mut self.answer[filled..end])?;
        self.answer.truncate(end);
        Ok(())
    }

    /// Holds the answer against the request: every row of the batch has to be named.
    fn check(&mut self) -> Result<()> {
        let mut sent = self.batch.iter();
        let accepted = &mut self.accepted;
        // In the order in which they were sent, as the server answers.
        scan::ids(&self.answer, |id| {
            if let Some((row, _)) = sent.find(|(_, sent)| *sent == id) {
                accepted.push(*row);
            }
        });
        if accepted.last() == self.batch.last().map(|(row, _)| row) {
            Ok(())
        } else {
            Err(Error::other("not all were accepted"))
        }
    }

    fn delete_each(&mut self) -> Result<()> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut statement = transaction.prepare_cached("DELETE FROM sync_pending_op WHERE id = ?1")?;
            for id in self.accepted.drain(..) {
                statement.execute([id])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn delete_range(&mut self) -> Result<()> {
        if let (Some(first), Some(last)) = (self.accepted.first(), self.accepted.last()) {
            let sql = "DELETE FROM sync_pending_op WHERE id BETWEEN ?1 AND ?2";
            self.db.prepare_cached(sql)?.execute((first, last))?;
        }
        self.accepted.clear();
        Ok(())
    }
}

/// Writes a row as an op; its idempotency key.
fn write_op(row: &Row<'_>, canonical_id: &str, body: &mut Vec<u8>) -> Result<u128> {
    let text = |column: usize| -> Result<&str> {
        row.get_ref(column)?.as_str().map_err(|error| Error::other(error.to_string()))
    };
    let optional = |column: usize| -> Result<Option<&str>> {
        row.get_ref(column)?.as_str_or_null().map_err(|error| Error::other(error.to_string()))
    };
    let (id, stamp): (&str, i64) = (text(1)?, row.get(2)?);
    write!(body, "{{\"operation_id\":\"{id}\",\"lamport_ts\":{stamp},\"entity\":")?;
    serde_json::to_writer(&mut *body, text(3)?)?;
    body.extend_from_slice(b",\"entity_id\":");
    serde_json::to_writer(&mut *body, text(4)?)?;
    body.extend_from_slice(b",\"field\":");
    serde_json::to_writer(&mut *body, &optional(5)?)?;
    body.extend_from_slice(b",\"op\":");
    serde_json::to_writer(&mut *body, text(6)?)?;
    body.extend_from_slice(b",\"payload\":");
    body.extend_from_slice(optional(7)?.unwrap_or("null").as_bytes());
    let (wall, logical): (i64, i64) = (row.get(8)?, row.get(9)?);
    if wall != 0 {
        write!(body, ",\"hlc\":{{\"wall\":{wall},\"logical\":{logical}}}")?;
    }
    write!(body, ",\"profile_canonical_id\":\"{canonical_id}\"}}")?;
    Uuid::try_parse(id).map(|id| id.as_u128()).map_err(|error| Error::other(error.to_string()))
}
