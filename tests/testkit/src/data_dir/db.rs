//! A connection of the app's to one profile: settings, the account, the clock.
//!
//! What must always hold: each call is what one action of the user's or one step of the app's would write, in one
//! transaction. Queue rows are in `queue.rs`.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::{Profile, schema};
use crate::{Error, Result, time};

/// The app's key for the Lamport clock.
pub(super) const LAMPORT: &str = "sync.lamport_local_max";
/// The app's keys for the last HLC pair.
pub(super) const LAST_WALL: &str = "sync.hlc.last_wall";
/// See [`LAST_WALL`].
pub(super) const LAST_LOGICAL: &str = "sync.hlc.last_logical";
/// Local or hybrid.
const MODE: &str = "sync.mode";
/// The row of `auth_credential` that counts.
const PROVIDER: &str = "waveflow_server";

/// An open connection, with `app.db` attached.
#[derive(Debug)]
pub struct AppDb {
    db: Connection,
}

impl AppDb {
    pub(super) fn open(data_db: &Path, app_db: &Path) -> Result<Self> {
        let db = schema::open(data_db, schema::File::Data)?;
        let app_db = app_db.to_str().ok_or_else(|| Error::other("the directory's path must be UTF-8"))?;
        db.execute("ATTACH DATABASE ?1 AS app", [app_db])?;
        Ok(Self { db })
    }

    /// The connection itself, for what this kit does not foresee.
    pub fn connection(&self) -> &Connection {
        &self.db
    }

    /// One of `profile_setting`.
    pub fn setting(&self, key: &str) -> Result<Option<String>> {
        schema::get(&self.db, "profile_setting", key)
    }

    /// Writes one of `profile_setting`; `value_type` is `string`, `int`, `bool` or `json`.
    pub fn set_setting(&self, key: &str, value: &str, value_type: &str) -> Result<()> {
        schema::put(&self.db, "profile_setting", key, value, value_type)
    }

    /// Removes one of `profile_setting`.
    pub fn remove_setting(&self, key: &str) -> Result<()> {
        self.db.execute("DELETE FROM profile_setting WHERE key = ?1", [key])?;
        Ok(())
    }

    /// Sets `sync.mode`: `local`, `hybrid` or anything else.
    pub fn set_mode(&self, mode: &str) -> Result<()> {
        self.set_setting(MODE, mode, "string")
    }

    /// Sets the Lamport clock, forwards or backwards (a restored backup, a power cut).
    pub fn set_clock(&self, value: i64) -> Result<()> {
        self.set_setting(LAMPORT, &value.to_string(), "int")
    }

    /// The Lamport clock; `None` where it is absent or no integer.
    pub fn clock(&self) -> Result<Option<i64>> {
        Ok(self.setting(LAMPORT)?.and_then(|text| text.parse().ok()))
    }

    /// The last HLC pair drawn: wall in ms, logical.
    pub fn last_pair(&self) -> Result<Option<(i64, i64)>> {
        let wall = self.setting(LAST_WALL)?.and_then(|text| text.parse().ok());
        let logical = self.setting(LAST_LOGICAL)?.and_then(|text| text.parse().ok());
        Ok(wall.zip(logical))
    }

    /// Signs in: a new row, whatever stood there before.
    pub fn sign_in(&self, token: &str) -> Result<()> {
        self.sign_in_at(token, time::now_ms())
    }

    /// [`Self::sign_in`] at a moment of the test's choice (ms).
    pub fn sign_in_at(&self, token: &str, now: i64) -> Result<()> {
        self.db.execute(
            "INSERT OR REPLACE INTO auth_credential (provider, username, token_encrypted, created_at, updated_at) \
             VALUES (?1, 'zoë', ?2, ?3, ?3)",
            (PROVIDER, token.as_bytes(), now),
        )?;
        Ok(())
    }

    /// Pastes a token over the old one: `created_at` stays, `updated_at` moves. Fails where nobody is signed in.
    pub fn paste_token(&self, token: &str) -> Result<()> {
        self.paste_token_at(token, time::now_ms())
    }

    /// [`Self::paste_token`] at a moment of the test's choice (ms).
    pub fn paste_token_at(&self, token: &str, now: i64) -> Result<()> {
        let sql = "UPDATE auth_credential SET token_encrypted = ?2, updated_at = ?3 WHERE provider = ?1";
        match self.db.execute(sql, (PROVIDER, token.as_bytes(), now))? {
            0 => Err(Error::other("nobody is signed in")),
            _ => Ok(()),
        }
    }

    /// Signs out: the row goes, the queue stays.
    pub fn sign_out(&self) -> Result<()> {
        self.db.execute("DELETE FROM auth_credential WHERE provider = ?1", [PROVIDER])?;
        Ok(())
    }

    /// Restores a backup into the live file, by `SQLite`'s backup API: the same file with what was in the other one,
    /// queue, clock and ids that were used before included. Whoever has it open goes on in it.
    pub fn restore(&mut self, backup: &Path) -> Result<()> {
        Ok(self.db.restore("main", backup, None::<fn(rusqlite::backup::Progress)>)?)
    }

    /// The token as it stands there.
    pub fn token(&self) -> Result<Option<String>> {
        let sql = "SELECT token_encrypted FROM auth_credential WHERE provider = ?1";
        let bytes: Option<Vec<u8>> = self.db.query_row(sql, [PROVIDER], |row| row.get(0)).optional()?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// The same on a connection opened for the one call: the app starts, does it, and is closed again.
impl Profile {
    /// See [`AppDb::sign_in`].
    pub fn sign_in(&self, token: &str) -> Result<()> {
        self.open()?.sign_in(token)
    }

    /// See [`AppDb::paste_token`].
    pub fn paste_token(&self, token: &str) -> Result<()> {
        self.open()?.paste_token(token)
    }

    /// See [`AppDb::sign_out`].
    pub fn sign_out(&self) -> Result<()> {
        self.open()?.sign_out()
    }

    /// See [`AppDb::set_mode`].
    pub fn set_mode(&self, mode: &str) -> Result<()> {
        self.open()?.set_mode(mode)
    }

    /// See [`AppDb::set_clock`].
    pub fn set_clock(&self, value: i64) -> Result<()> {
        self.open()?.set_clock(value)
    }

    /// See [`AppDb::clock`].
    pub fn clock(&self) -> Result<Option<i64>> {
        self.open()?.clock()
    }
}
