//! `queue list`, `queue retry`, `queue discard`: ops that were refused or are held back.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Subcommand;
use serde_json::Value;

use super::daemon::asked;
use crate::config::Config;
use crate::exit::Exit;

#[derive(Debug, Clone, Subcommand)]
pub(super) enum What {
    /// List operations that are refused (quarantined) or held back (held), with the reason.
    List,
    /// Let one go, refused or held back; without an id, all that were refused.
    Retry {
        /// The operation, as `list` shows it.
        operation_id: Option<String>,
    },
    /// Delete one for good, after asking (`--yes`: without); a note of it is kept, without its content.
    Discard {
        /// The operation, as `list` shows it.
        operation_id: String,
        /// Do not ask first.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) fn run(config: &Config, what: What, json: bool) -> Exit {
    match what {
        What::List => asked(config, "queue list", json, |answer| (list(answer), Exit::Done)),
        What::Retry { operation_id } => {
            let line = operation_id.map_or_else(|| "queue retry".to_owned(), |op| format!("queue retry {op}"));
            asked(config, &line, json, |answer| {
                (format!("Let go: {}. They are sent in their place.", answer["retried"]), Exit::Done)
            })
        }
        What::Discard { operation_id, yes } => {
            if !yes && !confirmed(&operation_id) {
                super::complain("nothing was discarded; say --yes to do it without being asked", "not_confirmed", json);
                return Exit::Usage;
            }
            asked(config, &format!("queue discard {operation_id}"), json, |answer| {
                let note = &answer["discarded"];
                let words =
                    format!("Discarded {}: {}, {}.", text(&note["operation_id"]), named(note), text(&note["reason"]));
                (words, Exit::Done)
            })
        }
    }
}

/// Asks on a terminal; a script has to say so.
fn confirmed(operation_id: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    let mut stderr = io::stderr();
    let _ = write!(stderr, "Delete {operation_id} for good? It will never reach the server. [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn list(answer: &Value) -> String {
    let ops = answer["ops"].as_array().map(Vec::as_slice).unwrap_or_default();
    if ops.is_empty() {
        return "Nothing is refused or held back.".to_owned();
    }
    let mut lines = String::new();
    for op in ops {
        let age = std::time::Duration::from_secs(op["age_s"].as_u64().unwrap_or(0));
        let _ = writeln!(
            lines,
            "{}  profile {}  {}, {} old, {}: {}",
            text(&op["operation_id"]),
            op["profile"],
            named(op),
            humantime::format_duration(age),
            text(&op["state"]),
            text(&op["reason"])
        );
    }
    lines
}

fn named(op: &Value) -> String {
    match op["field"].as_str() {
        Some(field) => format!("{} ({})", text(&op["entity"]), field.replace(char::is_control, " ")),
        None => text(&op["entity"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().replace(char::is_control, " ")
}
