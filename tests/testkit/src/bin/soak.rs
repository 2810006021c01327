//! App, agent and server for as long as told, with faults: figures as it goes, a verdict at the end.
//!
//! `cargo build --release && cargo run --release -p testkit --bin soak -- --minutes 30 --rate 50 --seed 7`

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use testkit::args::Args;
use testkit::soak::{self, Options};
use testkit::{Error, Result};

const USAGE: &str = "soak [--minutes 30] [--rate 50 (ops a second)] [--seed 7] [--fault-every 1s] [--agent PATH] \
                     [--dir DIRECTORY (must not be there; kept where the run is not clean)]";

/// A line of figures.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// When nothing goes wrong any more, everything arrives within this: a queue that waits longer is stuck.
const PATIENCE: Duration = Duration::from_secs(100);

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let args = Args::parse(std::env::args().skip(1), &["minutes", "rate", "seed", "fault-every", "agent", "dir"], &[])?;
    if !args.words.is_empty() {
        return Err(Error::other("there is a word too many"));
    }
    let rate: f64 = args.get("rate", 50.0)?;
    let minutes: f64 = args.get("minutes", 30.0)?;
    let time =
        Duration::try_from_secs_f64(minutes * 60.0).map_err(|_| Error::other("so many minutes make no sense"))?;
    if !rate.is_finite() || rate <= 0.0 {
        return Err(Error::other("that rate makes no sense"));
    }
    let seed = args.get("seed", 7)?;
    let fault_every = pace(args.text("fault-every").unwrap_or("1s"))?;
    let agent = agent(args.text("agent"))?;
    let home = match args.text("dir") {
        Some(dir) => PathBuf::from(dir),
        None => std::env::temp_dir().join(format!("waveflow-soak-{}", std::process::id())),
    };
    // The agent keeps its socket only where nobody else gets at it.
    DirBuilder::new().mode(0o700).create(&home)?;
    let home = fs::canonicalize(home)?;
    let options = Options { agent, home, time, rate, seed, fault_every, line_every: LINE_EVERY, patience: PATIENCE };
    let outcome = soak::run(&options, &mut std::io::stdout())
        .map_err(|error| Error::other(format!("seed {seed}, see {}: {error}", options.home.display())))?;
    if outcome.is_clean() {
        fs::remove_dir_all(&options.home)?;
    }
    Ok(outcome.is_clean())
}

/// `1s`, `0.5s`, `200ms`.
fn pace(text: &str) -> Result<Duration> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 0.001),
        (None, Some(number)) => (number, 1.0),
        (None, None) => (text, 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit).filter(|seconds| *seconds > 0.0);
    let pace = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    pace.ok_or_else(|| Error::other(format!("--fault-every {text} makes no sense")))
}

/// The one that is named, or the one cargo puts beside this program.
fn agent(named: Option<&str>) -> Result<PathBuf> {
    let program = match named {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.parent().unwrap_or(Path::new(".")).join("waveflow-sync-agent"),
    };
    fs::canonicalize(&program).map_err(|error| {
        let path = program.display();
        Error::other(format!("{path}: {error}; `cargo build` makes it, with --release where this was run with it"))
    })
}
