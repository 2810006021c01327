//! One profile, as the document has it, in words.
//!
//! What must always hold: behind a name comes a letter, never a number: a name that is written from right to left turns
//! numbers around that follow it, and no letters.

use std::cmp::Reverse;

use serde_json::Value;

use super::super::text::{self, quiet, sentence, width};
use super::super::words::{grouped, lasting, left, since};
use super::{Cause, INDENT, Kind, Line, View, counts, push};
use crate::op::ErrorKind;
use crate::status::State;

/// As much of a name as is shown where it can be shown at all.
const NAME_MIN: usize = 4;
/// A longer one is cut, rather than having a line of its own for what else there is to say.
const NAME_MAX: usize = 20;

/// What to do where something else answers in the server's place.
const ELSEWHERE: &str =
    "see that the address in WaveFlow's settings is right, and whether this network wants a sign-in first";

/// A profile.
pub(super) struct Seen {
    pub(super) number: i64,
    name: String,
    state: State,
    pub(super) pending: u64,
    pub(super) held: u64,
    pub(super) refused: u64,
    oldest: Option<u64>,
    sent: u64,
    success: Option<String>,
    error: Option<String>,
    next: Option<u64>,
    server: Option<String>,
    unguarded: bool,
}

/// Those in trouble first, and by number.
pub(super) fn in_order(document: &Value) -> Vec<Seen> {
    let mut all: Vec<Seen> = document["profiles"].as_array().into_iter().flatten().map(Seen::new).collect();
    all.sort_by_key(|profile| (Reverse(profile.trouble()), profile.number));
    all
}

impl Seen {
    fn new(value: &Value) -> Self {
        let number = |key: &str| value[key].as_u64().unwrap_or(0);
        Self {
            number: value["profile"].as_i64().unwrap_or(0),
            name: said(&value["name"]).unwrap_or_default(),
            // A newer daemon's may be unknown here.
            state: serde_json::from_value(value["state"].clone()).unwrap_or(State::Unavailable),
            pending: number("pending"),
            held: number("held"),
            refused: number("quarantined"),
            oldest: value["oldest_pending_s"].as_u64(),
            sent: number("sent_total"),
            success: said(&value["last_success"]),
            error: error(&value["last_error"]),
            next: value["next_attempt_in_s"].as_u64(),
            server: said(&value["server"]).map(|url| without_password(&url)),
            unguarded: value["guarded"] == false,
        }
    }

    pub(super) fn is_unreadable(&self) -> bool {
        self.state == State::Unavailable
    }

    /// Whether something is not on the server, or may not be.
    pub(super) fn misses_something(&self) -> bool {
        self.pending + self.held + self.refused > 0 || self.is_unreadable()
    }

    /// How much it needs a person, or time.
    pub(super) fn trouble(&self) -> u8 {
        match self.state {
            State::Unavailable => 6,
            State::Unauthorized => 5,
            State::BackingOff => 4,
            State::Idle | State::Draining if self.refused + self.held == 0 => u8::from(self.pending > 0),
            _ if self.misses_something() => 3,
            _ => 0,
        }
    }

    /// Its state in a word or two.
    pub(super) fn label(&self) -> &'static str {
        match self.state {
            State::Idle if self.pending > 0 => "waiting",
            State::Idle => "up to date",
            State::Draining => "sending",
            State::BackingOff => "trying again",
            State::Unauthorized => "token refused",
            State::Local => "kept local",
            State::SignedOut => "signed out",
            State::NotConfigured => "no server",
            State::Paused => "paused",
            State::Unavailable => "cannot be read",
            State::Held => "held back",
            State::ProfileNotReady => "not ready",
        }
    }

    /// Why what is here is not on the server, the weightiest first, each with its mend where there is one.
    pub(super) fn causes(&self) -> Vec<String> {
        let words = || self.state.words().to_owned();
        let error = self.error.clone();
        let mut causes: Vec<String> = match self.state {
            State::Idle | State::Draining | State::BackingOff => error.into_iter().collect(),
            State::Unavailable => vec![error.unwrap_or_else(words)],
            State::Unauthorized => {
                let mend = "sign in again from WaveFlow's settings";
                vec![error.map_or_else(words, |error| format!("{}: {mend}", error.trim_end_matches('.')))]
            }
            _ => [Some(words()), error].into_iter().flatten().collect(),
        };
        if self.refused > 0 {
            causes.push("what the server refused, and why: `waveflow-sync-agent queue list`".to_owned());
        }
        if self.held > 0 && self.state != State::Held {
            causes.push(State::Held.words().to_owned());
        }
        causes
    }

    fn kind(&self) -> Kind {
        match self.trouble() {
            4.. => Kind::Bad,
            2..=3 => Kind::Caution,
            _ => Kind::Title,
        }
    }

    /// Its name, and how it is, in a line; `more` behind it where that does not cost the name.
    fn title(&self, more: &str, columns: usize) -> Option<String> {
        let (front, behind) = (format!("Profile {}", self.number), format!(": {}{more}", self.label()));
        let room = columns.saturating_sub(width(&front) + width(&behind) + 3);
        let wanted = if self.name.is_empty() { 0 } else { NAME_MIN.max(width(&self.name).min(NAME_MAX)) };
        if room < wanted && !more.is_empty() {
            return None;
        }
        let name = if wanted == 0 || room < NAME_MIN {
            String::new()
        } else {
            format!(" “{}”", text::cut(&self.name, room))
        };
        Some(text::cut(&format!("{front}{name}{behind}"), columns))
    }

    /// All in a line.
    pub(super) fn line(&self, columns: usize) -> Line {
        let counts = counts(self.pending, None, self.held, self.refused, ", ");
        let more = if counts.is_empty() { counts } else { format!(" ({counts})") };
        Line(self.kind(), self.title(&more, columns).or_else(|| self.title("", columns)).unwrap_or_default())
    }

    /// All there is to say, but for what was `told` above.
    pub(super) fn block(&self, told: &[Cause], view: &View<'_>, columns: usize) -> Vec<Line> {
        let elapsed = view.elapsed.as_secs();
        let next = self.next.filter(|_| view.gone.is_none()).map(|next| match next.saturating_sub(elapsed) {
            0 => "next try now".to_owned(),
            seconds => format!("next try in {}", left(seconds)),
        });
        let long = next.as_ref().and_then(|next| self.title(&format!(", {next}"), columns));
        let next = next.filter(|_| long.is_none());
        let title = long.or_else(|| self.title("", columns)).unwrap_or_default();
        let mut lines = vec![Line(self.kind(), title)];
        let mut add = |kind, words: &str| push(&mut lines, kind, words, columns, INDENT);
        next.iter().for_each(|next| add(Kind::Plain, &sentence(next)));
        let oldest = self.oldest.filter(|_| self.pending > 0).map(|oldest| oldest + elapsed);
        let counts = counts(self.pending, oldest, self.held, self.refused, "; ");
        if !counts.is_empty() {
            add(Kind::Plain, &counts);
        }
        let untold = self.causes().into_iter().filter(|words| !told.iter().any(|cause| cause.words == *words));
        for words in untold {
            add(Kind::Plain, &sentence(&words));
        }
        let success = self.success.as_ref().and_then(|at| since(at, view.now)).map(lasting);
        let sent = (self.sent > 0).then(|| format!("{} sent since the agent started", grouped(self.sent)));
        let success = success.map(|ago| format!("last success {ago} ago"));
        let history: Vec<_> = [sent, success, self.server.clone()].into_iter().flatten().collect();
        if !history.is_empty() {
            add(Kind::Aside, &sentence_of(&history));
        }
        if self.unguarded {
            add(Kind::Plain, "Its token does not say whose it is: ops go out under it whoever queued them.");
        }
        lines
    }
}

fn said(value: &Value) -> Option<String> {
    value.as_str().map(quiet).filter(|text| !text.is_empty())
}

/// What went wrong, with the mend where the message alone says nothing to a person: an odd answer means that somebody else
/// gave it.
fn error(value: &Value) -> Option<String> {
    let message = said(&value["message"])?;
    let kind: Option<ErrorKind> = serde_json::from_value(value["kind"].clone()).ok();
    Some(match kind {
        Some(ErrorKind::NotTheServer) => format!("{}; {ELSEWHERE}", message.trim_end_matches('.')),
        _ => message,
    })
}

/// The first letter of the first part is a capital, unless that is an address.
fn sentence_of(parts: &[String]) -> String {
    let text = parts.join("; ");
    sentence(&text).trim_end_matches('.').to_owned()
}

/// The app takes what its user types, a password in the address too. (The agent refuses such an address.)
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}://{}{path}", authority.rsplit('@').next().unwrap_or_default())
}
