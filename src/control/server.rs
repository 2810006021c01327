//! What a client is answered.
//!
//! What must always hold: each line has one answer; whoever does not read his costs nobody else anything; a `wake` is heard
//! even where who sent it is gone, and answered before the pass it brings about begins, so that one who has no answer yet
//! need not wake again: what he committed meanwhile is seen by that pass.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use super::command::{Command, LINE_MAX, LINES, NoCommand};
use super::lines::{Lines, TooLong};
use super::reception::Reception;
use crate::cli::outcome::Report;
use crate::daemon::agent::Agent;
use crate::daemon::vitals;
use crate::metrics::Trigger;
use crate::survey::Listed;
use crate::tidings::{LISTENERS_MAX, Listener};
use crate::trigger::slot::Wake;

/// A client that does not take its answer within this is gone.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// While a client waits for a pass, it is looked this often whether it is still there.
const LOOK_FOR_CLIENT_EVERY: Duration = Duration::from_millis(500);
/// A client that says nothing, or not the end of its line, for this long is let go: its seat is wanted.
const FIRST_LINE: Duration = Duration::from_secs(60);
/// A client that has had its answer and says nothing more is let go after this. OpenBSD's `nc`, which Debian installs,
/// does not say that its input has ended and waits for us to close.
const NEXT_LINE: Duration = Duration::from_secs(5);

const NOT_IN_THE_LIST: &str = "no such op is quarantined or held; see queue list";

/// Answers `first`, if the client said something already, and whatever else he says, until he leaves or falls silent.
pub async fn converse(
    mut stream: UnixStream,
    mut lines: Lines,
    first: Option<Result<String, TooLong>>,
    reception: Rc<Reception>,
) {
    let (mut next, mut patience) = (first, FIRST_LINE);
    loop {
        let line = match next.take() {
            Some(line) => line,
            None => match tokio::time::timeout(patience, next_line(&mut lines, &mut stream)).await {
                Ok(Some(line)) => line,
                Ok(None) | Err(_) => return,
            },
        };
        patience = NEXT_LINE;
        let goes_on = if let Ok(line) = line {
            answer(&line, &reception, &mut stream, WRITE_TIMEOUT).await
        } else {
            let words = format!("a line has at most {LINE_MAX} bytes");
            write(&mut stream, &error("line_too_long", &words), WRITE_TIMEOUT).await;
            false
        };
        if !goes_on {
            return;
        }
    }
}

/// The client's next line; `None` at the end.
pub async fn next_line(lines: &mut Lines, stream: &mut UnixStream) -> Option<Result<String, TooLong>> {
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

/// Answers a line; whether the client took the answer within `patience`.
pub async fn answer(line: &str, reception: &Reception, stream: &mut UnixStream, patience: Duration) -> bool {
    let command = Command::parse(line);
    if let (Ok(Command::Watch), Some(agent)) = (&command, reception.agent()) {
        let Some(listener) = agent.engine().tidings.listen() else {
            let words = format!("{LISTENERS_MAX} clients watch already; try again");
            return write(stream, &error("busy", &words), patience).await;
        };
        drop(agent);
        watch(listener, stream, patience).await;
        return false;
    }
    let answer = match command.clone() {
        // Whoever sent it, what he told of is committed.
        Ok(command @ Command::Wake(_)) => reception.answer(command).await,
        Ok(command) => tokio::select! {
            answer = reception.answer(command) => answer,
            () = vanished(stream) => return false,
        },
        Err(NoCommand::Unknown) => error("unknown_command", "no such command; try help"),
        Err(NoCommand::Argument) => error("wrong_argument", "a profile is a number, an op is named; try help"),
    };
    let line = format!("{answer}\n");
    // At once, so that between a wake and its answer there is no pause in which a pass could begin.
    let sent = stream.try_write(line.as_bytes()).unwrap_or(0);
    let Some(rest) = line.as_bytes().get(sent..).filter(|rest| !rest.is_empty()) else { return true };
    let taken = write_all(stream, rest, patience).await;
    if let (Ok(Command::Wake(profile)), Some(agent)) = (command, reception.agent()) {
        // There was a pause, or he is gone. What was committed meanwhile is looked for too; he said it once all the same.
        wake_for_commit(profile, &agent);
    }
    taken
}

/// Writes what happens for as long as the client reads it: one who does not take a line within `patience` is let go, and
/// the lines that come meanwhile wait for nobody.
async fn watch(mut listener: Listener, stream: &mut UnixStream, patience: Duration) {
    let mut line: Arc<str> = json!({"event": "watching", "version": env!("CARGO_PKG_VERSION")}).to_string().into();
    while write(stream, &line, patience).await {
        line = tokio::select! {
            next = listener.next() => match next {
                Some(next) => next,
                None => return,
            },
            () = left(stream) => return,
        };
    }
}

/// Returns when nobody watches any more. One who may stay for days is not looked for: his leaving ends what he says, which
/// rings. What he says besides nobody hears.
async fn left(stream: &UnixStream) {
    let mut some = [0; 1024];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut some) {
            // Perhaps that was only all he had to say.
            Ok(0) => return vanished(stream).await,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => {}
        }
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

/// What the agent answers.
pub async fn perform(command: Command, agent: &Rc<Agent>) -> String {
    match command {
        Command::Drain(profile) => drain(profile, agent).await,
        Command::Metrics => json!({"metrics": vitals::metrics(agent)}).to_string(),
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
        Command::Wake(profile) => wake(profile, agent).await,
        // Not answered by a line: see `Reception` and `watch`.
        Command::Reload | Command::Watch => error("internal", "this is answered elsewhere"),
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
        return unknown_profile(number);
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

async fn wake(profile: Option<i64>, agent: &Rc<Agent>) -> String {
    let is_known = |profile: Option<i64>| profile.is_some_and(|number| agent.find(number).is_some());
    if !is_known(profile) && agent.is_registry_new() {
        // It may have been made this moment, where nothing else would tell us.
        agent.refresh().await;
    }
    if let Some(number) = profile.filter(|_| !is_known(profile)) {
        return unknown_profile(number);
    }
    agent.engine().tidings.woke(Trigger::Hook);
    wake_for_commit(profile, agent);
    json!({"woken": true}).to_string()
}

fn wake_for_commit(profile: Option<i64>, agent: &Rc<Agent>) {
    match profile {
        None => agent.wake_all_in_doubt(Wake::Commit),
        Some(number) => {
            agent.find(number).inspect(|served| {
                served.wake_in_doubt(Wake::Commit);
            });
        }
    }
}

fn unknown_profile(number: i64) -> String {
    error("unknown_profile", &format!("there is no profile {number}"))
}

/// `{"error": …}`.
pub fn error(code: &str, message: &str) -> String {
    json!({"error": {"code": code, "message": message}}).to_string()
}

/// Whether the client took it within `patience`.
pub async fn write(stream: &mut UnixStream, answer: &str, patience: Duration) -> bool {
    write_all(stream, format!("{answer}\n").as_bytes(), patience).await
}

async fn write_all(stream: &mut UnixStream, line: &[u8], patience: Duration) -> bool {
    matches!(tokio::time::timeout(patience, stream.write_all(line)).await, Ok(Ok(())))
}
