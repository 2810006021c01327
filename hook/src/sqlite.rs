//! The few of SQLite's functions that are needed: from the table it hands to a loaded extension, or from the program itself.
//!
//! What must always hold: SQLite is called through [`Sqlite`] alone, so that the extension calls the very SQLite that loaded
//! it; the table is read no further than its age allows.

use std::ffi::{c_char, c_int, c_void};

/// A `sqlite3`.
#[repr(C)]
pub(crate) struct Db {
    private: [u8; 0],
}

/// A `sqlite3_mutex`.
#[repr(C)]
pub(crate) struct Mutex {
    private: [u8; 0],
}

/// A `sqlite3_stmt`.
#[repr(C)]
pub(crate) struct Statement {
    private: [u8; 0],
}

/// A `sqlite3_context`.
#[repr(C)]
pub(crate) struct Context {
    private: [u8; 0],
}

pub(crate) const OK: c_int = 0;
pub(crate) const ERROR: c_int = 1;
/// `SQLITE_OK_LOAD_PERMANENTLY`.
pub(crate) const OK_LOAD_PERMANENTLY: c_int = 256;
/// The operation an update hook is told of.
pub(crate) const INSERT: c_int = 18;
/// `SQLITE_UTF8`, and `SQLITE_DIRECTONLY`: not for triggers and views of a file somebody else made.
pub(crate) const PLAIN_FUNCTION: c_int = 1 | 0x8_0000;

/// SQLite's version since which a program is served, as its number and for people.
pub(crate) const OLDEST: (c_int, &str) = (3_034_000, "3.34");

/// Two places that there are in the table of every SQLite that loads extensions.
const VERSION_PLACE: usize = 67;
const MALLOC_PLACE: usize = 68;

pub(crate) type UpdateHook = unsafe extern "C" fn(*mut c_void, c_int, *const c_char, *const c_char, i64);
pub(crate) type RollbackHook = unsafe extern "C" fn(*mut c_void);
pub(crate) type WalHook = unsafe extern "C" fn(*mut c_void, *mut Db, *const c_char, c_int) -> c_int;
pub(crate) type Function = unsafe extern "C" fn(*mut Context, c_int, *mut *mut c_void);
pub(crate) type Destructor = unsafe extern "C" fn(*mut c_void);

/// Declares [`Sqlite`] with one field for each function, and how it is filled in both ways. The numbers are places in
/// `struct sqlite3_api_routines` (`sqlite3ext.h`), which SQLite only ever adds to.
macro_rules! functions {
    ($($place:literal $name:ident $symbol:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions.
        #[derive(Clone, Copy)]
        pub(crate) struct Sqlite {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Sqlite {
            /// From the table SQLite hands to an extension; `None` where it was built without one of them.
            ///
            /// # Safety
            /// `table` is that of SQLite 3.7.16 or later, and lives as long as what is made from it.
            pub(crate) unsafe fn from_table(table: *const Entry) -> Option<Self> {
                Some(Self {
                    $($name: {
                        // SAFETY: the caller's table has more places than this number.
                        let entry = unsafe { *table.wrapping_add($place) };
                        // SAFETY: sqlite3ext.h gives this type to the function in this place, and null where it is not there.
                        let entry: Option<unsafe extern "C" fn($($argument),*) $(-> $result)?> = unsafe { std::mem::transmute(entry) };
                        entry?
                    },)*
                })
            }

            /// Those of the program this is linked into. Inlined: so no other program needs to have them, the loaded
            /// extension least of all.
            #[inline]
            pub(crate) fn linked() -> Self {
                unsafe extern "C" {
                    $(fn $symbol($(_: $argument),*) $(-> $result)?;)*
                }
                Self { $($name: $symbol,)* }
            }
        }
    };
}

/// An entry of the table: a function of any type.
pub(crate) type Entry = Option<unsafe extern "C" fn()>;

functions! {
    22 column_count sqlite3_column_count: fn(*mut Statement) -> c_int;
    60 get_autocommit sqlite3_get_autocommit: fn(*mut Db) -> c_int;
    67 libversion_number sqlite3_libversion_number: fn() -> c_int;
    90 rollback_hook sqlite3_rollback_hook: fn(*mut Db, Option<RollbackHook>, *mut c_void) -> *mut c_void;
    100 update_hook sqlite3_update_hook: fn(*mut Db, Option<UpdateHook>, *mut c_void) -> *mut c_void;
    131 mutex_enter sqlite3_mutex_enter: fn(*mut Mutex);
    133 mutex_leave sqlite3_mutex_leave: fn(*mut Mutex);
    152 next_stmt sqlite3_next_stmt: fn(*mut Db, *mut Statement) -> *mut Statement;
    162 create_function_v2 sqlite3_create_function_v2: fn(*mut Db, *const c_char, c_int, c_int, *mut c_void,
        Option<Function>, Option<Function>, Option<RollbackHook>, Option<Destructor>) -> c_int;
    164 db_mutex sqlite3_db_mutex: fn(*mut Db) -> *mut Mutex;
    173 wal_autocheckpoint sqlite3_wal_autocheckpoint: fn(*mut Db, c_int) -> c_int;
    174 wal_checkpoint sqlite3_wal_checkpoint: fn(*mut Db, *const c_char) -> c_int;
    175 wal_hook sqlite3_wal_hook: fn(*mut Db, Option<WalHook>, *mut c_void) -> *mut c_void;
    180 db_filename sqlite3_db_filename: fn(*mut Db, *const c_char) -> *const c_char;
    184 stmt_busy sqlite3_stmt_busy: fn(*mut Statement) -> c_int;
    185 stmt_readonly sqlite3_stmt_readonly: fn(*mut Statement) -> c_int;
}

/// The version that goes with the table; 0 where it cannot be told.
///
/// # Safety
/// `table` is that of any SQLite 3 that loads extensions.
pub(crate) unsafe fn version(table: *const Entry) -> c_int {
    // SAFETY: there since the first table.
    let entry = unsafe { *table.wrapping_add(VERSION_PLACE) };
    // SAFETY: `libversion_number` is of this type.
    let version: Option<unsafe extern "C" fn() -> c_int> = unsafe { std::mem::transmute(entry) };
    // SAFETY: it takes nothing.
    version.map_or(0, |version| unsafe { version() })
}

/// SQLite's memory, for an error message it is to free; null where there is none.
///
/// # Safety
/// As [`version`].
pub(crate) unsafe fn allocate(table: *const Entry, size: c_int) -> *mut c_void {
    // SAFETY: there since the first table.
    let entry = unsafe { *table.wrapping_add(MALLOC_PLACE) };
    // SAFETY: `malloc` is of this type.
    let malloc: Option<unsafe extern "C" fn(c_int) -> *mut c_void> = unsafe { std::mem::transmute(entry) };
    // SAFETY: any size may be asked for.
    malloc.map_or(std::ptr::null_mut(), |malloc| unsafe { malloc(size) })
}
