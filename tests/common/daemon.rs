//! The agent's `run` beside a stage: started, spoken to over its socket, looked at through `/proc`, ended.
//!
//! What must always hold: it is the real binary with directories of its own; whoever waits has a deadline; it never
//! outlives [`Daemon`].

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Stage, command};

/// The most that anything may take here; what is prompt is told apart by measuring.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// A few milliseconds in truth; what this tells apart is being waited for by somebody who must not be.
pub(crate) const PROMPT: Duration = Duration::from_secs(5);
/// Between two looks at a condition nobody rings a bell for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `condition` holds, at most [`SOON`].
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(SOON, condition), "in vain: {what}");
}

/// Whether `condition` came to hold within `limit`.
pub(crate) fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The daemon's last look comes within microseconds of its closing.
const BEHIND_CLOSING: Duration = Duration::from_millis(200);

/// The daemon, running.
pub(crate) struct Daemon {
    child: Child,
    socket: PathBuf,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Daemon {
    /// Starts it and waits until it answers.
    #[track_caller]
    pub(crate) fn start(stage: &Stage) -> Self {
        Self::start_as(command(stage.home()).arg("run"), &stage.socket())
    }

    /// Starts `command`, which is to serve `socket`, and waits until it answers.
    #[track_caller]
    pub(crate) fn start_as(command: &mut Command, socket: &Path) -> Self {
        let mut daemon = Self::launch(command, socket);
        let up = holds_within(SOON, || daemon.is_mine() || daemon.child.try_wait().unwrap().is_some());
        assert!(up && daemon.is_mine(), "it did not come up: {}", daemon.log());
        daemon
    }

    /// Starts it, and waits for nothing.
    pub(crate) fn launch(command: &mut Command, socket: &Path) -> Self {
        Self::launch_with_input(command.stdin(Stdio::null()), socket)
    }

    /// The same, with its input as it is.
    pub(crate) fn launch_with_input(command: &mut Command, socket: &Path) -> Self {
        let spawned = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("the binary can be started");
        let log = Arc::new(Mutex::new(Vec::new()));
        collect(child.stderr.take().expect("stderr is piped"), Arc::clone(&log));
        Self { child, socket: socket.to_owned(), log }
    }

    /// Whether it is this process that answers on the socket.
    fn is_mine(&self) -> bool {
        ask(&self.socket, "ping").is_some_and(|answer| answer["pid"] == self.child.id())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it has written to stderr so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// One line, one answer, on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, line: &str) -> Value {
        ask(&self.socket, line).unwrap_or_else(|| panic!("no answer to {line:?}: {}", self.log()))
    }

    /// Whether it answers a `ping`, and how long that takes.
    #[track_caller]
    pub(crate) fn ping(&self) -> Duration {
        let asked = Instant::now();
        assert_eq!(self.ask("ping")["pong"], true);
        asked.elapsed()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket).expect("the socket takes clients")
    }

    /// `status` about this profile; null where it has none.
    #[track_caller]
    pub(crate) fn profile(&self, id: i64) -> Value {
        let status = self.ask("status");
        let lines = status["profiles"].as_array().cloned().unwrap_or_default();
        lines.into_iter().find(|line| line["profile"] == id).unwrap_or_default()
    }

    /// Waits until `status` says this about a profile.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, id: i64, state: &str) {
        let mut last = Value::Null;
        let reached = holds_within(SOON, || {
            last = self.profile(id);
            last["state"] == state
        });
        assert!(reached, "profile {id} is not {state} but {last}\n{}", self.log());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is there to be signalled");
    }

    /// Waits until it has ended: the exit code (`None`: by a signal) and the time it took.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let status = self.end();
        (status.code(), began.elapsed())
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = holds_within(SOON, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "it does not end: {}", self.log());
        status.unwrap()
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Whether it is stopped, by a signal or by itself.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // Behind the name, which is in brackets and may hold anything.
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }

    /// SIGTERM, and its end.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().0, Some(0), "{}", self.log());
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.ended().0, None);
    }

    /// What its descriptors lead to.
    pub(crate) fn descriptors(&self) -> Vec<String> {
        let entries = match fs::read_dir(format!("/proc/{}/fd", self.pid())) {
            Ok(entries) => entries,
            // A release build is closed to everybody but root.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => panic!("run this as root: {error}"),
            Err(_) => return Vec::new(),
        };
        let paths = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        paths.map(|path| path.display().to_string()).collect()
    }

    /// Whether it has none of the app's databases open.
    pub(crate) fn has_closed_the_files(&self) -> bool {
        !self.descriptors().iter().any(|path| path.contains(".db"))
    }

    /// Waits until it has nothing to do and no look at the files is to come, but for its timer.
    #[track_caller]
    pub(crate) fn wait_until_quiet(&self) {
        // Closed for a while: right behind its closing it looks once more, and takes a commit of that moment along.
        eventually("the files are closed", || {
            self.has_closed_the_files() && !holds_within(BEHIND_CLOSING, || !self.has_closed_the_files())
        });
    }

    /// How long it has had a processor so far, in steps of 10 ms (`USER_HZ` is 100 wherever Linux runs).
    #[cfg(target_os = "linux")]
    pub(crate) fn processor_time(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Behind the name, which may hold anything: state is the third field, times are the 14th and 15th.
        let (_, fields) = text.rsplit_once(") ").unwrap();
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// One of the numbers of `/proc/PID/io` or `/proc/PID/status`.
    pub(crate) fn number(&self, file: &str, key: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or_else(|| panic!("{key}: {text}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gone already, where the test went well and ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let mut text = String::new();
            let _ = writeln!(text, "--- the daemon's log\n{}", self.log());
            eprint!("{text}");
        }
    }
}

/// A client of the control socket that stays.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Some(Self { stream: BufReader::new(stream) })
    }

    /// Writes these bytes as they are.
    pub(crate) fn write(&mut self, text: &str) -> std::io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())
    }

    /// The next answer; `None` at the end.
    pub(crate) fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))),
        }
    }

    /// One line, one answer.
    pub(crate) fn ask(&mut self, line: &str) -> Option<Value> {
        self.write(&format!("{line}\n")).ok()?;
        self.read()
    }

    /// Says all it has to say, and goes on listening.
    pub(crate) fn says_no_more(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// Says all it has to say, as `nc` does at the end of its input, and reads to the end.
    pub(crate) fn say_and_listen(mut self, text: &str) -> String {
        self.write(text).unwrap();
        self.says_no_more();
        let mut all = String::new();
        self.stream.read_to_string(&mut all).unwrap();
        all
    }
}

fn ask(socket: &Path, line: &str) -> Option<Value> {
    Client::connect(socket)?.ask(line)
}

/// Collects a pipe in a thread of its own, so that a full pipe never stops the daemon.
fn collect(mut pipe: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) {
    thread::spawn(move || {
        let mut some = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut some) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&some[..count]);
        }
    });
}
