//! Where a contest takes place: an install of the app with a queue in it, the same for every contestant.
//!
//! What must always hold: a queue is made once and every contestant gets a copy of the closed files, on the disk before
//! the contest begins; what came in is held against what was queued, in order, and a contest that went wrong is an error
//! and no figure.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tempfile::TempDir;
use testkit::data_dir::{DataDir, Generation, Profile};
use testkit::ops::{Mix, NewOp};
use testkit::{Error, Result, time, token};
use uuid::Uuid;

use super::echo::Echo;

/// The device of every install.
const DEVICE: &str = "5f4dcc3b-5aa7-45d6-9d83-27deb882cf99";
/// Where the app's files are, below the home directory.
const DATA: &str = "data/app.waveflow/waveflow";
/// Ops in one transaction of the app's while it scans.
const BURST: usize = 200;
/// Where the made-up ops begin; any number would do.
const SEED: u64 = 6;

/// An install whose queue holds what a user did; closed.
pub(crate) struct Original {
    install: Install,
    /// The ids in the queue, in order.
    pub(crate) ids: Vec<u128>,
}

impl Original {
    /// Makes one with so many ops, mixed, as the app commits them while it scans.
    pub(crate) fn new(ops: usize) -> Result<Self> {
        let install = Install::new()?;
        let mut ids = Vec::with_capacity(ops);
        let app = install.profile.open()?;
        // Only for the making, of a million ids in random order.
        for (pragma, value) in [("cache_size", -256 * 1024), ("synchronous", 0), ("wal_autocheckpoint", 50_000)] {
            app.connection().pragma_update(None, pragma, value)?;
        }
        let mut mix = Mix::new(SEED).without_large();
        while ids.len() < ops {
            let burst: Vec<_> = mix.by_ref().take(BURST.min(ops - ids.len())).collect();
            queue(app.connection(), &burst, ids.len())?;
            ids.extend(burst.iter().map(|op| op.operation_id.as_u128()));
        }
        app.set_clock(i64::try_from(ops).unwrap_or(i64::MAX))?;
        drop(app);
        Ok(Self { install, ids })
    }

    /// A copy, for one contestant, that delivers to `server`.
    pub(crate) fn copy(&self, server: &Echo) -> Result<Install> {
        let home = tempfile::tempdir()?;
        copy_settled(&self.install.home.path().join(DATA), &home.path().join(DATA))?;
        let install = Install::at(home)?;
        install.deliver_to(server)?;
        Ok(install)
    }
}

/// Queues ops behind the first `queued` ones, in one transaction: the rows [`testkit::data_dir::AppDb::enqueue`] would
/// write, without the user's changes beside them, and ten times as fast.
fn queue(db: &Connection, ops: &[NewOp], queued: usize) -> Result<()> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO sync_pending_op (operation_id, lamport_ts, entity, entity_id, field, op, payload, created_at, \
             hlc_wall, hlc_logical) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9)",
        )?;
        for (place, op) in ops.iter().enumerate() {
            let stamp = i64::try_from(queued + place + 1).unwrap_or(i64::MAX);
            let id = op.operation_id.to_string();
            let row = (id, stamp, &op.entity, &op.entity_id, &op.field, &op.op, &op.payload, time::now_ms(), stamp);
            statement.execute(row)?;
        }
    }
    Ok(transaction.commit()?)
}

/// Copies a directory and waits until the copy is on the disk: nobody's contest pays for it.
fn copy_settled(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_settled(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    Ok(())
}

/// An install of the app.
pub(crate) struct Install {
    home: TempDir,
    dir: DataDir,
    /// Its one profile, signed in.
    pub(crate) profile: Profile,
}

impl Install {
    /// With an empty queue and without a server.
    pub(crate) fn new() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let dir = DataDir::new(home.path().join(DATA), Generation::Three)?;
        dir.set_device_id(Some(DEVICE))?;
        let profile = dir.add_profile("Zoë")?;
        profile.sign_in(&token::for_user("alice"))?;
        Ok(Self { home, dir, profile })
    }

    fn at(home: TempDir) -> Result<Self> {
        let dir = DataDir::new(home.path().join(DATA), Generation::Three)?;
        let profile = dir.profiles()?.pop().ok_or_else(|| Error::other("a copy without a profile"))?;
        Ok(Self { home, dir, profile })
    }

    /// The app's directory.
    pub(crate) fn data(&self) -> &Path {
        self.dir.path()
    }

    /// The agent's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.path().join("run/waveflow/sync-agent.sock")
    }

    /// The agent, with nothing of the outside in its environment.
    pub(crate) fn agent(&self, arguments: &[&str]) -> Command {
        let home = self.home.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_waveflow-sync-agent"));
        command.args(arguments).env_clear().env("HOME", home).current_dir(home);
        for (name, directory) in [("DATA_HOME", "data"), ("CONFIG_HOME", "config"), ("STATE_HOME", "state")] {
            command.env(format!("XDG_{name}"), home.join(directory));
        }
        command.env("XDG_RUNTIME_DIR", home.join("run"));
        command
    }

    /// The agent's user's home.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Puts this server into the app's settings.
    pub(crate) fn deliver_to(&self, server: &Echo) -> Result<()> {
        self.dir.set_server_url(Some(&server.url()))
    }

    /// The ids that are in the queue, in order.
    pub(crate) fn waiting(&self) -> Result<Vec<u128>> {
        let id = |text: &str| Uuid::try_parse(text).map(|id| id.as_u128());
        let rows = self.profile.pending()?;
        rows.iter().map(|row| id(&row.operation_id).map_err(|error| Error::other(error.to_string()))).collect()
    }

    /// Fails unless the server got these ops, once each and in order, and the queue is empty.
    pub(crate) fn verify(&self, queued: &[u128], arrived: &[u128]) -> Result<()> {
        verify_order(queued, arrived)?;
        match self.profile.pending_count()? {
            0 => Ok(()),
            rows => Err(Error::other(format!("{rows} rows are still in the queue"))),
        }
    }
}

/// Fails unless these ops arrived, once each and in order.
pub(crate) fn verify_order(queued: &[u128], arrived: &[u128]) -> Result<()> {
    match (0..queued.len().max(arrived.len())).find(|at| queued.get(*at) != arrived.get(*at)) {
        None => Ok(()),
        Some(place) => Err(Error::other(format!(
            "{} ops arrived of {}; op {place} is the first that is not in its place",
            arrived.len(),
            queued.len()
        ))),
    }
}
