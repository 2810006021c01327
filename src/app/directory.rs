//! The app's data directory: the one with `app.db` in it.
//!
//! What must always hold: nothing is opened here. A descriptor on a database file, once closed, drops the process's
//! POSIX locks, and the app then deletes the WAL under us (contract, section 5). `stat` is safe.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::{Environment, Platform};

/// The app's directory below wherever a platform keeps applications' data.
const APP: &str = "app.waveflow/waveflow";

/// What `stat` has to say about a path: when it was last written to; `None` where there is no such file.
pub type Touched<'a> = &'a dyn Fn(&Path) -> Option<SystemTime>;

/// The real `stat`. A file the app will not let us see counts as absent.
pub fn touched(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// Whose habit a directory follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Flag, environment or configuration name it.
    Named,
    /// The app installed on Linux.
    Linux,
    /// The app from Flathub.
    Flatpak,
    /// The app on macOS.
    #[serde(rename = "macos")]
    MacOs,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Named => "as named",
            Self::Linux => "Linux",
            Self::Flatpak => "Flatpak",
            Self::MacOs => "macOS",
        })
    }
}

/// Where the app's data may be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// The directory; absolute.
    pub path: PathBuf,
    /// Whose habit it follows.
    pub kind: Kind,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.kind)
    }
}

/// Where the app's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The directory to use.
    pub place: Place,
    /// Another one, whose app was in use longer ago.
    pub passed_over: Option<Place>,
}

/// There is no `app.db` anywhere: the app is not installed, was never started, or was reset. This may change at any
/// moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the desktop app's data is not there; looked for app.db in {}; start WaveFlow once, or name its directory as `data_dir`",
    list(looked_at)
)]
pub struct NotFound {
    /// Where it was looked for; empty where there is not even a home directory.
    pub looked_at: Vec<Place>,
}

fn list(places: &[Place]) -> String {
    let places: Vec<_> = places.iter().map(Place::to_string).collect();
    if places.is_empty() { "no place, since HOME is not set".to_owned() } else { places.join(" and ") }
}

/// Finds the directory: `named` if it is given, and nowhere else then; else the one of the app that was used last.
pub fn find(named: Option<&Path>, env: &Environment, touched: Touched<'_>) -> Result<Found, NotFound> {
    let looked_at = match named {
        Some(path) => vec![Place { path: path.to_owned(), kind: Kind::Named }],
        None => usual_places(env),
    };
    let mut there: Vec<_> =
        looked_at.iter().filter_map(|place| Some((last_use(&place.path, touched)?, place.clone()))).collect();
    // Stable, so that between equals the first place listed wins.
    there.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let mut there = there.into_iter().map(|(_, place)| place);
    match there.next() {
        Some(place) => Ok(Found { place, passed_over: there.next() }),
        None => Err(NotFound { looked_at }),
    }
}

/// Where the app keeps its data when nobody tells it otherwise (contract, section 1).
fn usual_places(env: &Environment) -> Vec<Place> {
    let at = |kind, path: Option<PathBuf>| path.map(|path| Place { path: path.join(APP), kind });
    match env.platform() {
        Platform::MacOs => {
            at(Kind::MacOs, env.home().map(|home| home.join("Library/Application Support"))).into_iter().collect()
        }
        Platform::Linux => {
            let linux = at(Kind::Linux, env.base_dir("XDG_DATA_HOME", ".local/share"));
            let flatpak = at(Kind::Flatpak, env.home().map(|home| home.join(".var/app/app.waveflow.WaveFlow/data")));
            let mut places: Vec<_> = linux.into_iter().chain(flatpak).collect();
            // Inside a Flatpak's sandbox the two are one.
            places.dedup_by(|a, b| a.path == b.path);
            places
        }
    }
}

/// When the app was used last; `None` if it is not there. In WAL mode a commit touches `app.db-wal`, and `app.db` itself
/// only at the next checkpoint, so both are asked.
fn last_use(directory: &Path, touched: Touched<'_>) -> Option<SystemTime> {
    let database = touched(&directory.join("app.db"))?;
    Some(touched(&directory.join("app.db-wal")).map_or(database, |wal| wal.max(database)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const LINUX: &str = "/h/.local/share/app.waveflow/waveflow";
    const FLATPAK: &str = "/h/.var/app/app.waveflow.WaveFlow/data/app.waveflow/waveflow";

    fn linux() -> Environment {
        Environment::new(Platform::Linux, Path::new("/"), [("HOME", "/h")])
    }

    fn found(env: &Environment, named: Option<&str>, files: &[(&str, u64)]) -> Result<Found, NotFound> {
        let touched = |path: &Path| {
            let (_, seconds) = files.iter().find(|(file, _)| Path::new(file) == path)?;
            Some(UNIX_EPOCH + Duration::from_secs(*seconds))
        };
        find(named.map(Path::new), env, &touched)
    }

    fn file(directory: &str, name: &str) -> String {
        format!("{directory}/{name}")
    }

    #[test]
    fn each_platform_has_its_place() {
        let place = |env, path: &str| found(&env, None, &[(&file(path, "app.db"), 1)]).unwrap().place.kind;
        assert_eq!(place(linux(), LINUX), Kind::Linux);
        assert_eq!(place(linux(), FLATPAK), Kind::Flatpak);
        let xdg = [("HOME", "/h"), ("XDG_DATA_HOME", "/data")];
        let xdg = Environment::new(Platform::Linux, Path::new("/"), xdg);
        assert_eq!(place(xdg, "/data/app.waveflow/waveflow"), Kind::Linux);
        let mac = Environment::new(Platform::MacOs, Path::new("/"), [("HOME", "/h"), ("XDG_DATA_HOME", "/data")]);
        assert_eq!(place(mac, "/h/Library/Application Support/app.waveflow/waveflow"), Kind::MacOs);
    }

    #[test]
    fn of_two_apps_the_one_used_last_is_taken_and_the_other_is_told() {
        let (linux_db, flatpak_db) = (file(LINUX, "app.db"), file(FLATPAK, "app.db"));
        for (linux_time, flatpak_time, taken) in [(2, 1, Kind::Linux), (1, 2, Kind::Flatpak), (1, 1, Kind::Linux)] {
            let both = found(&linux(), None, &[(&linux_db, linux_time), (&flatpak_db, flatpak_time)]).unwrap();
            assert_eq!(both.place.kind, taken);
            assert!(both.passed_over.is_some_and(|other| other.kind != taken));
        }
    }

    #[test]
    fn a_commit_that_is_only_in_the_wal_counts() {
        let (linux_db, flatpak_db, wal) = (file(LINUX, "app.db"), file(FLATPAK, "app.db"), file(FLATPAK, "app.db-wal"));
        let both = found(&linux(), None, &[(&linux_db, 5), (&flatpak_db, 1), (&wal, 9)]).unwrap();
        assert_eq!(both.place.kind, Kind::Flatpak);
        let leftover = found(&linux(), None, &[(&linux_db, 5), (&wal, 9)]).unwrap();
        assert_eq!(leftover.place.kind, Kind::Linux);
    }

    #[test]
    fn a_named_directory_is_taken_and_no_other() {
        let (linux_db, named_db) = (file(LINUX, "app.db"), file("/named", "app.db"));
        let taken = found(&linux(), Some("/named"), &[(&linux_db, 9), (&named_db, 1)]).unwrap();
        assert_eq!(taken, Found { place: Place { path: "/named".into(), kind: Kind::Named }, passed_over: None });
        let error = found(&linux(), Some("/named"), &[(&linux_db, 9)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the desktop app's data is not there; looked for app.db in /named (as named); start WaveFlow once, or name its directory as `data_dir`"
        );
    }

    #[test]
    fn where_nothing_is_the_places_are_listed() {
        let error = found(&linux(), None, &[]).unwrap_err().to_string();
        assert!(error.contains(&format!("{LINUX} (Linux) and {FLATPAK} (Flatpak)")), "{error}");
        let homeless = Environment::new(Platform::Linux, Path::new("/"), []);
        assert!(found(&homeless, None, &[]).unwrap_err().to_string().contains("in no place, since HOME is not set; "));
    }

    #[test]
    fn inside_the_sandbox_the_two_places_are_one() {
        let data = "/h/.var/app/app.waveflow.WaveFlow/data";
        let env = Environment::new(Platform::Linux, Path::new("/"), [("HOME", "/h"), ("XDG_DATA_HOME", data)]);
        let only = found(&env, None, &[(&file(FLATPAK, "app.db"), 1)]).unwrap();
        assert_eq!((only.place.kind, only.passed_over), (Kind::Linux, None));
    }

    #[test]
    fn the_real_stat_sees_files_and_their_absence() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(touched(&dir.path().join("app.db")), None);
        std::fs::write(dir.path().join("app.db"), "").unwrap();
        assert!(touched(&dir.path().join("app.db")).is_some());
    }
}
