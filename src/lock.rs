//! One agent for each of the app's data directories: an exclusive `flock` on the directory itself.
//!
//! What must always hold: the lock is on the *directory's* descriptor, never on a file in it (closing a descriptor on a
//! database file drops the process's POSIX locks; contract, section 5); nothing is written to the app's directory for
//! it; and it ends with the process, however that ends.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::exit::Exit;

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    directory: PathBuf,
    descriptor: OwnedFd,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is already served by {}; one agent is enough, so let it work or end it", directory.display(), holder_words(holder.as_ref()))]
    Held {
        /// The directory.
        directory: PathBuf,
        /// Who has it, where the system tells.
        holder: Option<Holder>,
    },
    /// The directory cannot be opened or locked.
    #[error("cannot lock {}: {source}; it has to be readable for the user the agent runs as", directory.display())]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LockError {
    /// How a process ends that needs the lock.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unusable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            Self::Held { .. } | Self::Unusable { .. } => Exit::TryLater,
        }
    }
}

/// The process that has the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name, if it could be read.
    pub name: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (process {})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

fn holder_words(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), Holder::to_string)
}

/// How it stands with the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has it.
    Free,
    /// Somebody has it; who, where the system tells.
    Held(Option<Holder>),
}

impl DirectoryLock {
    /// Looks whether somebody has the lock. It is not taken where the system tells; else it is, shared and for a
    /// microsecond.
    pub fn look(directory: &Path) -> Result<Standing, LockError> {
        let unusable =
            |error: rustix::io::Errno| LockError::Unusable { directory: directory.to_owned(), source: error.into() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(directory, flags, Mode::empty()).map_err(unusable)?;
        if let Some(holder) = holder(&descriptor) {
            return Ok(Standing::Held(Some(holder)));
        }
        match rustix::fs::flock(&descriptor, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Standing::Free),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Standing::Held(None)),
            Err(error) => Err(unusable(error)),
        }
    }

    /// Takes the lock, or says at once why not.
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        let unusable =
            |error: rustix::io::Errno| LockError::Unusable { directory: directory.to_owned(), source: error.into() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(directory, flags, Mode::empty()).map_err(unusable)?;
        match rustix::fs::flock(&descriptor, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { directory: directory.to_owned(), descriptor }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(LockError::Held { directory: directory.to_owned(), holder: holder(&descriptor) })
            }
            Err(error) => Err(unusable(error)),
        }
    }

    /// Whether the path still leads to what was locked. It does not after the app's reset, which removes the whole
    /// directory, and then another agent may lock the new one: ask before each pass.
    pub fn still_same(&self) -> bool {
        match (rustix::fs::stat(&self.directory), rustix::fs::fstat(&self.descriptor)) {
            (Ok(path), Ok(locked)) => path.st_dev == locked.st_dev && path.st_ino == locked.st_ino,
            _ => false,
        }
    }

    /// The directory, as it was given.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Who has the lock on `directory`, where the system tells. Nothing is locked for it, not for a moment: an agent that
/// starts at this moment gets its lock.
pub fn holder_of(directory: &Path) -> Option<Holder> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    holder(&rustix::fs::open(directory, flags, Mode::empty()).ok()?)
}

/// Enough for some ten thousand locks; who holds ours is a courtesy, not worth more memory.
#[cfg(target_os = "linux")]
const LOCKS_LIMIT: u64 = 1024 * 1024;

#[cfg(target_os = "linux")]
fn holder(descriptor: &OwnedFd) -> Option<Holder> {
    let inode = rustix::fs::fstat(descriptor).ok()?.st_ino;
    holder_pid(&all_locks()?, inode).map(named)
}

#[cfg(target_os = "linux")]
fn all_locks() -> Option<String> {
    use std::io::Read;
    let mut locks = String::new();
    std::fs::File::open("/proc/locks").ok()?.take(LOCKS_LIMIT).read_to_string(&mut locks).ok()?;
    Some(locks)
}

#[cfg(target_os = "linux")]
fn named(pid: u32) -> Holder {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    Holder { pid, name: name.map(|name| name.trim_end().replace(char::is_control, " ")) }
}

/// Who has the database at `path` open, as far as the system tells: whoever does holds a lock on the memory that is
/// shared beside it, which is not opened for this.
#[cfg(target_os = "linux")]
pub fn users_of(path: &Path) -> Vec<Holder> {
    let mut shared = path.as_os_str().to_owned();
    shared.push("-shm");
    let Some((found, locks)) = rustix::fs::stat(&shared).ok().zip(all_locks()) else { return Vec::new() };
    let pids = locks.lines().filter_map(|line| holder_in(line, "POSIX", found.st_ino));
    pids.collect::<std::collections::BTreeSet<_>>().into_iter().map(named).collect()
}

/// Nobody tells.
#[cfg(not(target_os = "linux"))]
pub fn users_of(_: &Path) -> Vec<Holder> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn holder(_: &OwnedFd) -> Option<Holder> {
    None
}

/// The process with an exclusive `flock` on this inode, from the text of `/proc/locks`. By the inode alone: the device
/// shown there is the file system's, which on btrfs is not the one `stat` shows.
#[cfg(any(target_os = "linux", test))]
fn holder_pid(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| holder_in(line, "FLOCK", inode).filter(|_| line.contains(" WRITE ")))
}

/// The process whose lock of this kind, on this inode, the line is about.
#[cfg(any(target_os = "linux", test))]
fn holder_in(line: &str, kind: &str, inode: u64) -> Option<u32> {
    // `7: FLOCK  ADVISORY  WRITE 7533 fe:00:10027017 0 EOF`; one who waits has `->` behind the number.
    let mut words = line.split_whitespace().skip(1);
    let is_kind = words.next()? == kind;
    let pid = words.nth(2)?;
    let place = words.next()?.rsplit(':').next()?;
    // A process of another PID namespace is shown as 0 or -1.
    (is_kind && place.parse() == Ok(inode)).then(|| pid.parse().ok().filter(|pid| *pid > 0))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_holds_it_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::acquire(dir.path()).unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(holder_of(dir.path()).map(|holder| holder.pid), Some(std::process::id()));
        }
        let error = DirectoryLock::acquire(dir.path()).unwrap_err();
        assert_eq!(error.exit(), Exit::TryLater);
        let LockError::Held { holder, .. } = &error else { panic!("{error}") };
        if cfg!(target_os = "linux") {
            let holder = holder.as_ref().unwrap();
            assert_eq!(holder.pid, std::process::id());
            assert!(error.to_string().contains(&format!(" (process {}); ", holder.pid)), "{error}");
        }
        drop(first);
        DirectoryLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_look_says_who_has_it_and_takes_it_from_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DirectoryLock::look(dir.path()).unwrap(), Standing::Free);
        let lock = DirectoryLock::acquire(dir.path()).unwrap();
        let Standing::Held(holder) = DirectoryLock::look(dir.path()).unwrap() else { panic!("it is held") };
        if cfg!(target_os = "linux") {
            assert_eq!(holder.unwrap().pid, std::process::id());
        }
        drop(lock);
        assert_eq!(DirectoryLock::look(dir.path()).unwrap(), Standing::Free);
        assert!(DirectoryLock::look(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn a_directory_that_was_replaced_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("data"), dir.path().join("aside"));
        std::fs::create_dir(&path).unwrap();
        let lock = DirectoryLock::acquire(&path).unwrap();
        assert!(lock.still_same());
        std::fs::rename(&path, &aside).unwrap();
        assert!(!lock.still_same());
        std::fs::create_dir(&path).unwrap();
        assert!(!lock.still_same());
        DirectoryLock::acquire(&path).unwrap();
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        assert!(lock.still_same());
    }

    #[test]
    fn nothing_is_left_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        drop(DirectoryLock::acquire(dir.path()).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_a_directory_can_be_locked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.db");
        std::fs::write(&file, "").unwrap();
        for path in [&file, &dir.path().join("absent")] {
            let error = DirectoryLock::acquire(path).unwrap_err();
            assert!(matches!(error, LockError::Unusable { .. }), "{error}");
            assert!(error.to_string().contains(path.to_str().unwrap()));
        }
    }

    #[test]
    fn the_holder_is_read_from_the_systems_list() {
        let locks = "\
1: POSIX  ADVISORY  WRITE 11 fe:00:500 0 EOF
2: FLOCK  ADVISORY  READ  22 fe:00:500 0 EOF
3: FLOCK  ADVISORY  WRITE 33 fe:00:5001 0 EOF
4: FLOCK  ADVISORY  WRITE 44 fe:00:500 0 EOF
4: -> FLOCK  ADVISORY  WRITE 55 fe:00:600 0 EOF
5: FLOCK  ADVISORY  WRITE 0 00:2a:700 0 EOF
6: cut
";
        assert_eq!(holder_pid(locks, 500), Some(44));
        assert_eq!(holder_pid(locks, 5001), Some(33));
        for nobody in [600, 700, 1] {
            assert_eq!(holder_pid(locks, nobody), None, "{nobody}");
        }
    }
}
