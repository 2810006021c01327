//! The app's data directory, made from the contract: `app.db` and `profiles/<id>/data.db`, at any generation.
//!
//! ```text
//! DataDir ── add_profile ──▶ Profile ── open ──▶ AppDb   (a connection of the app's, app.db attached)
//! ```
//!
//! What must always hold: files are opened as the app opens them (WAL, its synchronous modes, its busy timeout), and
//! nothing here remembers what is in them: two handles on one directory always agree.
//!
//! A [`DataDir`] and a [`Profile`] hold no connection: each call opens one, and as the last one closes, the WAL is
//! checkpointed and removed, as when the app is closed. Whoever wants the app to stay open keeps an [`AppDb`].

mod db;
mod queue;
mod schema;

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};
use uuid::Uuid;

use crate::{Error, Result, time};

pub use db::AppDb;
pub use queue::{Pending, RawOp, Style};
pub use schema::Generation;

/// The app's key for its server.
const SERVER_URL: &str = "app.waveflow_server_url";
/// The app's key for the install's id.
const DEVICE_ID: &str = "sync.device_id";
/// The app's key for the active profile.
const LAST_PROFILE: &str = "app.last_profile_id";

/// A made-up install of the app.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
    generation: Generation,
}

impl DataDir {
    /// Makes the directory with an `app.db` in it: no profile, no server, no device id. What is already there is kept
    /// and migrated up to `generation`.
    pub fn new(path: impl Into<PathBuf>, generation: Generation) -> Result<Self> {
        let mut dir = Self { path: path.into(), generation };
        fs::create_dir_all(dir.path.join("profiles"))?;
        dir.migrate(generation)?;
        Ok(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `app.db` is.
    pub fn app_db_path(&self) -> PathBuf {
        self.path.join("app.db")
    }

    /// What its files have been migrated up to.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// A connection of the app's to `app.db`.
    pub fn app_db(&self) -> Result<Connection> {
        schema::open(&self.app_db_path(), schema::File::App)
    }

    /// Sets `app.waveflow_server_url`; `None` removes it.
    pub fn set_server_url(&self, url: Option<&str>) -> Result<()> {
        self.set(SERVER_URL, url, "string")
    }

    /// The server's URL as it stands there.
    pub fn server_url(&self) -> Result<Option<String>> {
        schema::get(&self.app_db()?, "app_setting", SERVER_URL)
    }

    /// Sets `sync.device_id`; `None` removes it.
    pub fn set_device_id(&self, id: Option<&str>) -> Result<()> {
        self.set(DEVICE_ID, id, "string")
    }

    /// The device id, absent until somebody's first drain.
    pub fn device_id(&self) -> Result<Option<String>> {
        schema::get(&self.app_db()?, "app_setting", DEVICE_ID)
    }

    /// The device id as the app's drain gets it: made where it is absent, and read back, because another process may
    /// have been faster.
    pub fn device_id_or_new(&self) -> Result<String> {
        self.app_db()?.execute(
            "INSERT INTO app_setting (key, value, value_type, updated_at) VALUES (?1, ?2, 'string', ?3) \
             ON CONFLICT (key) DO NOTHING",
            (DEVICE_ID, Uuid::new_v4().to_string(), time::now_ms()),
        )?;
        self.device_id()?.ok_or_else(|| Error::other("the device id vanished"))
    }

    /// Makes this the active profile.
    pub fn set_active(&self, profile: &Profile) -> Result<()> {
        self.set(LAST_PROFILE, Some(&profile.id.to_string()), "int")
    }

    fn set(&self, key: &str, value: Option<&str>, value_type: &str) -> Result<()> {
        let db = self.app_db()?;
        match value {
            Some(value) => schema::put(&db, "app_setting", key, value, value_type),
            None => Ok(db.execute("DELETE FROM app_setting WHERE key = ?1", [key]).map(|_| ())?),
        }
    }

    /// Adds a profile with an empty `data.db`. From generation 2 on it has a `canonical_id`, as after the app's next
    /// start.
    pub fn add_profile(&self, name: &str) -> Result<Profile> {
        let next: i64 =
            self.app_db()?.query_row("SELECT COALESCE(MAX(id), 0) + 1 FROM profile", [], |row| row.get(0))?;
        self.add_profile_with_id(next, name)
    }

    /// Adds a profile under a given id: how a deleted one comes back with the same path.
    pub fn add_profile_with_id(&self, id: i64, name: &str) -> Result<Profile> {
        let data_dir = format!("profiles/{id}");
        let profile = Profile { dir: self.clone(), id, path: self.path.join(&data_dir) };
        fs::create_dir_all(&profile.path)?;
        let mut db = schema::open(&profile.db_path(), schema::File::Data)?;
        schema::migrate(&mut db, schema::File::Data, self.generation)?;
        let now = time::now_ms();
        self.app_db()?.execute(
            "INSERT INTO profile (id, name, color_id, avatar_hash, data_dir, created_at, last_used_at) \
             VALUES (?1, ?2, 'blue', NULL, ?3, ?4, ?4)",
            (id, name, data_dir, now),
        )?;
        if self.generation.has_canonical_id() {
            profile.set_canonical_id(Some(Uuid::new_v4()))?;
        }
        Ok(profile)
    }

    /// The profiles, by id.
    pub fn profiles(&self) -> Result<Vec<Profile>> {
        let db = self.app_db()?;
        let mut rows = db.prepare("SELECT id, data_dir FROM profile ORDER BY id")?;
        let found = rows.query_map([], |row| {
            let data_dir: String = row.get(1)?;
            Ok(Profile { dir: self.clone(), id: row.get(0)?, path: self.path.join(data_dir) })
        })?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    /// Migrates every file up to `generation`, in place, as an app does at its first start after an update. New
    /// `canonical_id` columns stay NULL, as they do until the start after that.
    pub fn migrate(&mut self, generation: Generation) -> Result<()> {
        if generation < self.generation {
            return Err(Error::other("the app never migrates down"));
        }
        schema::migrate(&mut self.app_db()?, schema::File::App, generation)?;
        for profile in self.profiles()? {
            let mut db = schema::open(&profile.db_path(), schema::File::Data)?;
            schema::migrate(&mut db, schema::File::Data, generation)?;
        }
        self.generation = generation;
        Ok(())
    }

    /// Deletes a profile: its row and its directory with everything in it.
    pub fn delete_profile(&self, profile: &Profile) -> Result<()> {
        self.app_db()?.execute("DELETE FROM profile WHERE id = ?1", [profile.id])?;
        Ok(fs::remove_dir_all(&profile.path)?)
    }

    /// Resets everything: the whole directory goes.
    pub fn reset(self) -> Result<()> {
        Ok(fs::remove_dir_all(&self.path)?)
    }
}

/// One profile of an install.
#[derive(Debug, Clone)]
pub struct Profile {
    dir: DataDir,
    /// Its id in `app.db`.
    pub id: i64,
    /// Its directory.
    pub path: PathBuf,
}

impl Profile {
    /// The install it belongs to.
    pub fn data_dir(&self) -> &DataDir {
        &self.dir
    }

    /// Where its `data.db` is.
    pub fn db_path(&self) -> PathBuf {
        self.path.join("data.db")
    }

    /// Opens it as the app does, with `app.db` attached; the app counts as open as long as this lives.
    pub fn open(&self) -> Result<AppDb> {
        AppDb::open(&self.db_path(), &self.dir.app_db_path())
    }

    /// Sets or clears `canonical_id`. Fails before generation 2.
    pub fn set_canonical_id(&self, id: Option<Uuid>) -> Result<()> {
        let text = id.map(|id| id.to_string());
        self.dir.app_db()?.execute("UPDATE profile SET canonical_id = ?1 WHERE id = ?2", (text, self.id))?;
        Ok(())
    }

    /// The profile's `canonical_id`. Fails before generation 2.
    pub fn canonical_id(&self) -> Result<Option<Uuid>> {
        let sql = "SELECT canonical_id FROM profile WHERE id = ?1";
        let text: Option<Option<String>> = self.dir.app_db()?.query_row(sql, [self.id], |row| row.get(0)).optional()?;
        Ok(text.flatten().and_then(|text| Uuid::try_parse(&text).ok()))
    }

    /// Writes a copy of `data.db`, as the app's export does.
    pub fn export(&self, to: &Path) -> Result<()> {
        let to = to.to_str().ok_or_else(|| Error::other("an export's path must be UTF-8"))?;
        self.open()?.connection().execute("VACUUM INTO ?1", [to])?;
        Ok(())
    }

    /// Replaces `data.db` by a file that was exported before: another file under the same path.
    pub fn replace_by_import(&self, exported: &Path) -> Result<()> {
        let incoming = self.path.join("data.db.import");
        fs::copy(exported, &incoming)?;
        // An export is not in WAL mode; the app's file always is.
        drop(schema::open(&incoming, schema::File::Data)?);
        self.swap_in(&incoming)
    }

    /// Replaces `data.db` by a new, empty one.
    pub fn replace_by_empty(&self) -> Result<()> {
        let incoming = self.path.join("data.db.import");
        let mut db = schema::open(&incoming, schema::File::Data)?;
        schema::migrate(&mut db, schema::File::Data, self.dir.generation)?;
        drop(db);
        self.swap_in(&incoming)
    }

    fn swap_in(&self, incoming: &Path) -> Result<()> {
        for leftover in ["data.db-wal", "data.db-shm"] {
            match fs::remove_file(self.path.join(leftover)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(fs::rename(incoming, self.db_path())?)
    }
}

#[cfg(test)]
mod tests;
