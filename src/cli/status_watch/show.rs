//! Where the status is shown as it changes.
//!
//! What must always hold: into a pipe goes what changed, and not that time passes; that its reader has left is noticed where
//! nothing changes, too: a script that waits for a state leaves when it has come.

use std::io::{self, Stdout, Write as _};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Known;
use crate::clock;
use crate::config::Environment;
use crate::screen::overview::{self, View};
use crate::screen::terminal::{self, Screen};
use crate::status::timestamp;

/// The most that an eye sees of it.
const ON_SCREEN: Duration = Duration::from_millis(250);
/// A log has a line a second at the most.
const IN_LOG: Duration = Duration::from_secs(1);
/// These change by themselves.
const CLOCKS: [&str; 2] = ["oldest_pending_s", "next_attempt_in_s"];

pub(super) enum Show {
    /// `None`: given back for a while.
    Screen(Option<Screen<Stdout>>),
    Log {
        json: bool,
        last: Option<Value>,
    },
}

impl Show {
    pub(super) fn new(json: bool, env: &Environment) -> io::Result<Self> {
        if json || !terminal::moves_cursor(&io::stdout(), env) {
            return Ok(Self::Log { json, last: None });
        }
        Screen::enter(io::stdout()).map(|screen| Self::Screen(Some(screen)))
    }

    /// How much time lies between two pictures at the least.
    pub(super) fn pace(&self) -> Duration {
        match self {
            Self::Screen(_) => ON_SCREEN,
            Self::Log { .. } => IN_LOG,
        }
    }

    /// Shows it, if it is not what is shown.
    pub(super) fn update(&mut self, known: &Known, env: &Environment) -> io::Result<()> {
        match self {
            Self::Screen(screen) => {
                let size = terminal::size(io::stdout());
                let usual = super::super::status::view(size, "", env);
                // See `Screen::draw` for the last column.
                let view = View { columns: usual.columns.saturating_sub(1), ..seen(&usual, known) };
                let lines = overview::lines(&known.answer.value, &view);
                screen.as_mut().map_or(Ok(()), |screen| screen.draw(&lines))
            }
            Self::Log { json, last } => {
                let news = timeless(known);
                if last.as_ref() == Some(&news) {
                    let deserted = terminal::is_deserted(io::stdout());
                    return if deserted { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) };
                }
                *last = Some(news);
                let text = if *json { line(known) } else { block(known, env) };
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes())?;
                stdout.flush()
            }
        }
    }

    /// Another size: nobody knows what is on the screen.
    pub(super) fn resize(&mut self) {
        if let Self::Screen(Some(screen)) = self {
            screen.forget();
        }
    }

    /// The terminal is the shell's for a while.
    pub(super) fn pause(&mut self) {
        if let Self::Screen(screen) = self {
            *screen = None;
        }
    }

    pub(super) fn resume(&mut self) -> io::Result<()> {
        if let Self::Screen(screen) = self {
            *screen = Some(Screen::enter(io::stdout())?);
        }
        Ok(())
    }
}

fn seen<'a>(usual: &View<'a>, known: &Known) -> View<'a> {
    let now = Instant::now();
    View { elapsed: now - known.at, gone: known.gone.map(|gone| now - gone), ..usual.clone() }
}

/// What is news if it changes.
fn timeless(known: &Known) -> Value {
    let mut value = known.answer.value.clone();
    value["uptime_s"] = Value::Null;
    for profile in value["profiles"].as_array_mut().into_iter().flatten() {
        for clock in CLOCKS {
            profile[clock] = Value::Null;
        }
    }
    json!([value, known.gone.is_some()])
}

/// A document. Where there is no daemon, the one that every command has for that.
fn line(known: &Known) -> String {
    if known.gone.is_some() {
        let message = "the agent went away; waiting for it to come back";
        return format!("{}\n", json!({"error": {"code": "no_daemon", "message": message}}));
    }
    format!("{}\n", known.answer.line)
}

fn block(known: &Known, env: &Environment) -> String {
    let view = seen(&super::super::status::view(None, "", env), known);
    format!("{}\n{}\n", timestamp(clock::now_ms()), overview::text(&known.answer.value, &view))
}
