//! Killed between any two writes, and run again: nothing is lost, nothing is stored twice, and the order stays.

use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Hlc, Server, Version};

use crate::common::worker::{Drained, End, drain};
use crate::common::{DEVICE, Stage, assert_delivered};

/// Ops in the queue when the agent starts.
const OPS: u64 = 300;
/// Small, so that there are many writes to be killed at.
const BATCH_OPS: usize = 40;
/// Rows that one short transaction cannot stamp.
const LONG: u64 = 20_000;
/// Stamps that are taken on the server.
const TAKEN: i64 = 500;
/// Fewer requests than this, and the scenario does not exercise what it is about.
const REQUESTS_MIN: usize = 10;

/// A queue of [`OPS`] ops whose stamps, or whatever `prepare` takes, are taken.
struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
    ops: Vec<NewOp>,
}

impl Case {
    fn new(generation: Generation, version: Version, prepare: impl Fn(&Self)) -> Self {
        Self::of(OPS, generation, version, prepare)
    }

    fn of(ops: u64, generation: Generation, version: Version, prepare: impl Fn(&Self)) -> Self {
        let server = Server::start(version).unwrap();
        let stage = Stage::with(generation, &server);
        let profile = stage.profile("Zoë", "alice");
        let ops = NewOp::renames(ops);
        profile.enqueue(&ops).unwrap();
        let case = Self { server, stage, profile, ops };
        prepare(&case);
        case
    }

    fn drain(&self, end: End) -> usize {
        self.drain_by(BATCH_OPS, end).requests
    }

    fn drain_by(&self, batch_ops: usize, end: End) -> Drained {
        let drained = drain(&self.profile, &self.stage.home().join("state/in-process"), batch_ops, end);
        assert_eq!(drained.outcome.skipped.is_some(), end != End::Never, "{end:?}: {:?}", drained.outcome);
        drained
    }

    /// The app adds something, as it may at any time.
    fn enqueue_more(&mut self) {
        let more = NewOp::renames(3);
        self.profile.enqueue(&more).unwrap();
        self.ops.extend(more);
    }

    #[track_caller]
    fn assert_whole(&self, what: &str) {
        assert_delivered(&self.server, &self.ops);
        assert_eq!(self.server.stored().len(), self.ops.len(), "{what}: stored twice");
        assert_eq!(self.profile.pending_count().unwrap(), 0, "{what}");
        let highest = self.server.stored().iter().map(|row| row.lamport_ts).max().unwrap();
        let clock = self.profile.clock().unwrap().unwrap();
        assert!(clock >= highest && clock < 1 << 31, "{what}: clock {clock}, highest stamp {highest}");
    }
}

/// Kills at every request, before and after it is performed, with and without new ops before the next start.
fn killed_everywhere(generation: Generation, version: Version, prepare: impl Fn(&Case) + Copy) {
    let requests = {
        let case = Case::new(generation, version, prepare);
        let requests = case.drain(End::Never);
        case.assert_whole("not killed");
        requests
    };
    assert!(requests >= REQUESTS_MIN, "{requests} requests");
    for number in 0..requests {
        for (end, more) in [(End::Before(number), false), (End::After(number), true)] {
            let mut case = Case::new(generation, version, prepare);
            case.drain(end);
            if more {
                case.enqueue_more();
            }
            case.drain(End::Never);
            case.assert_whole(&format!("{end:?}"));
        }
    }
}

/// Stamps 1 to 500.
fn take_500(case: &Case) {
    case.server.model(|model| model.take_stamps("alice", DEVICE, 1..=TAKEN));
}

/// The same, and `i64::MAX` by a broken client.
fn take_the_largest_too(case: &Case) {
    take_500(case);
    case.server.model(|model| model.take_stamps("alice", DEVICE, [i64::MAX]));
}

/// Stamps in the middle of the queue: half a batch is stored before the first conflict.
fn take_some_in_the_middle(case: &Case) {
    case.server.model(|model| model.take_stamps("alice", DEVICE, [90, 91, 200]));
}

/// The pairs of some ops in the middle.
fn take_pairs(case: &Case) {
    let rows = case.profile.pending().unwrap();
    let pairs = [50, 51, 120, 250].map(|at: usize| rows[at].pair.unwrap());
    let pairs = pairs.map(|(wall, logical)| Hlc { wall, logical: i32::try_from(logical).unwrap() });
    case.server.model(|model| model.take_pairs("alice", DEVICE, pairs));
}

/// What the later server derives from stamps 1 to 500 where no pair is sent.
fn take_derived_pairs(case: &Case) {
    let pairs = (1..=500).map(|logical| Hlc { wall: 0, logical });
    case.server.model(|model| model.take_pairs("alice", DEVICE, pairs));
}

#[test]
fn killed_at_every_request_of_a_plain_drain() {
    killed_everywhere(Generation::Three, Version::Later, |_| ());
}

#[test]
fn killed_at_every_request_while_taken_stamps_are_replaced() {
    killed_everywhere(Generation::One, Version::First, take_500);
    killed_everywhere(Generation::Three, Version::Later, take_500);
}

#[test]
fn killed_at_every_request_while_the_largest_stamp_is_taken() {
    killed_everywhere(Generation::Two, Version::First, take_the_largest_too);
    killed_everywhere(Generation::Three, Version::Later, take_the_largest_too);
}

#[test]
fn killed_at_every_request_while_stamps_in_the_middle_are_replaced() {
    killed_everywhere(Generation::Three, Version::Later, take_some_in_the_middle);
}

#[test]
fn killed_at_every_request_while_taken_pairs_are_replaced() {
    killed_everywhere(Generation::Three, Version::Later, take_pairs);
}

#[test]
fn killed_at_every_request_while_derived_pairs_are_taken() {
    killed_everywhere(Generation::Two, Version::Later, take_derived_pairs);
}

#[test]
fn killed_between_the_transactions_that_replace_the_stamps_of_a_long_queue() {
    let case = || Case::of(LONG, Generation::Three, Version::Later, take_500);
    let whole = case();
    let assigned = whole.drain_by(1_000, End::Never).assigned;
    whole.assert_whole("not killed");
    assert!(assigned >= 2, "one transaction was enough for {LONG} rows: a longer queue is needed");
    for number in 0..assigned.min(4) {
        let mut case = case();
        let drained =
            drain(&case.profile, &case.stage.home().join("state/in-process"), 1_000, End::AfterAssigning(number));
        if drained.outcome.skipped.is_none() {
            // A faster moment than the first time: there was no such transaction.
            continue;
        }
        case.enqueue_more();
        case.drain_by(1_000, End::Never);
        case.assert_whole(&format!("after assigning transaction {number}"));
    }
}
