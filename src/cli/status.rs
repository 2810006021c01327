//! `status`: what the daemon says; without one, what the files say.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::app::directory;
use crate::clock;
use crate::config::{Config, Environment};
use crate::control::client::{ClientError, ask};
use crate::exit::Exit;
use crate::lock;
use crate::log::is_coloured;
use crate::record::Record;
use crate::screen::overview::{self, View};
use crate::screen::terminal::{self, Size};
use crate::service::starting;
use crate::state::StateFile;
use crate::status::Status;
use crate::survey;

pub(super) fn run(config: &Config, json: bool, env: &Environment) -> Exit {
    match ask(&config.control, "status") {
        // It cannot serve, and says why: nobody knows how things stand.
        Ok(answer) if answer.value["error"]["code"].is_string() => super::daemon::refused(&answer.value, json),
        Ok(answer) if json => super::answer(&answer.line, Exit::Done),
        Ok(answer) => super::answer(&for_people(&answer.value, "", env), Exit::Done),
        Err(error) => unanswered(&error, config, json, env),
    }
}

/// Nobody was there to say it.
pub(super) fn unanswered(error: &ClientError, config: &Config, json: bool, env: &Environment) -> Exit {
    match error {
        ClientError::NoDaemon { .. } | ClientError::Ended { .. } => {
            let (status, absent) = without_daemon(config, env);
            let text = if json {
                serde_json::to_string(&status).unwrap_or_default()
            } else {
                for_people(&serde_json::to_value(&status).unwrap_or_default(), &absent, env)
            };
            super::answer(&text, Exit::NoDaemon)
        }
        ClientError::NotPermitted { .. } => {
            super::complain(&error.to_string(), "not_permitted", json);
            Exit::NotPermitted
        }
    }
}

/// One screen of it, the shell's next line included.
fn for_people(status: &Value, absent: &str, env: &Environment) -> String {
    let size = terminal::size(io::stdout());
    // The answer itself in any case.
    let rows = size.map(|size| size.rows.saturating_sub(1).max(1));
    overview::text(status, &View { rows, ..view(size, absent, env) })
}

/// What is written now, for stdout as it is.
pub(super) fn view<'a>(size: Option<Size>, absent: &'a str, env: &Environment) -> View<'a> {
    View {
        columns: terminal::columns(size),
        rows: size.map(|size| size.rows),
        colour: is_coloured(io::stdout().is_terminal(), env),
        now: clock::now_ms(),
        elapsed: Duration::ZERO,
        absent,
        gone: None,
    }
}

/// What the files say; and that there is no daemon, with the mend.
fn without_daemon(config: &Config, env: &Environment) -> (Status, String) {
    // Looked at, not kept: whoever only asks writes nothing.
    let record: Record = StateFile::open(&config.state_dir).map(|(_, record)| record).unwrap_or_default();
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION"),
        pid: None,
        uptime_s: None,
        paused: record.paused,
        problem: None,
        profiles: Vec::new(),
    };
    let mut absent = format!("no agent is running; start it with {}", starting::advice(env));
    match directory::find(config.data_dir.as_deref(), env, &directory::touched) {
        Ok(found) => {
            look(&mut status, &found.place.path, config, &record);
            if let Some(holder) = lock::holder_of(&found.place.path) {
                let (directory, socket) = (found.place.path.display(), config.control.socket.display());
                absent = format!(
                    "another agent is at work, {holder}, and does not answer on {socket}: it serves {directory}; name its \
                     socket with --socket, or end it"
                );
            }
        }
        Err(error) => status.problem = Some(error.to_string()),
    }
    (status, absent)
}

fn look(status: &mut Status, directory: &Path, config: &Config, record: &Record) {
    match survey::profiles(directory) {
        Ok(profiles) => {
            let url = &config.server.url;
            status.profiles =
                profiles.iter().map(|profile| survey::status(directory, profile, url.clone(), record)).collect();
        }
        Err(error) => status.problem = Some(error.message),
    }
}
