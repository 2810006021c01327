//! A user and his machine: a home, and programs that play systemd's.
//!
//! What must always hold: the binary is the real one, and so is the agent that the played manager starts; it never
//! outlives [`Play`].

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::XattrFlags;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::common::{Agent, Run, command};

pub(super) const SERVICE: &str = "waveflow-sync-agent.service";
pub(super) const SOCKET: &str = "waveflow-sync-agent.socket";

const SYSTEMCTL: &str = include_str!("systemctl.sh");
const LOGINCTL: &str = "#!/bin/sh\ncat \"$PLAY/linger\" 2>/dev/null || exit 1\n";

/// What a path is: mode, kind with content, and when it was last changed (a directory's time changes with what comes and
/// goes in it).
pub(super) type Tree = BTreeMap<PathBuf, (u32, String, Option<i64>)>;

pub(super) struct Play {
    home: TempDir,
    machine: TempDir,
    binary: Option<PathBuf>,
}

impl Play {
    pub(super) fn new() -> Self {
        Self::in_home("home")
    }

    /// The same with a home whose name begins so.
    pub(super) fn in_home(name: &str) -> Self {
        let home = tempfile::Builder::new().prefix(name).tempdir().unwrap();
        let play = Self { home, machine: tempfile::tempdir().unwrap(), binary: None };
        fs::create_dir_all(play.machine.path().join("bin")).unwrap();
        for (name, text) in [("systemctl", SYSTEMCTL), ("loginctl", LOGINCTL)] {
            let path = play.machine.path().join("bin").join(name);
            // By another process: one that this process has open for writing while another test starts something cannot
            // be run.
            let source = play.machine.path().join(name);
            fs::write(&source, text).unwrap();
            assert!(Command::new("install").args(["-m", "755"]).arg(&source).arg(&path).status().unwrap().success());
        }
        play.set("linger", "Linger=yes\n");
        play
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The same binary, at `path` below the machine's directory.
    pub(super) fn with_binary_at(mut self, path: &str) -> Self {
        let path = self.machine.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let real = command(self.home());
        assert!(Command::new("cp").arg(real.get_program()).arg(&path).status().unwrap().success());
        self.binary = Some(path);
        self
    }

    /// Where the binary is.
    pub(super) fn binary(&self) -> PathBuf {
        self.binary.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_waveflow-sync-agent").into())
    }

    /// Something the played programs look at.
    pub(super) fn set(&self, name: &str, text: &str) {
        let path = self.machine.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A file of the machine's.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.machine.path().join(name)
    }

    pub(super) fn unit(&self, name: &str) -> PathBuf {
        self.home().join(".config/systemd/user").join(name)
    }

    pub(super) fn command(&self) -> Command {
        let usual = command(self.home());
        let mut command = Command::new(self.binary());
        command.env_clear().envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.home());
        for usual in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
            command.env_remove(usual);
        }
        let path = format!("{}:/usr/bin:/bin", self.machine.path().join("bin").display());
        command.env("PATH", path).env("PLAY", self.machine.path());
        command
    }

    /// `service …`, with these flags behind it.
    pub(super) fn service(&self, arguments: &[&str]) -> Run {
        Agent::start(self.command().arg("service").args(arguments)).finish()
    }

    /// A person's `systemctl --user …`.
    #[track_caller]
    pub(super) fn systemctl(&self, arguments: &[&str]) {
        let usual = self.command();
        let mut systemctl = Command::new(self.path("bin/systemctl"));
        systemctl.env_clear().envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
        assert!(systemctl.arg("--user").args(arguments).status().unwrap().success());
    }

    /// What the manager was asked since the last time, questions left out.
    pub(super) fn orders(&self) -> Vec<String> {
        let path = self.machine.path().join("calls");
        let calls = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, "").unwrap();
        let orders =
            calls.lines().map(|line| line.trim_start_matches("--user ")).filter(|line| !line.starts_with("show"));
        orders.map(|line| line.replace("waveflow-sync-agent", "")).collect()
    }

    pub(super) fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.machine.path().join("pid")).ok()?.trim().parse().ok()
    }

    /// The home directory, without the runtime directory, which is no part of a real one.
    pub(super) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        walk(self.home(), self.home(), &mut tree);
        tree.retain(|path, _| !path.starts_with("run"));
        tree
    }

    /// Whether directories can carry a mark here.
    pub(super) fn has_attributes(&self) -> bool {
        let set = rustix::fs::setxattr(self.home(), "user.waveflow-test", b"1", XattrFlags::empty());
        if set.is_err() {
            eprintln!("skipped: this file system has no extended attributes");
        }
        set.is_ok()
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().and_then(Pid::from_raw) {
            // Gone already, where the test stopped it.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn walk(root: &Path, at: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        let time = (!found.is_dir()).then(|| found.mtime_nsec());
        let what = if found.is_symlink() {
            format!("to {}", fs::read_link(&path).unwrap().display())
        } else if found.is_file() {
            format!("has {}", fs::read_to_string(&path).unwrap())
        } else {
            "directory".to_owned()
        };
        tree.insert(path.strip_prefix(root).unwrap().to_owned(), (found.permissions().mode(), what, time));
        if found.is_dir() {
            walk(root, &path, tree);
        }
    }
}
