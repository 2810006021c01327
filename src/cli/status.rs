//! `status`: what the daemon says; without one, what the files say.

use std::path::Path;

use crate::app::directory;
use crate::config::{Config, Environment};
use crate::control::client::{ClientError, ask};
use crate::exit::Exit;
use crate::record::Record;
use crate::state::StateFile;
use crate::status::{Status, for_people};
use crate::survey;

pub(super) fn run(config: &Config, json: bool, env: &Environment) -> Exit {
    match ask(&config.control, "status") {
        // It cannot serve, and says why: nobody knows how things stand.
        Ok(status) if status.value["error"]["code"].is_string() => super::daemon::refused(&status.value, json),
        Ok(status) => super::answer(&if json { status.line } else { for_people(&status.value) }, Exit::Done),
        Err(error @ (ClientError::NoDaemon { .. } | ClientError::Ended { .. })) => {
            let status = without_daemon(config, env);
            if !json {
                eprint_line(&error.to_string());
            }
            let text = if json {
                serde_json::to_string(&status).unwrap_or_default()
            } else {
                for_people(&serde_json::to_value(&status).unwrap_or_default())
            };
            super::answer(&text, Exit::NoDaemon)
        }
        Err(error) => {
            super::complain(&error.to_string(), "not_permitted", json);
            Exit::NotPermitted
        }
    }
}

fn eprint_line(text: &str) {
    super::complain(text, "", false);
}

fn without_daemon(config: &Config, env: &Environment) -> Status {
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
    match directory::find(config.data_dir.as_deref(), env, &directory::touched) {
        Ok(found) => look(&mut status, &found.place.path, config, &record),
        Err(error) => status.problem = Some(error.to_string()),
    }
    status
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
