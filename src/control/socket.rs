//! Making the control socket, and telling a live one from one that a crash left.
//!
//! What must always hold: a live socket is never unlinked, nor anything that is no socket of ours; between looking and
//! binding nobody else does the same (a lock on the directory); the socket is never open to others, not for a moment
//! (the umask is set before).

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::exit::Exit;

/// Binds and listens at `path`.
///
/// # Errors
/// For people, and how to end with it: 75 where another agent is behind it, 77 where something is somebody else's.
pub fn bind(path: &Path) -> Result<UnixListener, (String, Exit)> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let refuse = |what: &str, exit| (format!("control socket {}: {what}", path.display()), exit);
    let failed = |error: io::Error| {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            _ => Exit::TryLater,
        };
        (format!("control socket {}: {error}", path.display()), exit)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let lock = rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failed(error.into()))?;
    // Held for a few microseconds by whoever makes a socket here.
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(refuse("something that is no socket is in its place", Exit::NotPermitted));
        }
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
            return Err(refuse("it belongs to somebody else", Exit::NotPermitted));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(refuse("another agent is behind it", Exit::TryLater)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        },
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
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
}
