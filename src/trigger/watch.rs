//! The file watch: inotify where there is one and it works, else looking with `stat` at an interval.
//!
//! What must always hold: a watch that fails falls back to looking, and says so once; either way it can only wake.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::registry;
use crate::config::WatchMode;

#[cfg(target_os = "linux")]
use super::inotify::Inotify;

/// A directory to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Where.
    pub directory: PathBuf,
    /// Whether writes in it matter, or only what comes and goes.
    pub writes: bool,
}

/// What the watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Something was written to the log of the database in this directory.
    Profile(PathBuf),
    /// Something was written to `app.db`'s log.
    Registry,
    /// Files or directories came or went.
    Tree,
    /// Events were lost, or it is time to look: everything may have changed.
    Anything,
}

impl Seen {
    /// What an event on `name` in `directory` means; `None` where nobody waits for it. `written`: as opposed to made,
    /// deleted or moved.
    pub fn in_directory(directory: &Path, name: &str, written: bool) -> Option<Self> {
        match name {
            "data.db-wal" | "data.db" if written => Some(Self::Profile(directory.to_owned())),
            "app.db-wal" | registry::FILE if written => Some(Self::Registry),
            // A log that comes is a program that opens; what it commits will show. The database itself coming or
            // going is another matter.
            "data.db" | registry::FILE => Some(Self::Tree),
            _ if written => None,
            // Names with a dot are files of the app's; what remains are directories, ours to know about.
            _ if name.contains('.') && !name.starts_with("app.waveflow") => None,
            _ => Some(Self::Tree),
        }
    }
}

/// How commits are noticed.
#[derive(Debug)]
pub enum Watch {
    /// By inotify.
    #[cfg(target_os = "linux")]
    Inotify(Inotify),
    /// By looking at this interval.
    Poll(Duration),
    /// Not at all: timer, socket and hook do.
    Off,
}

impl Watch {
    /// As configured.
    pub fn new(mode: WatchMode, poll_interval: Duration) -> Self {
        match mode {
            WatchMode::Off => Self::Off,
            WatchMode::Poll => Self::Poll(poll_interval),
            WatchMode::Auto => Self::automatic(poll_interval),
        }
    }

    #[cfg(target_os = "linux")]
    fn automatic(poll_interval: Duration) -> Self {
        match Inotify::new() {
            Ok(inotify) => Self::Inotify(inotify),
            Err(error) => Self::fall_back(&error, poll_interval),
        }
    }

    /// `FSEvents` misses writes to the log, and kqueue would open the file (contract, section 5).
    #[cfg(not(target_os = "linux"))]
    fn automatic(poll_interval: Duration) -> Self {
        Self::Poll(poll_interval)
    }

    #[cfg(target_os = "linux")]
    fn fall_back(error: &std::io::Error, poll_interval: Duration) -> Self {
        tracing::warn!(
            "the file watch does not work ({error}); looking every {} instead",
            humantime::format_duration(poll_interval)
        );
        Self::Poll(poll_interval)
    }

    /// Watches these directories and no other; a missing one is watched when it is named again.
    pub fn set(&mut self, wanted: &[Watched], poll_interval: Duration) {
        #[cfg(target_os = "linux")]
        if let Self::Inotify(inotify) = self
            && let Err(error) = inotify.set(wanted)
        {
            *self = Self::fall_back(&error, poll_interval);
        }
        let _ = (wanted, poll_interval);
    }

    /// Waits for something to happen.
    pub async fn next(&mut self) -> Vec<Seen> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Inotify(inotify) => match inotify.next().await {
                Ok(seen) => seen,
                Err(error) => {
                    *self = Self::fall_back(&error, Duration::from_secs(1));
                    vec![Seen::Anything]
                }
            },
            Self::Poll(interval) => {
                tokio::time::sleep(*interval).await;
                vec![Seen::Anything]
            }
            Self::Off => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_wakes() {
        let seen = |name, written| Seen::in_directory(Path::new("/d"), name, written);
        assert_eq!(seen("data.db-wal", true), Some(Seen::Profile("/d".into())));
        assert_eq!(seen("data.db", true), Some(Seen::Profile("/d".into())));
        assert_eq!(seen("app.db-wal", true), Some(Seen::Registry));
        for (name, written) in [("data.db-shm", true), ("data.db-wal", false), ("cover.jpg", false), ("app.log", true)]
        {
            assert_eq!(seen(name, written), None, "{name}");
        }
        for (name, written) in
            [("data.db", false), ("app.db", false), ("profiles", false), ("7", false), ("waveflow", false)]
        {
            assert_eq!(seen(name, written), Some(Seen::Tree), "{name}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_write_to_the_log_is_seen_and_a_directory_made_anew_too() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("1");
        let mut watch = Watch::new(WatchMode::Auto, Duration::from_secs(1));
        let both = [
            Watched { directory: root.path().to_owned(), writes: false },
            Watched { directory: directory.clone(), writes: true },
        ];
        watch.set(&both, Duration::from_secs(1));
        for _ in 0..2 {
            std::fs::create_dir(&directory).unwrap();
            assert_eq!(watch.next().await, [Seen::Tree]);
            watch.set(&both, Duration::from_secs(1));
            std::fs::write(directory.join("data.db-wal"), "x").unwrap();
            assert_eq!(watch.next().await, [Seen::Profile(directory.clone())]);
            std::fs::remove_dir_all(&directory).unwrap();
            assert!(watch.next().await.contains(&Seen::Tree));
        }
    }
}
