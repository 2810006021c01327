//! The agent as a daemon, `waveflow-sync-agent run`, from exec to the end.
//!
//! What must always hold: it does not outlive its [`Daemon`]; whoever waits for it, waits with an end.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Error, Result};

use super::ground::Install;
use super::process::Owned;

/// A start or an end that takes longer hangs.
const SOON: Duration = Duration::from_secs(20);
/// How often the socket is tried until it is there: what a start seems longer by at most.
const TRY_EVERY: Duration = Duration::from_micros(200);

/// The daemon, running.
pub(crate) struct Daemon {
    process: Owned,
    log: PathBuf,
    /// From exec to the first answer.
    pub(crate) ready: Duration,
}

impl Daemon {
    /// Starts it and waits until it answers.
    pub(crate) fn start(install: &Install) -> Result<Self> {
        let log = install.home().join("agent.log");
        let mut command = install.agent(&["run", "--log-level", "warn"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let began = Instant::now();
        let mut daemon = Self { process: Owned::spawn(&mut command)?, log, ready: Duration::ZERO };
        let socket = install.socket();
        while !answers(&socket) {
            let ended = daemon.process.is_over()?;
            if ended || began.elapsed() > SOON {
                return Err(Error::other(format!("the daemon does not answer: {}", daemon.words())));
            }
            let due = TRY_EVERY;
            thread::sleep(due);
        }
        daemon.ready = began.elapsed();
        Ok(daemon)
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.terminate()?;
        self.process.end_within(SOON).map_err(|error| Error::other(format!("{error}: {}", self.words())))
    }

    /// What it has to say.
    fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default().trim().to_owned()
    }
}

/// Whether somebody answers a `ping` on the socket.
fn answers(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let mut answer = String::new();
    let asked = stream.set_read_timeout(Some(SOON)).and_then(|()| stream.write_all(b"ping\n"));
    asked.is_ok() && BufReader::new(stream).read_line(&mut answer).is_ok() && answer.contains("\"pong\":true")
}
