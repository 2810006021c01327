//! An install of the app, with a server and a profile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use testkit::data_dir::{DataDir, Generation, Profile};
use testkit::server::{Server, Version};
use testkit::token;

/// Nothing else than a wake tells of a commit.
const UNWATCHED: &str = "[drain]\ninterval = \"1h\"\n[watch]\nmode = \"off\"\n";
/// Only the file watch does.
const WATCHED: &str = "[drain]\ninterval = \"1h\"\n";

/// What the app does for an op, as one line: the clock is advanced, the row gets its value.
pub(crate) const OP: &str = "BEGIN IMMEDIATE; \
    UPDATE profile_setting SET value = CAST(value AS INTEGER) + 1 WHERE key = 'sync.lamport_local_max'; \
    INSERT INTO sync_pending_op (operation_id, lamport_ts, entity, entity_id, field, op, payload, created_at) \
    SELECT lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-a' || \
    substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))), CAST(value AS INTEGER), 'playlist', '7', 'name', 'set', \
    '{\"value\":\"x\"}', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) \
    FROM profile_setting WHERE key = 'sync.lamport_local_max'; \
    COMMIT;";

pub(crate) struct Stage {
    home: TempDir,
    pub(crate) server: Server,
    pub(crate) profile: Profile,
}

impl Stage {
    /// Where only wakes tell of commits.
    pub(crate) fn new() -> Self {
        Self::with(UNWATCHED)
    }

    /// Where only the file watch does.
    pub(crate) fn watched() -> Self {
        Self::with(WATCHED)
    }

    fn with(configuration: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let server = Server::start(Version::Later).unwrap();
        let dir = DataDir::new(home.path().join("data/app.waveflow/waveflow"), Generation::Three).unwrap();
        dir.set_server_url(Some(&server.url())).unwrap();
        let profile = dir.add_profile("Zoë").unwrap();
        profile.sign_in(&token::for_user("alice")).unwrap();
        profile.set_clock(0).unwrap();
        let file = home.path().join("config/waveflow/sync-agent.toml");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, configuration).unwrap();
        Self { home, server, profile }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home().join("run/waveflow/sync-agent.sock")
    }

    /// Nothing of the outside but where programs are, and the directories below [`Self::home`].
    pub(crate) fn environment(&self, command: &mut Command) {
        command.env_clear().env("HOME", self.home()).current_dir(self.home());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        for (name, directory) in [
            ("XDG_DATA_HOME", "data"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_RUNTIME_DIR", "run"),
        ] {
            command.env(name, self.home().join(directory));
        }
    }

    /// Whether so many ops came to the server.
    pub(crate) fn stores(&self, count: usize) -> bool {
        self.server.wait_for(|stats| stats.stored >= count, super::SOON)
    }
}
