//! Who drains a full queue how fast, and what it costs the machine.
//!
//! What must always hold: everybody gets the same queue, the same server, and the same two cores; the rounds are
//! interleaved, so that a slow minute of the machine is everybody's; who does not deliver everything, once and in order,
//! has no figure.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{Error, Result};

use super::echo::Echo;
use super::ground::{Install, Original};
use super::loops::{LOOPS, Loop, REFERENCE};
use super::numbers::median;
use super::process::{Cost, measure};
use super::results::{AGENT, Contest, Setting};

/// Longer than any drain; `once` gives up then.
const WAIT: &str = "280s";
/// How far away the server of [`Setting::Far`] is.
const FAR: Duration = Duration::from_millis(20);
/// What a user would write instead.
const PYTHON: &str = "`drain.py`, a plain Python loop";
/// See [`PYTHON`].
const SHELL: &str = "`drain.sh`, the sqlite3 shell and curl";

/// Somebody who drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// `waveflow-sync-agent once`.
    Agent,
    /// One of the bare loops.
    Bare(Loop),
    /// `benches/peers/drain.py`.
    Python,
    /// `benches/peers/drain.sh`.
    Shell,
}

impl Contestant {
    /// In the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Agent => AGENT,
            Self::Bare(bare) => bare.name,
            Self::Python => PYTHON,
            Self::Shell => SHELL,
        }
    }

    fn command(self, install: &Install) -> Result<Command> {
        let script = |interpreter: &str, name: &str| {
            let path: &Path = env!("CARGO_MANIFEST_DIR").as_ref();
            let mut command = Command::new(interpreter);
            command.arg(path.join("benches/peers").join(name)).arg(install.data()).arg(install.profile.id.to_string());
            command
        };
        match self {
            Self::Agent => Ok(install.agent(&["once", "--wait", WAIT])),
            Self::Bare(bare) => bare.command(install.data()),
            Self::Python => Ok(script("python3", "drain.py")),
            Self::Shell => Ok(script("sh", "drain.sh")),
        }
    }

    /// Why this one cannot take part here, if it cannot: a word of the program that is missing.
    pub(crate) fn missing(self) -> Option<String> {
        let works = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let fine = command.status().is_ok_and(|status| status.success());
            (!fine).then(|| format!("{}: no {program} here that can do it", self.name()))
        };
        match self {
            Self::Agent | Self::Bare(_) => None,
            Self::Python => works("python3", &["-c", "import sqlite3, http.client"]),
            // JSON functions, and a file read by the shell itself.
            Self::Shell => {
                works("sqlite3", &[":memory:", "SELECT json_object('read', CAST(readfile('/dev/null') AS TEXT))"])
                    .or_else(|| works("curl", &["--version"]))
            }
        }
    }
}

/// Who takes part in a setting.
pub(crate) fn contestants(setting: Setting) -> Vec<Contestant> {
    match setting {
        Setting::Near => {
            let bare = LOOPS.into_iter().map(Contestant::Bare);
            [Contestant::Agent].into_iter().chain(bare).chain([Contestant::Python, Contestant::Shell]).collect()
        }
        Setting::Many | Setting::Far => vec![Contestant::Agent, Contestant::Bare(REFERENCE)],
    }
}

/// Holds the contest of a setting. The shell gets the short queue: it would take minutes over the other.
pub(crate) fn contest(
    setting: Setting,
    who: &[Contestant],
    queue: &Original,
    short: Option<&Original>,
    rounds: usize,
) -> Result<Vec<Contest>> {
    let delay = if setting == Setting::Far { FAR } else { Duration::ZERO };
    let server = Echo::start(delay)?;
    let mut costs: Vec<(Vec<Cost>, usize)> = vec![(Vec::new(), 0); who.len()];
    let queue_of = |who: Contestant| if who == Contestant::Shell { short.unwrap_or(queue) } else { queue };
    for _ in 0..rounds {
        for (contestant, (costs, requests)) in who.iter().zip(&mut costs) {
            let (cost, sent) = run(*contestant, queue_of(*contestant), &server)
                .map_err(|error| Error::other(format!("{}: {error}", contestant.name())))?;
            costs.push(cost);
            *requests = sent;
        }
    }
    let sum_up = |(who, (costs, requests)): (&Contestant, &(Vec<Cost>, usize))| Contest {
        setting,
        contestant: who.name().to_owned(),
        ops: queue_of(*who).ids.len(),
        rounds,
        requests: *requests,
        seconds: median(&costs.iter().map(|cost| cost.took).collect::<Vec<_>>()).unwrap_or_default().as_secs_f64(),
        processor_s: middle(costs, |cost| cost.processor).map(|time| time.as_secs_f64()),
        // Of a shell it would be its own alone, and not that of the programs it starts.
        peak_kb: if *who == Contestant::Shell { None } else { costs.iter().filter_map(|cost| cost.peak_kb).max() },
        written: middle(costs, |cost| cost.written),
    };
    Ok(who.iter().zip(&costs).map(sum_up).collect())
}

fn middle<T: Ord + Copy>(costs: &[Cost], of: impl Fn(&Cost) -> Option<T>) -> Option<T> {
    median(&costs.iter().filter_map(of).collect::<Vec<_>>())
}

/// One drain of one contestant; what it cost, and how many requests it took.
fn run(who: Contestant, queue: &Original, server: &Echo) -> Result<(Cost, usize)> {
    let install = queue.copy(server)?;
    server.take();
    let cost = measure(&mut who.command(&install)?)?;
    let ledger = server.take();
    install.verify(&queue.ids, &ledger.ids)?;
    // So that the disk is not busy with one's remains while the next one runs.
    fs::remove_dir_all(install.data())?;
    Ok((cost, ledger.requests.len()))
}
