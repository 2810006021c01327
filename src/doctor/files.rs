//! The app's data directory: whether it is there, whose it is, whether it can be written to, and the room on its disk.
//!
//! What must always hold: nothing is opened here but by `stat` and its like; see [`crate::app::directory`].

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags, accessat, statvfs};

use super::Finding;
use crate::app::directory::{Found, NotFound};
use crate::app::registry;
use crate::exit::Exit;

/// A commit needs a few pages, and the log of a drain a few hundred.
const FULL_BELOW: u64 = 1 << 20;
/// Soon full, the way things go.
const LOW_BELOW: u64 = 64 << 20;

/// Room on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes this user may still write.
    bytes: u64,
    /// Files he may still make; `None` where the file system has no such number.
    files: Option<u64>,
    read_only: bool,
}

impl Room {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = statvfs(path).ok()?;
        Some(Self {
            bytes: found.f_bavail.saturating_mul(found.f_frsize),
            files: (found.f_files > 0).then_some(found.f_favail),
            read_only: found.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }

    /// What is wrong with it, if anything.
    pub(super) fn judge(self, name: &'static str, path: &Path) -> Finding {
        let (shown, megabytes) = (path.display(), self.bytes >> 20);
        if self.read_only {
            let mend = "mount it for writing (`mount -o remount,rw`), or see `dmesg` why the system made it so";
            return Finding::wrong(name, &format!("the file system of {shown} is read-only"), mend);
        }
        if self.bytes < FULL_BELOW || self.files == Some(0) {
            let what = if self.files == Some(0) { "takes no more files" } else { "is full" };
            return Finding::wrong(name, &format!("the disk of {shown} {what}"), "free some space (`df -h`, `df -i`)");
        }
        if self.bytes < LOW_BELOW {
            let words = format!("the disk of {shown} has {megabytes} MiB left");
            return Finding::notice(name, &words, "free some space before it is full");
        }
        Finding::fine(name, &format!("{megabytes} MiB left on the disk of {shown}"))
    }
}

/// Whether this user may write to a file, or make files in a directory; why not.
pub(super) fn may_write(path: &Path) -> Result<(), io::ErrorKind> {
    let access = Access::WRITE_OK | if path.is_dir() { Access::EXEC_OK } else { Access::empty() };
    accessat(CWD, path, access, AtFlags::EACCESS).map_err(|error| io::Error::from(error).kind())
}

/// What there is to know.
#[derive(Debug)]
pub(super) enum Facts {
    /// Nowhere; with the first place that could not be looked into.
    Missing(String, Option<PathBuf>),
    There {
        path: PathBuf,
        passed_over: Option<String>,
        owner: u32,
        us: u32,
        may_write: Result<(), io::ErrorKind>,
        room: Option<Room>,
    },
}

pub(super) fn look(place: &Result<Found, NotFound>) -> Facts {
    match place {
        Err(error) => {
            let is_shut = |path: &&PathBuf| {
                let looked = fs::metadata(path.join(registry::FILE));
                looked.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
            };
            Facts::Missing(error.to_string(), error.looked_at.iter().map(|place| &place.path).find(is_shut).cloned())
        }
        Ok(found) => {
            let path = found.place.path.clone();
            Facts::There {
                passed_over: found.passed_over.as_ref().map(ToString::to_string),
                owner: fs::metadata(&path).map_or(0, |found| found.uid()),
                us: rustix::process::geteuid().as_raw(),
                may_write: may_write(&path),
                room: Room::of(&path),
                path,
            }
        }
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "data_directory";
    let (path, passed_over, owner, us, may_write, room) = match facts {
        Facts::Missing(_, Some(shut)) => {
            let words = format!("{} may not be looked into by this user", shut.display());
            let mend =
                "run the agent as the user who runs WaveFlow, or give the directory back to him (chown, chmod u+rwx)";
            return vec![Finding::wrong(NAME, &words, mend).ends_with(Exit::NotPermitted)];
        }
        Facts::Missing(words, None) => {
            let mend = "install WaveFlow and start it once as this user; if its data is elsewhere, name that with \
                        --data-dir, or as data_dir in the configuration";
            return vec![Finding::wrong(NAME, words, mend)];
        }
        Facts::There { path, passed_over, owner, us, may_write, room } => {
            (path, passed_over, owner, us, may_write, room)
        }
    };
    let shown = path.display();
    let place = match may_write {
        // Told with the disk.
        Err(io::ErrorKind::ReadOnlyFilesystem) | Ok(()) if owner == us || *us == 0 => {
            Finding::fine(NAME, &format!("{shown}"))
        }
        Ok(()) | Err(io::ErrorKind::ReadOnlyFilesystem) => {
            let mend = "run the agent as that user, else WaveFlow may not be able to use the files made here";
            Finding::notice(NAME, &format!("{shown} belongs to user {owner}, and this is user {us}"), mend)
        }
        Err(_) => {
            let words = format!("{shown} cannot be written to by this user ({us}; it belongs to {owner})");
            let mend = format!("chmod u+rwx {shown}, or run the agent as the user who runs WaveFlow");
            Finding::wrong(NAME, &words, &mend).ends_with(Exit::NotPermitted)
        }
    };
    let other = passed_over.as_ref().map(|other| {
        let mend = "if that is the one in use, name it with --data-dir, or as data_dir in the configuration";
        Finding::notice("other_data_directory", &format!("{other} was used longer ago, and is not served"), mend)
    });
    [Some(place), other, room.map(|room| room.judge("disk_space", path))].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn there(may_write: Result<(), io::ErrorKind>, owner: u32) -> Vec<Finding> {
        let room = Room { bytes: 1 << 40, files: Some(9), read_only: false };
        judge(&Facts::There { path: "/d".into(), passed_over: None, owner, us: 7, may_write, room: Some(room) })
    }

    #[test]
    fn a_directory_of_ours_is_fine_and_others_are_not() {
        assert!(there(Ok(()), 7).iter().all(|found| found.level == Level::Fine));
        assert_eq!(there(Ok(()), 8)[0].level, Level::Notice);
        let shut = &there(Err(io::ErrorKind::PermissionDenied), 7)[0];
        assert_eq!((shut.level, shut.exit), (Level::Wrong, Exit::NotPermitted));
        assert!(shut.mend.as_ref().unwrap().contains("chmod u+rwx /d"));
    }

    #[test]
    fn a_directory_that_is_missing_is_told_apart_from_one_that_is_shut() {
        let missing = &judge(&Facts::Missing("not there; looked in /a".into(), None))[0];
        assert!(missing.exit == Exit::TryLater && missing.mend.as_ref().unwrap().contains("install WaveFlow"));
        assert_eq!(judge(&Facts::Missing(String::new(), Some("/a".into())))[0].exit, Exit::NotPermitted);
    }

    #[test]
    fn a_second_place_is_told_of() {
        let facts = Facts::There {
            path: "/d".into(),
            passed_over: Some("/o (Flatpak)".into()),
            owner: 7,
            us: 7,
            may_write: Ok(()),
            room: None,
        };
        let found = judge(&facts);
        assert_eq!((found[1].name, found[1].level), ("other_data_directory", Level::Notice));
    }

    #[test]
    fn a_disk_is_full_low_or_fine() {
        let level = |bytes, files, read_only| Room { bytes, files, read_only }.judge("disk_space", Path::new("/d"));
        assert!(level(0, None, false).words.contains("is full"));
        assert!(level(1 << 40, Some(0), false).words.contains("takes no more files"));
        assert!(level(1 << 40, None, true).words.contains("read-only"));
        assert_eq!(level(10 << 20, None, false).level, Level::Notice);
        assert_eq!(level(1 << 40, None, false).level, Level::Fine);
    }
}
