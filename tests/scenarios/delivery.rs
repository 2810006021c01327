//! The plain case: everything that is queued arrives, in order, in the shape its generation has.

use std::collections::HashMap;

use serde_json::{Value, json};
use testkit::data_dir::{Generation, Profile, RawOp};
use testkit::ops::{Mix, NewOp};
use testkit::server::{Server, StoredOp, Version};

use uuid::Uuid;

use crate::common::{DEVICE, Stage, assert_delivered, assert_in_order};

/// Ops for each of the three profiles. Unoptimised, the whole number would take minutes over all generations.
const OPS: usize = if cfg!(debug_assertions) { 2_000 } else { 5_000 };

/// What an op must look like on the wire, but for its stamp and pair.
fn shape(op: &NewOp, canonical: Option<&str>) -> Value {
    let mut value = json!({
        "operation_id": op.operation_id.to_string(),
        "entity": op.entity,
        "entity_id": op.entity_id,
        "field": op.field,
        "op": op.op,
        "payload": op.payload.as_deref().map(|text| serde_json::from_str::<Value>(text).unwrap()),
    });
    if let Some(canonical) = canonical {
        value["profile_canonical_id"] = json!(canonical);
    }
    value
}

/// What the profile's ops must carry; `None` before generation 2.
fn canonical(profile: &Profile) -> Option<String> {
    let known = profile.data_dir().generation().has_canonical_id();
    known.then(|| profile.canonical_id().unwrap().expect("it has one").to_string())
}

/// Fails unless `row` travelled as `op` of `profile`.
fn assert_shape(row: &StoredOp, expected: &Value, has_hlc: bool) {
    let mut sent: Value = serde_json::from_str(&row.raw).unwrap();
    let fields = sent.as_object_mut().unwrap();
    assert_eq!(fields.remove("lamport_ts"), Some(json!(row.lamport_ts)));
    let hlc = fields.remove("hlc");
    assert_eq!(hlc.is_some(), has_hlc, "{}", row.operation_id);
    if let Some(hlc) = hlc {
        assert!(hlc["wall"].as_i64().is_some_and(|wall| wall > 0) && hlc["logical"].is_i64());
        assert_eq!(hlc.as_object().unwrap().len(), 2);
    }
    assert_eq!(sent, *expected);
}

fn three_profiles_arrive(generation: Generation, version: Version) {
    let server = Server::start(version).unwrap();
    let stage = Stage::with(generation, &server);
    let queues: Vec<(Profile, Vec<NewOp>)> = (0..3)
        .map(|number| {
            let profile = stage.profile(&format!("Profile {number}"), "alice");
            let ops: Vec<_> = Mix::new(number).take(OPS).collect();
            profile.enqueue(&ops).unwrap();
            (profile, ops)
        })
        .collect();
    let run = stage.once("60s").ended_with(0);
    assert_eq!((&run.json["sent"], &run.json["remaining"]), (&json!(3 * OPS), &json!(0)));
    let stored = server.stored();
    let owners: HashMap<Uuid, i64> =
        queues.iter().flat_map(|(profile, ops)| ops.iter().map(|op| (op.operation_id, profile.id))).collect();
    assert_eq!(stored.len(), 3 * OPS);
    let mut rows: HashMap<i64, Vec<StoredOp>> = HashMap::new();
    for row in stored {
        rows.entry(owners[&row.operation_id]).or_default().push(row);
    }
    for (profile, ops) in &queues {
        let rows = &rows[&profile.id];
        assert_eq!(run.profile(profile.id)["sent"], json!(OPS));
        assert_eq!(profile.pending_count().unwrap(), 0);
        assert_in_order(rows, ops);
        let canonical = canonical(profile);
        for (row, op) in rows.iter().zip(ops) {
            assert_eq!((row.user.as_str(), row.device_id.as_str()), ("alice", DEVICE));
            assert_shape(row, &shape(op, canonical.as_deref()), generation.has_hlc());
        }
    }
    assert_eq!(stage.quarantined().len(), 0);
    assert_eq!(server.stats().peak_per_profile(), 1);
}

#[test]
fn generation_1_arrives_at_both_servers() {
    three_profiles_arrive(Generation::One, Version::First);
    three_profiles_arrive(Generation::One, Version::Later);
}

#[test]
fn generation_2_arrives_at_both_servers() {
    three_profiles_arrive(Generation::Two, Version::First);
    three_profiles_arrive(Generation::Two, Version::Later);
}

#[test]
fn generation_3_arrives_at_both_servers() {
    three_profiles_arrive(Generation::Three, Version::First);
    three_profiles_arrive(Generation::Three, Version::Later);
}

#[test]
fn a_generation_nobody_knows_yet_arrives_at_both_servers() {
    three_profiles_arrive(Generation::Future, Version::First);
    three_profiles_arrive(Generation::Future, Version::Later);
}

#[test]
fn an_op_without_a_pair_in_generation_3_is_sent_without_one() {
    for version in [Version::First, Version::Later] {
        let server = Server::start(version).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        let old = NewOp::rename(1);
        profile.insert_raw(&RawOp::new(&old, 1)).unwrap();
        profile.set_clock(1).unwrap();
        let new = NewOp::rename(2);
        profile.enqueue(std::slice::from_ref(&new)).unwrap();
        stage.once("10s").ended_with(0);
        let rows = server.stored();
        assert_shape(&rows[0], &shape(&old, canonical(&profile).as_deref()), false);
        assert_shape(&rows[1], &shape(&new, canonical(&profile).as_deref()), true);
    }
}

#[test]
fn a_device_id_is_made_where_there_is_none_and_kept() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.dir.set_device_id(None).unwrap();
    let profile = stage.profile("Zoë", "alice");
    for round in 1..=2 {
        profile.enqueue(&[NewOp::rename(round)]).unwrap();
        stage.once("10s").ended_with(0);
    }
    let device = stage.dir.device_id().unwrap().expect("the agent made one");
    assert_eq!(Uuid::try_parse(&device).unwrap().get_version_num(), 4);
    assert!(server.stored().iter().all(|row| row.device_id == device));
}

#[test]
fn a_path_in_front_of_the_server_and_slashes_behind_it_are_understood() {
    let server = Server::builder(Version::Later).prefix("/music").start().unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.dir.set_server_url(Some(&format!("  {}//  ", server.url()))).unwrap();
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(3);
    profile.enqueue(&ops).unwrap();
    stage.once("10s").ended_with(0);
    assert_delivered(&server, &ops);
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again_and_nothing_is_stored_twice() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(50);
    profile.enqueue(&ops).unwrap();
    server.next(testkit::server::Fault::CutAfterStoring);
    stage.once("10s").ended_with(0);
    assert_delivered(&server, &ops);
    assert_eq!((server.stored().len(), profile.pending_count().unwrap()), (50, 0));
}
