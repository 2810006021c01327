//! The server's side of the control socket.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::command::{Command, LINE_MAX, LINES, NoCommand};
use super::lines::{Lines, TooLong};
use super::socket;
use crate::cli::outcome::Report;
use crate::daemon::agent::Agent;
use crate::exit::Exit;
use crate::survey::Listed;
use crate::trigger::slot::Wake;

/// Clients at a time; a person has one or two, a settings page one.
const CLIENTS_MAX: usize = 32;
/// A client that does not take its answer within this is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// While a client waits for a pass, it is looked this often whether it is still there.
const LOOK_FOR_CLIENT_EVERY: Duration = Duration::from_millis(500);
/// A client that says nothing, or not the end of its line, for this long is let go: its seat is wanted.
const FIRST_LINE: Duration = Duration::from_secs(60);
/// A client that has had its answer and says nothing more is let go after this. OpenBSD's `nc`, which Debian installs,
/// does not say that its input has ended and waits for us to close.
const NEXT_LINE: Duration = Duration::from_secs(5);
/// A client that was told that there is no room is listened to for this long.
const REFUSAL: Duration = Duration::from_secs(1);
/// After a failed accept (out of descriptors, most likely) others may give some back.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(200);
/// That it fails is said again after this.
const SAY_AGAIN: Duration = Duration::from_secs(30);

const NOT_IN_THE_LIST: &str = "no such op is quarantined or held; see queue list";

/// The bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: Option<UnixListener>,
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

impl Listener {
    /// Makes the socket at `path`.
    ///
    /// # Errors
    /// For people, and how to end with it.
    pub fn bind(path: &Path) -> Result<Self, (String, Exit)> {
        let bound = socket::bind(path)?;
        let listener = UnixListener::from_std(bound)
            .map_err(|error| (format!("control socket {}: {error}", path.display()), Exit::TryLater))?;
        Ok(Self { socket: Some(listener), path: path.to_owned(), inode: socket::inode(path) })
    }

    /// What to accept on; once.
    pub fn take(&mut self) -> Option<UnixListener> {
        self.socket.take()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the socket, if it is still ours.
    pub fn remove(&self) {
        if self.inode.is_some() && socket::inode(&self.path) == self.inode {
            // A stale socket is replaced at the next start anyway.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Accepts and answers for ever; its clients end with it.
pub async fn serve(listener: Option<UnixListener>, agent: Rc<Agent>) {
    let Some(listener) = listener else { return };
    let (clients, refused) = (Rc::default(), Rc::default());
    let mut tasks = JoinSet::new();
    let mut said: Option<Instant> = None;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                // Before there is a seat for him: strangers fill none, however many come.
                Ok((stream, _)) if !is_owner(&stream) => drop(stream),
                Ok((stream, _)) => match (Seat::take(&clients), Seat::take(&refused)) {
                    (Some(seat), _) => drop(tasks.spawn_local(client(stream, Rc::clone(&agent), seat))),
                    (None, Some(seat)) => drop(tasks.spawn_local(refuse(stream, seat))),
                    // A flood; politeness has its limits too.
                    (None, None) => drop(stream),
                },
                Err(error) => {
                    if said.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
                        said = Some(Instant::now());
                        tracing::warn!("control socket: {error}");
                    }
                    tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// One of the [`CLIENTS_MAX`].
struct Seat(Rc<Cell<usize>>);

impl Seat {
    fn take(clients: &Rc<Cell<usize>>) -> Option<Self> {
        (clients.get() < CLIENTS_MAX).then(|| {
            clients.set(clients.get() + 1);
            Self(Rc::clone(clients))
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Tells a client that there is no room, and listens until it has heard it: hung up on in mid-sentence it would not.
async fn refuse(mut stream: UnixStream, _seat: Seat) {
    let words = format!("{CLIENTS_MAX} clients are here already; try again");
    if write(&mut stream, &error("busy", &words)).await && stream.shutdown().await.is_ok() {
        let heard = async { while matches!(stream.read(&mut [0; 1024]).await, Ok(count) if count > 0) {} };
        let _ = tokio::time::timeout(REFUSAL, heard).await;
    }
}

async fn client(mut stream: UnixStream, agent: Rc<Agent>, _seat: Seat) {
    let mut lines = Lines::default();
    let mut patience = FIRST_LINE;
    while let Ok(Some(line)) = tokio::time::timeout(patience, next_line(&mut lines, &mut stream)).await {
        patience = NEXT_LINE;
        let (answer, goes_on) = match line {
            Ok(line) => (answer(&line, &agent, &stream).await, true),
            Err(TooLong) => (Some(error("line_too_long", &format!("a line has at most {LINE_MAX} bytes"))), false),
        };
        let Some(answer) = answer else { return };
        if !write(&mut stream, &answer).await || !goes_on {
            return;
        }
    }
}

/// The owner, or root. As the kernel noted it when the peer connected, on Linux and on macOS alike; a peer nobody can
/// name is a stranger.
fn is_owner(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw())
}

/// The client's next line; `None` at the end.
async fn next_line(lines: &mut Lines, stream: &mut UnixStream) -> Option<Result<String, TooLong>> {
    loop {
        if let Some(line) = lines.next() {
            return Some(line);
        }
        if lines.has_ended() {
            return None;
        }
        let mut some = [0; 1024];
        match stream.read(&mut some).await {
            Ok(0) | Err(_) => lines.end(),
            Ok(count) => lines.feed(&some[..count]),
        }
    }
}

/// `None` where the client vanished while it was worked on.
async fn answer(line: &str, agent: &Rc<Agent>, stream: &UnixStream) -> Option<String> {
    let command = match Command::parse(line) {
        Ok(command) => command,
        Err(NoCommand::Unknown) => return Some(error("unknown_command", "no such command; try help")),
        Err(NoCommand::Argument) => {
            return Some(error("wrong_argument", "a profile is a number, an op is named; try help"));
        }
    };
    tokio::select! {
        answer = perform(command, agent) => Some(answer),
        () = vanished(stream) => None,
    }
}

/// Returns when nobody can read the answer any more. A client that has only said all it has to say is still there.
async fn vanished(stream: &UnixStream) {
    loop {
        tokio::time::sleep(LOOK_FOR_CLIENT_EVERY).await;
        let ready = stream.ready(Interest::WRITABLE).await;
        if ready.is_err() || ready.is_ok_and(tokio::io::Ready::is_write_closed) {
            return;
        }
    }
}

async fn perform(command: Command, agent: &Rc<Agent>) -> String {
    match command {
        Command::Drain(profile) => drain(profile, agent).await,
        Command::Status => serde_json::to_string(&agent.status().await)
            .unwrap_or_else(|_| error("internal", "the status cannot be written")),
        Command::Pause => set_paused(agent, true).await,
        Command::Resume => set_paused(agent, false).await,
        Command::List => match agent.list().await {
            Ok(ops) => list(&ops),
            Err(message) => error("unavailable", &message),
        },
        Command::Retry(op) => match agent.retry(op).await {
            Some(count) => json!({"retried": count}).to_string(),
            None => error("not_found", NOT_IN_THE_LIST),
        },
        Command::Discard(op) => match agent.discard(&op).await {
            Ok(Some(note)) => json!({"discarded": note}).to_string(),
            Ok(None) => error("not_found", NOT_IN_THE_LIST),
            Err(message) => error("unavailable", &message),
        },
        Command::Wake(profile) => wake(profile, agent),
        Command::Reload => reload(agent).await,
        Command::Ping => {
            json!({"pong": true, "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION")}).to_string()
        }
        Command::Help => {
            let lines: serde_json::Map<String, Value> =
                LINES.iter().map(|(line, does)| ((*line).to_owned(), Value::from(*does))).collect();
            json!({"commands": lines}).to_string()
        }
    }
}

async fn drain(profile: Option<i64>, agent: &Rc<Agent>) -> String {
    if let Some(number) = profile
        && agent.find(number).is_none()
    {
        return error("unknown_profile", &format!("there is no profile {number}"));
    }
    let outcomes = agent.drain(profile).await;
    Report::new(&outcomes).for_programs()
}

async fn set_paused(agent: &Rc<Agent>, paused: bool) -> String {
    agent.set_paused(paused).await;
    json!({"paused": paused}).to_string()
}

fn list(ops: &[Listed]) -> String {
    json!({"ops": ops}).to_string()
}

fn wake(profile: Option<i64>, agent: &Rc<Agent>) -> String {
    match profile {
        None => agent.wake_all_in_doubt(Wake::Commit),
        Some(number) => match agent.find(number) {
            Some(served) => {
                served.wake_in_doubt(Wake::Commit);
            }
            None => return error("unknown_profile", &format!("there is no profile {number}")),
        },
    }
    json!({"woken": true}).to_string()
}

async fn reload(agent: &Rc<Agent>) -> String {
    let (answer, done) = oneshot::channel();
    // Where the daemon is ending, the answer's other end is dropped too.
    let _ = agent.ask_for_reload(answer).await;
    match done.await {
        Ok(Ok(words)) => json!({"reloaded": true, "message": words}).to_string(),
        Ok(Err(message)) => error("wrong_configuration", &message),
        Err(_) => error("internal", "the agent is ending"),
    }
}

fn error(code: &str, message: &str) -> String {
    json!({"error": {"code": code, "message": message}}).to_string()
}

/// Whether the client took it.
async fn write(stream: &mut UnixStream, answer: &str) -> bool {
    let line = format!("{answer}\n");
    matches!(tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(line.as_bytes())).await, Ok(Ok(())))
}
