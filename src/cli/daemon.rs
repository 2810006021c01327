//! `run`, and what is asked of it in one line: `drain now`, `pause`, `resume`.

use serde_json::{Value, json};

use crate::app::directory;
use crate::config::{Config, Environment};
use crate::control::client::{Answer, ClientError, ask};
use crate::daemon::Start;
use crate::exit::Exit;
use crate::lock::DirectoryLock;
use crate::record::Record;
use crate::state::{StateError, StateFile};

/// The daemon, until a signal ends it.
pub(super) fn run(start: Start, json: bool) -> Exit {
    match crate::daemon::run(start) {
        Ok(exit) => exit,
        Err((message, exit)) => {
            super::complain(&message, "cannot_run", json);
            exit
        }
    }
}

/// Waits for the pass, prints how it ended.
pub(super) fn drain(config: &Config, profile: Option<i64>, json: bool) -> Exit {
    let line = profile.map_or_else(|| "drain now".to_owned(), |profile| format!("drain now {profile}"));
    asked(config, &line, json, |answer| {
        let exit = if answer["remaining"].as_u64().unwrap_or(0) > 0 { Exit::TryLater } else { Exit::Done };
        (super::outcome::of_document(answer), exit)
    })
}

/// Has the configuration read again; fails where the daemon did not take it.
pub(super) fn reload(config: &Config, json: bool) -> Exit {
    asked(config, "reload", json, |answer| (answer["message"].as_str().unwrap_or_default().to_owned(), Exit::Done))
}

/// The counters.
pub(super) fn metrics(config: &Config, json: bool) -> Exit {
    asked(config, "metrics", json, |answer| (answer["metrics"].as_str().unwrap_or_default().to_owned(), Exit::Done))
}

/// Stops or starts sending; without a daemon, for the next one and for `once`.
pub(super) fn pause(config: &Config, paused: bool, json: bool, env: &Environment) -> Exit {
    let line = if paused { "pause" } else { "resume" };
    let words = if paused { "Paused: nothing is sent until `waveflow-sync-agent resume`." } else { "Sending again." };
    match ask(&config.control, line) {
        Err(ClientError::NoDaemon { .. }) => match note_paused(config, paused, env) {
            Ok(()) => {
                super::answer(&if json { json!({"paused": paused}).to_string() } else { words.to_owned() }, Exit::Done)
            }
            Err((message, exit)) => {
                super::complain(&message, "unusable", json);
                exit
            }
        },
        answer => told(answer, json, |_| (words.to_owned(), Exit::Done)),
    }
}

/// Writes it into the state file, under the lock that keeps everybody else from writing there.
fn note_paused(config: &Config, paused: bool, env: &Environment) -> Result<(), (String, Exit)> {
    let found = directory::find(config.data_dir.as_deref(), env, &directory::touched);
    let _lock = match found {
        Ok(found) => {
            Some(DirectoryLock::acquire(&found.place.path).map_err(|error| (error.to_string(), error.exit()))?)
        }
        // No app, so nobody serves it.
        Err(_) => None,
    };
    let fails = |error: StateError| (error.to_string(), error.exit());
    let (file, mut record) = StateFile::<Record>::open(&config.state_dir).map_err(fails)?;
    record.paused = paused;
    file.save(&record).map(drop).map_err(fails)
}

/// Asks the daemon, prints its answer as it is or in words.
pub(super) fn asked(config: &Config, line: &str, json: bool, words: impl FnOnce(&Value) -> (String, Exit)) -> Exit {
    told(ask(&config.control, line), json, words)
}

/// Prints what the daemon answered, if it did.
fn told(answer: Result<Answer, ClientError>, json: bool, words: impl FnOnce(&Value) -> (String, Exit)) -> Exit {
    match answer {
        Ok(answer) if answer.value["error"]["code"].is_string() => refused(&answer.value, json),
        Ok(answer) => {
            let (text, exit) = words(&answer.value);
            super::answer(if json { &answer.line } else { &text }, exit)
        }
        Err(error) => {
            super::complain(&error.to_string(), "no_daemon", json);
            exit_of(&error)
        }
    }
}

/// Says what the daemon said instead of an answer.
pub(super) fn refused(answer: &Value, json: bool) -> Exit {
    let code = answer["error"]["code"].as_str().unwrap_or_default();
    super::complain(answer["error"]["message"].as_str().unwrap_or_default(), code, json);
    match code {
        "unknown_profile" | "not_found" | "wrong_argument" | "unknown_command" => Exit::Usage,
        "wrong_configuration" => Exit::Config,
        "not_permitted" => Exit::NotPermitted,
        _ => Exit::TryLater,
    }
}

/// How to end where nobody answered.
pub(super) fn exit_of(error: &ClientError) -> Exit {
    match error {
        ClientError::NotPermitted { .. } => Exit::NotPermitted,
        ClientError::NoDaemon { .. } | ClientError::Ended { .. } => Exit::NoDaemon,
    }
}
