//! Directories that an install makes, and an uninstall takes away again.
//!
//! What must always hold: a directory that was there before stays, empty or not. Which ones were made is written down on
//! themselves, as an extended attribute: it is there as long as they are, and nothing else has to be kept. Where a file
//! system has no such attributes nothing is taken away.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

const MARK: &str = "user.waveflow-sync-agent.made";

/// Makes it with all above it that is not there, each with this mode and its mark.
///
/// # Errors
/// One cannot be made.
pub fn make(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make(above, mode)?;
    }
    fs::DirBuilder::new().mode(mode).create(path)?;
    // Unmarked it stays, which harms nobody.
    let _ = rustix::fs::setxattr(path, MARK, b"1", XattrFlags::empty());
    Ok(())
}

/// Takes it away if it was made by [`make`] and nothing is in it. One that holds something else by now is its owner's, and
/// loses its mark.
///
/// # Errors
/// It cannot be removed.
pub fn take_away(path: &Path) -> io::Result<()> {
    if !is_made(path) {
        return Ok(());
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => forget(path),
        done => done,
    }
}

/// Whether [`make`] made it.
pub fn is_made(path: &Path) -> bool {
    rustix::fs::getxattr(path, MARK, &mut [0_u8; 8]).is_ok()
}

fn forget(path: &Path) -> io::Result<()> {
    match rustix::fs::removexattr(path, MARK) {
        Err(error) if error != Errno::NODATA => Err(error.into()),
        _ => Ok(()),
    }
}

/// The ones of `paths` that are there and were not made by [`make`], with their modes: whoever else tidies up must not
/// take them away.
pub fn standing(paths: &[PathBuf]) -> Vec<(PathBuf, u32)> {
    let found = paths.iter().filter(|path| !is_made(path));
    found.filter_map(|path| Some((path.clone(), fs::metadata(path).ok()?.permissions().mode() & 0o7777))).collect()
}

/// Makes it again, as it was.
///
/// # Errors
/// It cannot be made.
pub fn restore(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_goes_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there");
        fs::create_dir(&there).unwrap();
        let deep = there.join("a/b/c");
        make(&deep, 0o755).unwrap();
        if !is_made(&deep) {
            // The scenarios say so.
            return;
        }
        fs::write(there.join("a/kept"), "").unwrap();
        let take_all = || deep.ancestors().for_each(|directory| take_away(directory).unwrap());
        take_all();
        assert!(!there.join("a/b").exists() && there.join("a/kept").exists());
        assert!(!is_made(&there.join("a")), "what holds something else is its owner's from now on");
        fs::remove_file(there.join("a/kept")).unwrap();
        take_all();
        assert!(there.join("a").exists());
    }

    #[test]
    fn an_empty_directory_of_somebody_elses_stays() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there");
        fs::create_dir(&there).unwrap();
        take_away(&there).unwrap();
        make(&there, 0o755).unwrap();
        take_away(&there).unwrap();
        assert!(there.is_dir());
        assert_eq!(standing(std::slice::from_ref(&there)).len(), 1);
    }
}
