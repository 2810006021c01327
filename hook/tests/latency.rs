//! From the statement to the server, in each way an app may have the hook.
//!
//! What must always hold: both ends are told by one clock; what was measured is printed.

use std::time::{Duration, Instant};

use crate::common::{Agent, OP, Program, SOON, Stage, percentile, python, shell, with_sqlx};

/// Commits that are measured.
const COMMITS: usize = 200;
/// The promise, for the median.
const MEDIAN: Duration = Duration::from_millis(2);

/// `commit` commits an op, or has it committed.
fn measure(name: &str, stage: &Stage, mut commit: impl FnMut()) {
    let mut taken = Vec::new();
    // The first one is not counted: connections are made for it.
    for number in 0..=COMMITS {
        let began = Instant::now();
        commit();
        assert!(stage.stores(number + 1), "{name}: op {number} did not come within {SOON:?}");
        taken.push(began.elapsed());
    }
    let taken = &taken[1..];
    let (median, late, most) = (percentile(taken, 50), percentile(taken, 99), percentile(taken, 100));
    println!("{name}: from statement to server: median {median:?}, p99 {late:?}, most {most:?}");
    assert!(median <= MEDIAN, "{name}: median {median:?}");
}

fn measure_program(name: &str, stage: &Stage, command: std::process::Command) {
    let mut program = Program::start(command);
    measure(name, stage, || program.run(OP));
    assert!(program.ends_well(), "{name}");
}

#[test]
fn an_op_of_the_sqlite3_shell_is_at_the_server_at_once() {
    let stage = Stage::new();
    let Some(command) = shell(&stage) else {
        println!("skipped: there is no sqlite3 here");
        return;
    };
    let _agent = Agent::start(&stage);
    measure_program("shell", &stage, command);
}

#[test]
fn an_op_of_a_python_program_is_at_the_server_at_once() {
    let stage = Stage::new();
    let Some(command) = python(&stage) else {
        println!("skipped: there is no python3 here whose sqlite3 module loads extensions");
        return;
    };
    let _agent = Agent::start(&stage);
    measure_program("python", &stage, command);
}

#[test]
fn an_op_of_a_program_with_rusqlite_is_at_the_server_at_once() {
    let stage = Stage::new();
    let agent = Agent::start(&stage);
    let app = stage.profile.open().unwrap();
    // SAFETY: the connection is open, and used here alone.
    unsafe { waveflow_sync_hook::install_at(app.connection().handle().cast(), agent.socket()) }.unwrap();
    measure("rusqlite", &stage, || app.connection().execute_batch(OP).unwrap());
}

#[test]
fn an_op_of_a_program_with_sqlx_is_at_the_server_at_once() {
    let stage = Stage::new();
    let _agent = Agent::start(&stage);
    measure_program("sqlx", &stage, with_sqlx(&stage));
}
