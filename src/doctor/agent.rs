//! The running agent: its socket, its lock, its version; and who else has the app's files open.
//!
//! What must always hold: a socket that the service manager listens on is not connected to, which would start the agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::Finding;
use super::finding::ops_wait;
use super::profile;
use super::service::{self, Service};
use crate::app::registry;
use crate::config::{Config, Environment};
use crate::control;
use crate::control::client::{ClientError, ask_for};
use crate::exit::Exit;
use crate::lock::{DirectoryLock, Holder, Standing, users_of};

/// A `ping` is answered in a millisecond.
const PING: Duration = Duration::from_secs(3);
const VERSION: &str = env!("CARGO_PKG_VERSION");
const SOCKET: &str = "socket";
const AGENT: &str = "agent";
const LOCK: &str = "lock";

/// What came of a `ping`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Pong {
        pid: u32,
        version: String,
    },
    /// Nobody is there, with what the system said.
    Nobody,
    /// Somebody is there, and does not answer.
    Silence,
    /// It belongs to somebody else.
    Strangers(String),
    /// The first connection starts it.
    Asleep,
}

/// What keeps a profile's ops waiting, as the agent met it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    profile: i64,
    /// The profile, for people.
    label: String,
    waiting: u64,
    message: String,
}

/// What there is to know.
pub(super) struct Facts {
    socket: PathBuf,
    limit: usize,
    /// Why the agent would not make its socket there, and how it would end.
    refused: Option<(String, Exit)>,
    answer: Answer,
    /// What the agent says about the profiles whose last pass failed.
    troubles: Vec<Trouble>,
    /// `None` without a data directory.
    lock: Option<Result<Standing, (String, Exit)>>,
    /// Others that have the app's registry open.
    users: Vec<Holder>,
    pub(super) service: Service,
}

pub(super) fn look(config: &Config, env: &Environment, directory: Option<&Path>) -> Facts {
    let service = service::look(config, env);
    let (mut socket, mut answer) = (config.control.socket.clone(), Answer::Asleep);
    if !service.is_asleep() {
        answer = ask(&socket);
        let other = config.control.other.as_ref().map(|other| (other, ask(other)));
        if let (Answer::Nobody, Some((other, found @ (Answer::Pong { .. } | Answer::Silence)))) = (&answer, other) {
            (socket, answer) = (other.clone(), found);
        }
    }
    let refused = match &answer {
        // It is there already: the agent has it, or the service manager.
        Answer::Pong { .. } | Answer::Asleep => control::socket::look_at_way(&socket),
        _ => control::socket::look(&socket),
    };
    Facts {
        limit: env.platform().socket_path_limit(),
        refused: refused.err(),
        troubles: if matches!(answer, Answer::Pong { .. }) { ask_for_troubles(&socket) } else { Vec::new() },
        answer,
        lock: directory
            .map(|directory| DirectoryLock::look(directory).map_err(|error| (error.to_string(), error.exit()))),
        users: directory.map(|directory| users_of(&directory.join(registry::FILE))).unwrap_or_default(),
        socket,
        service,
    }
}

fn ask(socket: &Path) -> Answer {
    match ask_for(socket, "ping", Some(PING)) {
        Ok(answer) if answer.value["pong"] == true => {
            let version = answer.value["version"].as_str().unwrap_or("?").to_owned();
            Answer::Pong { pid: pid(&answer.value), version }
        }
        Ok(_) | Err(ClientError::Ended { .. }) => Answer::Silence,
        Err(ClientError::NoDaemon { .. }) => Answer::Nobody,
        Err(error @ ClientError::NotPermitted { .. }) => Answer::Strangers(error.to_string()),
    }
}

/// None where it does not answer: that it did a moment ago is looked at elsewhere.
fn ask_for_troubles(socket: &Path) -> Vec<Trouble> {
    let answer = ask_for(socket, "status", Some(PING)).ok();
    let document = answer.map(|answer| answer.value).unwrap_or_default();
    document["profiles"].as_array().into_iter().flatten().filter_map(trouble).collect()
}

/// Nothing is in the way of a profile of which nothing waits, or whose last pass went well.
fn trouble(profile: &Value) -> Option<Trouble> {
    let waiting = profile["pending"].as_u64().filter(|waiting| *waiting > 0)?;
    let message = profile["last_error"]["message"].as_str()?.to_owned();
    let (number, name) = (profile["profile"].as_i64()?, profile["name"].as_str().unwrap_or_default());
    Some(Trouble { profile: number, label: format!("profile {number} “{name}”"), waiting, message })
}

fn pid(pong: &Value) -> u32 {
    pong["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
}

/// Whether another one serves the same data.
pub(super) fn judge_lock(facts: &Facts) -> Option<Finding> {
    let ours = if let Answer::Pong { pid, .. } = &facts.answer { Some(*pid) } else { None };
    let socket = facts.socket.display();
    Some(match facts.lock.as_ref()? {
        Err((words, exit)) => {
            let mend = "see that this user may read the data directory";
            Finding::wrong(LOCK, words, mend).ends_with(*exit)
        }
        Ok(Standing::Free) if ours.is_some() => {
            let words = format!("the agent behind {socket} does not serve this data directory");
            let mend = "say the same --data-dir (or data_dir) here and there, and start it again";
            Finding::wrong(LOCK, &words, mend)
        }
        Ok(Standing::Free) => Finding::fine(LOCK, "nobody else is at work on the data"),
        Ok(Standing::Held(holder)) => match (holder, ours) {
            (Some(holder), Some(pid)) if holder.pid == pid => {
                Finding::fine(LOCK, &format!("the agent, process {pid}, is at work on the data, and nobody else"))
            }
            // Who it is cannot be told from here; that somebody answers makes it likely.
            (None, Some(_)) => Finding::fine(LOCK, "the agent is at work on the data"),
            (Some(holder), _) if facts.answer != Answer::Silence && facts.answer != Answer::Asleep => {
                let words =
                    format!("another agent serves the same data: {holder}, which is not the one behind {socket}");
                let mend = format!(
                    "one is enough: end it (kill {}), or ask it where it listens (--socket); a `once` ends by itself",
                    holder.pid
                );
                Finding::wrong(LOCK, &words, &mend)
            }
            (holder, _) => {
                let who = holder.as_ref().map_or_else(|| "another process".to_owned(), Holder::to_string);
                let words =
                    format!("another agent may be at work on the data: it is locked by {who}, which does not answer");
                Finding::wrong(
                    LOCK,
                    &words,
                    "wait for its end if it is a `once`; else end it, and start one agent anew",
                )
            }
        },
    })
}

/// What the agent met on its last attempt, for profiles whose ops wait and nothing in `found` explains why. What another
/// profile has, a refused token, a damaged file, is no explanation.
pub(super) fn judge_troubles(facts: &Facts, found: &[Finding]) -> Vec<Finding> {
    // It may be over since.
    let mend = "`waveflow-sync-agent drain now` tries again at once; if that fails too, see the server's own log; the agent \
                goes on trying by itself, and sets an op aside that alone is at fault";
    let is_open = |trouble: &&Trouble| !found.iter().any(|found| found.explains(trouble.profile));
    let told = |trouble: &Trouble| {
        let Trouble { profile, label, waiting, message } = trouble;
        let words = format!("{label}: {}; the last attempt: {message}", ops_wait(*waiting));
        Finding::wrong(profile::NAME, &words, mend).of(*profile)
    };
    facts.troubles.iter().filter(is_open).map(told).collect()
}

/// Socket and agent; `waiting` ops are in the queues.
pub(super) fn judge(facts: &Facts, waiting: u64) -> Vec<Finding> {
    let mut found = vec![judge_socket(facts), judge_answer(facts, waiting)];
    let ours = if let Answer::Pong { pid, .. } = &facts.answer { *pid } else { 0 };
    let holder = match &facts.lock {
        Some(Ok(Standing::Held(Some(holder)))) => holder.pid,
        _ => 0,
    };
    let others = facts.users.iter().filter(|user| ![ours, holder, std::process::id()].contains(&user.pid));
    let others: Vec<String> = others.map(Holder::to_string).collect();
    if !others.is_empty() {
        let words = format!(
            "{} has the databases open; if that is WaveFlow, it delivers its active profile by itself too",
            others.join(", ")
        );
        found.push(Finding::fine("app", &words));
    }
    found
}

fn judge_socket(facts: &Facts) -> Finding {
    let (shown, length) = (facts.socket.display(), facts.socket.as_os_str().len());
    if let Some((words, exit)) = &facts.refused {
        let mend = "mend what is said there, or set another control.socket, in a directory of this user's alone";
        return Finding::wrong(SOCKET, words, mend).ends_with(*exit);
    }
    if let Answer::Strangers(words) = &facts.answer {
        let mend = "ask as the user the agent runs as, or set another control.socket";
        return Finding::wrong(SOCKET, words, mend).ends_with(Exit::NotPermitted);
    }
    Finding::fine(SOCKET, &format!("{shown}, {length} of at most {} bytes", facts.limit))
}

fn judge_answer(facts: &Facts, waiting: u64) -> Finding {
    let shown = facts.socket.display();
    match &facts.answer {
        Answer::Pong { pid, version } if version == VERSION => {
            Finding::fine(AGENT, &format!("runs, process {pid}, version {version}"))
        }
        Answer::Pong { pid, version } => {
            let words = format!("the one that runs (process {pid}) is of version {version}, and this is {VERSION}");
            Finding::notice(
                AGENT,
                &words,
                "start it again: `waveflow-sync-agent service install`, or however it was started",
            )
        }
        Answer::Silence => {
            let words = format!("whoever is behind {shown} does not answer");
            let mend = "start it again; its log says why (`journalctl --user -u waveflow-sync-agent`)";
            Finding::wrong(AGENT, &words, mend).ends_with(Exit::NoDaemon)
        }
        Answer::Asleep => Finding::fine(AGENT, &format!("sleeps; the first connection to {shown} starts it")),
        Answer::Strangers(_) => Finding::fine(AGENT, "it cannot be asked, see the socket"),
        Answer::Nobody => {
            let waits = if waiting > 0 { format!(", and {}", ops_wait(waiting)) } else { String::new() };
            let words = format!("none runs behind {shown}{waits}");
            let mend = "`waveflow-sync-agent service install` has one run from now on; `waveflow-sync-agent once` delivers \
                        what waits now";
            Finding::wrong_if(waiting > 0, AGENT, &words, mend).ends_with(Exit::NoDaemon)
        }
    }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
