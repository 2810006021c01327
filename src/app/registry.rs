//! `app.db`: the profiles, the server's address, the device id.

use std::path::{Component, Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use crate::drain::action::StoreError;
use crate::halt::{self, Place};
use crate::queue::Database;
use crate::queue::columns::has_table;
use crate::queue::database::{Durability, InDatabase};

/// The file's name within the data directory.
pub const FILE: &str = "app.db";
/// A person has a handful of profiles; more than this are not served, and said so.
pub const PROFILES_MAX: usize = 256;

const URL_KEY: &str = "app.waveflow_server_url";
const DEVICE_KEY: &str = "sync.device_id";

/// A profile, as `app.db` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its number.
    pub id: i64,
    /// What the user calls it.
    pub name: String,
    /// Its database; `None` where `data_dir` is no path, or one out of the app's directory.
    pub path: Option<PathBuf>,
}

/// What the profile table says about `canonical_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Canonical {
    /// Generation 1: there is no such column, and nothing is sent.
    NoColumn,
    /// The app fills it in at its next start.
    Missing,
    /// Sent with every op.
    Id(String),
}

/// Opens `app.db` in `directory`.
pub fn open(directory: &Path) -> Result<Database, StoreError> {
    Database::open(&directory.join(FILE), Durability::Full)
}

/// Every profile, by number.
pub fn profiles(connection: &Connection, directory: &Path) -> Result<Vec<Profile>, StoreError> {
    if !has_table(connection, "profile")? {
        return Ok(Vec::new());
    }
    let mut statement =
        connection.prepare_cached("SELECT id, name, data_dir FROM profile ORDER BY id LIMIT ?1").on(connection)?;
    let limit = i64::try_from(PROFILES_MAX).unwrap_or(i64::MAX);
    let rows = statement.query_map([limit], |row| {
        // What is no text spoils this profile alone: it is listed, and has nowhere to be.
        let text = |index| row.get_ref(index).ok().and_then(|value| value.as_str().ok());
        let path = text(2).and_then(|data_dir| within(directory, data_dir));
        Ok(Profile { id: row.get(0)?, name: text(1).unwrap_or_default().to_owned(), path })
    });
    rows.and_then(Iterator::collect).on(connection)
}

/// `data_dir` is relative to the app's directory (contract, section 2); what leads out of it is not followed.
fn within(directory: &Path, data_dir: &str) -> Option<PathBuf> {
    let relative = Path::new(data_dir);
    let stays = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    (stays && !data_dir.is_empty()).then(|| directory.join(relative).join("data.db"))
}

/// The server's base URL as the app has it; blank means none.
pub fn server_url(connection: &Connection) -> Result<Option<String>, StoreError> {
    setting(connection, URL_KEY)
}

/// The device id, where there is one.
pub fn device_id(connection: &Connection) -> Result<Option<String>, StoreError> {
    setting(connection, DEVICE_KEY)
}

/// The device id; made where there is none, insert-if-absent, then read back what won (contract, section 2). `now` in
/// ms.
pub fn ensure_device_id(database: &Database, now: i64) -> Result<Option<String>, StoreError> {
    if let Some(found) = database.read(device_id)? {
        return Ok(Some(found));
    }
    database.write(|connection| {
        connection
            .execute(
                "INSERT INTO app_setting (key, value, value_type, updated_at) VALUES (?1, ?2, 'string', ?3) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at \
                 WHERE trim(app_setting.value) = ''",
                (DEVICE_KEY, Uuid::new_v4().to_string(), now),
            )
            .on(connection)?;
        halt::here(Place::DeviceInside);
        device_id(connection)
    })
}

/// What the server calls the profile.
pub fn canonical(connection: &Connection, profile: i64) -> Result<Canonical, StoreError> {
    let has_column: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM pragma_table_info('profile') WHERE name = 'canonical_id')")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .on(connection)?;
    if !has_column {
        return Ok(Canonical::NoColumn);
    }
    let id: Option<Option<String>> = connection
        .prepare_cached("SELECT CAST(canonical_id AS TEXT) FROM profile WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([profile], |row| row.get(0)).optional())
        .on(connection)?;
    let id = id.flatten().map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    Ok(id.map_or(Canonical::Missing, Canonical::Id))
}

fn setting(connection: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    if !has_table(connection, "app_setting")? {
        return Ok(None);
    }
    let value: Option<String> = connection
        .prepare_cached("SELECT CAST(value AS TEXT) FROM app_setting WHERE key = ?1")
        .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
        .on(connection)?;
    Ok(value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_dir_that_leads_out_of_the_apps_directory_is_not_followed() {
        let root = Path::new("/data");
        assert_eq!(within(root, "profiles/1"), Some("/data/profiles/1/data.db".into()));
        for out in ["", "/etc", "../x", "profiles/../../x"] {
            assert_eq!(within(root, out), None, "{out}");
        }
    }

    #[test]
    fn a_device_id_is_made_once_and_what_stands_there_wins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let app = Connection::open(&path).unwrap();
        app.execute_batch("CREATE TABLE app_setting (key TEXT PRIMARY KEY, value TEXT NOT NULL, value_type TEXT NOT NULL, updated_at INTEGER NOT NULL)").unwrap();
        let database = open(directory.path()).unwrap();
        let made = ensure_device_id(&database, 5).unwrap().unwrap();
        assert_eq!(Uuid::try_parse(&made).unwrap().get_version_num(), 4);
        assert_eq!(ensure_device_id(&database, 6).unwrap().unwrap(), made);
        app.execute("UPDATE app_setting SET value = 'from the app'", []).unwrap();
        assert_eq!(ensure_device_id(&database, 7).unwrap().unwrap(), "from the app");
        app.execute("UPDATE app_setting SET value = ' '", []).unwrap();
        assert_eq!(database.read(device_id).unwrap(), None);
        assert_eq!(Uuid::try_parse(&ensure_device_id(&database, 8).unwrap().unwrap()).unwrap().get_version_num(), 4);
    }
}
