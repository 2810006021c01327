//! One of the app's databases: whether it opens, can be written to, is sound, and how long its log is.
//!
//! What must always hold: it is opened by `SQLite` alone, and to look (see [`Database::open_to_look`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::files::may_write;
use super::{CHECK_MAX, Finding};
use crate::app::registry;
use crate::drain::action::StoreError;
use crate::exit::Exit;
use crate::queue::Database;
use crate::queue::columns::{self, has_table};
use crate::queue::database::{Soundness, log_of, look, shared_of};

/// The app carries its log over at 4 MiB; one that grows to this is kept from being so.
const LOG_MAX: u64 = 64 << 20;

/// What there is to know.
#[derive(Debug)]
pub(super) struct Facts {
    shown: String,
    opened: Result<Opened, String>,
    /// The file, what stands beside it, or the directory its log is made in, that cannot be written to.
    may_write: Result<(), (String, io::ErrorKind)>,
    log_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opened {
    layout: &'static str,
    soundness: Soundness,
}

pub(super) fn look_at(path: &Path, until: Instant) -> Facts {
    Facts {
        shown: path.display().to_string(),
        opened: look(path, || open(path, until)).map_err(|error| error.message),
        may_write: written_to(path).iter().try_for_each(|path| {
            let told = |kind| (path.display().to_string(), kind);
            may_write(path).map_err(told)
        }),
        log_bytes: fs::metadata(log_of(path)).map_or(0, |log| log.len()),
    }
}

/// What has to be written to for a commit. A log that root left behind (a `sudo` too many, a restored backup) lets
/// everybody read, and nobody write.
fn written_to(path: &Path) -> Vec<PathBuf> {
    let beside = [log_of(path), shared_of(path)].into_iter().filter(|path| path.exists());
    std::iter::once(path.to_owned()).chain(path.parent().map(Path::to_owned)).chain(beside).collect()
}

fn open(path: &Path, until: Instant) -> Result<Opened, StoreError> {
    let database = Database::open_to_look(path)?;
    let layout = database.read(|connection| {
        if path.ends_with(registry::FILE) {
            let is_registry = has_table(connection, "profile")? && has_table(connection, "app_setting")?;
            return Ok(if is_registry { "WaveFlow's" } else { "no WaveFlow tables in it yet" });
        }
        Ok(match columns::look(connection)? {
            None => "no queue in it yet",
            Some(columns) if columns.pairs => "queue of generation 3 or later",
            Some(_) => "queue of generation 1 or 2",
        })
    })?;
    let limit = until.saturating_duration_since(Instant::now()).min(CHECK_MAX);
    let soundness = if limit.is_zero() { Soundness::Unfinished } else { database.quick_check(limit)? };
    Ok(Opened { layout, soundness })
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "database";
    let Facts { shown, opened, may_write, log_bytes } = facts;
    let mut found = Vec::new();
    match opened {
        // The message names the file.
        Err(message) => {
            let mend = "see that this user may read and write the file and its directory; if it is damaged, start WaveFlow, \
                        which can repair it, or restore a backup";
            found.push(Finding::wrong(NAME, message, mend));
        }
        Ok(Opened { soundness: Soundness::Damaged, .. }) => {
            let mend = "start WaveFlow, which can repair it; else restore a backup";
            found.push(Finding::wrong(NAME, &format!("{shown} is damaged"), mend));
        }
        Ok(Opened { layout, soundness }) => {
            let checked = if *soundness == Soundness::Sound { "sound" } else { "too large to be checked to its end" };
            found.push(Finding::fine(NAME, &format!("{shown}: opens, {layout}, {checked}")));
        }
    }
    // One that is on a disk for reading only is told with the disk.
    if let Err((path, io::ErrorKind::PermissionDenied)) = may_write {
        let mend = format!(
            "chmod u+rwX {path} (chown it first, where it is another user's), or run the agent as the user who runs WaveFlow"
        );
        let words = format!("{path} cannot be written to by this user");
        found.insert(0, Finding::wrong(NAME, &words, &mend).ends_with(Exit::NotPermitted));
    }
    if *log_bytes > LOG_MAX {
        let words = format!("the log of {shown} has grown to {} MiB", log_bytes >> 20);
        found.push(Finding::notice(NAME, &words, "end the programs that have it open, and start WaveFlow again"));
    }
    found
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::Level;
    use super::*;

    fn facts(soundness: Soundness) -> Facts {
        let opened = Ok(Opened { layout: "l", soundness });
        Facts { shown: "/d".into(), opened, may_write: Ok(()), log_bytes: 0 }
    }

    #[test]
    fn damage_and_missing_rights_are_wrong_and_a_long_log_is_good_to_know() {
        assert_eq!(judge(&facts(Soundness::Sound))[0].level, Level::Fine);
        assert_eq!(judge(&facts(Soundness::Unfinished))[0].level, Level::Fine);
        assert!(judge(&facts(Soundness::Damaged))[0].words.contains("damaged"));
        let shut =
            judge(&Facts { may_write: Err(("/d".into(), io::ErrorKind::PermissionDenied)), ..facts(Soundness::Sound) });
        assert_eq!((shut[0].level, shut[0].exit), (Level::Wrong, Exit::NotPermitted));
        let broken = Facts { opened: Err("/d: is damaged".into()), ..facts(Soundness::Sound) };
        assert_eq!(judge(&broken)[0].level, Level::Wrong);
        let long = judge(&Facts { log_bytes: LOG_MAX + 1, ..facts(Soundness::Sound) });
        assert_eq!(long[1].level, Level::Notice);
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_look_leaves_no_trace_whether_the_app_has_it_open_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a ?#%é.db");
        let app = Connection::open(&path).unwrap();
        app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        app.execute("INSERT INTO t VALUES (1)", []).unwrap();
        let until = Instant::now() + CHECK_MAX * 10;
        let open = names(directory.path());
        assert_eq!(open.len(), 3, "{open:?}");
        let log = fs::metadata(log_of(&path)).unwrap().len();
        assert!(look_at(&path, until).opened.is_ok_and(|opened| opened.soundness == Soundness::Sound));
        assert_eq!((names(directory.path()), fs::metadata(log_of(&path)).unwrap().len()), (open, log));
        drop(app);
        let at_rest = fs::read(&path).unwrap();
        assert!(look_at(&path, until).opened.is_ok_and(|opened| opened.soundness == Soundness::Sound));
        assert_eq!((names(directory.path()).len(), fs::read(&path).unwrap()), (1, at_rest));
    }

    #[test]
    fn a_damaged_file_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.db");
        let app = Connection::open(&path).unwrap();
        app.execute_batch("CREATE TABLE t (x); CREATE INDEX i ON t (x)").unwrap();
        for number in 0..2000 {
            app.execute("INSERT INTO t VALUES (?1 || 'a text of some length')", [number]).unwrap();
        }
        drop(app);
        let mut bytes = fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        bytes[half..].fill(0x5a);
        fs::write(&path, bytes).unwrap();
        let found = judge(&look_at(&path, Instant::now() + CHECK_MAX * 10));
        assert!(found[0].level == Level::Wrong && found[0].words.contains("damaged"), "{found:?}");
    }
}
