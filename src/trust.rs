//! Whether another user of the machine could put something of his in the place of ours: every step of the way to a
//! directory is looked at.
//!
//! What must always hold: it only looks; a link of somebody we do not trust is never stepped through, nor a directory
//! that he put where everybody may.
//!
//! Trusted are we, root, and whoever owns `/`: in a user namespace root is shown under another number there, and where
//! it is not root he could replace everything anyway. A link of theirs is as good as a directory (`/var/run`).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As many as Linux follows in one path.
const LINKS_MAX: usize = 40;
/// Everybody may write, and so put a step of the way there.
const ALL_WRITE: u32 = 0o002;

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
    let mut everybodys = false;
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
        if let Some(why) = why_not(found.is_symlink(), found.uid(), everybodys, &trusted) {
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
        everybodys = everybodys_own(&here)?;
    }
    Ok(())
}

/// Whether everybody may make things in `directory`.
fn everybodys_own(directory: &Path) -> Result<bool, TrustError> {
    let found = fs::symlink_metadata(directory).map_err(|source| failed(directory, source))?;
    Ok(found.mode() & ALL_WRITE != 0)
}

fn failed(path: &Path, source: io::Error) -> TrustError {
    TrustError::Io { path: path.to_owned(), source }
}

/// The steps of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|step| step.as_os_str().to_owned()).collect()
}

/// Why a step is not to be taken, if it is not: a link leads where its owner likes, and in a directory that is
/// `everybodys` (as `/tmp` is) anything may have been put there for us. Any other directory was opened to its owner by
/// whoever runs the machine, and what is at its end is looked at by who uses it.
fn why_not(link: bool, owner: u32, everybodys: bool, trusted: &Trusted) -> Option<&'static str> {
    if trusted.0.contains(&owner) {
        return None;
    }
    match (link, everybodys) {
        (true, _) => Some("it is a link that another user made; take it away, or choose another place"),
        (false, true) => {
            Some("it belongs to another user, and everybody may make things where it is; choose another place")
        }
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_link_is_its_owners_and_where_everybody_writes_so_is_a_directory() {
        let trusted = Trusted([1000, 0, 65534]);
        for owner in [1000, 0, 65534] {
            for (link, everybodys) in [(false, false), (false, true), (true, false), (true, true)] {
                assert_eq!(why_not(link, owner, everybodys, &trusted), None);
            }
        }
        for (link, everybodys, taken) in
            [(true, false, false), (true, true, false), (false, true, false), (false, false, true)]
        {
            assert_eq!(why_not(link, 1001, everybodys, &trusted).is_none(), taken, "{link} {everybodys}");
        }
    }

    #[test]
    fn links_of_ours_are_followed_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir_all(real.join("below")).unwrap();
        symlink("real/./below/../below", dir.path().join("good")).unwrap();
        symlink("round", dir.path().join("round")).unwrap();
        for good in ["good", "good/not/there", "real/below", "good/../../good"] {
            check_way(&dir.path().join(good)).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        let error = check_way(&dir.path().join("round/x")).unwrap_err();
        assert!(matches!(error, TrustError::Stranger { .. }), "{error}");
    }

    #[test]
    fn what_everybody_may_put_somewhere_is_known_from_the_directory_it_is_in() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, everybodys) in [(0o777, true), (0o1777, true), (0o775, false), (0o700, false)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(everybodys_own(dir.path()).unwrap(), everybodys, "{mode:o}");
        }
    }
}
