//! An install of the app, and the agent beside it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use testkit::data_dir::{DataDir, Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Server, StoredOp};
use testkit::token;
use uuid::Uuid;

use super::{Agent, Run, command};

/// The device every stage has.
pub(crate) const DEVICE: &str = "5f4dcc3b-5aa7-45d6-9d83-27deb882cf99";

/// Retries fast enough for a test.
const QUICK: &str = "[retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n";

/// Where the app's files are, below the home directory.
const DATA: &str = "data/app.waveflow/waveflow";

pub(crate) struct Stage {
    home: TempDir,
    pub(crate) dir: DataDir,
}

impl Stage {
    /// An install without a server, with a device id, and quick retries in the agent's configuration.
    pub(crate) fn new(generation: Generation) -> Self {
        Self::at(tempfile::tempdir().unwrap(), generation)
    }

    /// [`Self::new`] in a directory that was prepared for it.
    pub(crate) fn at(home: TempDir, generation: Generation) -> Self {
        let dir = DataDir::new(home.path().join(DATA), generation).unwrap();
        dir.set_device_id(Some(DEVICE)).unwrap();
        let stage = Self { home, dir };
        stage.configure(QUICK);
        stage
    }

    /// An install whose server is `server`.
    pub(crate) fn with(generation: Generation, server: &Server) -> Self {
        let stage = Self::new(generation);
        stage.dir.set_server_url(Some(&server.url())).unwrap();
        stage
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A profile, signed in as `user`.
    pub(crate) fn profile(&self, name: &str, user: &str) -> Profile {
        let profile = self.dir.add_profile(name).unwrap();
        profile.sign_in(&token::for_user(user)).unwrap();
        profile
    }

    /// Writes the agent's configuration file.
    pub(crate) fn configure(&self, toml: &str) {
        let path = self.config_path();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, toml).unwrap();
    }

    /// Quick retries, and this besides.
    pub(crate) fn configure_more(&self, toml: &str) {
        self.configure(&format!("{QUICK}{toml}"));
    }

    /// The default settings.
    pub(crate) fn configure_nothing(&self) {
        fs::remove_file(self.config_path()).unwrap();
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.home().join("config/waveflow/sync-agent.toml")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home().join("run/waveflow/sync-agent.sock")
    }

    pub(crate) fn state_path(&self) -> PathBuf {
        self.home().join("state/waveflow/sync-agent/state.json")
    }

    /// What the agent remembers; null where it remembers nothing.
    pub(crate) fn state(&self) -> Value {
        match fs::read(self.state_path()) {
            Ok(bytes) => serde_json::from_slice::<Value>(&bytes).unwrap()["state"].clone(),
            Err(_) => Value::Null,
        }
    }

    /// Ids in quarantine.
    pub(crate) fn quarantined(&self) -> HashSet<String> {
        let state = self.state();
        state["quarantine"].as_object().map(|ops| ops.keys().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Agent {
        Agent::start(command(self.home()).args(arguments))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.start(arguments).finish()
    }

    /// The first three lines of `status`, as one.
    pub(crate) fn status_head(&self) -> String {
        let head: Vec<_> = self.run(&["status"]).stdout.lines().take(3).map(|line| line.trim().to_owned()).collect();
        head.join(" ")
    }

    /// `once --json`, waiting for as long as `wait` says.
    pub(crate) fn once(&self, wait: &str) -> Run {
        self.run(&["--json", "once", "--wait", wait])
    }
}

/// The ids of these ops, in order.
fn ids(ops: &[NewOp]) -> Vec<Uuid> {
    ops.iter().map(|op| op.operation_id).collect()
}

/// What the server stored of these ops, in the order of storing.
pub(crate) fn applied(server: &Server, ops: &[NewOp]) -> Vec<StoredOp> {
    let wanted: HashSet<Uuid> = ops.iter().map(|op| op.operation_id).collect();
    server.stored().into_iter().filter(|row| wanted.contains(&row.operation_id)).collect()
}

/// Fails unless these ops are stored once each, in this order, under rising stamps.
#[track_caller]
pub(crate) fn assert_delivered(server: &Server, ops: &[NewOp]) {
    assert_in_order(&applied(server, ops), ops);
}

/// How many times each of these ops came to the server, stored or not.
pub(crate) fn sendings(server: &Server, ops: &[NewOp]) -> Vec<usize> {
    let sent: Vec<String> = server.stats().batches().concat();
    let times = |op: &NewOp| sent.iter().filter(|id| **id == op.operation_id.to_string()).count();
    ops.iter().map(times).collect()
}

/// Fails unless these rows are these ops, in this order, under rising stamps.
#[track_caller]
pub(crate) fn assert_in_order(rows: &[StoredOp], ops: &[NewOp]) {
    let stored: Vec<Uuid> = rows.iter().map(|row| row.operation_id).collect();
    let wanted = ids(ops);
    if let Some(place) = (0..wanted.len().max(stored.len())).find(|at| stored.get(*at) != wanted.get(*at)) {
        panic!("{} stored of {}; the first difference is at {place}", stored.len(), wanted.len());
    }
    assert!(rising(rows), "the stamps do not rise");
}

/// Whether the stamps rise.
fn rising(rows: &[StoredOp]) -> bool {
    rows.windows(2).all(|pair| pair[0].lamport_ts < pair[1].lamport_ts)
}
