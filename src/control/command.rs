//! The lines a client may write. Pure.

use crate::op::OperationId;

/// The longest line: a command, a number and a UUID fit thirty times over.
pub const LINE_MAX: usize = 4096;

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `drain now [PROFILE]`
    Drain(Option<i64>),
    /// `status`
    Status,
    /// `pause`
    Pause,
    /// `resume`
    Resume,
    /// `queue list`
    List,
    /// `queue retry [OPERATION_ID]`
    Retry(Option<OperationId>),
    /// `queue discard OPERATION_ID`
    Discard(OperationId),
    /// `wake [PROFILE]`
    Wake(Option<i64>),
    /// `reload`
    Reload,
    /// `metrics`
    Metrics,
    /// `watch`
    Watch,
    /// `ping`
    Ping,
    /// `help`
    Help,
}

/// What `help` answers, and what the README lists.
pub const LINES: [(&str, &str); 13] = [
    ("drain now [PROFILE]", "a pass now; the answer comes when it is over"),
    ("status", "the daemon and each profile"),
    ("pause", "stop sending until resume, restarts included"),
    ("resume", "send again"),
    ("queue list", "ops that are quarantined or held"),
    ("queue retry [OPERATION_ID]", "let one go, or all that are quarantined"),
    ("queue discard OPERATION_ID", "delete one that is quarantined or held"),
    ("wake [PROFILE]", "something was committed; the answer does not wait"),
    ("reload", "read the configuration again, and drain"),
    ("metrics", "the counters, as Prometheus reads them"),
    ("watch", "a line for each thing that happens, until the client leaves"),
    ("ping", "is anybody there"),
    ("help", "these lines"),
];

/// Why a line is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCommand {
    /// `error.code` `unknown_command`.
    Unknown,
    /// `error.code` `wrong_argument`: a profile is a number, an op is named.
    Argument,
}

impl Command {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(line: &str) -> Result<Self, NoCommand> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["drain", "now"] => Ok(Self::Drain(None)),
            ["drain", "now", profile] => number(profile).map(|profile| Self::Drain(Some(profile))),
            ["status"] => Ok(Self::Status),
            ["pause"] => Ok(Self::Pause),
            ["resume"] => Ok(Self::Resume),
            ["queue", "list"] => Ok(Self::List),
            ["queue", "retry"] => Ok(Self::Retry(None)),
            ["queue", "retry", op] => Ok(Self::Retry(Some(OperationId::new(op)))),
            ["queue", "discard", op] => Ok(Self::Discard(OperationId::new(op))),
            ["queue", "discard"] => Err(NoCommand::Argument),
            ["wake"] => Ok(Self::Wake(None)),
            ["wake", profile] => number(profile).map(|profile| Self::Wake(Some(profile))),
            ["reload"] => Ok(Self::Reload),
            ["metrics"] => Ok(Self::Metrics),
            ["watch"] => Ok(Self::Watch),
            ["ping"] => Ok(Self::Ping),
            ["help"] => Ok(Self::Help),
            _ => Err(NoCommand::Unknown),
        }
    }
}

fn number(text: &str) -> Result<i64, NoCommand> {
    text.parse().map_err(|_| NoCommand::Argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_help_is_understood() {
        for (line, _) in LINES {
            let plain = line.split(" [").next().unwrap().replace("OPERATION_ID", "x").replace("PROFILE", "2");
            assert!(Command::parse(&plain).is_ok(), "{plain}");
            let full = line.replace(['[', ']'], "").replace("OPERATION_ID", "x").replace("PROFILE", "2");
            assert!(Command::parse(&full).is_ok(), "{full}");
        }
    }

    #[test]
    fn white_space_does_not_matter_and_anything_else_is_refused() {
        assert_eq!(Command::parse("  drain   now 2\r"), Ok(Command::Drain(Some(2))));
        assert_eq!(Command::parse("drain now x"), Err(NoCommand::Argument));
        assert_eq!(Command::parse("queue discard"), Err(NoCommand::Argument));
        for line in ["", "drain", "DRAIN NOW", "drain now 1 2", "status x", "\0", "queue"] {
            assert_eq!(Command::parse(line), Err(NoCommand::Unknown), "{line:?}");
        }
    }
}
