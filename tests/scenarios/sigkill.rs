//! The real binary, ended with SIGKILL at moments that the server and the app's write lock choose.

use std::time::Duration;

use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Fault, Server, Version};

use crate::common::{DEVICE, Stage, assert_delivered};

/// How long the agent may take to get somewhere.
const SOON: Duration = Duration::from_secs(20);
/// Ops in the queue.
const OPS: u64 = 300;
/// Requests a drain takes at least: one conflict, then six batches of 50.
const REQUESTS: usize = 7;

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
    ops: Vec<NewOp>,
}

impl Case {
    fn new(version: Version, largest: bool) -> Self {
        let server = Server::start(version).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        stage.configure_more("[drain]\nbatch_ops = 50\n");
        let profile = stage.profile("Zoë", "alice");
        let ops = NewOp::renames(OPS);
        profile.enqueue(&ops).unwrap();
        let taken = (1..=500).chain(largest.then_some(i64::MAX));
        server.model(|model| model.take_stamps("alice", DEVICE, taken));
        Self { server, stage, profile, ops }
    }

    /// The request number `number`, from 1, meets `fault`.
    fn at(&self, number: usize, fault: Fault) {
        let mut count = 0;
        self.server.script(move |_| {
            count += 1;
            (count == number).then(|| fault.clone())
        });
    }

    /// Runs it again, with what the app has queued meanwhile.
    fn finish(mut self, what: &str) {
        self.server.release();
        self.server.clear_faults();
        let more = NewOp::renames(2);
        self.profile.enqueue(&more).unwrap();
        self.ops.extend(more);
        let run = self.stage.once("20s");
        assert_eq!(run.code, Some(0), "{what}: {run:?}");
        assert_delivered(&self.server, &self.ops);
        assert_eq!(self.server.stored().len(), self.ops.len(), "{what}: stored twice");
        assert_eq!(self.profile.pending_count().unwrap(), 0, "{what}");
        let highest = self.server.stored().last().unwrap().lamport_ts;
        let clock = self.profile.clock().unwrap().unwrap();
        assert!(highest > 500 && clock >= highest && clock < 1 << 31, "{what}: {highest}, {clock}");
    }
}

/// Killed while request number `number` is where `fault` keeps it.
fn killed_in_a_request(number: usize, fault: &Fault, version: Version, largest: bool) {
    let case = Case::new(version, largest);
    case.at(number, fault.clone());
    let agent = case.stage.start(&["once"]);
    assert!(case.server.wait_until_held(SOON), "request {number} never came");
    agent.kill();
    case.finish(&format!("{fault:?} at request {number}"));
}

/// Killed when it has the answer to request number `number` and the app holds the write lock, so that it cannot have
/// written anything about it.
fn killed_before_a_write(number: usize, version: Version, largest: bool) {
    let case = Case::new(version, largest);
    case.at(number, Fault::HoldAfterStore);
    let agent = case.stage.start(&["once"]);
    assert!(case.server.wait_until_held(SOON), "request {number} never came");
    let app = case.profile.open().unwrap();
    app.connection().execute_batch("BEGIN IMMEDIATE").unwrap();
    let decided = case.server.stats().exchanges.len();
    case.server.release();
    assert!(case.server.wait_for(|stats| stats.exchanges.len() > decided, SOON));
    agent.kill();
    app.connection().execute_batch("ROLLBACK").unwrap();
    drop(app);
    case.finish(&format!("app's lock after request {number}"));
}

#[test]
fn killed_before_a_request_is_stored() {
    for number in 1..=REQUESTS {
        killed_in_a_request(number, &Fault::HoldBeforeStore, Version::Later, false);
    }
}

#[test]
fn killed_after_a_request_was_stored() {
    for number in 1..=REQUESTS {
        killed_in_a_request(number, &Fault::HoldAfterStore, Version::Later, number % 2 == 0);
    }
}

#[test]
fn killed_in_the_middle_of_an_answer() {
    for number in 1..=REQUESTS {
        killed_in_a_request(number, &Fault::StallMidReply, Version::First, number % 2 == 1);
    }
}

#[test]
fn killed_before_a_write_that_the_app_keeps_waiting() {
    for number in 1..=REQUESTS {
        killed_before_a_write(number, Version::Later, number % 2 == 0);
        killed_before_a_write(number, Version::First, false);
    }
}
