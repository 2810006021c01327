//! What can be wrong with a configuration, and the sentence a person gets for it.
//!
//! What must always hold: the sentence says where it is wrong and what would be right; a value that may hold a password
//! is not repeated in it, and what is repeated is cut.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Characters of a name or value that are repeated: enough to find it by, and a path of the system's limit.
const TOLD_MAX: usize = 160;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A flag, by its name.
    Flag(&'static str),
    /// An environment variable, by its name.
    Variable(&'static str),
    /// A line of the file, from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// A configuration that cannot be used. All of them end with [`crate::exit::Exit::Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there, or was asked for, and cannot be read.
    #[error("{}: cannot read the configuration: {source}{}", path.display(), asked_for(named.as_ref()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The flag or variable that names it; `None` for the default one.
        named: Option<Origin>,
        /// What the system said.
        source: io::Error,
    },
    /// It is not TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Origin,
        /// What the parser said.
        message: String,
    },
    /// A key nobody knows.
    #[error("{place}: unknown key `{}`; did you mean `{nearest}`?", harmless(key))]
    UnknownKey {
        /// Where.
        place: Origin,
        /// The key, with its section.
        key: String,
        /// The known key that looks most like it.
        nearest: String,
    },
    /// A section nobody knows.
    #[error("{place}: unknown section `[{}]`; did you mean `[{nearest}]`?", harmless(section))]
    UnknownSection {
        /// Where.
        place: Origin,
        /// The section.
        section: String,
        /// The known section that looks most like it.
        nearest: &'static str,
    },
    /// A known key with a value it cannot have.
    #[error("{place}: `{key}` cannot be {}; allowed: {allowed}", harmless(value))]
    Value {
        /// Where.
        place: Origin,
        /// The key, with its section.
        key: String,
        /// The value, or what kind of thing it is.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// `retry.initial` is longer than `retry.max`.
    #[error("{place}: `retry.initial` is longer than `retry.max`; allowed: at most {max}")]
    RetryOrder {
        /// The one of the two that was set, `retry.initial` if both were.
        place: Origin,
        /// What `retry.max` is.
        max: String,
    },
    /// The socket's path does not fit.
    #[error(
        "{place}: `control.socket` is {length} bytes long, and this system takes at most {limit}: {}; set a shorter one",
        harmless(&path.to_string_lossy())
    )]
    SocketTooLong {
        /// Where it came from.
        place: Origin,
        /// The whole path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// The system's limit in bytes.
        limit: usize,
    },
    /// There is no home directory to keep state in.
    #[error("there is no place for the agent's state: set HOME, XDG_STATE_HOME or `state_dir`")]
    NoHome,
}

/// What stands in the file, so that it steers no terminal and fills none: a TOML key may be any text.
fn harmless(text: &str) -> String {
    let mut shown = text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] });
    let told: String = shown.by_ref().take(TOLD_MAX).collect();
    if shown.next().is_some() { told + "…" } else { told }
}

fn asked_for(named: Option<&Origin>) -> String {
    named.map(|origin| format!(" (named by {origin})")).unwrap_or_default()
}
