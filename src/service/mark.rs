//! Whose a file is: what `service install` writes begins with a line that says so, and that has a sum of the rest.
//!
//! What must always hold: only a file whose sum is right is replaced or removed. What somebody has changed is his, and so
//! is whatever else is in that place.

use std::fs;
use std::io;
use std::path::Path;

/// How a comment is written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comment {
    /// As in a unit, in its first line.
    Hash,
    /// As in XML, in its second line: the first is the declaration's.
    Xml,
}

const WORDS: &str = "Written by `waveflow-sync-agent service install`. Once changed here, it is yours. Sum:";

/// What is at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Absent,
    /// What an install wrote, and nobody changed since.
    Ours(String),
    /// What an install wrote, and somebody changed.
    Edited,
    /// Something else, or a link (which is how a unit is masked).
    Foreign,
}

impl Standing {
    /// Looks.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn of(path: &Path, comment: Comment) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Absent),
            Err(error) => Err(error),
            Ok(found) if !found.is_file() => Ok(Self::Foreign),
            Ok(_) => Ok(Self::of_text(String::from_utf8_lossy(&fs::read(path)?).into_owned(), comment)),
        }
    }

    fn of_text(text: String, comment: Comment) -> Self {
        let Some((before, told, behind)) = parts(&text, comment) else { return Self::Foreign };
        if told == sum(before, behind) { Self::Ours(text) } else { Self::Edited }
    }

    /// Why it is left alone, if it has to be.
    pub fn objection(&self) -> Option<&'static str> {
        match self {
            Self::Absent | Self::Ours(_) => None,
            Self::Edited => Some("was changed by hand since it was installed"),
            Self::Foreign => Some("was not written by `service install`"),
        }
    }
}

/// `text` with the mark in it.
pub fn marked(text: &str, comment: Comment) -> String {
    let (before, behind) = split(text, comment);
    let (open, close) = delimiters(comment);
    format!("{before}{open}{WORDS} {}{close}\n{behind}", sum(before, behind))
}

fn delimiters(comment: Comment) -> (&'static str, &'static str) {
    match comment {
        Comment::Hash => ("# ", ""),
        Comment::Xml => ("<!-- ", " -->"),
    }
}

/// What stands before the mark, and what behind it.
fn split(text: &str, comment: Comment) -> (&str, &str) {
    let at = match comment {
        Comment::Hash => 0,
        Comment::Xml => text.find('\n').map_or(0, |end| end + 1),
    };
    text.split_at(at)
}

fn parts(text: &str, comment: Comment) -> Option<(&str, &str, &str)> {
    let (before, rest) = split(text, comment);
    let (open, close) = delimiters(comment);
    let (line, behind) = rest.split_once('\n')?;
    let told = line.strip_prefix(open)?.strip_prefix(WORDS)?.strip_suffix(close)?.trim();
    Some((before, told, behind))
}

/// FNV-1a: enough to tell a changed file from an unchanged one, and the same in every version to come.
fn sum(before: &str, behind: &str) -> String {
    let step = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let sum = before.bytes().chain(behind.bytes()).fold(0xcbf2_9ce4_8422_2325, step);
    format!("{sum:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_ours_until_one_byte_of_it_is_changed() {
        for (text, comment) in [("[Unit]\nA=b\n", Comment::Hash), ("<?xml?>\n<plist/>\n", Comment::Xml)] {
            let ours = marked(text, comment);
            assert_eq!(Standing::of_text(ours.clone(), comment), Standing::Ours(ours.clone()));
            for changed in [ours.replace("\n<p", "\n <p").replace("A=b", "A=c"), format!("{ours}\n")] {
                assert_eq!(Standing::of_text(changed.clone(), comment), Standing::Edited, "{changed}");
            }
            assert_eq!(Standing::of_text(text.to_owned(), comment), Standing::Foreign);
        }
    }

    #[test]
    fn the_sum_is_the_one_that_installed_files_have() {
        assert_eq!(sum("", ""), "cbf29ce484222325");
        assert_eq!(sum("foo", "bar"), "85944171f73967e8");
    }

    #[test]
    fn a_link_or_a_directory_in_the_place_is_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unit");
        assert_eq!(Standing::of(&path, Comment::Hash).unwrap(), Standing::Absent);
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert_eq!(Standing::of(&path, Comment::Hash).unwrap(), Standing::Foreign);
        assert_eq!(Standing::of(dir.path(), Comment::Hash).unwrap(), Standing::Foreign);
    }
}
