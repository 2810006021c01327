//! `status` as people read it: is everything on the server, if not why not, then each profile. Pure.
//!
//! What must always hold: the answer comes first and the cause right behind it; where there are more profiles than lines,
//! those in trouble are shown and the others counted. The document is the socket's, so that a newer or older daemon's is
//! shown too, as far as it is understood.

mod profile;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use self::profile::Seen;
use super::text::{self, sentence, wrap};
use super::words::{grouped, lasting, listed};

/// Narrower than this nothing can be read.
const COLUMNS_MIN: usize = 16;
/// Causes told at the top, and the lines that one may take. What does not fit is told with its profile.
const CAUSES_MAX: usize = 3;
const CAUSE_LINES: usize = 4;
/// A lower screen has no room for the agent's own line.
const FOOTER_ROWS: usize = 16;
/// How far lines are set in that belong to the one above.
const INDENT: usize = 2;

/// How it is looked at.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The width.
    pub columns: usize,
    /// The height, where it has one.
    pub rows: Option<usize>,
    /// Whether colours are wanted.
    pub colour: bool,
    /// ms since the epoch.
    pub now: i64,
    /// Since the document was made.
    pub elapsed: Duration,
    /// What is to be said where no daemon runs: that, and how one is started.
    pub absent: &'a str,
    /// The daemon that made the document has been away for so long.
    pub gone: Option<Duration>,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Bad,
    Caution,
    Title,
    Plain,
    Aside,
}

impl Kind {
    /// How a terminal is told.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Good => Some("32"),
            Self::Bad => Some("31"),
            Self::Caution => Some("33"),
            Self::Title => Some("1"),
            Self::Plain => None,
            Self::Aside => Some("2"),
        }
    }
}

/// A line on the screen.
struct Line(Kind, String);

/// Why something is not on the server, and for whom.
struct Cause {
    words: String,
    /// Empty: for all.
    profiles: Vec<i64>,
}

/// All lines, the answer first, without their ends.
pub fn lines(document: &Value, view: &View<'_>) -> Vec<String> {
    let columns = view.columns.max(COLUMNS_MIN);
    let profiles = profile::in_order(document);
    let causes = causes(document, &profiles, view);
    let mut all = Vec::new();
    if let Some(gone) = view.gone {
        let words = format!("The agent went away {} ago; waiting for it to come back.", lasting(gone.as_secs()));
        push(&mut all, Kind::Bad, &words, columns, 0);
        push(&mut all, Kind::Aside, "Before that:", columns, 0);
    }
    let (kind, words) = answer(document, &profiles);
    push(&mut all, kind, &words, columns, 0);
    let told = tell(&mut all, causes, profiles.len(), view, columns);
    let footer = footer(document, view, columns);
    let room = view.rows.map(|rows| rows.saturating_sub(all.len() + footer.len()));
    all.extend(blocks(&profiles, &told, view, columns, room));
    all.extend(footer);
    if let Some(rows) = view.rows {
        all.truncate(rows);
    }
    all.into_iter().map(|line| line.shown(view.colour)).collect()
}

/// The same as one text; each line ends with a line break.
pub fn text(document: &Value, view: &View<'_>) -> String {
    lines(document, view).into_iter().fold(String::new(), |text, line| text + &line + "\n")
}

impl Line {
    fn shown(self, colour: bool) -> String {
        match self.0.code().filter(|_| colour) {
            Some(code) => format!("\u{1b}[{code}m{}\u{1b}[0m", self.1),
            None => self.1,
        }
    }
}

fn push(lines: &mut Vec<Line>, kind: Kind, words: &str, columns: usize, indent: usize) {
    let first = " ".repeat(indent);
    let rows = wrap(words, columns.saturating_sub(indent), INDENT);
    lines.extend(rows.into_iter().map(|row| Line(kind, format!("{first}{row}"))));
}

/// Is everything on the server?
fn answer(document: &Value, profiles: &[Seen]) -> (Kind, String) {
    let sum = |count: fn(&Seen) -> u64| profiles.iter().map(count).sum::<u64>();
    let (pending, held, refused) = (sum(|it| it.pending), sum(|it| it.held), sum(|it| it.refused));
    let counts = counts(pending, None, held, refused, ", ");
    if !counts.is_empty() {
        return (Kind::Bad, format!("Not everything is on the server: {counts}."));
    }
    // Nobody looked into these, so nobody knows.
    if profiles.iter().any(Seen::is_unreadable) {
        let words = "Not every profile's files can be read, so what waits in them is not known.";
        return (Kind::Caution, words.to_owned());
    }
    if document["problem"].is_string() {
        return (Kind::Caution, "Whether everything is on the server is not known.".to_owned());
    }
    (Kind::Good, "Everything is on the server.".to_owned())
}

/// `3 waiting, the oldest for 2 hours; 1 refused`; empty where there is nothing.
fn counts(pending: u64, oldest: Option<u64>, held: u64, refused: u64, between: &str) -> String {
    let age = oldest.map(|oldest| format!(", the oldest for {}", lasting(oldest))).unwrap_or_default();
    let parts = [(pending, "waiting", age.as_str()), (held, "held back", ""), (refused, "refused", "")];
    let told = parts.iter().filter(|(count, ..)| *count > 0);
    told.map(|(count, what, more)| format!("{} {what}{more}", grouped(*count))).collect::<Vec<_>>().join(between)
}

/// Why not everything is there, and why it will not be soon: what is true for all first.
fn causes(document: &Value, profiles: &[Seen], view: &View<'_>) -> Vec<Cause> {
    let mut causes: Vec<Cause> = Vec::new();
    let mut for_all = |words: String| causes.push(Cause { words, profiles: Vec::new() });
    if let Some(problem) = document["problem"].as_str() {
        for_all(text::quiet(problem));
    }
    if document["pid"].is_null() && view.gone.is_none() {
        for_all(view.absent.to_owned());
    }
    if document["paused"] == true {
        for_all(crate::status::State::Paused.words().to_owned());
    }
    for profile in profiles.iter().filter(|profile| profile.misses_something()) {
        for words in profile.causes() {
            match causes.iter_mut().find(|cause| cause.words == words) {
                Some(cause) if cause.profiles.is_empty() => {}
                Some(cause) => cause.profiles.push(profile.number),
                None => causes.push(Cause { words, profiles: vec![profile.number] }),
            }
        }
    }
    causes.truncate(CAUSES_MAX);
    causes
}

impl Cause {
    fn sentence(&self, profiles: usize) -> String {
        let whose = match self.profiles.as_slice() {
            [] => None,
            _ if profiles == 1 => None,
            [one] => Some(format!("profile {one}")),
            all if all.len() == profiles => Some("all profiles".to_owned()),
            all if all.len() > 4 => Some(format!("{} profiles", all.len())),
            all => Some(format!("profiles {}", listed(&all.iter().map(i64::to_string).collect::<Vec<_>>()))),
        };
        let words = sentence(&self.words);
        whose.map_or(words.clone(), |whose| format!("{} ({whose})", words.trim_end_matches('.')))
    }
}

/// Adds the causes to the lines: the first one, and those that leave half of the screen to the profiles.
fn tell(all: &mut Vec<Line>, causes: Vec<Cause>, profiles: usize, view: &View<'_>, columns: usize) -> Vec<Cause> {
    let half = view.rows.map_or(usize::MAX, |rows| rows / 2);
    let mut told = Vec::new();
    for cause in causes {
        let mut rows = wrap(&cause.sentence(profiles), columns, INDENT);
        if rows.len() > CAUSE_LINES {
            rows.truncate(CAUSE_LINES);
            rows.last_mut().into_iter().for_each(|last| *last = format!("{}…", text::cut(last, columns - 1)));
        }
        if told.is_empty() || all.len() + rows.len() <= half {
            all.extend(rows.into_iter().map(|row| Line(Kind::Caution, row)));
            told.push(cause);
        }
    }
    told
}

fn footer(document: &Value, view: &View<'_>, columns: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let room = view.rows.is_none_or(|rows| rows >= FOOTER_ROWS);
    if let (Some(pid), None, true) = (document["pid"].as_u64(), view.gone, room) {
        let version = text::quiet(document["version"].as_str().unwrap_or_default());
        let up = document["uptime_s"].as_u64().unwrap_or(0) + view.elapsed.as_secs();
        let words = format!("Agent {version}, process {pid}, running for {}.", lasting(up));
        push(&mut lines, Kind::Aside, &words, columns, 0);
    }
    lines
}

/// Each profile in full, if there is room. Else those in trouble in full as far as possible, the others in a line, and the
/// rest counted.
fn blocks(profiles: &[Seen], told: &[Cause], view: &View<'_>, columns: usize, room: Option<usize>) -> Vec<Line> {
    let all: Vec<_> = profiles.iter().map(|profile| profile.block(told, view, columns)).collect();
    let mut room = room.unwrap_or(usize::MAX);
    if all.iter().map(Vec::len).sum::<usize>() <= room {
        return all.into_iter().flatten().collect();
    }
    let mut troubled = profiles.iter().filter(|profile| profile.trouble() > 0).count();
    let mut lines = Vec::new();
    for (at, (profile, block)) in profiles.iter().zip(all).enumerate() {
        // The line that counts the rest, and one for each that is in trouble too.
        let rest = usize::from(at + 1 < profiles.len());
        troubled = troubled.saturating_sub(1);
        let in_full = profile.trouble() > 0 && block.len() + rest + troubled <= room;
        let block = if in_full { block } else { vec![profile.line(columns)] };
        if block.len() + rest > room {
            lines.extend((room > 0).then(|| counted(profiles.get(at..).unwrap_or_default(), columns)));
            break;
        }
        room -= block.len();
        lines.extend(block);
    }
    lines
}

/// How many more there are, and how they are.
fn counted(profiles: &[Seen], columns: usize) -> Line {
    let mut by_label: BTreeMap<&str, u64> = BTreeMap::new();
    profiles.iter().for_each(|profile| *by_label.entry(profile.label()).or_default() += 1);
    let all: Vec<_> = by_label.iter().map(|(label, count)| format!("{} {label}", grouped(*count))).collect();
    let words = format!("… and {} more: {}", grouped(profiles.len() as u64), listed(&all));
    Line(Kind::Title, text::cut(&words, columns))
}
