//! Bytes on the control socket: the first says how they come in pieces, the rest are what the client writes.

use waveflow_sync_agent::control::command::{Command, LINE_MAX, NoCommand};
use waveflow_sync_agent::control::lines::{Lines, TooLong};

/// See the module.
pub(crate) fn check(input: &[u8]) {
    let Some((piece, written)) = input.split_first() else { return };
    let lines = read(written, usize::from(*piece).max(1));
    assert_eq!(lines, expected(written));
    lines.iter().flatten().for_each(|line| check_line(line));
}

/// As the server reads them, in pieces of so many bytes.
fn read(written: &[u8], piece: usize) -> Vec<Result<String, TooLong>> {
    let (mut lines, mut found, mut pieces) = (Lines::default(), Vec::new(), written.chunks(piece));
    loop {
        match lines.next() {
            // The server hangs up.
            Some(Err(TooLong)) => {
                found.push(Err(TooLong));
                return found;
            }
            Some(line) => found.push(line),
            None if lines.has_ended() => return found,
            None => match pieces.next() {
                Some(piece) => lines.feed(piece),
                None => lines.end(),
            },
        }
    }
}

/// The same, from the whole at once.
fn expected(written: &[u8]) -> Vec<Result<String, TooLong>> {
    let mut lines: Vec<&[u8]> = written.split(|byte| *byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let mut found = Vec::new();
    for line in lines {
        if line.len() > LINE_MAX {
            found.push(Err(TooLong));
            break;
        }
        found.push(Ok(String::from_utf8_lossy(line).into_owned()));
    }
    found
}

fn check_line(line: &str) {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let parsed = Command::parse(line);
    // White space says nothing.
    assert_eq!(parsed, Command::parse(&words.join(" ")));
    assert_eq!(parsed, Command::parse(&format!("\t{}\r", words.join("  "))));
    let meant = match &parsed {
        Ok(command) => spelt(command),
        Err(NoCommand::Argument) => {
            let begins = [["drain", "now"].as_slice(), &["wake"], &["queue", "discard"]];
            assert!(begins.iter().any(|begin| words.starts_with(begin)), "{line:?}");
            return;
        }
        Err(NoCommand::Unknown) => return,
    };
    // A command is what its words say: nothing is added, nothing passed over.
    let same = |(word, meant): (&&str, &String)| {
        *word == meant || matches!((word.parse::<i64>(), meant.parse::<i64>()), (Ok(a), Ok(b)) if a == b)
    };
    assert!(words.len() == meant.len() && words.iter().zip(&meant).all(same), "{line:?} was taken for {meant:?}");
}

/// The words of a command.
fn spelt(command: &Command) -> Vec<String> {
    let (words, argument) = match command {
        Command::Drain(profile) => ("drain now", profile.map(|number| number.to_string())),
        Command::Status => ("status", None),
        Command::Pause => ("pause", None),
        Command::Resume => ("resume", None),
        Command::List => ("queue list", None),
        Command::Retry(op) => ("queue retry", op.as_ref().map(ToString::to_string)),
        Command::Discard(op) => ("queue discard", Some(op.to_string())),
        Command::Wake(profile) => ("wake", profile.map(|number| number.to_string())),
        Command::Reload => ("reload", None),
        Command::Ping => ("ping", None),
        Command::Metrics => ("metrics", None),
        Command::Watch => ("watch", None),
        Command::Help => ("help", None),
    };
    words.split(' ').map(str::to_owned).chain(argument).collect()
}
