//! What comes of an install, an uninstall or a look: a report, or a refusal.
//!
//! What must always hold: both say the same to people and to programs; a refusal has the mend in it.

use std::io;

use serde_json::Value;

use crate::exit::Exit;

/// Why it is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A word for programs.
    pub code: &'static str,
    /// For people, with the mend.
    pub message: String,
    /// How to end.
    pub exit: Exit,
}

impl Refusal {
    /// Puts it together.
    pub fn new(code: &'static str, message: &str, exit: Exit) -> Self {
        Self { code, message: message.to_owned(), exit }
    }
}

/// How to end where a file or a directory could not be had.
pub fn exit_of(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::PermissionDenied { Exit::NotPermitted } else { Exit::TryLater }
}

/// What was done or seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// For people.
    pub lines: Vec<String>,
    /// The same for programs.
    pub document: Value,
    /// How to end.
    pub exit: Exit,
}
