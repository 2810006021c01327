//! The app's directory, as long as it is there, and our lock on it.

use std::path::{Path, PathBuf};

use crate::app::directory::{self, NotFound};
use crate::config::{Config, Environment};
use crate::lock::{DirectoryLock, LockError};

/// Where the app keeps its files now.
#[derive(Debug)]
pub(super) enum Home {
    /// Here, and locked by us.
    Here(DirectoryLock),
    /// Nowhere yet, or not any more: the app is not installed, or was reset.
    Nowhere(NotFound),
    /// Another agent serves it, or it cannot be locked.
    Taken(LockError),
}

impl Home {
    /// Looks for it.
    pub(super) fn find(config: &Config, env: &Environment) -> Self {
        match directory::find(config.data_dir.as_deref(), env, &directory::touched) {
            Ok(found) => {
                if let Some(other) = &found.passed_over {
                    tracing::warn!(
                        "there is another, older one: {other} is not served; name it as data_dir to change that"
                    );
                }
                match DirectoryLock::acquire(&found.place.path) {
                    Ok(lock) => Self::Here(lock),
                    Err(error) => Self::Taken(error),
                }
            }
            Err(error) => Self::Nowhere(error),
        }
    }

    /// The directory, while it is ours.
    pub(super) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Here(lock) => Some(lock.directory()),
            Self::Nowhere(_) | Self::Taken(_) => None,
        }
    }

    /// Whether it is still what it was found to be.
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Here(lock) if lock.still_same() && lock.directory().join(crate::app::registry::FILE).exists())
    }

    /// For people: why nothing can be served.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Here(_) => None,
            Self::Nowhere(error) => Some(error.to_string()),
            Self::Taken(error) => Some(error.to_string()),
        }
    }

    /// Where to watch for its coming.
    pub(super) fn surroundings(&self) -> Vec<PathBuf> {
        match self {
            Self::Nowhere(error) => error.looked_at.iter().filter_map(|place| nearest(&place.path)).collect(),
            Self::Here(_) | Self::Taken(_) => Vec::new(),
        }
    }
}

/// The directory itself, or the nearest one above it that is there.
fn nearest(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|ancestor| ancestor.is_dir()).map(Path::to_owned)
}
