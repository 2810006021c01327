//! What the audience sees: acts, commands, arrivals, and what the agent said.
//!
//! What must always hold: colour and pauses only on a terminal, colour not against `NO_COLOR`; each act shows a bounded
//! number of lines, however much arrives.

use std::io::{self, IsTerminal, Write as _};
use std::thread;
use std::time::Duration;

use testkit::Result;
use testkit::server::{Exchange, StoredOp};

/// Lines of arrivals in each act; an ordinary evening fits.
const MAX_ARRIVAL_LINES: usize = 24;
/// Up to so many ops that arrive together get a line each.
const MAX_SINGLE: usize = 5;
/// Answers of the server's that are shown for each act.
const MAX_ANSWERS: usize = 8;
/// Lines of an answer of the agent's, and of its log in each act.
const MAX_SAID_LINES: usize = 6;
/// A sentence is broken before this column.
const WIDTH: usize = 92;
/// Time to read a sentence; only for people.
const TO_READ: Duration = Duration::from_secs(1);

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Standard output, and how far the act has come.
pub(super) struct Stage {
    out: io::Stdout,
    terminal: bool,
    colour: bool,
    acts: usize,
    arrival_lines: usize,
    /// Arrivals that got no line of their own.
    passed_over: usize,
}

impl Stage {
    pub(super) fn new() -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { out, terminal, colour: terminal && !refused && !dumb, acts: 0, arrival_lines: 0, passed_over: 0 }
    }

    /// A line as it is.
    pub(super) fn line(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// The next act: its name, and the sentence that says what happens and why nothing is lost.
    pub(super) fn act(&mut self, name: &str, sentence: &str) -> Result<()> {
        self.acts += 1;
        let heading = self.painted(BOLD, &format!("{}. {name}", self.acts));
        self.line(&format!("\n{heading}"))?;
        for line in wrapped(sentence) {
            self.line(&format!("   {line}"))?;
        }
        if self.terminal {
            thread::sleep(TO_READ);
        }
        Ok(())
    }

    /// Something that happens beside the agent.
    pub(super) fn aside(&mut self, text: &str) -> Result<()> {
        let text = self.painted(DIM, text);
        self.line(&format!("   {text}"))
    }

    /// The command that is run.
    pub(super) fn command(&mut self, words: &str) -> Result<()> {
        let command = self.painted(CYAN, &format!("$ {words}"));
        self.line(&format!("   {command}"))
    }

    /// Ops the server has stored, and how many microseconds after their commits.
    pub(super) fn arrivals(&mut self, ops: &[(StoredOp, u64)]) -> Result<()> {
        let (Some((first, _)), Some((last, _))) = (ops.first(), ops.last()) else { return Ok(()) };
        if self.arrival_lines >= MAX_ARRIVAL_LINES {
            self.passed_over += ops.len();
            return Ok(());
        }
        if ops.len() > MAX_SINGLE {
            let longest = milliseconds(ops.iter().map(|(_, delay)| *delay).max().unwrap_or_default());
            let what = format!("{} ops, stamps {} to {}", ops.len(), first.lamport_ts, last.lamport_ts);
            return self.arrived(&format!("#{}–{}", first.seq, last.seq), &format!("{what:38} at most {longest}"));
        }
        for (op, delay) in ops {
            let what = format!("{} {} {} {}", op.op, op.entity, shortened(&op.entity_id), field(op));
            self.arrived(&format!("#{}", op.seq), &format!("{what:38} {}", milliseconds(*delay)))?;
        }
        Ok(())
    }

    fn arrived(&mut self, place: &str, what: &str) -> Result<()> {
        self.arrival_lines += 1;
        let place = self.painted(GREEN, &format!("{place:>11}"));
        self.line(&format!("   {place}  {what}"))
    }

    /// No more arrivals for now.
    pub(super) fn close_arrivals(&mut self) -> Result<()> {
        let passed_over = std::mem::take(&mut self.passed_over);
        self.arrival_lines = 0;
        if passed_over > 0 {
            self.line(&format!("   {:>11}  and {passed_over} more", "…"))?;
        }
        Ok(())
    }

    /// What the server answered.
    pub(super) fn answers(&mut self, exchanges: &[Exchange]) -> Result<()> {
        let mut told: Vec<(usize, String)> = Vec::new();
        for answer in exchanges.iter().map(answer) {
            match told.last_mut() {
                Some((times, last)) if *last == answer => *times += 1,
                _ => told.push((1, answer)),
            }
        }
        let more = told.len().saturating_sub(MAX_ANSWERS);
        told.truncate(MAX_ANSWERS);
        for (place, (times, answer)) in told.iter().enumerate() {
            let who = if place == 0 { "server:" } else { "" };
            let times = if *times == 1 { String::new() } else { format!(", {times} times") };
            self.aside(&format!("{who:7} {answer}{times}"))?;
        }
        if more > 0 { self.aside(&format!("{:7} and {more} more", "")) } else { Ok(()) }
    }

    /// What a command said, and its exit code.
    pub(super) fn said(&mut self, text: &str, code: i32) -> Result<()> {
        self.log(text)?;
        if code == 0 {
            return Ok(());
        }
        let code = self.painted(RED, &format!("exit code {code}"));
        self.line(&format!("   │ {code}"))
    }

    /// What the agent said or logged.
    pub(super) fn log(&mut self, text: &str) -> Result<()> {
        for line in text.lines().take(MAX_SAID_LINES) {
            self.line(&format!("   │ {line}"))?;
        }
        match text.lines().count().saturating_sub(MAX_SAID_LINES) {
            0 => Ok(()),
            more => self.line(&format!("   │ and {more} more lines")),
        }
    }

    /// A line of the summary: a number, and whether it is as it should be.
    pub(super) fn result(&mut self, name: &str, number: usize, good: bool) -> Result<()> {
        let number = self.painted(if good { GREEN } else { RED }, &format!("{number:>6}"));
        let mark = if good { "" } else { "   ← this should not be" };
        self.line(&format!("   {name:12}{number}{mark}"))
    }

    /// The heading of the summary.
    pub(super) fn heading(&mut self, text: &str) -> Result<()> {
        let heading = self.painted(BOLD, text);
        self.line(&format!("\n{heading}"))
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn field(op: &StoredOp) -> &str {
    op.field.as_deref().unwrap_or_default()
}

/// Microseconds, as people read them.
pub(super) fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03} ms", microseconds / 1000, microseconds % 1000)
}

/// Paths and hashes are long; their end tells them apart.
fn shortened(text: &str) -> String {
    const MOST: usize = 12;
    let length = text.chars().count();
    if length <= MOST {
        text.to_owned()
    } else {
        format!("…{}", text.chars().skip(length - MOST).collect::<String>())
    }
}

/// Status, and what became of the ops: "200: 5 ops, 2 new".
fn answer(exchange: &Exchange) -> String {
    let status = exchange.status.map_or_else(|| "cut".to_owned(), |status| status.to_string());
    let (ops, new) = (exchange.request.ops(), exchange.stored);
    let plural = if ops == 1 { "" } else { "s" };
    format!("{status}: {ops} op{plural}, {new} new")
}

fn wrapped(sentence: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
