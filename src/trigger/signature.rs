//! What `stat` says about a profile's files: enough to tell that nothing was committed, without opening anything.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::app::registry;
use crate::queue::database::log_of;

/// A log is written, and perhaps flushed to the disk, before what is in it can be read.
const FRESH: Duration = Duration::from_secs(1);

/// One file: inode, size, time of the last change in ns. `None`: not there.
pub type Stamp = Option<(u64, u64, i128)>;

/// The files of one profile, and the app's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// `app.db`.
    pub app: Stamp,
    /// Its log.
    pub app_log: Stamp,
    /// `data.db`.
    pub data: Stamp,
    /// Its log.
    pub data_log: Stamp,
}

impl Signature {
    /// Looks. `data` is the profile's database.
    pub fn of(directory: &Path, data: Option<&Path>) -> Self {
        let app = directory.join(registry::FILE);
        Self {
            app: stamp(&app),
            app_log: stamp(&log_of(&app)),
            data: data.and_then(stamp),
            data_log: data.and_then(|data| stamp(&log_of(data))),
        }
    }

    /// Whether a log was written to so lately that a commit in it may not be readable yet: such a signature is not to be
    /// remembered as one whose commits were all seen. A time far in the future is a clock's trouble, and not fresh.
    #[must_use]
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        let now =
            now.duration_since(UNIX_EPOCH).map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or(i128::MAX));
        let fresh = |log: &Stamp| log.is_some_and(|(_, _, written)| now.abs_diff(written) < FRESH.as_nanos());
        fresh(&self.app_log) || fresh(&self.data_log)
    }

    /// Whether nobody else's commit can lie between the two looks, given that we closed our connections in between:
    /// closing the last one moves the log into the database and deletes it, closing any other changes nothing.
    #[must_use]
    pub fn is_quiet_since(&self, before: &Self) -> bool {
        let quiet = |after: &Stamp, before: &Stamp| after.is_none() || after == before;
        quiet(&self.app_log, &before.app_log) && quiet(&self.data_log, &before.data_log)
    }
}

fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    let changed = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
    Some((file.ino(), file.len(), changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_counts() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data.db");
        let look = || Signature::of(directory.path(), Some(&data));
        let mut last = look();
        for name in ["app.db", "app.db-wal", "data.db", "data.db-wal"] {
            fs::write(directory.path().join(name), "x").unwrap();
            assert_ne!(look(), last, "{name}");
            last = look();
        }
        fs::write(directory.path().join("data.db-shm"), "x").unwrap();
        assert_eq!(look(), last, "the index beside the log says nothing");
    }

    #[test]
    fn only_a_log_that_was_written_to_lately_is_fresh() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let written = Some((1, 100, 50_000_000_000));
        let log = Signature { data_log: written, ..Signature::default() };
        assert!(log.is_fresh(at(50)));
        assert!(!log.is_fresh(at(52)));
        assert!(!log.is_fresh(at(40)), "the clock was set back");
        assert!(Signature { app_log: written, ..Signature::default() }.is_fresh(at(50)));
        assert!(!Signature { data: written, app: written, ..Signature::default() }.is_fresh(at(50)));
    }

    #[test]
    fn a_log_that_changed_while_we_closed_is_somebody_elses_commit() {
        let before = Signature { data_log: Some((1, 100, 5)), ..Signature::default() };
        assert!(Signature::default().is_quiet_since(&before), "we were the last to close");
        assert!(before.is_quiet_since(&before), "somebody else has it open and did nothing");
        let grown = Signature { data_log: Some((1, 200, 6)), ..Signature::default() };
        assert!(!grown.is_quiet_since(&before));
        assert!(!before.is_quiet_since(&Signature::default()), "it appeared meanwhile");
    }
}
