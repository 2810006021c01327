//! `once`: drains every profile without a daemon, then prints the outcome.
//!
//! What must always hold: it runs under the lock of the data directory, as the daemon does; ops that remain, or a lock
//! that somebody else holds, end it with 75.

use std::time::Duration;

use crate::app::directory;
use crate::config::{Config, Environment};
use crate::exit::Exit;
use crate::lock::DirectoryLock;
use crate::op::Outcome;

use super::outcome::{ProfileLabel, Report};

/// Passes with the usual back-off until nothing is left to send or `wait` is over; zero is a single pass.
pub(super) fn run(config: Config, wait: Duration, json: bool) -> Exit {
    let found = match directory::find(config.data_dir.as_deref(), &Environment::of_process(), &directory::touched) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!("{error}");
            return print(&[], json);
        }
    };
    match DirectoryLock::acquire(&found.place.path) {
        Ok(lock) => print(&drain(config, &lock, wait), json),
        Err(error) => {
            super::complain(&error.to_string(), "locked", json);
            error.exit()
        }
    }
}

/// The seam to the worker, which is not there yet: no profile is looked at.
fn drain(_config: Config, _lock: &DirectoryLock, _wait: Duration) -> Vec<(ProfileLabel, Outcome)> {
    Vec::new()
}

fn print(passes: &[(ProfileLabel, Outcome)], json: bool) -> Exit {
    let report = Report::new(passes);
    let text = if json { report.for_programs() } else { report.for_people() };
    super::answer(&text, report.exit())
}
