//! Tells waveflow-sync-agent of each commit to the queue, from within the app's process: `SQLite` calls an update hook
//! only for changes made through its own connection, so that is where the hook has to be.
//!
//! ```text
//!   the app's connection                                                    the agent
//!
//!   INSERT INTO sync_pending_op ──▶ update hook: note it
//!   COMMIT ──▶ WAL hook: it is committed ──▶ Notifier ── "wake 7\n", ───▶ control socket ──▶ a pass
//!   ROLLBACK ──▶ rollback hook: forget it               no waiting
//! ```
//!
//! Three ways to it, with the same promises:
//! - **loaded**: `libwaveflow_sync_hook.so` is a loadable extension for `SQLite` 3.34 and later, for any program in any language;
//! - **linked**: [`install`] on a raw `sqlite3 *`, as `rusqlite` (`Connection::handle`) and `sqlx`
//!   (`LockedSqliteHandle::as_raw_handle`) hand it out;
//! - **fed**: [`Notifier`], by programs that have update, rollback or WAL hooks of their own: `SQLite` has room for one of
//!   each, and installing replaces it.
//!
//! What must always hold: nothing here fails, delays or blocks the app's commit, whether the agent runs, hangs or is not
//! installed; there is no thread, no signal, and no panic; each commit is told of behind it (before it, where SQLite has no word
//! for its end), and a rollback of a transaction is not.
//!
//! Reading order: [`notifier`] (what is to be told, and whether it is known already), `wire` (how it gets there), `place`
//! (where to), then `hook` (SQLite's side) and `sqlite` (its functions, by table or by link).

// What could panic is not written here; tests may.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice, clippy::arithmetic_side_effects))]

mod extension;
mod hook;
pub mod notifier;
mod place;
mod sqlite;
mod wire;

pub use hook::{Error, install, install_at};
pub use notifier::Notifier;
