//! A look at the app's files without a daemon and without a pass: what `status` says, what `queue list` lists.
//!
//! What must always hold: nothing of ours is written for it; what cannot be read is said, not guessed.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::app::registry::{self, Profile};
use crate::clock;
use crate::drain::action::{Snapshot, StoreError};
use crate::drain::gate;
use crate::op::{ErrorKind, Failure};
use crate::record::{Keeper, Record};
use crate::status::{ProfileStatus, State};
use crate::worker::store::{Store, Survey};

/// Rows that `queue list` shows of one profile at the most.
const LISTED_MAX: usize = 1000;

/// An op that needs a person, or time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Which op.
    pub operation_id: String,
    /// Whose queue.
    pub profile: i64,
    /// `quarantined` or `held`.
    pub state: &'static str,
    /// Kind of thing.
    pub entity: String,
    /// `None` for the whole of it.
    pub field: Option<String>,
    /// How long ago the app queued it.
    pub age_s: u64,
    /// Why it is not sent.
    pub reason: String,
}

/// Opens what is to be looked at; `record` is not written to.
pub fn store(directory: &Path, profile: &Profile, url: Option<String>, record: &Record) -> Store {
    let keeper = Arc::new(Keeper::new(None, record.clone()));
    Store::new(directory.to_owned(), profile.clone(), url, keeper, clock::now_ms)
}

/// The profiles in `directory`.
pub fn profiles(directory: &Path) -> Result<Vec<Profile>, StoreError> {
    registry::open(directory)?.read(|connection| registry::profiles(connection, directory))
}

/// What the files say about `profile`. Blocks.
pub fn status(directory: &Path, profile: &Profile, url: Option<String>, record: &Record) -> ProfileStatus {
    let mut status = ProfileStatus {
        profile: profile.id,
        name: profile.name.clone(),
        state: State::Unavailable,
        pending: 0,
        quarantined: 0,
        held: 0,
        oldest_pending_s: None,
        sent_total: 0,
        last_success: None,
        last_error: None,
        next_attempt_in_s: None,
        server: None,
        guarded: None,
    };
    match store(directory, profile, url, record).survey() {
        Ok(Survey { snapshot, server, counts, guarded }) => {
            status.state = state(&snapshot, counts.remaining, counts.held);
            status.pending = counts.remaining;
            status.quarantined = counts.quarantined;
            status.held = counts.held;
            status.oldest_pending_s = counts.oldest.map(age);
            status.server = server;
            status.guarded = guarded;
        }
        Err(error) => status.last_error = Some(Failure::new(ErrorKind::Database, error.message)),
    }
    status
}

/// Without a pass: nothing is wrong that the files could tell.
fn state(snapshot: &Snapshot, pending: u64, held: u64) -> State {
    match gate::shut(snapshot) {
        Some(reason) => reason.into(),
        None if pending == 0 && held > 0 => State::Held,
        None => State::Idle,
    }
}

/// What is quarantined or held in `profile`. Blocks.
pub fn list(
    directory: &Path,
    profile: &Profile,
    url: Option<String>,
    record: &Record,
) -> Result<Vec<Listed>, StoreError> {
    let path = profile.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let mut listed: Vec<Listed> = record
        .quarantined_in(&path)
        .map(|(operation_id, entry)| Listed {
            operation_id: operation_id.to_string(),
            profile: profile.id,
            state: "quarantined",
            entity: entry.entity.clone(),
            field: entry.field.clone(),
            age_s: age(entry.queued_at),
            reason: entry.words.clone(),
        })
        .take(LISTED_MAX)
        .collect();
    let held = store(directory, profile, url, record).held(LISTED_MAX - listed.len())?;
    listed.extend(held.into_iter().map(|(operation_id, label)| Listed {
        operation_id: operation_id.to_string(),
        profile: profile.id,
        state: "held",
        entity: label.entity,
        field: label.field,
        age_s: age(label.created_at),
        reason: "queued under another account, or before this one signed in".to_owned(),
    }));
    Ok(listed)
}

/// Seconds since `ms`.
pub fn age(ms: i64) -> u64 {
    u64::try_from(clock::now_ms().saturating_sub(ms) / 1000).unwrap_or_default()
}
