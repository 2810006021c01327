//! The command line: one file for each command, and the definition they are parsed by.
//!
//! What must always hold: stdout carries the answer and nothing else (with `--json` exactly one document), stderr
//! carries the rest; a command that is not built yet is not in the definition. Help, completions, the manual and README's
//! table say what is written here and nothing else.

mod check_config;
mod completions;
mod daemon;
mod doctor;
mod drain;
mod manual;
mod once;
pub mod outcome;
mod queue;
#[cfg(test)]
mod readme_tests;
mod roff;
mod service;
mod status;
mod status_watch;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use serde_json::json;

use crate::config::values::Choice;
use crate::config::{self, Environment, Flags};
use crate::daemon::Start;
use crate::exit::Exit;
use crate::log;
use crate::service::activation;

/// Delivers what the `WaveFlow` desktop app has queued to your waveflow-server.
#[derive(Debug, Parser)]
#[command(name = "waveflow-sync-agent", version, about, subcommand_required = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that may stand before or behind every command.
#[derive(Debug, Args)]
struct Global {
    /// Read this configuration file.
    #[arg(long, global = true, value_name = "FILE", value_parser = path_parser(), value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// The desktop app's data directory.
    #[arg(long, global = true, value_name = "DIR", value_parser = path_parser(), value_hint = ValueHint::DirPath)]
    data_dir: Option<PathBuf>,
    /// The agent's control socket.
    #[arg(long, global = true, value_name = "PATH", value_parser = path_parser(), value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
    /// Answer with one JSON document on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// How much to log.
    #[arg(long, global = true, value_name = "LEVEL", value_parser = words::<log::Level>())]
    log_level: Option<String>,
    /// How to log.
    #[arg(long, global = true, value_name = "FORMAT", value_parser = words::<log::Format>())]
    log_format: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Deliver what is queued without a daemon, then print the outcome.
    ///
    /// Every profile is served, with the usual pauses after failures, until nothing is left or `--wait` (default `30s`,
    /// `0` = a single pass) is over.
    Once {
        /// How long to go on trying while something is left to send; 0 is a single pass.
        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = wait)]
        wait: Duration,
    },
    /// Run the daemon, in the foreground.
    ///
    /// It logs to stderr.
    Run,
    /// Ask the running daemon for a pass, wait for it, and print the outcome.
    Drain {
        #[command(subcommand)]
        when: When,
    },
    /// Show how things stand, for the daemon and for each profile.
    ///
    /// Without a daemon: what the files say, and exit code 69. `--watch` keeps it on the screen.
    Status {
        /// Keep it on the screen as it changes, until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Have the daemon read its configuration again, and deliver.
    ///
    /// Exit code 78 if it cannot be taken; then nothing changes.
    Reload,
    /// Stop sending until `resume`, restarts included.
    ///
    /// `once` sends nothing either.
    Pause,
    /// Send again.
    Resume,
    /// Look at operations that were refused or held back, let them go, or delete them.
    Queue {
        #[command(subcommand)]
        what: queue::What,
    },
    /// Print the daemon's counters, as Prometheus reads them.
    Metrics,
    /// Check everything that can be wrong, from the configuration to the server's answer, and say how to mend it.
    ///
    /// It changes nothing, and sends no operation. Exit code 0 only if all is well.
    Doctor,
    /// Read the configuration and print what is in force.
    CheckConfig,
    /// Run the agent as a service of this user: a systemd user unit, or a launchd agent.
    Service {
        #[command(subcommand)]
        what: service::What,
    },
    /// Print what a shell needs to complete this command line.
    Completions {
        /// The shell.
        #[arg(value_parser = PossibleValuesParser::new(completions::NAMES))]
        shell: String,
    },
    // For who makes packages, and therefore in no help: it prints the page that `man` shows.
    #[command(hide = true)]
    Manual,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum When {
    /// Have the daemon deliver at once, for all profiles or one, and wait for the outcome.
    ///
    /// It ends a pause between two tries; on a terminal it shows how far it is.
    Now {
        /// This profile alone.
        profile: Option<i64>,
    },
}

/// What a person is told of: the definition without what is hidden.
fn told() -> clap::Command {
    let all = Cli::command();
    let visible = all.get_subcommands().filter(|command| !command.is_hide_set());
    let about = all.get_about().cloned().unwrap_or_default();
    clap::Command::new(env!("CARGO_PKG_NAME"))
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .disable_help_subcommand(true)
        .args(all.get_arguments())
        .subcommands(visible)
}

/// A path that is at least something.
fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| if path.as_os_str().is_empty() { Err("it is empty") } else { Ok(path) })
}

fn words<T: Choice>() -> PossibleValuesParser {
    PossibleValuesParser::new(T::ALL.iter().map(|(name, _)| *name))
}

/// Whoever wants to wait longer wants the daemon.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A duration with a unit; 0 needs none.
fn wait(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        _ if text == "0" => Ok(Duration::ZERO),
        Ok(wait) if wait <= WAIT_MAX => Ok(wait),
        _ => Err("allowed: 0, or a time up to 1day, as in 30s".to_owned()),
    }
}

/// Parses the command line, runs the command, and says how to end.
pub fn run(arguments: impl IntoIterator<Item = OsString>, env: &Environment) -> Exit {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.run(env),
        Err(error) => {
            // To stdout if it was asked for, else to stderr; with nobody there to read it, nothing is lost.
            let _ = error.print();
            Exit::of_command_line(&error)
        }
    }
}

impl Cli {
    fn run(self, env: &Environment) -> Exit {
        match &self.command {
            // Whoever packages or installs has no configuration yet, or a wrong one.
            Command::Completions { shell } => return completions::run(shell),
            Command::Manual => return answer(&manual::page(), Exit::Done),
            _ => {}
        }
        let json = self.global.json;
        let flags = Flags::from(self.global);
        // Before anything has a thread.
        let inherited = if matches!(self.command, Command::Run) { activation::socket() } else { None };
        log::note_journal(env);
        // A service with a wrong configuration must be there to be removed.
        let unread = |error| match &self.command {
            Command::Service { what: service::What::Uninstall } => config::load_text(&flags, env, None, None),
            _ => Err(error),
        };
        let loaded = match config::load(&flags, env).or_else(unread) {
            Ok(loaded) => loaded,
            Err(error) if inherited.is_some() => {
                // Whoever waits at the socket would have us started again, for ever: he is told instead.
                log::start(log::Level::Info, log::Format::Text, env);
                let config = Err((error.to_string(), Exit::Config));
                return daemon::run(Start { config, flags, env: env.clone(), inherited }, json);
            }
            Err(error) if matches!(self.command, Command::Doctor) => {
                return doctor::without_configuration(&error, json);
            }
            Err(error) => {
                complain(&error.to_string(), "wrong_configuration", json);
                return Exit::Config;
            }
        };
        log::start(loaded.config.log.level, loaded.config.log.format, env);
        match self.command {
            Command::Doctor => doctor::run(&loaded, json, env),
            Command::CheckConfig => check_config::run(&loaded, env, json),
            Command::Run => daemon::run(Start { config: Ok(loaded.config), flags, env: env.clone(), inherited }, json),
            Command::Metrics => daemon::metrics(&loaded.config, json),
            Command::Reload => daemon::reload(&loaded.config, json),
            Command::Drain { when: When::Now { profile } } => drain::run(&loaded.config, profile, json, env),
            Command::Status { watch: false } => status::run(&loaded.config, json, env),
            Command::Status { watch: true } => status_watch::run(&loaded.config, json, env),
            Command::Pause => daemon::pause(&loaded.config, true, json, env),
            Command::Resume => daemon::pause(&loaded.config, false, json, env),
            Command::Queue { what } => queue::run(&loaded.config, what, json),
            Command::Service { what } => service::run(&loaded, &flags, what, json, env),
            Command::Once { wait } => once::run(&loaded.config, wait, json, env),
            Command::Completions { .. } | Command::Manual => Exit::Done,
        }
    }
}

impl From<Global> for Flags {
    fn from(global: Global) -> Self {
        let Global { config, data_dir, socket, json: _, log_level, log_format } = global;
        Self { config, data_dir, socket, log_level, log_format }
    }
}

/// Prints the answer. A reader who left early has what it wanted; any other failure to write turns `exit` into
/// [`Exit::TryLater`].
fn answer(text: &str, exit: Exit) -> Exit {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write the answer: {error}"), "", false);
            Exit::TryLater
        }
        _ => exit,
    }
}

/// Says what went wrong: for people on stderr, and where JSON was asked for as its one document.
fn complain(message: &str, code: &str, json: bool) {
    if json {
        answer(&json!({"error": {"code": code, "message": message}}).to_string(), Exit::Done);
    } else {
        // Nowhere is left to tell that stderr is gone.
        let _ = writeln!(io::stderr(), "{}waveflow-sync-agent: {message}", log::error_prefix());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, Exit> {
        let all = ["waveflow-sync-agent"].iter().chain(arguments);
        Cli::try_parse_from(all).map_err(|error| Exit::of_command_line(&error))
    }

    fn waits(arguments: &[&str]) -> Duration {
        match parse(arguments).unwrap().command {
            Command::Once { wait } => wait,
            other => panic!("not once: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_or_behind_the_command() {
        for arguments in [
            ["--json", "--data-dir", "d", "--log-level", "debug", "check-config"],
            ["check-config", "--json", "--data-dir", "d", "--log-level", "debug"],
        ] {
            let cli = parse(&arguments).unwrap();
            assert!(cli.global.json);
            let flags = Flags::from(cli.global);
            assert_eq!(flags.data_dir, Some("d".into()));
            assert_eq!(flags.log_level.as_deref(), Some("debug"));
        }
    }

    #[test]
    fn a_wait_has_a_unit_unless_it_is_none() {
        assert_eq!(waits(&["once"]), Duration::from_secs(30));
        assert_eq!(waits(&["once", "--wait", "0"]), Duration::ZERO);
        assert_eq!(waits(&["once", "--wait", "0s"]), Duration::ZERO);
        assert_eq!(waits(&["once", "--wait=1m 5s"]), Duration::from_secs(65));
        for wrong in ["30", "", "-1s", "25h", "soon"] {
            assert_eq!(parse(&["once", &format!("--wait={wrong}")]).unwrap_err(), Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn wrong_usage_is_64_and_help_is_no_failure() {
        for wrong in [&[][..], &["fly"], &["help"], &["--colour"], &["once", "x"], &["--socket=", "once"]] {
            assert_eq!(parse(wrong).unwrap_err(), Exit::Usage, "{wrong:?}");
        }
        assert_eq!(parse(&["--log-level", "loud", "once"]).unwrap_err(), Exit::Usage);
        for asked in [&["--help"][..], &["--version"], &["once", "--help"]] {
            assert_eq!(parse(asked).unwrap_err(), Exit::Done, "{asked:?}");
        }
    }
}
