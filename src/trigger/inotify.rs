//! The file watch on Linux: inotify on the directories, never on a file, with as few event kinds as there can be.
//!
//! What must always hold: nothing is opened but directories; events of files nobody waits for (`-shm`, the app's other
//! files) end here.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::watch::{Seen, Watched};

/// Room for the events of one read; what does not fit stays in the kernel.
const BUFFER: usize = 4096;
/// Reads in a row before somebody else gets a turn.
const READS_MAX: usize = 16;

/// File systems whose changes on another machine, or in another container, inotify does not see: NFS, SMB, CIFS, 9p,
/// FUSE. Polled instead.
const BLIND: [u64; 5] = [0x6969, 0xfe53_4d42, 0xff53_4d42, 0x0102_1997, 0x6573_5546];

/// A watch on some directories.
#[derive(Debug)]
pub struct Inotify {
    descriptor: AsyncFd<OwnedFd>,
    directories: HashMap<i32, PathBuf>,
}

impl Inotify {
    /// On nothing yet.
    pub fn new() -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(deprecated, reason = "unsound for types that lie about their descriptor; an OwnedFd does not")]
        let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        Ok(Self { descriptor, directories: HashMap::new() })
    }

    /// Watches these directories and no other. A directory that was made anew is found again.
    pub fn set(&mut self, wanted: &[Watched]) -> io::Result<()> {
        let descriptor = self.descriptor.get_ref();
        self.directories.retain(|watch, directory| {
            let stays = wanted.iter().any(|watched| watched.directory == *directory);
            if !stays {
                // One that is gone by itself has no watch any more.
                let _ = inotify::remove_watch(descriptor, *watch);
            }
            stays
        });
        for watched in wanted {
            match add(descriptor, watched) {
                Ok(watch) => drop(self.directories.insert(watch, watched.directory.clone())),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until something happened that somebody waits for.
    pub async fn next(&mut self) -> io::Result<Vec<Seen>> {
        loop {
            let mut ready = self.descriptor.readable().await?;
            let mut seen = Vec::new();
            for _ in 0..READS_MAX {
                if !read(ready.get_inner(), &mut self.directories, &mut seen)? {
                    ready.clear_ready();
                    break;
                }
            }
            if !seen.is_empty() {
                return Ok(seen);
            }
        }
    }
}

fn add(descriptor: &OwnedFd, watched: &Watched) -> io::Result<i32> {
    #[expect(clippy::cast_sign_loss, reason = "a magic number, whatever the field's type")]
    let kind = rustix::fs::statfs(&watched.directory)?.f_type as u64;
    if BLIND.contains(&kind) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "on this file system changes cannot be watched"));
    }
    let comings = WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
        | WatchFlags::EXCL_UNLINK;
    let mask = if watched.writes { comings | WatchFlags::MODIFY } else { comings };
    Ok(inotify::add_watch(descriptor, &watched.directory, mask)?)
}

/// Reads what is there, adding to `seen`; false where nothing is left.
fn read(descriptor: &OwnedFd, directories: &mut HashMap<i32, PathBuf>, seen: &mut Vec<Seen>) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut reader = Reader::new(descriptor, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let flags = event.events();
        let what = if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            Some(Seen::Anything)
        } else if flags.intersects(ReadFlags::IGNORED) {
            directories.remove(&event.wd());
            Some(Seen::Tree)
        } else if let Some(directory) = directories.get(&event.wd()) {
            let name = event.file_name().and_then(|name| name.to_str().ok()).unwrap_or_default();
            Seen::in_directory(directory, name, flags.contains(ReadFlags::MODIFY))
        } else {
            None
        };
        if let Some(what) = what.filter(|what| !seen.contains(what)) {
            seen.push(what);
        }
        if reader.is_buffer_empty() {
            return Ok(true);
        }
    }
}
