//! What is asked for on the command line, and how large it is then.
//!
//! What must always hold: what goes into the README is measured by all of the bench at its full size, in one run.

use std::time::Duration;

use testkit::{Error, Result};

/// The parts of the bench.
pub(crate) const PARTS: [&str; 6] =
    ["throughput-100k", "throughput-1m", "throughput-20ms", "delay", "neighbour", "footprint"];

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Parts of names; empty: everything.
    wanted: Vec<String>,
    /// How large.
    pub(crate) scale: Scale,
    /// Into the README.
    pub(crate) write: bool,
    /// Nothing is measured; what the last whole run left is shown.
    pub(crate) again: bool,
}

impl Options {
    /// Reads the arguments behind the program's name. cargo adds `--bench`; without it this is `cargo test`, which wants
    /// to see that everything still works, and may add whatever its other programs know.
    pub(crate) fn of(arguments: &[String]) -> Result<Self> {
        let mut options = Self { wanted: Vec::new(), scale: Scale::FULL, write: false, again: false };
        if !arguments.iter().any(|argument| argument == "--bench") {
            return Ok(Self { scale: Scale::SMOKE, ..options });
        }
        for argument in arguments {
            match argument.as_str() {
                "--bench" => {}
                "--quick" => options.scale = Scale::QUICK,
                "--write" => options.write = true,
                "--again" => options.again = true,
                part if PARTS.iter().any(|known| known.contains(part)) => options.wanted.push(part.to_owned()),
                other => {
                    let parts = PARTS.join(", ");
                    let words =
                        format!("{other}? Known are --quick, --write, --again, and parts of these names: {parts}");
                    return Err(Error::other(words));
                }
            }
        }
        if (options.write || options.again) && !options.is_complete() {
            return Err(Error::other("--write and --again are about the whole bench at its full size"));
        }
        Ok(options)
    }

    /// Whether this part is asked for.
    pub(crate) fn wants(&self, part: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| part.contains(wanted.as_str()))
    }

    /// Whether this is `cargo test`.
    pub(crate) fn is_smoke(&self) -> bool {
        self.scale == Scale::SMOKE
    }

    /// Whether everything is asked for, at its full size.
    pub(crate) fn is_complete(&self) -> bool {
        self.wanted.is_empty() && self.scale == Scale::FULL
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Ops in a full queue.
    pub(crate) ops: usize,
    /// Ops in a very full one.
    pub(crate) many: usize,
    /// Ops in the one that the shell gets.
    pub(crate) short: usize,
    /// How often a full queue is drained by each.
    pub(crate) rounds: usize,
    /// Commits a second, and how many.
    pub(crate) rates: [(u32, usize); 3],
    /// How often the daemon drains beside the app.
    pub(crate) drains: usize,
    /// How often the reference does, which takes longer.
    pub(crate) reference_drains: usize,
    /// How long the app is watched alone.
    pub(crate) alone: Duration,
    /// How long the daemon is watched at rest.
    pub(crate) rest: Duration,
    /// Whether it is waited for until it rests.
    pub(crate) settle: bool,
    /// Starts.
    pub(crate) starts: usize,
}

impl Scale {
    /// What the figures are made of.
    pub(crate) const FULL: Self = Self {
        ops: 100_000,
        many: 1_000_000,
        short: 10_000,
        rounds: 3,
        rates: [(1, 60), (10, 300), (100, 1000)],
        drains: 10,
        reference_drains: 4,
        alone: Duration::from_secs(5),
        rest: Duration::from_secs(30),
        settle: true,
        starts: 10,
    };

    /// A try-out: a minute, and figures that say little.
    pub(crate) const QUICK: Self = Self {
        ops: 20_000,
        many: 100_000,
        short: 2_000,
        rounds: 1,
        rates: [(1, 5), (10, 50), (100, 200)],
        drains: 3,
        reference_drains: 1,
        alone: Duration::from_secs(1),
        rest: Duration::from_secs(5),
        starts: 3,
        ..Self::FULL
    };

    /// A look whether everything works: some seconds, and no figures.
    pub(crate) const SMOKE: Self = Self {
        ops: 2_000,
        many: 4_000,
        short: 300,
        rounds: 1,
        rates: [(10, 3), (50, 10), (100, 20)],
        drains: 1,
        reference_drains: 1,
        alone: Duration::from_millis(50),
        rest: Duration::from_millis(100),
        settle: false,
        starts: 1,
    };
}
