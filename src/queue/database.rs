//! A connection to one of the app's databases that knows which file it opened.
//!
//! What must always hold: the file is never created, never opened by any other way than `SQLite` (closing such a
//! descriptor would drop the process's locks, contract section 5), and never used once another file stands in its place
//! or in its log's.

use std::cell::Cell;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;

use super::Pace;
use crate::drain::action::{StoreError, StoreErrorKind};

/// How long to wait for another process's write transaction. The app's own are a few milliseconds; all profiles share one
/// thread, and whoever holds the lock for seconds is waited for by the back-off instead.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Pages kept, in KiB, as `SQLite` counts them: below zero. A quarter of the default: a queue is read from one end to the
/// other, and deleting rows took the same time with 200 KiB and with ten times that (100,000 rows: 1.0 and 1.3 s; a
/// million: 22 and 22 to 29 s), while whatever is freed here stays with the process when it is at rest.
const CACHE_KIB: i64 = -512;
/// A log is carried over once it has so many pages that are not: the number at which the app does it (contract, section 1).
const LOG_PAGES: i64 = 1000;
/// Our own statements are a dozen; this many are kept prepared.
const STATEMENTS: usize = 24;

/// Which file a path names: device, inode, and the time it was made (inodes are used again, often at once).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
    /// Nanoseconds since the epoch; 0 where the file system does not say.
    born: u128,
}

impl FileId {
    /// Looks at `path` without opening it.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let meta = fs::metadata(path)?;
        let born = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(Self { device: meta.dev(), inode: meta.ino(), born: born.map_or(0, |at| at.as_nanos()) })
    }

    /// For the state file: the same text for the same file.
    pub fn key(self) -> String {
        format!("{:x}.{:x}.{:x}", self.device, self.inode, self.born)
    }

    /// For comparing within this process.
    pub fn digest(self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        // 0 stands for "none".
        hasher.finish() | 1
    }
}

/// How much a commit of ours has to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power cut may take back the last transactions: what they said is said again (a row that comes back is absorbed
    /// by the server). As the app itself has it for `data.db`.
    Normal,
    /// A power cut must not take it back: a second device id would store everything twice. As the app itself has it for
    /// `app.db`.
    Full,
}

/// An open database.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    path: PathBuf,
    file: FileId,
    /// Its log, once it was used.
    log: Cell<Option<FileId>>,
    /// How much fits a transaction.
    pace: Cell<Pace>,
}

impl Database {
    /// Opens the file at `path`, which has to be there.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let file = FileId::of(path).map_err(|error| failed(path, &error.to_string()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| sqlite(path, &error))?;
        let synchronous = match durability {
            Durability::Normal => "NORMAL",
            Durability::Full => "FULL",
        };
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .and_then(|()| connection.pragma_update(None, "synchronous", synchronous))
            .and_then(|()| connection.pragma_update(None, "cache_size", CACHE_KIB))
            // Done by [`Database::tend`] instead, when nobody waits for the transaction.
            .and_then(|()| connection.pragma_update(None, "wal_autocheckpoint", 0))
            .map_err(|error| sqlite(path, &error))?;
        let database = Self { connection, path: path.to_owned(), file, log: Cell::new(None), pace: Cell::default() };
        // Between looking and opening another file may have been put there.
        database.check()?;
        Ok(database)
    }

    /// Opens the file at `path` to look at it and no more: no byte of it or of its log is written, no log is made where
    /// there is none, and none is carried over at the end. Beside a log that has no `-shm` (a backup came back without it)
    /// `SQLite` makes one; reading the log without it would take a lock that the app waits for. Where it had no log, nobody had it open; whoever opens it
    /// meanwhile is not waited for, and what was read is to be read again ([`look`]).
    pub fn open_to_look(path: &Path) -> Result<Self, StoreError> {
        let file = FileId::of(path).map_err(|error| failed(path, &error.to_string()))?;
        let immutable = if log_of(path).exists() { "" } else { "?immutable=1" };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(format!("file:{}{immutable}", escaped(path)), flags)
            .map_err(|error| sqlite(path, &error))?;
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .and_then(|()| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop))
            .map_err(|error| sqlite(path, &error))?;
        Ok(Self { connection, path: path.to_owned(), file, log: Cell::new(None), pace: Cell::default() })
    }

    /// Whether its pages fit each other, as far as that can be told within `limit`. A read transaction is open for so long.
    pub fn quick_check(&self, limit: Duration) -> Result<Soundness, StoreError> {
        let (done, over) = mpsc::channel::<()>();
        let interrupt = self.connection.get_interrupt_handle();
        let watch = thread::spawn(move || {
            if over.recv_timeout(limit).is_err_and(|error| error == RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let said = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        drop(done);
        // It ends at once, and has nothing to say.
        let _ = watch.join();
        match said {
            Ok(words) if words == "ok" => Ok(Soundness::Sound),
            Ok(_) => Ok(Soundness::Damaged),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                Ok(Soundness::Unfinished)
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => Ok(Soundness::Damaged),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Which file this is.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fails with [`StoreErrorKind::Gone`] where another file, or none, stands at the path by now.
    pub fn check(&self) -> Result<(), StoreError> {
        match FileId::of(&self.path) {
            Ok(file) if file == self.file => self.check_log(),
            Ok(_) => Err(gone(&self.path, "was replaced by another file")),
            Err(error) => Err(gone(&self.path, &error.to_string())),
        }
    }

    /// Nobody who keeps to `SQLite`'s rules deletes a log that we have open; whoever does so leaves us with one that nobody
    /// else reads or writes.
    fn check_log(&self) -> Result<(), StoreError> {
        let Some(log) = self.log.get() else { return Ok(()) };
        if FileId::of(&log_of(&self.path)).is_ok_and(|found| found == log) {
            return Ok(());
        }
        // What is in the old log is older than what the others write by now, and the log at its path is theirs: closing
        // must neither write the one back nor delete the other.
        let left_alone = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        left_alone.map_err(|error| self.error(&error))?;
        Err(gone(&self.path, "its log was deleted or replaced"))
    }

    /// Differs from an earlier answer where somebody else committed in between; a checkpoint may look like it. Costs a
    /// microsecond.
    pub fn version(&self) -> Result<i64, StoreError> {
        self.connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(|error| self.error(&error))
    }

    /// How much fits a write transaction here.
    pub fn pace(&self) -> Pace {
        self.pace.get()
    }

    /// What a transaction taught of that.
    pub fn learn(&self, lesson: impl FnOnce(&mut Pace)) {
        let mut pace = self.pace.get();
        lesson(&mut pace);
        self.pace.set(pace);
    }

    /// Runs `work` in one read transaction.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.check()?;
        let transaction = self.begin(TransactionBehavior::Deferred).map_err(|e| self.error(&e))?;
        self.run(transaction, work, |_| true).map(|(done, _)| done)
    }

    /// Runs `work` in one write transaction, which is rolled back where it fails.
    pub fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.write_if(work, |_| true).map(|(done, _)| done)
    }

    /// Runs `work` in one write transaction, which is rolled back where it fails, or comes to nothing as `is_worth_it`
    /// sees it; says for how long the lock was held.
    pub fn write_if<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
        is_worth_it: impl FnOnce(&T) -> bool,
    ) -> Result<(T, Duration), StoreError> {
        self.check()?;
        let transaction = self.begin(TransactionBehavior::Immediate).map_err(|e| self.error(&e))?;
        let done = self.run(transaction, work, is_worth_it)?;
        self.tend();
        Ok(done)
    }

    /// The same, but only where nobody else has the file open; `None` where somebody has, or where that cannot be told
    /// because nothing was read yet. Whoever opens the file meanwhile waits until it is over, as for any lock.
    pub fn write_alone<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
        is_worth_it: impl FnOnce(&T) -> bool,
    ) -> Result<Option<(T, Duration)>, StoreError> {
        self.check()?;
        if self.log.get().is_none() {
            // Locked before the log is open, it would be used without the memory that others share.
            return Ok(None);
        }
        let begun = self.lock_file(true).and_then(|()| self.begin(TransactionBehavior::Immediate));
        // Said within the transaction already: its end gives the file back.
        let unlocking = self.lock_file(false).map_err(|e| self.error(&e));
        let done = match begun {
            Ok(transaction) => unlocking.and_then(|()| self.run(transaction, work, is_worth_it)).map(Some),
            Err(error) if is_busy(&error) => unlocking.map(|()| None),
            Err(error) => Err(self.error(&error)),
        };
        if !matches!(done, Ok(Some(_))) {
            // Whatever is locked still, the end of a transaction in which something is read gives back: that of one that
            // failed does not always.
            self.version()?;
        }
        self.tend();
        done
    }

    /// From the next transaction on nobody else may have the file open, and nobody is waited for; or they may again.
    fn lock_file(&self, alone: bool) -> rusqlite::Result<()> {
        let (mode, timeout) = if alone { ("EXCLUSIVE", Duration::ZERO) } else { ("NORMAL", BUSY_TIMEOUT) };
        self.connection.busy_timeout(timeout)?;
        self.connection.pragma_update(Some("main"), "locking_mode", mode)
    }

    fn begin(&self, behavior: TransactionBehavior) -> rusqlite::Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.connection, behavior)
    }

    fn run<T>(
        &self,
        transaction: Transaction<'_>,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
        is_worth_it: impl FnOnce(&T) -> bool,
    ) -> Result<(T, Duration), StoreError> {
        let began = Instant::now();
        let done = work(&transaction)?;
        let ended = if is_worth_it(&done) { transaction.commit() } else { transaction.rollback() };
        ended.map_err(|e| self.error(&e))?;
        let held = began.elapsed();
        if self.log.get().is_none() {
            // Open by now, if there is one.
            self.log.set(FileId::of(&log_of(&self.path)).ok());
        }
        Ok((done, held))
    }

    /// Carries a log that has grown over into the database, so that it is not the app's next commit that has to. Nobody
    /// waits for this; what cannot be done now is done later.
    fn tend(&self) {
        let frames = |mode: &str| {
            self.connection
                .prepare_cached(&format!("PRAGMA main.wal_checkpoint({mode})"))
                .and_then(|mut statement| statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?))))
        };
        let grown = |(log, carried): (i64, i64)| log.saturating_sub(carried) >= LOG_PAGES;
        if frames("NOOP").is_ok_and(grown)
            && let Err(error) = frames("PASSIVE")
        {
            tracing::debug!("{}: {error}", self.path.display());
        }
    }

    /// Puts what `SQLite` said into words.
    pub fn error(&self, error: &rusqlite::Error) -> StoreError {
        sqlite(&self.path, error)
    }
}

impl Drop for Database {
    /// However it is closed: a log that is not ours is left alone.
    fn drop(&mut self) {
        let _ = self.check_log();
    }
}

/// What a check of a file's pages showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Soundness {
    /// They fit.
    Sound,
    /// They do not.
    Damaged,
    /// There was no time for all of them.
    Unfinished,
}

/// Looks with databases from [`Database::open_to_look`] at `path`; a second time where somebody opened it meanwhile.
pub fn look<T>(path: &Path, look: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let is_at_rest = || !log_of(path).exists();
    let was_at_rest = is_at_rest();
    let seen = look();
    if was_at_rest && !is_at_rest() { look() } else { seen }
}

/// For a URI of `SQLite`'s, in which `?`, `#` and `%` mean something.
fn escaped(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The write-ahead log beside a database.
pub fn log_of(database: &Path) -> PathBuf {
    beside(database, "-wal")
}

/// The memory that those who have it open share, which is a file too.
pub fn shared_of(database: &Path) -> PathBuf {
    beside(database, "-shm")
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn gone(path: &Path, what: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Gone, message: format!("{}: {what}", path.display()) }
}

fn failed(path: &Path, what: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Failed, message: format!("{}: {what}", path.display()) }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// What failed, on which file, and what to do; never a value from a row.
fn sqlite(path: &Path, error: &rusqlite::Error) -> StoreError {
    if is_busy(error) {
        return failed(path, "is locked by another program; trying again");
    }
    let what = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => return failed(path, "the disk is full; free some space"),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) if is_on_a_read_only_mount(path) => {
            "is on a read-only file system; mount that for writing"
        }
        Some(ErrorCode::ReadOnly) => "cannot be written; check its permissions and its directory's",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "is damaged; start WaveFlow, which can repair it",
        Some(ErrorCode::CannotOpen) if !has_descriptors() => {
            "cannot be opened: there are too many files open; raise the limit (ulimit -n)"
        }
        Some(ErrorCode::CannotOpen) => "cannot be opened; check its permissions and its directory's",
        Some(ErrorCode::PermissionDenied) => "may not be opened; check its permissions",
        // What it says where there is no room for the file beside the log.
        Some(ErrorCode::SystemIoFailure) => "cannot be read or written; the disk is full, or failing",
        _ => &error.to_string(),
    };
    StoreError { kind: StoreErrorKind::Broken, ..failed(path, what) }
}

/// Whether nobody can write there, whoever may.
fn is_on_a_read_only_mount(path: &Path) -> bool {
    statvfs(path.parent().unwrap_or(path)).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Whether this process may open another file. Tried on a directory: on the database itself it would drop its locks.
fn has_descriptors() -> bool {
    !fs::File::open("/").is_err_and(|error| matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)))
}

/// `rusqlite`'s errors within a transaction, whose path the caller knows.
pub(crate) trait InDatabase<T> {
    fn on(self, connection: &Connection) -> Result<T, StoreError>;
}

impl<T> InDatabase<T> for rusqlite::Result<T> {
    fn on(self, connection: &Connection) -> Result<T, StoreError> {
        self.map_err(|error| sqlite(Path::new(connection.path().unwrap_or("database")), &error))
    }
}
