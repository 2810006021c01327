//! How passes ended, as people read it, as programs read it, and as an exit code.
//!
//! What must always hold: `outcome` is `drained` or `skipped` and nothing else (programs match on the two); the sums on
//! top are those of the drained profiles, so that the exit code is 75 exactly if `remaining` on top is not 0; and
//! nothing a server or a profile's name says can move the reader's cursor.

use std::fmt::Write as _;

use serde::Serialize;

use crate::exit::Exit;
use crate::op::{ErrorKind, Failure, Next, Outcome, Reason};
use crate::screen::text::{quiet, sentence};

/// Which profile an outcome is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileLabel {
    /// Its id in the app.
    pub profile: i64,
    /// Its name in the app.
    pub name: String,
}

/// The answer to `drain now`, and what `once` prints.
pub struct Report<'a> {
    passes: &'a [(ProfileLabel, Outcome)],
}

#[derive(Serialize)]
struct Document<'a> {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Failure>,
    profiles: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    profile: i64,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    quarantined: u64,
    #[serde(skip_serializing_if = "is_zero")]
    held: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl<'a> Report<'a> {
    /// About these passes, in this order.
    pub fn new(passes: &'a [(ProfileLabel, Outcome)]) -> Self {
        Self { passes }
    }

    /// 75 if a drained profile has ops left, else 0.
    pub fn exit(&self) -> Exit {
        if self.remaining() > 0 { Exit::TryLater } else { Exit::Done }
    }

    /// The document of the interface's `drain now`, on one line, without the line's end.
    pub fn for_programs(&self) -> String {
        // Numbers, texts and names of ours: there is nothing in it that could not be written.
        serde_json::to_string(&self.document()).unwrap_or_default()
    }

    /// A line for each profile, and one for all; each ends with a line break.
    pub fn for_people(&self) -> String {
        let mut text = String::new();
        for (label, outcome) in self.passes {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "Profile {} “{}”: {}", label.profile, quiet(&label.name), profile_words(outcome));
        }
        text.push_str(&self.closing_words());
        text.push('\n');
        text
    }

    fn drained(&self) -> impl Iterator<Item = &'a Outcome> {
        self.passes.iter().map(|(_, outcome)| outcome).filter(|outcome| outcome.skipped.is_none())
    }

    fn sent(&self) -> u64 {
        self.drained().map(|outcome| outcome.sent).sum()
    }

    fn remaining(&self) -> u64 {
        self.drained().map(|outcome| outcome.remaining).sum()
    }

    /// Why nothing was tried; `None` if anything was.
    fn skipped(&self) -> Option<Reason> {
        if self.drained().next().is_some() {
            return None;
        }
        Some(self.passes.first().and_then(|(_, outcome)| outcome.skipped).unwrap_or(Reason::Unavailable))
    }

    fn document(&self) -> Document<'a> {
        let profiles = self.passes.iter().map(|(label, outcome)| profile(label.profile, outcome)).collect();
        match self.skipped() {
            Some(reason) => {
                let reason = Some(reason);
                Document { outcome: "skipped", reason, sent: None, remaining: None, error: None, profiles }
            }
            None => Document {
                outcome: "drained",
                reason: None,
                sent: Some(self.sent()),
                remaining: Some(self.remaining()),
                error: self.drained().find_map(|outcome| outcome.error.as_ref()),
                profiles,
            },
        }
    }

    fn closing_words(&self) -> String {
        match (self.passes.is_empty(), self.skipped()) {
            (true, _) => "Nothing was sent: the desktop app has no profile here that could be read.".to_owned(),
            (_, Some(_)) => "Nothing was sent.".to_owned(),
            (_, None) if self.remaining() == 0 => format!("Done: {} sent.", self.sent()),
            (_, None) => format!("Not done: {} sent, {} waiting. Try again later.", self.sent(), self.remaining()),
        }
    }
}

/// The document of a daemon, for people. Names are not in it; numbers are.
pub fn of_document(document: &serde_json::Value) -> String {
    let mut text = String::new();
    for line in document["profiles"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let outcome = outcome_of(line);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "Profile {}: {}", line["profile"], profile_words(&outcome));
    }
    let (sent, remaining) = (document["sent"].as_u64().unwrap_or(0), document["remaining"].as_u64().unwrap_or(0));
    let _ = match (document["outcome"].as_str(), remaining) {
        (Some("drained"), 0) => writeln!(text, "Done: {sent} sent."),
        (Some("drained"), _) => {
            writeln!(text, "Not done: {sent} sent, {remaining} waiting. The agent goes on trying.")
        }
        _ => writeln!(text, "Nothing was sent."),
    };
    text
}

fn outcome_of(line: &serde_json::Value) -> Outcome {
    let number = |key: &str| line[key].as_u64().unwrap_or(0);
    let message = line["error"]["message"].as_str().or(line["message"].as_str());
    // Of a newer daemon it may be one that nobody knows here.
    let kind = serde_json::from_value(line["error"]["kind"].clone()).unwrap_or(ErrorKind::Server);
    Outcome {
        skipped: serde_json::from_value(line["reason"].clone()).ok(),
        sent: number("sent"),
        remaining: number("remaining"),
        quarantined: number("quarantined"),
        held: number("held"),
        oldest: None,
        error: message.map(|message| Failure::new(kind, message)),
        next: Next::WhenWoken,
    }
}

fn profile(id: i64, outcome: &Outcome) -> Line<'_> {
    let Outcome { skipped, sent, remaining, quarantined, held, oldest: _, error, next: _ } = outcome;
    let (quarantined, held) = (*quarantined, *held);
    if skipped.is_some() {
        let remaining = Some(*remaining).filter(|remaining| *remaining > 0);
        let message = error.as_ref().map(|failure| failure.message.as_str());
        let outcome = "skipped";
        Line { profile: id, outcome, reason: *skipped, sent: None, remaining, quarantined, held, error: None, message }
    } else {
        let (sent, remaining, error) = (Some(*sent), Some(*remaining), error.as_ref());
        let outcome = "drained";
        Line { profile: id, outcome, reason: None, sent, remaining, quarantined, held, error, message: None }
    }
}

fn profile_words(outcome: &Outcome) -> String {
    let mut words = match outcome.skipped {
        Some(reason) => reason_words(reason).to_owned(),
        None => format!("{} sent, {} waiting", outcome.sent, outcome.remaining),
    };
    let extras = [
        (outcome.skipped.map_or(0, |_| outcome.remaining), "waiting"),
        (outcome.quarantined, "refused by the server and set aside"),
        (outcome.held, "queued under another account, or before this one signed in, and held back"),
    ];
    for (number, what) in extras.iter().filter(|(number, _)| *number > 0) {
        let _ = write!(words, "; {number} {what}");
    }
    words.push('.');
    if let Some(failure) = &outcome.error {
        let _ = write!(words, " {}", sentence(&quiet(&failure.message)));
        if let Some(mend) = mend(failure.kind) {
            let _ = write!(words, " {mend}");
        }
    }
    words
}

/// What a person can do about it, where trying again is not enough and the message does not say it already.
fn mend(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Unauthorized => Some("Sign in again from the app's settings."),
        ErrorKind::NotTheServer => Some(
            "That is no waveflow-server: check the address in the app's settings, and whether this network wants you to \
             sign in first.",
        ),
        ErrorKind::Rejected => Some("See the command queue list."),
        ErrorKind::Network
        | ErrorKind::Tls
        | ErrorKind::Timeout
        | ErrorKind::Server
        | ErrorKind::Clock
        | ErrorKind::Database => None,
    }
}

/// Each reason with its mend.
fn reason_words(reason: Reason) -> &'static str {
    match reason {
        Reason::NotConfigured => "skipped: no server — enter its address in the app's settings, or as server.url",
        Reason::SignedOut => "skipped: signed out — sign in from the app's settings",
        Reason::LocalMode => "skipped: everything is kept local — change that in the app's settings if it should sync",
        Reason::ProfileNotReady => "skipped: not ready — start the app once with this profile",
        Reason::NoQueue => "skipped: no queue — this version of the app keeps none here, and there is nothing to do",
        Reason::Paused => "skipped: paused — go on with the command resume",
        Reason::Held => {
            "skipped: all that waits was queued under another account, or before this one signed in — sign in to that \
             one again, or let the ops go with the command queue retry"
        }
        Reason::Unavailable => {
            "skipped: its files cannot be used — start the app, and see that they are yours to write"
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn label(profile: i64) -> ProfileLabel {
        ProfileLabel { profile, name: format!("Name {profile}") }
    }

    fn drained(sent: u64, remaining: u64) -> Outcome {
        Outcome {
            skipped: None,
            sent,
            remaining,
            quarantined: 0,
            held: 0,
            oldest: None,
            error: None,
            next: Next::WhenWoken,
        }
    }

    fn failed(sent: u64, remaining: u64, message: &str) -> Outcome {
        Outcome { error: Some(Failure::new(ErrorKind::Network, message)), ..drained(sent, remaining) }
    }

    fn report(outcomes: impl IntoIterator<Item = Outcome>) -> (String, Value, String, Exit) {
        let passes: Vec<_> = (1..).map(label).zip(outcomes).collect();
        let report = Report::new(&passes);
        let text = report.for_programs();
        let value = serde_json::from_str(&text).unwrap();
        (text, value, report.for_people(), report.exit())
    }

    #[test]
    fn the_interfaces_examples_come_out_letter_by_letter() {
        let (text, _, people, exit) = report([drained(3, 0)]);
        let expected = r#"{"outcome":"drained","sent":3,"remaining":0,"profiles":[{"profile":1,"outcome":"drained","sent":3,"remaining":0}]}"#;
        assert_eq!(text, expected);
        assert_eq!(people, "Profile 1 “Name 1”: 3 sent, 0 waiting.\nDone: 3 sent.\n");
        assert_eq!(exit, Exit::Done);

        let (text, _, people, exit) = report([Outcome::skipped(Reason::SignedOut)]);
        let expected = r#"{"outcome":"skipped","reason":"signed_out","profiles":[{"profile":1,"outcome":"skipped","reason":"signed_out"}]}"#;
        assert_eq!(text, expected);
        assert_eq!(
            people,
            "Profile 1 “Name 1”: skipped: signed out — sign in from the app's settings.\nNothing was sent.\n"
        );
        assert_eq!(exit, Exit::Done);
    }

    #[test]
    fn a_pass_that_stopped_is_drained_with_the_first_error_on_top() {
        let (_, value, people, exit) = report([drained(300, 0), failed(2, 5, "no route"), failed(0, 1, "cut off!")]);
        let error = json!({"kind": "network", "message": "no route"});
        assert_eq!(value["outcome"], "drained");
        assert_eq!((&value["sent"], &value["remaining"]), (&json!(302), &json!(6)));
        assert_eq!(value["error"], error);
        let second = json!({"profile": 2, "outcome": "drained", "sent": 2, "remaining": 5, "error": error});
        assert_eq!(value["profiles"][1], second);
        assert_eq!(value["profiles"][0].get("error"), None);
        assert_eq!(value["profiles"][2]["error"]["message"], "cut off!");
        assert!(people.contains("Profile 2 “Name 2”: 2 sent, 5 waiting. No route.\n"), "{people}");
        assert!(people.contains("1 waiting. Cut off!\nNot done: 302 sent, 6 waiting. Try again later.\n"), "{people}");
        assert_eq!(exit, Exit::TryLater);
    }

    #[test]
    fn what_a_skipped_profile_has_waiting_is_told_but_is_no_reason_to_try_later() {
        let waiting = Outcome { remaining: 4, held: 1, ..Outcome::skipped(Reason::SignedOut) };
        let (_, value, people, exit) = report([waiting.clone(), drained(1, 0)]);
        assert_eq!((&value["outcome"], &value["remaining"]), (&json!("drained"), &json!(0)));
        let first = json!({"profile": 1, "outcome": "skipped", "reason": "signed_out", "remaining": 4, "held": 1});
        assert_eq!(value["profiles"][0], first);
        assert!(people.contains("settings; 4 waiting; 1 queued under another account, or before"), "{people}");
        assert_eq!(exit, Exit::Done);
        let (_, value, _, exit) = report([waiting]);
        assert_eq!((value.get("remaining"), value.get("sent")), (None, None));
        assert_eq!(exit, Exit::Done);
    }

    #[test]
    fn what_is_behind_a_skip_is_a_message() {
        let locked = Failure::new(ErrorKind::Database, "data.db is locked");
        let (_, value, people, _) = report([Outcome { error: Some(locked), ..Outcome::skipped(Reason::Unavailable) }]);
        assert_eq!(value["profiles"][0]["message"], "data.db is locked");
        assert_eq!((value.get("error"), value["profiles"][0].get("error")), (None, None));
        assert!(people.contains("yours to write. data.db is locked.\n"), "{people}");
    }

    #[test]
    fn quarantined_and_held_are_counted_apart() {
        let (_, value, people, exit) = report([Outcome { quarantined: 2, held: 3, ..drained(1, 0) }]);
        assert_eq!((&value["profiles"][0]["quarantined"], &value["profiles"][0]["held"]), (&json!(2), &json!(3)));
        assert!(
            people.contains("1 sent, 0 waiting; 2 refused by the server and set aside; 3 queued under another"),
            "{people}"
        );
        assert_eq!(exit, Exit::Done);
    }

    #[test]
    fn held_names_both_ways_out_and_both_origins() {
        let (.., people, _) = report([Outcome { held: 1, ..Outcome::skipped(Reason::Held) }]);
        assert!(people.contains("before this one signed in — sign in to that one again, or"), "{people}");
        assert!(
            people.contains("queue retry; 1 queued under another account, or before this one signed in"),
            "{people}"
        );
    }

    #[test]
    fn a_message_is_a_sentence_and_a_name_in_it_stays_a_name() {
        let said = [
            ("the server is away", "The server is away."),
            ("état: non", "État: non."),
            ("data.db is locked", "data.db is locked."),
            ("http://x: no", "http://x: no."),
            ("", "."),
        ];
        for (text, expected) in said {
            assert_eq!(sentence(text), expected);
        }
    }

    #[test]
    fn of_several_skipped_the_first_reason_is_on_top() {
        let (_, value, ..) = report([Outcome::skipped(Reason::LocalMode), Outcome::skipped(Reason::SignedOut)]);
        assert_eq!(value["reason"], "local_mode");
    }

    #[test]
    fn without_profiles_it_is_unavailable() {
        let (text, _, people, exit) = report([]);
        assert_eq!(text, r#"{"outcome":"skipped","reason":"unavailable","profiles":[]}"#);
        assert!(people.starts_with("Nothing was sent: "), "{people}");
        assert_eq!(exit, Exit::Done);
    }

    #[test]
    fn nothing_from_outside_moves_the_cursor() {
        let name = "a\u{1b}[2J\nb\u{202e}".to_owned();
        let passes = [(ProfileLabel { profile: 1, name }, failed(0, 1, "\r\u{1b}]0;x\u{7}"))];
        let people = Report::new(&passes).for_people();
        assert_eq!(people.lines().count(), 2);
        assert!(!people.contains(['\u{1b}', '\r', '\u{7}', '\u{202e}']), "{people:?}");
    }
}
