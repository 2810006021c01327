//! Our own state: whether it can be kept, what it says of a pause.
//!
//! What must always hold: it is looked at, not opened as the agent does, who makes what is missing and puts aside what it
//! does not understand.

use std::io;
use std::path::Path;

use super::Finding;
use super::files::{Room, may_write};
use crate::exit::Exit;
use crate::record::Record;
use crate::state::{StateError, StateFile};

const NAME: &str = "state";

/// What the file says, and what is to be said about it.
pub(super) fn look(directory: &Path) -> (Vec<Finding>, Record) {
    let looked = StateFile::<Record>::look(directory);
    // Where it is not there it is made, in the last directory that is.
    let nearest = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    let mut found = vec![judge(directory, looked.as_ref().map(Option::is_some), may_write(nearest))];
    let room = Room::of(nearest).map(|room| room.judge("state_disk_space", nearest));
    found.extend(room.filter(|room| room.level == super::Level::Wrong));
    (found, looked.ok().flatten().unwrap_or_default())
}

fn judge(directory: &Path, looked: Result<bool, &StateError>, may_write: Result<(), io::ErrorKind>) -> Finding {
    let shown = directory.display();
    match (looked, may_write) {
        (Err(error @ StateError::Strange { .. }), _) => {
            let mend = "nothing; the agent keeps it aside at its next start, and goes on without it: look through `queue list`";
            Finding::notice(NAME, &error.to_string(), mend)
        }
        (Err(error), _) => {
            let mend = "make it, and what is in it, this user's alone (chown -R, chmod go-w), or set another state_dir";
            Finding::wrong(NAME, &error.to_string(), mend).ends_with(error.exit())
        }
        (Ok(_), Err(io::ErrorKind::PermissionDenied)) => {
            let mend = format!("chmod u+rwx {shown}, or set another state_dir in the configuration");
            let words = format!("{shown} cannot be written to by this user");
            Finding::wrong(NAME, &words, &mend).ends_with(Exit::NotPermitted)
        }
        // A file system for reading only is told with the disk.
        (Ok(true), _) => Finding::fine(NAME, &format!("kept in {shown}")),
        (Ok(false), _) => Finding::fine(NAME, &format!("none yet; {shown} is where it will be")),
    }
}

/// Whether `pause` is in force.
pub(super) fn judge_pause(record: &Record) -> Option<Finding> {
    record
        .paused
        .then(|| Finding::wrong("pause", "paused: nothing is sent", "`waveflow-sync-agent resume` sends again"))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_state_that_cannot_be_kept_is_wrong_and_one_that_is_not_there_is_fine() {
        let place = Path::new("/s");
        assert_eq!(judge(place, Ok(false), Ok(())).level, Level::Fine);
        assert_eq!(judge(place, Ok(true), Ok(())).level, Level::Fine);
        let shut = judge(place, Ok(true), Err(io::ErrorKind::PermissionDenied));
        assert_eq!((shut.level, shut.exit), (Level::Wrong, Exit::NotPermitted));
        let theirs = StateError::NotOurs { path: "/s".into(), why: "it belongs to another user" };
        assert_eq!(judge(place, Err(&theirs), Ok(())).exit, Exit::NotPermitted);
        let strange = StateError::Strange { path: "/s".into(), why: "EOF".into() };
        assert_eq!(judge(place, Err(&strange), Ok(())).level, Level::Notice);
    }

    #[test]
    fn a_look_makes_nothing_and_puts_nothing_aside() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("state");
        let (found, record) = look(&directory);
        assert!(found[0].level == Level::Fine && record == Record::default() && !directory.exists());
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("state.json"), "{").unwrap();
        assert_eq!(look(&directory).0[0].level, Level::Notice);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        assert!(directory.join("state.json").exists());
    }

    #[test]
    fn a_pause_is_in_the_way() {
        assert_eq!(judge_pause(&Record::default()), None);
        let paused = judge_pause(&Record { paused: true, ..Record::default() }).unwrap();
        assert!(paused.level == Level::Wrong && paused.mend.unwrap().contains("resume"));
    }
}
