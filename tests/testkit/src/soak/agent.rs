//! The agent as a process: started, signalled, killed, looked at.
//!
//! What must always hold: it sees directories of its own and nothing of the user's environment; it does not outlive
//! [`Agent`]; one that ends by itself is an error, whatever its exit code.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use super::usage::Usage;
use crate::{Error, Result};

/// Starting and ending take milliseconds; what takes this long does not come any more.
const SOON: Duration = Duration::from_secs(30);
/// Between two looks whether it is up, or gone.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Retries at the pace of the faults: with the usual ones it would sit most of them out.
const CONFIGURATION: &str = "[server]\nconnect_timeout = \"2s\"\nrequest_timeout = \"3s\"\n\
                             [retry]\ninitial = \"100ms\"\nmax = \"1s\"\n[drain]\ninterval = \"2s\"\n";

/// A debug build may then be looked into; a release build knows nothing of it.
const TRACEABLE: &str = "WAVEFLOW_SYNC_AGENT_TRACEABLE";

pub(super) struct Agent {
    program: PathBuf,
    home: PathBuf,
    child: Option<Child>,
    /// How many there were.
    lives: usize,
}

impl Agent {
    /// Not running yet.
    pub(super) fn new(program: &Path, home: &Path) -> Result<Self> {
        for name in ["config/waveflow", "run", "state"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(home.join(name))?;
        }
        fs::write(home.join("config/waveflow/sync-agent.toml"), CONFIGURATION)?;
        Ok(Self { program: program.to_owned(), home: home.to_owned(), child: None, lives: 0 })
    }

    /// Where it looks for the app's data.
    pub(super) fn app_directory(&self) -> PathBuf {
        self.home.join("data/app.waveflow/waveflow")
    }

    /// Its log, over all its lives.
    pub(super) fn log_path(&self) -> PathBuf {
        self.home.join("agent.log")
    }

    pub(super) fn lives(&self) -> usize {
        self.lives
    }

    /// Starts it, and waits until it answers: from there on it takes signals.
    pub(super) fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let home = &self.home;
        let mut command = Command::new(&self.program);
        command.arg("run").env_clear().env("HOME", home).env(TRACEABLE, "1").current_dir(home);
        for (name, directory) in [
            ("XDG_DATA_HOME", "data"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_RUNTIME_DIR", "run"),
        ] {
            command.env(name, home.join(directory));
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.map_err(|error| Error::other(format!("{}: {error}", self.program.display())))?;
        self.child = Some(child);
        self.lives += 1;
        let deadline = Instant::now() + SOON;
        while self.ping().is_none() {
            self.check()?;
            if Instant::now() > deadline {
                return Err(Error::other(format!("the agent does not answer; see {}", self.log_path().display())));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub(super) fn start_if_dead(&mut self) -> Result<()> {
        if self.child.is_some() { Ok(()) } else { self.start() }
    }

    /// `Some` where it is this process that answers.
    fn ping(&self) -> Option<()> {
        (self.ask("ping")?["pid"] == self.child.as_ref()?.id()).then_some(())
    }

    /// One line, one answer.
    fn ask(&self, line: &str) -> Option<serde_json::Value> {
        let stream = UnixStream::connect(self.home.join("run/waveflow/sync-agent.sock")).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        (&stream).write_all(format!("{line}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    }

    /// What a person does who finds ops held back that are his: lets each of them go. Says which.
    pub(super) fn let_go(&self) -> Vec<Uuid> {
        let listed = self.ask("queue list").unwrap_or_default();
        let ops = listed["ops"].as_array().map(Vec::as_slice).unwrap_or_default();
        let held = ops.iter().filter(|op| op["state"] == "held").filter_map(|op| op["operation_id"].as_str());
        held.filter(|id| self.ask(&format!("queue retry {id}")).is_some_and(|answer| answer["retried"] == 1))
            .filter_map(|id| Uuid::try_parse(id).ok())
            .collect()
    }

    /// Fails where it has ended by itself.
    fn check(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.child = None;
                let log = self.log_path();
                Err(Error::other(format!("the agent ended by itself, {status}; see {}", log.display())))
            }
        }
    }

    /// SIGKILL, and its end.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.check()?;
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    pub(super) fn signal(&mut self, signal: Signal) -> Result<()> {
        self.check()?;
        match &self.child {
            Some(child) => Ok(kill_process(Pid::from_child(child), signal).map_err(std::io::Error::from)?),
            None => Ok(()),
        }
    }

    /// SIGTERM, and its exit code.
    pub(super) fn stop(&mut self) -> Result<Option<i32>> {
        self.signal(Signal::TERM)?;
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(status.code());
            }
            thread::sleep(LOOK_EVERY);
        }
        child.kill()?;
        child.wait()?;
        Err(Error::other("the agent did not end after SIGTERM"))
    }

    /// In which life it is and what it takes, where it runs and the system tells.
    pub(super) fn sample(&mut self) -> Result<Option<(usize, Usage)>> {
        self.check()?;
        let pid = self.child.as_ref().map(Child::id);
        Ok(pid.and_then(look).map(|usage| (self.lives, usage)))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What `/proc` says of a process.
fn look(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    // A release build shows its descriptors to root alone.
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|entries| entries.count() as u64);
    Some(Usage { rss_kb: number("VmRSS")?, descriptors, threads: number("Threads")? })
}

/// How large the agent's log has become.
pub(super) fn log_bytes(agent: &Agent) -> u64 {
    fs::metadata(agent.log_path()).map_or(0, |metadata| metadata.size())
}
