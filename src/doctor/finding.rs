//! What was found, and how it is told.
//!
//! What must always hold: whatever is wrong stands before whatever is not, causes before what comes of them, so that three
//! lines are enough to know; each is one line, steers no terminal, and has its mend unless it is fine.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

use crate::exit::Exit;

/// Characters of one finding: a path and a sentence.
const WORDS_MAX: usize = 600;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Fine,
    /// Good to know: nothing that waits is stopped by it.
    Notice,
    /// Something does not get to the server because of it, or will not.
    Wrong,
}

impl Level {
    fn words(self) -> &'static str {
        match self {
            Self::Fine => "fine ",
            Self::Notice => "note ",
            Self::Wrong => "WRONG",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, for programs.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
    /// How it is.
    pub words: String,
    /// What to do; `None` where it is fine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// How to end, where this is the first that is wrong.
    #[serde(skip)]
    pub exit: Exit,
    /// The profile whose ops alone are stopped by it; `None` where it may be everybody's.
    #[serde(skip)]
    pub profile: Option<i64>,
}

impl Finding {
    /// As it should be.
    pub fn fine(name: &'static str, words: &str) -> Self {
        Self { name, level: Level::Fine, words: one_line(words), mend: None, exit: Exit::Done, profile: None }
    }

    /// Good to know.
    pub fn notice(name: &'static str, words: &str, mend: &str) -> Self {
        Self { level: Level::Notice, mend: Some(one_line(mend)), ..Self::fine(name, words) }
    }

    /// In the way.
    pub fn wrong(name: &'static str, words: &str, mend: &str) -> Self {
        Self { level: Level::Wrong, exit: Exit::TryLater, ..Self::notice(name, words, mend) }
    }

    /// In the way if something waits, else good to know.
    pub fn wrong_if(is_wrong: bool, name: &'static str, words: &str, mend: &str) -> Self {
        if is_wrong { Self::wrong(name, words, mend) } else { Self::notice(name, words, mend) }
    }

    /// With an exit code of its own, where it is wrong.
    #[must_use]
    pub fn ends_with(self, exit: Exit) -> Self {
        if self.level == Level::Wrong { Self { exit, ..self } } else { self }
    }

    /// About this profile, and no other.
    #[must_use]
    pub fn of(self, profile: i64) -> Self {
        Self { profile: Some(profile), ..self }
    }

    /// Whether it may be why this profile's ops wait.
    pub fn explains(&self, profile: i64) -> bool {
        self.level == Level::Wrong && self.profile.is_none_or(|about| about == profile)
    }

    fn line(&self) -> String {
        let stop = if self.words.ends_with(['?', '!', '…']) { "" } else { "." };
        let mend = self.mend.as_ref().map(|mend| format!("{stop} Mend: {mend}")).unwrap_or_default();
        // “profile 1 …” says by itself what it is about.
        let name = if self.words.starts_with(self.name) { String::new() } else { format!("{}: ", self.title()) };
        format!("{}  {name}{}{mend}", self.level.words(), self.words)
    }

    /// The name, for people.
    fn title(&self) -> String {
        match self.name {
            "dns" | "tcp" | "tls" => self.name.to_uppercase(),
            name => name.replace('_', " ").replace(" url", " URL"),
        }
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    findings: Vec<Finding>,
}

impl Diagnosis {
    /// Puts the worst first; what is equally bad stays in the order it was looked at, causes first.
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        Self { findings }
    }

    /// What was found, the worst first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// 0 only if nothing is wrong; else the code of the first that is, since that is the line to read first, and what is
    /// behind it may come of it: 78 where the configuration is wrong, 77 where something belongs to somebody else, 69 where
    /// ops wait and no agent runs, 75 for all the rest. What is good to know is no failure: else a cron job that drains with
    /// `once` could never be told that all is well.
    pub fn exit(&self) -> Exit {
        self.findings.first().map_or(Exit::Done, |finding| finding.exit)
    }

    /// A line of summary, then a line for each.
    pub fn for_people(&self) -> String {
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let (wrong, notes) = (count(Level::Wrong), count(Level::Notice));
        let mut text = match wrong {
            0 => "All is well".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            _ => format!("{wrong} things are wrong, the cause most likely the first"),
        };
        let _ = match notes {
            0 => writeln!(text, "."),
            1 => writeln!(text, "; 1 thing is good to know."),
            _ => writeln!(text, "; {notes} things are good to know."),
        };
        for finding in &self.findings {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", finding.line());
        }
        text
    }

    /// The same for a bug report.
    pub fn for_programs(&self) -> String {
        let system = rustix::system::uname();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "platform": {
                "os": std::env::consts::OS, "arch": std::env::consts::ARCH, "kernel": system.release().to_string_lossy(),
            },
            "healthy": self.exit() == Exit::Done,
            "findings": self.findings,
        })
        .to_string()
    }
}

/// One line of at most [`WORDS_MAX`] characters that steers no terminal.
fn one_line(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    if text.chars().count() > WORDS_MAX { shown.take(WORDS_MAX).chain(['…']).collect() } else { shown.collect() }
}

/// A time in the largest unit that fits: `3 days`.
pub(super) fn span(seconds: u64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// `1 op`, `2 ops`.
pub(super) fn ops(count: u64) -> String {
    format!("{count} op{}", if count == 1 { "" } else { "s" })
}

/// `1 op waits`, `2 ops wait`.
pub(super) fn ops_wait(count: u64) -> String {
    format!("{} {}", ops(count), if count == 1 { "waits" } else { "wait" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_comes_first_in_the_order_it_was_looked_at_and_decides_the_exit() {
        let found = Diagnosis::new(vec![
            Finding::fine("a", "good"),
            Finding::notice("b", "so so.", "wait"),
            Finding::wrong("first_of_all", "bad", "mend it").ends_with(Exit::Config),
            Finding::wrong("tcp", "comes of it?", "see above"),
            Finding::fine("profile", "profile 1: signed in"),
        ]);
        assert_eq!(found.exit(), Exit::Config);
        let text = found.for_people();
        let expected = "2 things are wrong, the cause most likely the first; 1 thing is good to know.\n\
                        WRONG  first of all: bad. Mend: mend it\nWRONG  TCP: comes of it? Mend: see above\n\
                        note   b: so so. Mend: wait\nfine   a: good\nfine   profile 1: signed in\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_good_to_know_is_no_failure() {
        let found = Diagnosis::new(vec![Finding::notice("b", "so so", "wait").ends_with(Exit::NoDaemon)]);
        assert_eq!(found.exit(), Exit::Done);
        assert!(found.for_people().starts_with("All is well; 1 thing is good to know.\n"));
        assert_eq!(Diagnosis::new(Vec::new()).for_people(), "All is well.\n");
        let wrong_if = |is_wrong| Finding::wrong_if(is_wrong, "c", "", "m").ends_with(Exit::NoDaemon).exit;
        assert_eq!((wrong_if(true), wrong_if(false)), (Exit::NoDaemon, Exit::Done));
    }

    #[test]
    fn a_finding_is_one_line_and_has_an_end() {
        let found = Finding::wrong("a", &format!("x\u{1b}[2J\n{}", "y".repeat(1000)), "m\r\nn");
        assert!(!found.line().contains(char::is_control));
        assert_eq!(found.words.chars().count(), WORDS_MAX + 1);
    }

    #[test]
    fn programs_get_one_document() {
        let found = Diagnosis::new(vec![Finding::wrong("a", "bad", "mend it"), Finding::fine("b", "good")]);
        let document: serde_json::Value = serde_json::from_str(&found.for_programs()).unwrap();
        assert_eq!(document["healthy"], false);
        assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(document["findings"][0], json!({"name": "a", "level": "wrong", "words": "bad", "mend": "mend it"}));
        assert!(document["findings"][1]["mend"].is_null());
    }

    #[test]
    fn a_time_is_told_in_its_largest_unit() {
        let told = [0, 1, 59, 60, 7200, 86_400, 900_000].map(span);
        assert_eq!(told, ["0 seconds", "1 second", "59 seconds", "1 minute", "2 hours", "1 day", "10 days"]);
        assert_eq!((ops(1), ops(2)), ("1 op".to_owned(), "2 ops".to_owned()));
        assert_eq!((ops_wait(1), ops_wait(2)), ("1 op waits".to_owned(), "2 ops wait".to_owned()));
    }
}
