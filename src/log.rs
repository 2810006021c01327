//! Logging: events for people as text, for programs as JSON, always on stderr (stdout belongs to the answer).
//!
//! What must always hold: our own events obey the level; what libraries say is shown from `warn` up at the most, since
//! a library's debug output may quote a request.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::config::Environment;
use crate::config::values::Choice;

/// The target of all our own events begins with this.
const OURS: &str = env!("CARGO_CRATE_NAME");

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What stopped something.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happened.
    Info,
    /// Why it happened.
    Debug,
    /// Every step.
    Trace,
}

impl Choice for Level {
    const ALL: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

/// How it is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl Choice for Format {
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// Whether stderr is the journal's.
static IN_JOURNAL: OnceLock<bool> = OnceLock::new();

/// Looks where stderr goes, for the rest of the process.
pub fn note_journal(env: &Environment) {
    let stderr = rustix::fs::fstat(io::stderr()).ok().map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    IN_JOURNAL.get_or_init(|| is_journal(stderr.as_deref(), env));
}

fn is_in_journal() -> bool {
    IN_JOURNAL.get().is_some_and(|is| *is)
}

/// What stands before a line about a failure that is no event: in the journal, its priority.
pub fn error_prefix() -> String {
    if is_in_journal() { format!("<{}>", priority(tracing::Level::ERROR)) } else { String::new() }
}

/// Starts logging to stderr, for the rest of the process. Where somebody else already did, theirs stays.
pub fn start(level: Level, format: Format, env: &Environment) {
    let style = match format {
        Format::Json if is_in_journal() => Style::JournalJson,
        Format::Json => Style::Json,
        Format::Text if is_in_journal() => Style::Journal,
        Format::Text => Style::Text { colour: is_coloured(io::stderr().is_terminal(), env) },
    };
    // The only error is that there is a subscriber already, and then there is logging.
    let _ = tracing::subscriber::set_global_default(subscriber(level, style, io::stderr));
}

/// <https://no-color.org>: set and not empty means no colour. A dumb terminal (an editor's, as a rule) would show the codes.
pub fn is_coloured(terminal: bool, env: &Environment) -> bool {
    terminal && env.get("NO_COLOR").is_none() && env.get("TERM").is_none_or(|term| term != "dumb")
}

/// Whether stderr (`device:inode`) is the journal's: systemd names it so, and a redirected stderr has another.
fn is_journal(stderr: Option<&str>, env: &Environment) -> bool {
    stderr.is_some() && env.get("JOURNAL_STREAM").and_then(|value| value.to_str()) == stderr
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Text { colour: bool },
    Json,
    Journal,
    JournalJson,
}

fn subscriber<W>(level: Level, style: Style, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let others = Level::Warn.min(level);
    let filter = Targets::new().with_default(LevelFilter::from(others)).with_target(OURS, LevelFilter::from(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match style {
        Style::Text { colour } => lines.with_ansi(colour).with_filter(filter).boxed(),
        Style::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        Style::Journal => lines.with_ansi(false).event_format(Prioritised(Bare)).with_filter(filter).boxed(),
        Style::JournalJson => {
            lines.json().flatten_event(true).map_event_format(Prioritised).with_filter(filter).boxed()
        }
    };
    Registry::default().with(layer)
}

/// A line for the journal, which takes the priority from a prefix and removes it (`sd-daemon(3)`).
struct Prioritised<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// The fields alone: the journal keeps time and name itself.
struct Bare;

impl<S, N> FormatEvent<S, N> for Bare
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Syslog's numbers.
fn priority(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 3,
        tracing::Level::WARN => 4,
        tracing::Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::Platform;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const PLAIN: Style = Style::Text { colour: false };

    fn logged(level: Level, style: Style) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        tracing::subscriber::with_default(subscriber(level, style, move || writer.clone()), || {
            tracing::info!(profile = 1, "ours at info");
            tracing::debug!("ours at debug");
            tracing::info!(target: "hyper", "theirs at info");
            tracing::warn!(target: "hyper", "theirs at warn");
            tracing::error!(target: "hyper", "theirs at error");
        });
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_level_is_for_our_own_events_and_libraries_are_quiet() {
        for (level, expected) in [
            (Level::Error, vec!["theirs at error"]),
            (Level::Info, vec!["ours at info", "theirs at warn", "theirs at error"]),
            (Level::Trace, vec!["ours at info", "ours at debug", "theirs at warn", "theirs at error"]),
        ] {
            let text = logged(level, PLAIN);
            assert_eq!(text.lines().count(), expected.len(), "{level:?}: {text}");
            assert!(text.lines().zip(expected).all(|(line, end)| line.contains(end)), "{level:?}: {text}");
        }
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = logged(Level::Info, Style::Json);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&first["message"], &first["profile"]), (&"ours at info".into(), &1.into()));
    }

    #[test]
    fn colour_is_for_terminals_of_people_who_did_not_say_no() {
        assert!(!logged(Level::Info, PLAIN).contains('\u{1b}'));
        assert!(logged(Level::Info, Style::Text { colour: true }).contains('\u{1b}'));
        let env = |name, value| Environment::new(Platform::Linux, Path::new("/"), [(name, value)]);
        assert!(is_coloured(true, &env("NO_COLOR", "")));
        assert!(!is_coloured(true, &env("NO_COLOR", "1")));
        assert!(!is_coloured(false, &env("NO_COLOR", "")));
        assert!(is_coloured(true, &env("TERM", "xterm")));
        assert!(!is_coloured(true, &env("TERM", "dumb")));
    }

    #[test]
    fn the_journal_gets_a_priority_and_no_time() {
        let text = logged(Level::Debug, Style::Journal);
        let starts: Vec<&str> = text.lines().map(|line| &line[..3]).collect();
        assert_eq!(starts, ["<6>", "<7>", "<4>", "<3>"]);
        assert!(text.starts_with("<6>ours at info profile=1\n"), "{text}");
        let text = logged(Level::Debug, Style::JournalJson);
        let (first, rest) = text.split_once('\n').unwrap();
        let value: serde_json::Value = serde_json::from_str(first.strip_prefix("<6>").unwrap()).unwrap();
        assert_eq!(value["message"], "ours at info");
        assert!(rest.starts_with("<7>{"), "{text}");
    }

    #[test]
    fn only_the_stream_that_systemd_named_is_the_journals() {
        let env = Environment::new(Platform::Linux, Path::new("/"), [("JOURNAL_STREAM", "8:1234")]);
        assert!(is_journal(Some("8:1234"), &env));
        assert!(!is_journal(Some("8:99"), &env));
        assert!(!is_journal(None, &Environment::new(Platform::Linux, Path::new("/"), [])));
    }
}
