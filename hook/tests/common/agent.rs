//! The agent, running.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Stage, eventually};

pub(crate) struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    /// Starts it, and waits until its first pass is over.
    pub(crate) fn start(stage: &Stage) -> Self {
        let mut command = Command::new(binary());
        stage.environment(&mut command);
        command.arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let agent = Self { child: command.spawn().expect("the agent can be started"), socket: stage.socket() };
        eventually("the agent's first pass is over", || {
            agent.ask("status").is_some_and(|status| status["profiles"][0]["last_success"].is_string())
        });
        agent
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// One line, one answer.
    pub(crate) fn ask(&self, line: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.write_all(format!("{line}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    }

    /// It hangs from here on.
    pub(crate) fn hang(&self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.child.id());
        eventually("it has stopped", || std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") T ")));
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGKILL, and goes on at once.
    pub(crate) fn strike(&self) {
        self.signal(Signal::KILL);
    }

    /// SIGKILL; its socket stays behind.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn end(&mut self) {
        // Gone already, where it was killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

/// The agent as it is shipped, built where it is not yet.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built(&["--release", "--bin", "waveflow-sync-agent", "--manifest-path", "../Cargo.toml"]))
}

/// Has cargo build a program, and says where it is.
pub(crate) fn built(arguments: &[&str]) -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--locked", "--quiet", "--message-format=json"]);
    let output = command.args(arguments).stderr(Stdio::inherit()).output().expect("cargo can be started");
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = lines.filter_map(|line| line["executable"].as_str().map(PathBuf::from)).next_back();
    found.unwrap_or_else(|| panic!("not built: {arguments:?}"))
}
