//! The hooks on one connection.
//!
//! The update hook notes rows inserted into the queue, the rollback hook forgets them. That they are committed and others
//! can see them is told by the WAL hook alone; but SQLite's automatic checkpoints are a WAL hook too, and there is room for
//! one. So ours is borrowed: it takes the place with the first row that is noted, does SQLite's own work for that one
//! commit, and gives the place back. `PRAGMA wal_autocheckpoint` reads and writes as ever, before and after.
//!
//! What must always hold: the place is given back after each commit and each rollback of what was noted; no call of ours
//! changes what the app's statement returns; a [`Hook`] lives as long as its connection.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use crate::notifier::{Notifier, TABLE};
use crate::sqlite::{Context, Db, Destructor, Function, INSERT, OK, OLDEST, PLAIN_FUNCTION, Sqlite};

/// `SELECT waveflow_sync_hook()` fails where there is no hook. The function's end is how the connection's end is heard of.
const FUNCTION: &CStr = c"waveflow_sync_hook";
/// What SQLite sets by itself, for where a WAL hook that was not SQLite's was in the place.
const PAGES_DEFAULT: c_int = 1000;
/// SQLite's own hook has the number of pages where others have an address. No address is as low as this; a log of so many
/// pages has four gigabytes.
const PAGES_MAX: usize = 1 << 20;

/// Why the hooks were not installed. The connection is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// SQLite is older than 3.34.
    TooOld,
    /// SQLite was built without write-ahead logging.
    NoWal,
    /// SQLite refused, with this code.
    Refused(c_int),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooOld => write!(f, "this SQLite is older than {}", OLDEST.1),
            Self::NoWal => f.write_str("this SQLite was built without write-ahead logging"),
            Self::Refused(code) => write!(f, "SQLite refused with code {code}"),
        }
    }
}

impl std::error::Error for Error {}

/// Installs the hooks on a connection; the agent's socket is where the environment says.
///
/// Replaces the connection's own update and rollback hook, and its WAL hook where it is not SQLite's; programs that need
/// theirs feed a [`Notifier`] instead. Installing again is harmless.
///
/// # Safety
/// `db` is an open `sqlite3 *` of the SQLite this program is linked with, and no hook of it is running.
///
/// # Errors
/// That SQLite is too old, or refuses. The app goes on without: the agent then relies on its own watch and timer.
#[inline]
pub unsafe fn install(db: *mut c_void) -> Result<(), Error> {
    // SAFETY: as the caller promises.
    unsafe { install_with(Sqlite::linked(), db.cast(), Notifier::new()) }
}

/// [`install`], with the agent's socket at another place.
///
/// # Safety
/// As [`install`].
#[inline]
pub unsafe fn install_at(db: *mut c_void, socket: &Path) -> Result<(), Error> {
    // SAFETY: as the caller promises.
    unsafe { install_with(Sqlite::linked(), db.cast(), Notifier::at(socket)) }
}

/// One connection's.
struct Hook {
    sqlite: Sqlite,
    db: *mut Db,
    notifier: Notifier,
    /// While the WAL hook's place is ours: after how many pages SQLite would checkpoint, 0 for never.
    borrowed: Option<c_int>,
}

/// Both ways' common part.
///
/// # Safety
/// `db` is an open connection of `sqlite`, and no hook of it is running.
pub(crate) unsafe fn install_with(sqlite: Sqlite, db: *mut Db, notifier: Notifier) -> Result<(), Error> {
    // SAFETY: it takes nothing.
    if unsafe { (sqlite.libversion_number)() } < OLDEST.0 {
        return Err(Error::TooOld);
    }
    let hook = Box::into_raw(Box::new(Hook { sqlite, db, notifier, borrowed: None })).cast::<c_void>();
    // SAFETY: `db` is open. Null where SQLite was told that nobody shares it, which `mutex_enter` takes.
    let mutex = unsafe { (sqlite.db_mutex)(db) };
    // SAFETY: of an open connection; left below, on the only way out.
    unsafe { (sqlite.mutex_enter)(mutex) };
    let (function, destructor): (Function, Destructor) = (say_nothing, destroy);
    // SAFETY: `hook` is given away: SQLite calls `destroy` when the connection ends, or another hook takes this name, or now
    // where it fails. Another one that had the name is gone with this call; the mutex keeps commits out until its hooks are.
    let code = unsafe {
        (sqlite.create_function_v2)(
            db,
            FUNCTION.as_ptr(),
            0,
            PLAIN_FUNCTION,
            hook,
            Some(function),
            None,
            None,
            Some(destructor),
        )
    };
    if code == OK {
        // SAFETY: `hook` lives until the connection ends.
        unsafe { (sqlite.update_hook)(db, Some(updated), hook) };
        // SAFETY: as above.
        unsafe { (sqlite.rollback_hook)(db, Some(rolled_back), hook) };
    }
    // SAFETY: entered above.
    unsafe { (sqlite.mutex_leave)(mutex) };
    if code == OK { Ok(()) } else { Err(Error::Refused(code)) }
}

impl Hook {
    /// Takes the WAL hook's place until the commit. Asked for with each row, because `PRAGMA wal_autocheckpoint` within the
    /// transaction takes it away.
    fn borrow(&mut self) {
        let ours = ptr::from_mut(self).cast::<c_void>();
        // SAFETY: the connection is open, as one of its hooks runs; `ours` lives until it ends.
        let theirs = unsafe { (self.sqlite.wal_hook)(self.db, Some(committed), ours) };
        if theirs == ours {
            return;
        }
        self.borrowed = Some(match theirs.addr() {
            pages @ ..=PAGES_MAX => c_int::try_from(pages).unwrap_or(PAGES_DEFAULT),
            _ => PAGES_DEFAULT,
        });
    }

    /// Whether the commit may come without the WAL hook: a statement that commits by itself and gives rows, as
    /// `INSERT … RETURNING`, may be ended by its reset.
    fn may_commit_in_silence(&self) -> bool {
        let sqlite = &self.sqlite;
        // SAFETY: the connection is open, as one of its hooks runs.
        if unsafe { (sqlite.get_autocommit)(self.db) } == 0 {
            return false;
        }
        let mut statement = ptr::null_mut();
        loop {
            // SAFETY: null begins, and what was given goes on: no statement ends while a hook runs.
            statement = unsafe { (sqlite.next_stmt)(self.db, statement) };
            if statement.is_null() {
                return false;
            }
            // SAFETY: a statement of an open connection.
            let runs = unsafe { (sqlite.stmt_busy)(statement) } != 0;
            // SAFETY: as above.
            let gives_rows = runs && unsafe { (sqlite.column_count)(statement) } > 0;
            // SAFETY: as above.
            if gives_rows && unsafe { (sqlite.stmt_readonly)(statement) } == 0 {
                return true;
            }
        }
    }

    /// Gives the place back; after how many pages there is to be a checkpoint.
    fn give_back(&mut self) -> c_int {
        let Some(pages) = self.borrowed.take() else { return 0 };
        // SAFETY: the connection is open, or in its last moments, when this writes two fields of it.
        unsafe { (self.sqlite.wal_autocheckpoint)(self.db, pages) };
        pages
    }
}

/// SQLite's update hook.
unsafe extern "C" fn updated(
    hook: *mut c_void,
    operation: c_int,
    database: *const c_char,
    table: *const c_char,
    _row: i64,
) {
    if operation != INSERT || table.is_null() {
        return;
    }
    // SAFETY: SQLite's name of the table, while the hook runs.
    if unsafe { CStr::from_ptr(table) }.to_bytes() != TABLE.as_bytes() {
        return;
    }
    // SAFETY: what `install_with` gave, of which nobody else has a reference: hooks of a connection run one at a time.
    let Some(hook) = (unsafe { hook.cast::<Hook>().as_mut() }) else { return };
    // SAFETY: the connection is open, and `database` is SQLite's name of one of its files.
    let file = unsafe { (hook.sqlite.db_filename)(hook.db, database) };
    // SAFETY: SQLite's own text, which lives as long as the file is open; null where there is no file.
    let file = (!file.is_null()).then(|| unsafe { CStr::from_ptr(file) });
    let is_first = !hook.notifier.has_noted();
    hook.notifier.note_bytes(file.map(CStr::to_bytes));
    hook.borrow();
    if is_first && hook.may_commit_in_silence() {
        hook.notifier.foretell();
    }
}

/// SQLite's rollback hook.
unsafe extern "C" fn rolled_back(hook: *mut c_void) {
    // SAFETY: as in `updated`.
    let Some(hook) = (unsafe { hook.cast::<Hook>().as_mut() }) else { return };
    hook.notifier.rolled_back();
    hook.give_back();
}

/// SQLite's WAL hook: the commit is done, whatever happens here.
unsafe extern "C" fn committed(hook: *mut c_void, db: *mut Db, database: *const c_char, pages: c_int) -> c_int {
    // SAFETY: as in `updated`.
    let Some(hook) = (unsafe { hook.cast::<Hook>().as_mut() }) else { return OK };
    hook.notifier.committed();
    let limit = hook.give_back();
    if limit > 0 && pages >= limit {
        let checkpoint = hook.sqlite.wal_checkpoint;
        // SAFETY: with what SQLite gave us, as its own hook does. It calls no hook of ours.
        unsafe { checkpoint(db, database) };
    }
    OK
}

/// The SQL function: null, where there is a hook. More cannot be said without SQLite, which is in the hook it would have to
/// be asked for.
unsafe extern "C" fn say_nothing(_context: *mut Context, _count: c_int, _values: *mut *mut c_void) {}

/// The connection ends, or another [`Hook`] takes over.
unsafe extern "C" fn destroy(hook: *mut c_void) {
    if hook.is_null() {
        return;
    }
    // SAFETY: made by `Box::into_raw`, given to SQLite once, and given back by it once.
    let mut hook = unsafe { Box::from_raw(hook.cast::<Hook>()) };
    // Whatever was committed without a word.
    hook.notifier.committed();
    hook.give_back();
}
