//! Whether another user of the machine could put something of his in the place of ours: every step of the way to a
//! directory is looked at.
//!
//! What must always hold: it only looks; a link or a directory of somebody we do not trust is never stepped through.
//!
//! Trusted are we, root, and whoever owns `/`: in a user namespace root is shown under another number there, and where
//! it is not root he could replace everything anyway. A link of theirs is as good as a directory (`/var/run`).

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As many as Linux follows in one path.
const LINKS_MAX: usize = 40;
/// Everybody may write.
const ALL_WRITE: u32 = 0o002;
/// In such a directory everybody may make things, and nobody may take away what is another's.
const STICKY: u32 = 0o1000;

/// Why a way is not to be taken.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Somebody else could change where it leads.
    #[error("{}: {why}", path.display())]
    Stranger {
        /// The step.
        path: PathBuf,
        /// Why, and the mend.
        why: &'static str,
    },
    /// A step cannot be looked at.
    #[error("{}: {source}", path.display())]
    Io {
        /// The step.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Whom we trust.
struct Trusted([u32; 3]);

impl Trusted {
    fn here() -> Self {
        let us = rustix::process::geteuid().as_raw();
        Self([us, 0, fs::metadata("/").map_or(0, |found| found.uid())])
    }
}

/// Whether this user is trusted: us, root, or whoever owns `/`.
pub fn is_trusted(user: u32) -> bool {
    Trusted::here().0.contains(&user)
}

/// Looks at every step to `directory` and at itself, as far as they are there; what is missing is for us to make.
pub fn check_way(directory: &Path) -> Result<(), TrustError> {
    let absolute = std::path::absolute(directory).map_err(|source| failed(directory, source))?;
    let trusted = Trusted::here();
    let (mut here, mut ahead, mut links) = (PathBuf::from("/"), steps(&absolute), 0);
    while let Some(step) = ahead.pop() {
        match Path::new(&step).components().next() {
            Some(Component::RootDir) => here = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(here.pop()),
            Some(Component::Normal(_)) => here.push(&step),
            _ => continue,
        }
        let found = match fs::symlink_metadata(&here) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(failed(&here, source)),
        };
        if let Some(why) = judge(&found, &trusted) {
            return Err(TrustError::Stranger { path: here, why });
        }
        if found.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return Err(TrustError::Stranger { path: here, why: "too many links, one behind the other" });
            }
            ahead.extend(steps(&fs::read_link(&here).map_err(|source| failed(&here, source))?));
            here.pop();
        }
    }
    Ok(())
}

fn failed(path: &Path, source: io::Error) -> TrustError {
    TrustError::Io { path: path.to_owned(), source }
}

/// The steps of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|step| step.as_os_str().to_owned()).collect()
}

fn judge(found: &Metadata, trusted: &Trusted) -> Option<&'static str> {
    why_not(found.is_symlink(), found.uid(), found.mode(), trusted)
}

/// Why a step is not to be taken, if it is not. A group may write: many systems give each user a group of his own.
fn why_not(link: bool, owner: u32, mode: u32, trusted: &Trusted) -> Option<&'static str> {
    if !trusted.0.contains(&owner) {
        return Some(if link {
            "it is a link that another user made; take it away, or choose another place"
        } else {
            "it belongs to another user; choose another place"
        });
    }
    // A link's own mode says nothing.
    (!link && mode & ALL_WRITE != 0 && mode & STICKY == 0)
        .then_some("everybody may write to it; take that away with chmod o-w, or choose another place")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_steps_of_ours_and_of_the_administrators_are_taken() {
        let trusted = Trusted([1000, 0, 65534]);
        for (link, owner, mode, taken) in [
            (false, 1000, 0o700, true),
            (false, 1000, 0o775, true),
            (false, 0, 0o755, true),
            (false, 65534, 0o755, true),
            (false, 0, 0o1777, true),
            (true, 0, 0o777, true),
            (true, 1000, 0o777, true),
            (false, 1001, 0o700, false),
            (false, 1001, 0o1777, false),
            (true, 1001, 0o777, false),
            (false, 1000, 0o777, false),
            (false, 0, 0o757, false),
        ] {
            assert_eq!(why_not(link, owner, mode, &trusted).is_none(), taken, "{link} {owner} {mode:o}");
        }
    }

    #[test]
    fn links_of_ours_are_followed_and_what_is_behind_them_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let (real, open) = (dir.path().join("real"), dir.path().join("open"));
        fs::create_dir_all(real.join("below")).unwrap();
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        symlink("real/./below/../below", dir.path().join("good")).unwrap();
        symlink(&open, dir.path().join("bad")).unwrap();
        symlink("round", dir.path().join("round")).unwrap();
        for good in ["good", "good/not/there", "real/below", "good/../../good"] {
            check_way(&dir.path().join(good)).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in ["open", "open/not/there", "bad", "bad/x", "round/x"] {
            let error = check_way(&dir.path().join(bad)).unwrap_err();
            assert!(matches!(error, TrustError::Stranger { .. }), "{bad}: {error}");
        }
        let error = check_way(&dir.path().join("bad/x")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: everybody may write", open.display())), "{error}");
    }
}
