//! The agent as processes of their own: the daemon, and the commands that talk to it.
//!
//! `cargo run --example` builds the library and the example, not the package's binary. So the example starts itself once
//! more, with a first argument nobody would type, and is the agent then: the same call as in `src/main.rs`.
//!
//! What must always hold: a daemon that was started here does not outlive its [`Agent`], nor a demo that is killed; it
//! sees a made-up home and nothing of the user's environment, so that it cannot find the user's own app, proxy or
//! configuration.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use testkit::{Error, Result};
use waveflow_sync_agent::cli;
use waveflow_sync_agent::config::Environment;
use waveflow_sync_agent::exit::Exit;

/// Be the agent, with the arguments behind this one.
const AS_AGENT: &str = "--as-the-agent";
/// What is read of what the agent says at a time; it says a few lines.
const MAX_SAID_BYTES: u64 = 64 * 1024;
/// An answer on the socket that takes longer will not come.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Runs the agent where the process was started as one; `None` where it is the demo.
pub(super) fn run_as_agent() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let program = arguments.next()?;
    if arguments.next()? != AS_AGENT {
        return None;
    }
    let arguments: Vec<OsString> = std::iter::once(program).chain(arguments).collect();
    if arguments.iter().any(|word| word == "run") {
        std::thread::spawn(end_with_the_demo);
    }
    let exit = std::panic::catch_unwind(|| cli::run(arguments, &Environment::of_process()));
    Some(exit.unwrap_or(Exit::Bug).into())
}

/// The demo holds the other end of the daemon's standard input, until it ends, whichever way it does.
fn end_with_the_demo() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    // Cannot fail for a signal there is.
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGTERM);
}

/// Where the app of the user who lives in `home` keeps its data.
pub(super) fn app_directory(home: &Path) -> PathBuf {
    let data = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
    home.join(data).join("app.waveflow/waveflow")
}

/// The agent of the user who lives in `home`.
pub(super) struct Agent {
    home: PathBuf,
    program: PathBuf,
    daemon: Option<Child>,
    /// The daemon ends when this is closed.
    lifeline: Option<ChildStdin>,
    /// How much of the log was read.
    read: u64,
}

/// What a command left behind.
pub(super) struct Ended {
    /// Its exit code.
    pub(super) code: i32,
    /// What it said, answer first.
    pub(super) said: String,
}

impl Agent {
    /// Not running yet; without a configuration, as most people have it.
    pub(super) fn new(home: &Path) -> Result<Self> {
        fs::create_dir_all(home.join("run"))?;
        File::create(home.join("log"))?;
        Ok(Self { home: home.to_owned(), program: std::env::current_exe()?, daemon: None, lifeline: None, read: 0 })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(AS_AGENT)
            .args(arguments)
            .env_clear()
            // Ctrl-C is the demo's, which ends everybody in order.
            .process_group(0)
            .env("HOME", &self.home)
            .env("XDG_RUNTIME_DIR", self.home.join("run"))
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }

    /// Starts the daemon, and waits until it listens.
    pub(super) fn run(&mut self) -> Result<()> {
        // A file and not a pipe: nobody has to read while it runs.
        let log = File::options().append(true).open(self.home.join("log"))?;
        let mut daemon = self.command(&["run"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn()?;
        self.lifeline = daemon.stdin.take();
        self.daemon = Some(daemon);
        let deadline = std::time::Instant::now() + ANSWER_WITHIN;
        while self.socket_says("ping").is_err() {
            if !self.runs()? || std::time::Instant::now() > deadline {
                return Err(Error::other(format!("the agent does not run: {}", self.news()?)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether the daemon runs.
    pub(super) fn runs(&mut self) -> Result<bool> {
        match &mut self.daemon {
            Some(daemon) => Ok(daemon.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Ends the daemon as a power cut would, at once.
    pub(super) fn kill(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().ok_or_else(|| Error::other("there is no agent to kill"))?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// Ends the daemon with SIGTERM; its exit code.
    pub(super) fn stop(&mut self) -> Result<i32> {
        let mut daemon = self.daemon.take().ok_or_else(|| Error::other("there is no agent to stop"))?;
        let pid = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::other("the agent has no number"))?;
        kill_process(pid, Signal::TERM).map_err(|error| Error::other(error.to_string()))?;
        Ok(daemon.wait()?.code().unwrap_or(-1))
    }

    /// Runs a command that talks to the daemon.
    pub(super) fn ask(&self, arguments: &[&str]) -> Result<Ended> {
        let output = self.command(arguments).output()?;
        let code = output.status.code().unwrap_or(-1);
        let said = [output.stdout, output.stderr].concat();
        Ok(Ended { code, said: String::from_utf8_lossy(&said).into_owned() })
    }

    /// Writes a line to the socket as any program might, and reads the answer.
    pub(super) fn socket_says(&self, line: &str) -> Result<String> {
        let mut socket = UnixStream::connect(self.home.join("run/waveflow/sync-agent.sock"))?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        writeln!(socket, "{line}")?;
        socket.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        socket.take(MAX_SAID_BYTES).read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// What the daemon logged since the last look.
    pub(super) fn news(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        let mut log = File::open(self.home.join("log"))?;
        std::io::Seek::seek(&mut log, std::io::SeekFrom::Start(self.read))?;
        log.take(MAX_SAID_BYTES).read_to_end(&mut bytes)?;
        self.read += bytes.len() as u64;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // Both fail where it has ended already.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
