//! From the statement to the server, in each way an app may have the hook.
//!
//! What must always hold: both ends are told by one clock; what was measured is printed.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Agent, OP, Program, SOON, Stage, install, percentile, python, shell, with_sqlx};

/// Commits that are measured.
const COMMITS: usize = 200;
/// Slow enough for one to be settled when the next one comes, which would wait for it.
const PACE: Duration = Duration::from_millis(20);
/// The promise, for the median.
const MEDIAN: Duration = Duration::from_millis(2);
/// Where the machine does much else, a question and its answer take long, and an op in proportion. Elsewhere they take 0.06 ms.
const PINGS: u32 = 15;

/// `commit` commits an op, or has it committed.
fn measure(name: &str, stage: &Stage, agent: &Agent, mut commit: impl FnMut()) {
    let (mut taken, mut pings) = (Vec::new(), Vec::new());
    // The first one is not counted: connections are made for it.
    let start = Instant::now();
    for number in 0..=COMMITS {
        let due = start + PACE * u32::try_from(number).unwrap();
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let began = Instant::now();
        assert_eq!(agent.ask("ping").unwrap()["pong"], true);
        pings.push(began.elapsed());
        let began = Instant::now();
        commit();
        assert!(stage.stores(number + 1), "{name}: op {number} did not come within {SOON:?}");
        taken.push(began.elapsed());
    }
    let taken = &taken[1..];
    let (median, late, most) = (percentile(taken, 50), percentile(taken, 99), percentile(taken, 100));
    let ping = percentile(&pings, 50);
    println!("{name}: from statement to server: median {median:?}, p99 {late:?}, most {most:?}; a ping {ping:?}");
    assert!(median <= MEDIAN.max(PINGS * ping), "{name}: median {median:?}, a ping {ping:?}");
}

fn measure_program(name: &str, stage: &Stage, agent: &Agent, command: std::process::Command) {
    let mut program = Program::start(command);
    measure(name, stage, agent, || program.run(OP));
    assert!(program.ends_well(), "{name}");
}

#[test]
fn an_op_of_the_sqlite3_shell_is_at_the_server_at_once() {
    let stage = Stage::new();
    let Some(command) = shell(&stage) else {
        println!("skipped: there is no sqlite3 here");
        return;
    };
    let agent = Agent::start(&stage);
    measure_program("shell", &stage, &agent, command);
}

#[test]
fn an_op_of_a_python_program_is_at_the_server_at_once() {
    let stage = Stage::new();
    let Some(command) = python(&stage) else {
        println!("skipped: there is no python3 here whose sqlite3 module loads extensions");
        return;
    };
    let agent = Agent::start(&stage);
    measure_program("python", &stage, &agent, command);
}

#[test]
fn an_op_of_a_program_with_rusqlite_is_at_the_server_at_once() {
    let stage = Stage::new();
    let agent = Agent::start(&stage);
    let app = stage.profile.open().unwrap();
    install(app.connection(), agent.socket());
    measure("rusqlite", &stage, &agent, || app.connection().execute_batch(OP).unwrap());
}

#[test]
fn an_op_of_a_program_with_sqlx_is_at_the_server_at_once() {
    let stage = Stage::new();
    let agent = Agent::start(&stage);
    measure_program("sqlx", &stage, &agent, with_sqlx(&stage));
}

#[test]
fn an_op_whose_statement_is_not_run_to_its_end_is_at_the_server_at_once() {
    let stage = Stage::new();
    let agent = Agent::start(&stage);
    let app = stage.profile.open().unwrap();
    install(app.connection(), agent.socket());
    let returning = OP.replace("BEGIN IMMEDIATE;", "").replace("; COMMIT;", " RETURNING id");
    let (clock, insert) = returning.split_once(';').unwrap();
    measure("INSERT … RETURNING", &stage, &agent, || {
        app.connection().execute(clock, []).unwrap();
        // One row, and a reset.
        let _id: i64 = app.connection().query_row(insert, [], |row| row.get(0)).unwrap();
    });
}
