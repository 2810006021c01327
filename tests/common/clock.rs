//! What the agent takes for the time: a file that a debug build looks into (`src/clock.rs`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use testkit::time;

use super::{Stage, command};

/// Names the file.
const OFFSET_IN: &str = "WAVEFLOW_SYNC_AGENT_CLOCK_OFFSET_IN";

/// A wall clock that can be set.
pub(crate) struct Clock {
    path: PathBuf,
}

impl Clock {
    pub(crate) fn new(stage: &Stage) -> Self {
        let clock = Self { path: stage.home().join("offset") };
        clock.jump(0);
        clock
    }

    /// From here on it is off by so much; what time that is, in ms since the epoch.
    pub(crate) fn jump(&self, offset: i64) -> i64 {
        let new = self.path.with_extension("new");
        fs::write(&new, offset.to_string()).unwrap();
        fs::rename(new, &self.path).unwrap();
        (time::now_ms() + offset).max(0)
    }

    /// The agent, by this clock.
    pub(crate) fn command(&self, stage: &Stage) -> Command {
        let mut command = command(stage.home());
        command.env(OFFSET_IN, &self.path);
        command
    }
}
