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

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, c_void};

    use super::*;

    /// As large as a table of today.
    const PLACES: usize = 280;

    unsafe extern "C" fn old() -> c_int {
        3_033_999
    }

    unsafe extern "C" fn new() -> c_int {
        OLDEST.0
    }

    unsafe extern "C" fn allocate(size: c_int) -> *mut c_void {
        vec![0_u8; usize::try_from(size).unwrap()].leak().as_mut_ptr().cast()
    }

    /// What is said of a SQLite that has this version and memory, and nothing else.
    fn refusal(version: unsafe extern "C" fn() -> c_int) -> String {
        let mut table: Vec<Entry> = vec![None; PLACES];
        // SAFETY: it is called as what it is.
        table[67] =
            Some(unsafe { std::mem::transmute::<unsafe extern "C" fn() -> c_int, unsafe extern "C" fn()>(version) });
        let allocate: unsafe extern "C" fn(c_int) -> *mut c_void = allocate;
        // SAFETY: it is called as what it is.
        table[68] = Some(unsafe {
            std::mem::transmute::<unsafe extern "C" fn(c_int) -> *mut c_void, unsafe extern "C" fn()>(allocate)
        });
        let mut message = ptr::null_mut();
        // SAFETY: the connection is not looked at where SQLite is refused.
        let code = unsafe { sqlite3_waveflowsynchook_init(ptr::null_mut(), &raw mut message, table.as_ptr()) };
        assert_eq!(code, ERROR);
        assert!(!message.is_null());
        // SAFETY: just written, with its end.
        unsafe { CStr::from_ptr(message) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn an_old_sqlite_gets_an_error_with_words() {
        assert_eq!(refusal(old), "waveflow_sync_hook: this SQLite is older than 3.34");
    }

    #[test]
    fn a_sqlite_without_a_log_gets_an_error_with_words() {
        assert_eq!(refusal(new), "waveflow_sync_hook: this SQLite was built without write-ahead logging");
    }

    #[test]
    fn who_wants_no_message_gets_none() {
        // SAFETY: there is nothing to look at.
        let code = unsafe { sqlite3_waveflowsynchook_init(ptr::null_mut(), ptr::null_mut(), ptr::null()) };
        assert_eq!(code, ERROR);
    }
}
