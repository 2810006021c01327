//! Eight connections at once: nothing is missed, and nothing is left behind.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::common::{Agent, OP, Program, Stage, eventually, python, shell, valgrind, with_sqlx};

const COMMITS: usize = 100_000;
/// Valgrind is fifty times slower.
const UNDER_VALGRIND: usize = 2_000;
/// How valgrind says that it found something.
const FOUND: i32 = 99;

/// What the program with sqlx says at its end about its descriptors.
fn kept_none(said: &str) -> bool {
    let mut numbers = said.split(|letter: char| !letter.is_ascii_digit()).filter(|word| !word.is_empty());
    numbers.next().is_some_and(|before| Some(before) == numbers.next())
}

#[test]
fn of_a_hundred_thousand_commits_of_eight_connections_none_is_missed_and_no_descriptor_is_kept() {
    let stage = Stage::new();
    let agent = Agent::start(&stage);
    let before = agent.descriptors();
    let mut command = with_sqlx(&stage);
    command.args([&COMMITS.to_string(), OP]);
    let began = Instant::now();
    let mut program = Program::start(command);
    let said = program.says();
    assert!(program.ends_well());
    println!("{COMMITS} commits in {:?}; {said}", began.elapsed());
    assert!(kept_none(&said), "{said}");
    assert!(stage.stores(COMMITS), "{} came", stage.server.stats().stored);
    println!("all at the server after {:?}", began.elapsed());
    eventually("the queue is empty", || stage.profile.pending_count().unwrap() == 0);
    eventually("the agent has let go of what it had open", || agent.descriptors() <= before);
}

/// The command under valgrind, which fails where memory is misused, lost or left, or a descriptor is.
fn watched(stage: &Stage, command: &Command, valgrind: &std::path::Path) -> Command {
    let mut watched = Command::new(valgrind);
    stage.environment(&mut watched);
    watched.arg(format!("--error-exitcode={FOUND}"));
    watched.args(["--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect", "--track-fds=yes"]);
    watched.arg(command.get_program()).args(command.get_args());
    watched
}

#[test]
fn valgrind_finds_nothing_in_a_program_with_sqlx() {
    let Some(valgrind) = valgrind() else {
        println!("skipped: there is no valgrind here");
        return;
    };
    let stage = Stage::new();
    let _agent = Agent::start(&stage);
    let mut command = with_sqlx(&stage);
    command.args([&UNDER_VALGRIND.to_string(), OP]);
    let ran = watched(&stage, &command, &valgrind).stdin(Stdio::null()).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert!(kept_none(&String::from_utf8_lossy(&ran.stdout)), "{ran:?}");
    assert!(stage.stores(UNDER_VALGRIND));
}

#[test]
fn valgrind_finds_nothing_in_programs_that_load_the_extension() {
    let Some(valgrind) = valgrind() else {
        println!("skipped: there is no valgrind here");
        return;
    };
    for (name, found) in [("sqlite3", shell as fn(&Stage) -> Option<Command>), ("python3", python)] {
        let stage = Stage::new();
        let Some(command) = found(&stage) else {
            println!("skipped: there is no {name} here that loads extensions");
            continue;
        };
        let _agent = Agent::start(&stage);
        let mut program = Program::start(watched(&stage, &command, &valgrind));
        for number in 1..=20 {
            program.run(OP);
            assert!(stage.stores(number), "{name}");
        }
        assert!(program.ends_well(), "{name}: see above");
    }
}
