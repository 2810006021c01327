//! The agent as a process of its own.
//!
//! `cargo run --example` builds the library and the example, not the package's binary. So the example starts itself once
//! more, with a first argument nobody would type, and is the agent then: the same call as in `src/main.rs`.
//!
//! What must always hold: an agent that was started here does not outlive its [`Running`]; it sees a made-up home and
//! nothing of the user's environment, so that it cannot find the user's own app, proxy or configuration.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use testkit::{Error, Result};
use waveflow_sync_agent::cli;
use waveflow_sync_agent::config::Environment;
use waveflow_sync_agent::exit::Exit;

/// Be the agent, with the arguments behind this one.
const AS_AGENT: &str = "--as-the-agent";
/// What is read of what the agent says; it says a few lines.
const MAX_SAID_BYTES: u64 = 64 * 1024;
/// Nobody wants to watch a back-off of minutes; everything else is as by default.
const CONFIGURATION: &str = "[retry]\ninitial = \"200ms\"\nmax = \"1s\"\n";

/// Runs the agent where the process was started as one; `None` where it is the demo.
pub(super) fn run_as_agent() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let program = arguments.next()?;
    if arguments.next()? != AS_AGENT {
        return None;
    }
    let arguments: Vec<OsString> = std::iter::once(program).chain(arguments).collect();
    let exit = std::panic::catch_unwind(|| cli::run(arguments, &Environment::of_process()));
    Some(exit.unwrap_or(Exit::Bug).into())
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
}

impl Agent {
    /// Writes its configuration.
    pub(super) fn new(home: &Path) -> Result<Self> {
        let config = home.join(".config/waveflow");
        fs::create_dir_all(&config)?;
        fs::write(config.join("sync-agent.toml"), CONFIGURATION)?;
        Ok(Self { home: home.to_owned(), program: std::env::current_exe()? })
    }

    /// Starts it.
    pub(super) fn start(&self, arguments: &[&str]) -> Result<Running> {
        let (out, err) = (self.home.join("stdout"), self.home.join("stderr"));
        let child = Command::new(&self.program)
            .arg(AS_AGENT)
            .args(arguments)
            .env_clear()
            .env("HOME", &self.home)
            .current_dir(&self.home)
            .stdin(Stdio::null())
            // Files and not pipes: nobody has to read while it runs.
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()?;
        Ok(Running { child, out, err })
    }
}

/// An agent at work; ended when dropped.
pub(super) struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

/// What it left behind.
pub(super) struct Ended {
    /// Its exit code.
    pub(super) code: i32,
    /// Its log.
    pub(super) log: String,
    /// Its answer.
    pub(super) answer: String,
}

impl Running {
    /// Whether it still runs.
    pub(super) fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end.
    pub(super) fn ended(mut self) -> Result<Ended> {
        let status = self.child.wait()?;
        let code = status.code().ok_or_else(|| Error::other(format!("the agent was ended: {status}")))?;
        Ok(Ended { code, log: read(&self.err)?, answer: read(&self.out)? })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SAID_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
