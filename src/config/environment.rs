//! What the process was started in: variables, the working directory, the platform.
//!
//! What must always hold: the real environment is read in [`Environment::of_process`] alone, so that everything that
//! depends on it can be tested with a made-up one. It has no `Debug`: a variable may hold a secret.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The two systems the app's directory and the socket's place differ on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Linux, and every other Unix that follows its habits.
    Linux,
    /// macOS.
    MacOs,
}

impl Platform {
    /// The one this was built for.
    pub const CURRENT: Self = if cfg!(target_os = "macos") { Self::MacOs } else { Self::Linux };

    /// Bytes of a Unix socket's path the system takes: its `sun_path` without the closing NUL.
    pub fn socket_path_limit(self) -> usize {
        match self {
            Self::Linux => 107,
            Self::MacOs => 103,
        }
    }
}

/// A snapshot of the environment.
#[derive(Clone)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    current_dir: PathBuf,
    platform: Platform,
}

impl Environment {
    /// The real one. Where the working directory is gone, `/` stands for it.
    pub fn of_process() -> Self {
        let current_dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Self { variables: std::env::vars_os().collect(), current_dir, platform: Platform::CURRENT }
    }

    /// A made-up one.
    pub fn new<'a>(
        platform: Platform,
        current_dir: &Path,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, current_dir: current_dir.to_owned(), platform }
    }

    /// A variable's value. Set but empty counts as unset, as the XDG specification has it.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The user's home directory.
    pub fn home(&self) -> Option<&Path> {
        self.absolute("HOME")
    }

    /// One of the XDG base directories, else `fallback` under the home directory. A relative one is not heeded, as the
    /// specification demands.
    pub fn base_dir(&self, name: &str, fallback: &str) -> Option<PathBuf> {
        self.absolute(name).map(Path::to_owned).or_else(|| Some(self.home()?.join(fallback)))
    }

    /// `XDG_RUNTIME_DIR`, which has no fallback.
    pub fn runtime_dir(&self) -> Option<&Path> {
        self.absolute("XDG_RUNTIME_DIR")
    }

    /// Where the process was started.
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    /// The system.
    pub fn platform(&self) -> Platform {
        self.platform
    }

    fn absolute(&self, name: &str) -> Option<&Path> {
        self.get(name).map(Path::new).filter(|path| path.is_absolute())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_or_relative_directory_variable_counts_as_unset() {
        let variables = [("HOME", "/h"), ("XDG_STATE_HOME", ""), ("XDG_CONFIG_HOME", "rel"), ("XDG_DATA_HOME", "/d")];
        let env = Environment::new(Platform::Linux, Path::new("/"), variables);
        assert_eq!(env.base_dir("XDG_STATE_HOME", ".local/state"), Some(PathBuf::from("/h/.local/state")));
        assert_eq!(env.base_dir("XDG_CONFIG_HOME", ".config"), Some(PathBuf::from("/h/.config")));
        assert_eq!(env.base_dir("XDG_DATA_HOME", ".local/share"), Some(PathBuf::from("/d")));
        assert_eq!(env.runtime_dir(), None);
    }

    #[test]
    fn without_a_home_there_is_no_fallback() {
        let env = Environment::new(Platform::Linux, Path::new("/"), [("HOME", "")]);
        assert_eq!(env.base_dir("XDG_STATE_HOME", ".local/state"), None);
    }
}
