//! What the agent remembers, when it is uninstalled.
//!
//! What must always hold: what a person decided (a pause, an op let go or discarded) and what he has yet to decide about
//! (an op that was refused) is never forgotten; nor is what was there before the install.

use std::fs;
use std::io;
use std::path::Path;

use super::directories;
use crate::record::Record;
use crate::state::{self, StateFile};

/// Forgets it, if an install made the directory and nothing in it is worth keeping.
///
/// # Errors
/// It cannot be removed.
pub fn forget(state_dir: &Path) -> io::Result<()> {
    if !directories::is_made(state_dir) || is_worth_keeping(state_dir) {
        return Ok(());
    }
    for name in state::FILES {
        match fs::remove_file(state_dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What is left behind an uninstall, in words.
pub fn left(state_dir: &Path) -> String {
    let stays = if state_dir.is_dir() {
        // It was there before, or is in use, or holds what a person decided, or has yet to.
        format!("What the agent remembers stays in {}.", state_dir.display())
    } else {
        "The agent has left nothing else behind.".to_owned()
    };
    format!("What waits to be delivered is in the app's own queue, untouched. {stays}")
}

/// Whether something in it is; what cannot be read may be.
pub fn is_worth_keeping(state_dir: &Path) -> bool {
    StateFile::<Record>::open(state_dir).map_or(true, |(_, record)| record.holds_decisions())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_is_kept_and_the_rest_forgotten_where_an_install_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("state");
        let save = |record: &Record| StateFile::<Record>::open(&state_dir).unwrap().0.save(record).unwrap();
        let file = state_dir.join("state.json");
        directories::make(&state_dir, 0o700).unwrap();
        if !directories::is_made(&state_dir) {
            // The scenarios say so.
            return;
        }
        let mut record = Record::default();
        record.uplinks.insert("https://x".into(), 70_000);
        for (paused, stays) in [(true, true), (false, false)] {
            record.paused = paused;
            save(&record);
            forget(&state_dir).unwrap();
            assert_eq!(file.exists(), stays);
        }
        save(&record);
        fs::write(&file, "{").unwrap();
        forget(&state_dir).unwrap();
        assert!(state_dir.join("state.json.unreadable-1").exists(), "what nobody could read is somebody's");
    }

    #[test]
    fn what_was_there_before_the_install_stays() {
        let dir = tempfile::tempdir().unwrap();
        StateFile::<Record>::open(dir.path()).unwrap();
        fs::write(dir.path().join("state.json"), "{}").unwrap();
        forget(dir.path()).unwrap();
        assert!(dir.path().join("state.json").exists());
    }
}
