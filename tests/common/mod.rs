//! What every scenario needs: an install of the app, the agent's binary, and a look at what came of it.
//!
//! What must always hold: the binary runs with an environment that holds nothing but its own directories; it never
//! outlives [`Agent`]; waiting for it has an end.

#[cfg(all(target_os = "linux", debug_assertions))]
pub(crate) mod bus;
#[cfg(debug_assertions)]
pub(crate) mod clock;
#[cfg(target_os = "linux")]
pub(crate) mod container;
pub(crate) mod daemon;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nobody fills one there"))]
pub(crate) mod mount;
pub(crate) mod pair;
#[cfg(target_os = "linux")]
pub(crate) mod sandbox;
mod stage;
#[cfg(target_os = "linux")]
pub(crate) mod terminal;
#[cfg(target_os = "linux")]
pub(crate) mod users;
pub(crate) mod worker;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use stage::{DEVICE, Stage, applied, assert_delivered, assert_in_order, sendings};

/// Longer than any run of a scenario; a run that takes this long hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// See `src/seal.rs`.
pub(crate) const TRACEABLE: &str = "WAVEFLOW_SYNC_AGENT_TRACEABLE";

/// The agent, running.
pub(crate) struct Agent {
    child: Child,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    began: Instant,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// Exit code; `None`: ended by a signal.
    pub(crate) code: Option<i32>,
    /// The one document on stdout; null where there is none.
    pub(crate) json: Value,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

/// The binary with directories below `home` and nothing of the outside in its environment.
pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waveflow-sync-agent"));
    command.env_clear().env("HOME", home).current_dir(home);
    // A debug build lets us look at its descriptors, root or not.
    command.env(TRACEABLE, "1");
    for (name, directory) in directories(home) {
        command.env(name, directory);
    }
    command
}

/// The XDG directories below `home`.
fn directories(home: &Path) -> [(&'static str, PathBuf); 4] {
    ["data", "config", "state", "run"].map(|name| match name {
        "data" => ("XDG_DATA_HOME", home.join(name)),
        "config" => ("XDG_CONFIG_HOME", home.join(name)),
        "state" => ("XDG_STATE_HOME", home.join(name)),
        _ => ("XDG_RUNTIME_DIR", home.join(name)),
    })
}

impl Agent {
    pub(crate) fn start(command: &mut Command) -> Self {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("the binary can be started");
        let stdout = reader(child.stdout.take().expect("stdout is piped"));
        let stderr = reader(child.stderr.take().expect("stderr is piped"));
        Self { child, stdout, stderr, began: Instant::now() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the agent can be killed");
        let status = self.child.wait().expect("the agent can be waited for");
        assert_eq!(status.code(), None, "it ended by itself before it was killed");
    }

    /// Waits for its end, at most [`DEADLINE`].
    pub(crate) fn finish(mut self) -> Run {
        let stdout = self.stdout.recv_timeout(DEADLINE).expect("the agent ended in time");
        let stderr = self.stderr.recv_timeout(DEADLINE).expect("the agent ended in time");
        let status: ExitStatus = self.child.wait().expect("the agent can be waited for");
        let took = self.began.elapsed();
        let (stdout, stderr) = (text(stdout), text(stderr));
        let json = serde_json::from_str(&stdout).unwrap_or(Value::Null);
        Run { code: status.code(), json, stdout, stderr, took }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Gone already, where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Run {
    /// The line about this profile.
    pub(crate) fn profile(&self, id: i64) -> &Value {
        let lines = self.json["profiles"].as_array().unwrap_or_else(|| panic!("no profiles: {self:?}"));
        lines.iter().find(|line| line["profile"] == id).unwrap_or_else(|| panic!("no profile {id}: {self:?}"))
    }

    /// `error.kind` on top, empty where there is none.
    pub(crate) fn kind(&self) -> &str {
        self.json["error"]["kind"].as_str().unwrap_or_default()
    }

    /// `error.message` on top, empty where there is none.
    pub(crate) fn message(&self) -> &str {
        self.json["error"]["message"].as_str().unwrap_or_default()
    }

    /// Fails unless it ended with `code`.
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// Reads a pipe to its end, in a thread of its own so that a full pipe never stops the agent.
fn reader(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("the agent writes UTF-8")
}
