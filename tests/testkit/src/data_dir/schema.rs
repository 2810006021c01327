//! What the app's migrations have made by each generation (contract, section 2), and how it opens its files.
//!
//! What must always hold: a migration only adds; a database made at a generation and one migrated up to it have the
//! same columns.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::{Result, time};

/// The app's `busy_timeout`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What stage the app's migrations have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// No `canonical_id`, no HLC.
    One,
    /// `profile.canonical_id`.
    Two,
    /// HLC pairs in the queue.
    Three,
    /// Generation 3 with columns in `profile` and in the queue that nobody here has heard of.
    Future,
    /// The current app: the queue's table is still there and nothing writes it.
    Head,
}

impl Generation {
    /// Every generation whose app queues ops.
    pub const QUEUEING: [Self; 4] = [Self::One, Self::Two, Self::Three, Self::Future];

    /// Every generation.
    pub const ALL: [Self; 5] = [Self::One, Self::Two, Self::Three, Self::Future, Self::Head];

    /// Whether `profile` has `canonical_id`.
    pub fn has_canonical_id(self) -> bool {
        self >= Self::Two
    }

    /// Whether the queue has `hlc_wall` and `hlc_logical`.
    pub fn has_hlc(self) -> bool {
        self >= Self::Three
    }

    /// Migrations that lead here, in order: for `app.db` and for `data.db`.
    fn steps(self) -> impl Iterator<Item = &'static Step> {
        STEPS.iter().filter(move |step| step.since <= self && (step.only.is_none() || step.only == Some(self)))
    }
}

struct Step {
    version: i64,
    description: &'static str,
    since: Generation,
    /// Where it is no ancestor of the later ones.
    only: Option<Generation>,
    app: &'static str,
    data: &'static str,
}

const SETTINGS: &str = "key TEXT PRIMARY KEY, value TEXT NOT NULL, \
     value_type TEXT NOT NULL CHECK (value_type IN ('string', 'int', 'bool', 'json')), updated_at INTEGER NOT NULL";

const STEPS: &[Step] = &[
    Step {
        version: 20_250_101_000_000,
        description: "initial",
        since: Generation::One,
        only: None,
        app: "CREATE TABLE profile (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, color_id TEXT, \
              avatar_hash TEXT, data_dir TEXT NOT NULL, created_at INTEGER NOT NULL, last_used_at INTEGER NOT NULL);",
        data: "CREATE TABLE auth_credential (provider TEXT PRIMARY KEY, username TEXT, \
               token_encrypted BLOB NOT NULL, refresh_token_encrypted BLOB, expires_at INTEGER, \
               created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
               CREATE TABLE entity (kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT, updated_at INTEGER NOT NULL, \
               PRIMARY KEY (kind, id));
               CREATE TABLE sync_pending_op (id INTEGER PRIMARY KEY AUTOINCREMENT, \
               operation_id TEXT NOT NULL UNIQUE, lamport_ts INTEGER NOT NULL UNIQUE CHECK (lamport_ts > 0), \
               entity TEXT NOT NULL, entity_id TEXT NOT NULL, field TEXT, \
               op TEXT NOT NULL CHECK (op IN ('set', 'delete', 'insert', 'noop')), payload TEXT, \
               created_at INTEGER NOT NULL, last_attempt_at INTEGER, attempt_count INTEGER NOT NULL DEFAULT 0, \
               last_error TEXT);
               CREATE INDEX idx_sync_pending_op_created_at ON sync_pending_op (created_at);",
    },
    Step {
        version: 20_250_201_000_000,
        description: "canonical id",
        since: Generation::Two,
        only: None,
        app: "ALTER TABLE profile ADD COLUMN canonical_id TEXT;",
        data: "",
    },
    Step {
        version: 20_250_301_000_000,
        description: "hybrid logical clock",
        since: Generation::Three,
        only: None,
        app: "ALTER TABLE profile ADD COLUMN sort_order INTEGER NOT NULL DEFAULT 0;",
        data: "ALTER TABLE sync_pending_op ADD COLUMN hlc_wall INTEGER NOT NULL DEFAULT 0;
               ALTER TABLE sync_pending_op ADD COLUMN hlc_logical INTEGER NOT NULL DEFAULT 0 \
               CHECK (hlc_logical BETWEEN 0 AND 2147483647);",
    },
    Step {
        version: 20_250_401_000_000,
        description: "what nobody knows yet",
        since: Generation::Future,
        only: Some(Generation::Future),
        app: "ALTER TABLE profile ADD COLUMN aura TEXT NOT NULL DEFAULT 'green';",
        data: "ALTER TABLE sync_pending_op ADD COLUMN origin TEXT;
               ALTER TABLE sync_pending_op ADD COLUMN priority INTEGER NOT NULL DEFAULT 5;",
    },
    Step {
        version: 20_250_501_000_000,
        description: "the newer outbox",
        since: Generation::Head,
        only: None,
        app: "",
        data: "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, operation_id TEXT NOT NULL UNIQUE, \
               entity TEXT NOT NULL, entity_id TEXT NOT NULL, payload TEXT, created_at INTEGER NOT NULL);",
    },
];

/// Which of the two kinds of file a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File {
    /// `app.db`
    App,
    /// `data.db`
    Data,
}

impl File {
    fn settings_table(self) -> &'static str {
        match self {
            Self::App => "app_setting",
            Self::Data => "profile_setting",
        }
    }

    /// `app.db` runs `FULL`, `data.db` `NORMAL`.
    fn synchronous(self) -> &'static str {
        match self {
            Self::App => "FULL",
            Self::Data => "NORMAL",
        }
    }
}

/// Opens a file the way the app does; makes it where it is missing.
pub(crate) fn open(path: &Path, file: File) -> Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "page_size", 4096)?;
    let _mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    db.pragma_update(None, "synchronous", file.synchronous())?;
    db.pragma_update(None, "wal_autocheckpoint", 1000)?;
    db.pragma_update(None, "foreign_keys", true)?;
    Ok(db)
}

/// Runs what is missing up to `generation`, each migration in its own transaction, as sqlx does.
pub(crate) fn migrate(db: &mut Connection, file: File, generation: Generation) -> Result<()> {
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
         installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, \
         checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)",
    )?;
    for step in generation.steps() {
        let done: bool =
            db.query_row("SELECT EXISTS (SELECT 1 FROM _sqlx_migrations WHERE version = ?1)", [step.version], |row| {
                row.get(0)
            })?;
        if done {
            continue;
        }
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if step.since == Generation::One {
            transaction.execute_batch(&format!("CREATE TABLE {} ({SETTINGS})", file.settings_table()))?;
        }
        transaction.execute_batch(match file {
            File::App => step.app,
            File::Data => step.data,
        })?;
        transaction.execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (?1, ?2, TRUE, ?3, 1000)",
            (step.version, step.description, step.description.as_bytes()),
        )?;
        transaction.commit()?;
    }
    Ok(())
}

/// Writes one setting, over whatever stood there.
pub(crate) fn put(db: &Connection, table: &str, key: &str, value: &str, value_type: &str) -> Result<()> {
    db.execute(
        &format!(
            "INSERT INTO {table} (key, value, value_type, updated_at) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at"
        ),
        (key, value, value_type, time::now_ms()),
    )?;
    Ok(())
}

/// Reads one setting.
pub(crate) fn get(db: &Connection, table: &str, key: &str) -> Result<Option<String>> {
    use rusqlite::OptionalExtension as _;
    Ok(db.query_row(&format!("SELECT value FROM {table} WHERE key = ?1"), [key], |row| row.get(0)).optional()?)
}
