//! The door of the loadable extension.

use std::ffi::{c_char, c_int};
use std::ptr;

use crate::hook::{self, Error};
use crate::notifier::Notifier;
use crate::sqlite::{self, Db, ERROR, Entry, OK_LOAD_PERMANENTLY, OLDEST, Sqlite};

/// What SQLite calls in `libwaveflow_sync_hook.so`: the name is made from the file's.
///
/// It stays loaded until the program ends: there is nothing to win by loading it anew for each connection.
///
/// # Safety
/// SQLite calls it, with an open connection, a place for an error message (or null), and its table of functions.
#[expect(unreachable_pub, reason = "C reaches it")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_waveflowsynchook_init(
    db: *mut Db,
    message: *mut *mut c_char,
    table: *const Entry,
) -> c_int {
    // SAFETY: as SQLite promises.
    match unsafe { load(db, table) } {
        Ok(()) => OK_LOAD_PERMANENTLY,
        Err(error) => {
            // SAFETY: as SQLite promises.
            unsafe { tell(error, message, table) };
            ERROR
        }
    }
}

/// # Safety
/// As [`sqlite3_waveflowsynchook_init`].
unsafe fn load(db: *mut Db, table: *const Entry) -> Result<(), Error> {
    // SAFETY: SQLite's table.
    if table.is_null() || unsafe { sqlite::version(table) } < OLDEST.0 {
        return Err(Error::TooOld);
    }
    // SAFETY: it is old enough to have all places.
    let functions = unsafe { Sqlite::from_table(table) }.ok_or(Error::NoWal)?;
    // SAFETY: no hook runs while an extension is loaded.
    unsafe { hook::install_with(functions, db, Notifier::new()) }
}

/// # Safety
/// As [`sqlite3_waveflowsynchook_init`].
unsafe fn tell(error: Error, message: *mut *mut c_char, table: *const Entry) {
    if message.is_null() || table.is_null() {
        return;
    }
    let text = format!("waveflow_sync_hook: {error}\0");
    // SAFETY: SQLite's table.
    let room = unsafe { sqlite::allocate(table, c_int::try_from(text.len()).unwrap_or(0)) }.cast::<u8>();
    if room.is_null() {
        return;
    }
    // SAFETY: `room` is new and as large as the text.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), room, text.len()) };
    // SAFETY: SQLite's place for it, which it reads and frees.
    unsafe { *message = room.cast() };
}
