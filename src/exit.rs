//! How the process ends: the codes service files and scripts rely on (sysexits).
//!
//! What must always hold: a number here never changes its meaning.

use std::process::ExitCode;

use clap::error::ErrorKind;

/// The exit codes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is done, or what is left is skipped, quarantined or held.
    Done = 0,
    /// Wrong usage: no such command or flag.
    Usage = 64,
    /// No daemon behind the socket.
    NoDaemon = 69,
    /// Our bug.
    Bug = 70,
    /// Ops remain, another agent holds the lock, or the output could not be written: try later.
    TryLater = 75,
    /// Not permitted: something belongs to somebody else.
    NotPermitted = 77,
    /// Wrong configuration.
    Config = 78,
}

impl Exit {
    /// All of them, by number.
    pub const ALL: [Self; 7] =
        [Self::Done, Self::Usage, Self::NoDaemon, Self::Bug, Self::TryLater, Self::NotPermitted, Self::Config];

    /// What it means, for people: in README and in the manual.
    pub fn means(self) -> &'static str {
        match self {
            Self::Done => "done; what is left is skipped, set aside or held back, and the answer says so",
            Self::Usage => "no such command, flag, profile or operation",
            Self::NoDaemon => "no agent is running behind the socket",
            Self::Bug => "a bug of ours",
            Self::TryLater => "operations remain, another agent is at work, or the app's data is not there: try later",
            Self::NotPermitted => "not permitted: a file or directory belongs to somebody else",
            Self::Config => "the configuration is wrong; the message names the place and the nearest right name",
        }
    }

    /// How to end after the command line was not run. Help and version were asked for and are no failure, except help
    /// that is shown because the command is missing.
    pub fn of_command_line(error: &clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::Done,
            _ => Self::Usage,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_interfaces() {
        assert_eq!(Exit::ALL.map(|exit| exit as u8), [0, 64, 69, 70, 75, 77, 78]);
    }
}
