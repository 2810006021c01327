//! Everything a user can get wrong, looked at, each with its mend.
//!
//! One file for each thing that is looked at, in two halves: a gatherer, dull, which asks the system and gives facts; and a
//! judge, pure, which makes a [`Finding`] of them.
//!
//! What must always hold: it changes nothing. No file is written (databases are opened with
//! [`crate::queue::Database::open_to_look`]), no lock is kept, no op is sent, nothing is started; it may run while app and
//! agent run. All of it ends: each step has its time. No finding holds a token, a payload, or a proxy's password.
//!
//! Reading order: [`finding`], `files` and `database` (the app's), `profile`, `network` with `server` and `token`, `agent`
//! with `service`, `state` and `inotify` (ours).

mod agent;
mod database;
mod files;
pub mod finding;
mod inotify;
mod network;
mod profile;
mod server;
mod service;
mod state;
mod token;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::app::directory;
use crate::app::registry::{self, Profile};
use crate::clock;
use crate::config::{Config, ConfigError, Environment, Loaded};
use crate::drain::action::StoreError;
use crate::exit::Exit;
use crate::queue::Database;
use crate::queue::database::look;
use crate::record::Record;
use crate::token::Token;

pub use finding::{Diagnosis, Finding, Level};

/// For the pages of all databases together; what is not done by then is not done.
const CHECKS_MAX: Duration = Duration::from_secs(8);
/// For the pages of one: a read transaction keeps the app's checkpoints from finishing for so long.
const CHECK_MAX: Duration = Duration::from_secs(2);

/// A token that is in use, and whose.
struct Ticket {
    profile: i64,
    /// The profile, for people.
    label: String,
    token: Token,
}

/// What the server is to be asked with.
#[derive(Default)]
struct Errand {
    url: Option<String>,
    device: Option<String>,
    tickets: Vec<Ticket>,
}

/// Where the configuration cannot be used, nothing else is looked at: it would be looked for in the wrong places.
pub fn unreadable(error: &ConfigError) -> Diagnosis {
    let mend = "correct that place; `waveflow-sync-agent check-config` shows what is in force";
    Diagnosis::new(vec![Finding::wrong("configuration", &error.to_string(), mend).ends_with(Exit::Config)])
}

/// Looks at everything.
pub fn examine(loaded: &Loaded, env: &Environment) -> Diagnosis {
    let config = &loaded.config;
    let mut findings = vec![configuration(loaded)];
    let (kept, record) = state::look(&config.state_dir);
    let place = directory::find(config.data_dir.as_deref(), env, &directory::touched);
    findings.extend(files::judge(&files::look(&place)));
    let directory = place.as_ref().ok().map(|found| found.place.path.clone());
    // Before the databases are opened by us, who would be seen there too.
    let facts = agent::look(config, env, directory.as_deref());
    findings.extend(agent::judge_lock(&facts));
    findings.extend(kept);
    findings.extend(state::judge_pause(&record));
    let mut errand = Errand { url: config.server.url.clone(), ..Errand::default() };
    let app = directory.as_ref().and_then(|directory| app(directory, config, &record, &mut errand, &mut findings));
    let is_read = app.is_some();
    let (profiles, waiting) = app.unwrap_or_default();
    // What is wrong with the way to the server explains more than what is wrong at a profile.
    let at_profiles =
        findings.split_off(findings.iter().position(|found| found.name == profile::NAME).unwrap_or(findings.len()));
    // That no address could be read does not mean that there is none.
    if is_read || errand.url.is_some() {
        findings.extend(network::look(config, env, &errand, clock::now_ms()));
    }
    let troubles = agent::judge_troubles(&facts, &findings);
    findings.extend(at_profiles);
    findings.extend(troubles);
    findings.extend(agent::judge(&facts, waiting));
    findings.extend(service::judge(&facts.service));
    findings.push(inotify::look(config, directory.as_deref(), &profiles));
    Diagnosis::new(findings)
}

fn configuration(loaded: &Loaded) -> Finding {
    let words = match &loaded.file {
        Some(path) if loaded.file_read => format!("read from {}", path.display()),
        Some(path) => format!("the defaults; there is no {}, which is fine", path.display()),
        None => "the defaults; there is no place for a file".to_owned(),
    };
    Finding::fine("configuration", &words)
}

/// The app's databases. Gives the profiles, and how many ops wait in all of them; `None` where that cannot be read.
fn app(
    directory: &Path,
    config: &Config,
    record: &Record,
    errand: &mut Errand,
    findings: &mut Vec<Finding>,
) -> Option<(Vec<Profile>, u64)> {
    let until = Instant::now() + CHECKS_MAX;
    let path = directory.join(registry::FILE);
    findings.extend(database::judge(&database::look_at(&path, until)));
    let seen = look(&path, || registered(&path, directory));
    // Why not is told by the look before.
    let (url, device, profiles) = seen.ok()?;
    errand.url = config.server.url.clone().or(url);
    errand.device = device;
    findings.push(profile::judge_device(errand.device.as_deref()));
    let mut waiting = 0;
    let mut at_profiles = Vec::new();
    for profile in &profiles {
        if let Some(path) = &profile.path {
            let found = database::judge(&database::look_at(path, until));
            findings.extend(found.into_iter().map(|found| found.of(profile.id)));
        }
        let facts = profile::look_at(directory, profile, config.server.url.as_deref(), record);
        waiting += facts.waiting();
        errand.tickets.extend(facts.ticket());
        at_profiles.extend(profile::judge(&facts));
    }
    if profiles.is_empty() {
        at_profiles.push(profile::none());
    }
    findings.extend(at_profiles);
    Some((profiles, waiting))
}

type Registered = (Option<String>, Option<String>, Vec<Profile>);

fn registered(path: &Path, directory: &Path) -> Result<Registered, StoreError> {
    Database::open_to_look(path)?.read(|connection| {
        let profiles = registry::profiles(connection, directory)?;
        Ok((registry::server_url(connection)?, registry::device_id(connection)?, profiles))
    })
}
