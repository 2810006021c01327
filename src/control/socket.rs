//! Making the control socket, and telling a live one from one that a crash left.
//!
//! What must always hold: a live socket is never unlinked, nor anything that is no socket of ours; between looking and
//! binding nobody else does the same (a lock on the directory); nobody else could have put something of his on the way
//! there, or can replace what is in the last directory; and the socket is never open to others, not for a moment: it gets
//! its mode from the umask as it is bound, and [`crate::daemon::run`] has set that to 077, so there is nothing to win
//! between `bind` and `chmod`. What `chmod` takes away is the owner's x, which means nothing.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::exit::Exit;
use crate::trust::{self, TrustError};

/// Others may write. With that, they could put their own socket in the place of ours, unless it is [`STICKY`].
const OTHERS_WRITE: u32 = 0o022;
/// Nobody may take away what is another's, as in `/tmp`.
const STICKY: u32 = 0o1000;
/// A turn takes microseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks whether it is our turn.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Binds and listens at `path`.
///
/// # Errors
/// For people, and how to end with it: 75 where another agent is behind it, 77 where something is somebody else's.
pub fn bind(path: &Path) -> Result<UnixListener, (String, Exit)> {
    let directory = directory_of(path);
    let refuse = |what: &str, exit| refused(path, what, exit);
    let failed = |error: io::Error| failed(path, &error);
    // Before, so that nothing is made behind a link that is not ours; and after, because in a directory that is
    // everybody's (/tmp) somebody may have been faster.
    look_at_way(path)?;
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    look_at_way(path)?;
    check_directory(path, directory)?;
    let lock = rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failed(error.into()))?;
    if !take_turn(&lock).map_err(failed)? {
        return Err(refuse("somebody keeps its directory locked", Exit::TryLater));
    }
    if is_taken(path)? {
        match UnixStream::connect(path) {
            Ok(_) => return Err(refuse("another agent is behind it", Exit::TryLater)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        }
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

fn exit_of(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        _ => Exit::TryLater,
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Looks whether somebody else could change where `path` leads.
///
/// # Errors
/// He could, as [`bind`] would say it.
pub fn look_at_way(path: &Path) -> Result<(), (String, Exit)> {
    trust::check_way(directory_of(path)).map_err(|error| {
        let exit = match &error {
            TrustError::Stranger { .. } => Exit::NotPermitted,
            TrustError::Io { source, .. } => exit_of(source),
        };
        refused(path, &error.to_string(), exit)
    })
}

fn check_directory(path: &Path, directory: &Path) -> Result<(), (String, Exit)> {
    let found = fs::metadata(directory).map_err(|error| failed(path, &error))?;
    // Its owner may replace what is in it, whatever its mode.
    if !trust::is_trusted(found.uid()) {
        return Err(refused(path, "its directory belongs to another user", Exit::NotPermitted));
    }
    let mode = found.mode();
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        let what = "other users may write to its directory; take that away with chmod go-w, or set another \
                    `control.socket`";
        return Err(refused(path, what, Exit::NotPermitted));
    }
    Ok(())
}

/// Whether a socket of ours is at `path`, live or not.
fn is_taken(path: &Path) -> Result<bool, (String, Exit)> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path, &error)),
        Ok(found) if !found.file_type().is_socket() => {
            Err(refused(path, "something that is no socket is in its place", Exit::NotPermitted))
        }
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
            Err(refused(path, "it belongs to somebody else", Exit::NotPermitted))
        }
        Ok(_) => Ok(true),
    }
}

/// Looks whether one could be made at `path`, as [`bind`] would, and makes nothing.
///
/// # Errors
/// Those of [`bind`], but for another agent that is behind it.
pub fn look(path: &Path) -> Result<(), (String, Exit)> {
    let directory = directory_of(path);
    look_at_way(path)?;
    if directory.exists() {
        check_directory(path, directory)?;
        is_taken(path)?;
    }
    Ok(())
}

fn refused(path: &Path, what: &str, exit: Exit) -> (String, Exit) {
    (format!("control socket {}: {what}", path.display()), exit)
}

fn failed(path: &Path, error: &io::Error) -> (String, Exit) {
    refused(path, &error.to_string(), exit_of(error))
}

/// Locks the directory. Whoever makes a socket here holds it for a few microseconds; but whoever may read the directory
/// may lock it for ever, so patience has an end.
fn take_turn(directory: &OwnedFd) -> io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Which file a socket is, to remove no other.
pub fn inode(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/agent.sock");
        let first = bind(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let (message, exit) = bind(&path).unwrap_err();
        assert_eq!(exit, Exit::TryLater);
        assert!(message.contains("another agent"), "{message}");
        drop(first);
        let second = bind(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().1, Exit::NotPermitted);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(bind(&link).unwrap_err().1, Exit::NotPermitted);
    }

    #[test]
    fn a_directory_others_may_write_to_is_refused_unless_it_is_sticky() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        for (bits, usable) in [(0o770, false), (0o702, false), (0o1777, true), (0o755, true)] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(bits)).unwrap();
            match bind(&path) {
                Ok(_) => assert!(usable && fs::remove_file(&path).is_ok(), "{bits:o}"),
                Err((message, exit)) => {
                    assert!(!usable && exit == Exit::NotPermitted, "{bits:o}: {message}");
                    assert!(!path.exists(), "{bits:o}");
                }
            }
        }
    }

    #[test]
    fn a_directory_that_somebody_keeps_locked_is_not_waited_for_in_vain() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let theirs = fs::File::open(directory.path()).unwrap();
        rustix::fs::flock(&theirs, FlockOperation::LockShared).unwrap();
        let (message, exit) = bind(&path).unwrap_err();
        assert_eq!(exit, Exit::TryLater);
        assert!(message.contains("locked"), "{message}");
        drop(theirs);
        bind(&path).unwrap();
    }
}
