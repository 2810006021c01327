//! The soak, for seconds instead of half an hour: so that it is there when somebody needs it.

use std::time::Duration;

use testkit::soak::{self, Options};

/// Its last part is free of kills, and everything has to arrive: a loaded machine takes longer.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn app_agent_and_server_live_through_everything_at_once() {
    let home = tempfile::tempdir().unwrap();
    let options = Options {
        agent: env!("CARGO_BIN_EXE_waveflow-sync-agent").into(),
        home: home.path().canonicalize().unwrap(),
        time: Duration::from_secs(15),
        rate: 40.0,
        seed: 5,
        fault_every: Duration::from_millis(300),
        line_every: Duration::from_secs(5),
        patience: PATIENCE,
    };
    let mut report = Vec::new();
    let outcome = soak::run(&options, &mut report);
    let report = String::from_utf8(report).unwrap();
    let outcome = outcome.unwrap_or_else(|error| panic!("seed {}: {error}\n{report}", options.seed));
    let log = std::fs::read_to_string(home.path().join("agent.log")).unwrap();
    assert!(outcome.is_clean(), "{report}\n{log}");
    // It has to have been hard.
    assert!(outcome.tally.committed > 200 && outcome.kills > 0 && outcome.faults > 5, "{report}");
    assert!(report.lines().any(|line| line.starts_with("clean: ")), "{report}");
}
