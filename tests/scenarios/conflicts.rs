//! Stamps and pairs that are taken: fresh ones, written down before they are sent, and never a jam.

use std::time::Duration;

use serde_json::json;
use testkit::data_dir::{Generation, Profile, RawOp};
use testkit::ops::{Mix, NewOp};
use testkit::server::{Hlc, Server, Version};

use crate::common::{DEVICE, Stage, applied, assert_delivered};

const VERSIONS: [Version; 2] = [Version::First, Version::Later];

/// 300 ops with stamps 1 to 300.
fn three_hundred(generation: Generation, version: Version) -> (Server, Stage, Profile, Vec<NewOp>) {
    let server = Server::start(version).unwrap();
    let stage = Stage::with(generation, &server);
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(300);
    assert_eq!(profile.enqueue(&ops).unwrap(), (1..=300).collect::<Vec<_>>());
    (server, stage, profile, ops)
}

#[test]
fn three_hundred_ops_get_past_five_hundred_taken_stamps_in_one_run() {
    for version in VERSIONS {
        for generation in Generation::QUEUEING {
            let (server, stage, profile, ops) = three_hundred(generation, version);
            server.model(|model| model.take_stamps("alice", DEVICE, 1..=500));
            let run = stage.once("10s").ended_with(0);
            assert_eq!((&run.json["sent"], &run.json["remaining"]), (&json!(300), &json!(0)));
            assert_delivered(&server, &ops);
            let rows = server.stored();
            assert!(rows.iter().all(|row| row.lamport_ts > 500));
            assert_eq!(profile.clock().unwrap(), rows.last().map(|row| row.lamport_ts), "the clock is at the highest");
            assert_eq!(server.stats().answered(409), 1, "one conflict is enough");
            assert!(!server.stats().batches().iter().any(Vec::is_empty));
        }
    }
}

#[test]
fn a_stored_max_of_the_largest_number_is_not_believed() {
    for version in VERSIONS {
        for generation in Generation::QUEUEING {
            let (server, stage, profile, ops) = three_hundred(generation, version);
            server.model(|model| model.take_stamps("alice", DEVICE, (1..=500).chain([i64::MAX])));
            stage.once("10s").ended_with(0);
            assert_delivered(&server, &ops);
            let highest = server.stored().last().unwrap().lamport_ts;
            assert!((501..1 << 31).contains(&highest), "{highest}");
            assert_eq!(profile.clock().unwrap(), Some(highest));
            // The app goes on from there.
            let next = profile.enqueue(&[NewOp::rename(1)]).unwrap();
            assert_eq!(next, [highest + 1]);
        }
    }
}

#[test]
fn a_clock_that_a_broken_client_left_at_the_largest_number_counts_as_absent() {
    for generation in [Generation::One, Generation::Three] {
        let (server, stage, profile, ops) = three_hundred(generation, Version::Later);
        server.model(|model| model.take_stamps("alice", DEVICE, (1..=500).chain([i64::MAX])));
        profile.set_clock(i64::MAX).unwrap();
        stage.once("10s").ended_with(0);
        assert_delivered(&server, &ops);
        let clock = profile.clock().unwrap().unwrap();
        assert!((1..1 << 31).contains(&clock), "{clock}");
    }
}

#[test]
fn rows_stamped_out_of_all_reason_are_stamped_anew_before_they_are_sent() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::One, &server);
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(4);
    for (op, stamp) in ops.iter().zip([5, i64::MAX, 9, 10]) {
        profile.insert_raw(&RawOp::new(op, stamp)).unwrap();
    }
    stage.once("10s").ended_with(0);
    assert_delivered(&server, &ops);
    assert!(server.stored().iter().all(|row| row.lamport_ts < 1 << 31));
}

#[test]
fn the_clock_never_goes_down() {
    let (server, stage, profile, ops) = three_hundred(Generation::Three, Version::Later);
    server.model(|model| model.take_stamps("alice", DEVICE, [1]));
    profile.set_clock(1_000_000).unwrap();
    stage.once("10s").ended_with(0);
    assert_delivered(&server, &ops);
    assert_eq!(profile.clock().unwrap(), Some(1_000_300));
}

#[test]
fn two_profiles_on_one_account_never_jam() {
    for version in VERSIONS {
        for generation in Generation::QUEUEING {
            let server = Server::start(version).unwrap();
            let stage = Stage::with(generation, &server);
            let profiles = ["Zoë", "Ночь"].map(|name| stage.profile(name, "alice"));
            let mut queued: [Vec<NewOp>; 2] = Default::default();
            let mut mix = Mix::new(3).without_large();
            for round in 0..5 {
                for turn in 0..6 {
                    let which = (turn + round) % 2;
                    let ops: Vec<_> = mix.by_ref().take(1 + turn * 17 % 40).collect();
                    profiles[which].enqueue(&ops).unwrap();
                    queued[which].extend(ops);
                }
                let run = stage.once("20s").ended_with(0);
                assert_eq!(run.json["remaining"], json!(0));
                assert!(run.took < Duration::from_secs(10), "{:?}", run.took);
            }
            for ops in &queued {
                assert_delivered(&server, ops);
            }
        }
    }
}

#[test]
fn pairs_that_are_taken_are_drawn_anew_in_order() {
    let (server, stage, profile, ops) = three_hundred(Generation::Three, Version::Later);
    let rows = profile.pending().unwrap();
    let pairs = [0, 7, 8, 299].map(|at: usize| rows[at].pair.unwrap());
    let pairs = pairs.map(|(wall, logical)| Hlc { wall, logical: i32::try_from(logical).unwrap() });
    server.model(|model| model.take_pairs("alice", DEVICE, pairs));
    stage.once("10s").ended_with(0);
    assert_delivered(&server, &ops);
    let stored = applied(&server, &ops);
    assert!(stored.windows(2).all(|two| two[0].pair < two[1].pair), "the pairs rise");
    assert_eq!(server.stats().answered(409), 1);
    let last = stored.last().unwrap().pair;
    let kept = profile.open().unwrap().last_pair().unwrap().unwrap();
    assert!(kept >= (last.wall, i64::from(last.logical)), "the app's next pair lies above: {kept:?}");
}

#[test]
fn stamps_whose_derived_pairs_are_taken_are_replaced() {
    for generation in [Generation::One, Generation::Two] {
        let (server, stage, profile, ops) = three_hundred(generation, Version::Later);
        let pairs = (1..=500).map(|logical| Hlc { wall: 0, logical });
        server.model(|model| model.take_pairs("alice", DEVICE, pairs));
        stage.once("10s").ended_with(0);
        assert_delivered(&server, &ops);
        assert_eq!(profile.clock().unwrap(), server.stored().last().map(|row| row.lamport_ts));
    }
}

#[test]
fn rows_with_and_without_pairs_get_past_taken_pairs_together() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let mut ops = NewOp::renames(20);
    for (op, stamp) in ops.iter().zip(1..) {
        profile.insert_raw(&RawOp::new(op, stamp)).unwrap();
    }
    profile.set_clock(20).unwrap();
    let with = NewOp::renames(20);
    profile.enqueue(&with).unwrap();
    let (wall, logical) = profile.pending().unwrap()[30].pair.unwrap();
    let taken = Hlc { wall, logical: i32::try_from(logical).unwrap() };
    server.model(|model| model.take_pairs("alice", DEVICE, [Hlc { wall: 0, logical: 11 }, taken]));
    ops.extend(with);
    stage.once("10s").ended_with(0);
    assert_delivered(&server, &ops);
    assert!(server.stored().iter().zip(0..).all(|(row, place)| row.hlc.is_some() == (place >= 20)));
}

#[test]
fn a_conflict_about_another_device_leaves_the_clock_alone() {
    let (server, stage, profile, _) = three_hundred(Generation::Three, Version::Later);
    let body =
        json!({"error": "lamport_regression", "device_id": "another", "stored_max": 9000, "offending_lamport_ts": 1});
    server.always(testkit::server::Fault::Answer(testkit::server::Reply::json(409, &body)));
    let run = stage.once("0").ended_with(75);
    assert_eq!(run.kind(), "not_the_server");
    assert_eq!((profile.clock().unwrap(), profile.pending_count().unwrap()), (Some(300), 300));
    assert!(profile.pending().unwrap().iter().all(|row| row.last_error.as_deref().is_some_and(|e| e.contains("409"))));
}
