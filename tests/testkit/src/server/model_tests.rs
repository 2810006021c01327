//! What the model does where the recorded answers say nothing.

use super::*;
use crate::ops::{Mix, NewOp};

fn push(model: &mut Model, device: &str, ops: &[Value]) -> (u16, Value) {
    let body = json!({ "device_id": device, "ops": ops }).to_string();
    let answer = model.handle(&Request {
        method: "POST",
        path: PUSH_PATH,
        content_type: Some("application/json"),
        user: Some("alice"),
        body: body.as_bytes(),
        now_ms: 1,
    });
    let text = String::from_utf8(answer.body).unwrap();
    (answer.status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn op(op: &NewOp, stamp: i64) -> Value {
    let payload: Value = op.payload.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
    json!({
        "operation_id": op.operation_id,
        "lamport_ts": stamp,
        "entity": op.entity,
        "entity_id": op.entity_id,
        "field": op.field,
        "op": op.op,
        "payload": payload,
        "profile_canonical_id": Uuid::nil(),
    })
}

#[test]
fn a_whole_mixture_is_stored_in_order_and_applied() {
    for version in [Version::First, Version::Later] {
        let mut model = Model::new(version);
        let ops: Vec<_> = Mix::new(5).without_large().take(1024).collect();
        let sent: Vec<_> = ops.iter().zip(1..).map(|(new, stamp)| op(new, stamp)).collect();
        assert_eq!(push(&mut model, "d", &sent).0, 200);
        let stored = model.stored();
        assert!(
            stored.iter().zip(1..).all(|(row, seq)| row.seq == seq && row.lamport_ts == i64::try_from(seq).unwrap())
        );
        assert!(
            stored
                .iter()
                .zip(&sent)
                .all(|(row, sent)| Value::String(row.raw.clone()) == Value::String(sent.to_string()))
        );
        assert!(stored.iter().all(|row| row.applied == (version == Version::Later)));
        assert_eq!(model.stored_max("alice", "d"), 1024);
    }
}

#[test]
fn one_op_too_many_is_refused_and_nothing_is_stored() {
    let mut model = Model::new(Version::First);
    let ops: Vec<_> = NewOp::renames(1025).iter().zip(1..).map(|(new, stamp)| op(new, stamp)).collect();
    assert_eq!(push(&mut model, "d", &ops).0, 400);
    assert!(model.stored().is_empty());
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let model = Model::new(Version::First);
    let early = |length| model.refuse_early("POST", PUSH_PATH, Some("application/json"), Some("alice"), Some(length));
    assert_eq!(early(MAX_BODY_BYTES), None);
    assert_eq!(early(MAX_BODY_BYTES + 1).map(|answer| answer.status), Some(413));
}

#[test]
fn stamps_taken_beforehand_are_taken() {
    let mut model = Model::new(Version::Later);
    model.take_stamps("alice", "d", 1..=500);
    let regression = json!({
        "error": "lamport_regression", "device_id": "d", "stored_max": 500, "offending_lamport_ts": 500,
    });
    assert_eq!(push(&mut model, "d", &[op(&NewOp::rename(1), 500)]), (409, regression));
    model.take_stamps("alice", "d", [i64::MAX]);
    assert_eq!(model.stored_max("alice", "d"), i64::MAX);
    assert_eq!(push(&mut model, "d", &[op(&NewOp::rename(1), 501)]).0, 200);
    let mut other = op(&NewOp::rename(2), 502);
    other["hlc"] = json!({ "wall": 0, "logical": 501 });
    assert_eq!(push(&mut model, "d", &[other]).1["error"], "hlc_regression");
    assert!(model.stored_max("bob", "d") == 0 && model.stored_max("alice", "e") == 0);
}

#[test]
fn a_stamp_twice_in_one_batch_is_answered_with_a_maximum_of_0() {
    let mut model = Model::new(Version::First);
    model.take_stamps("alice", "d", [10]);
    let ops = [op(&NewOp::rename(1), 11), op(&NewOp::rename(2), 11)];
    let (status, answer) = push(&mut model, "d", &ops);
    assert_eq!((status, &answer["stored_max"], &answer["offending_lamport_ts"]), (409, &json!(0), &json!(11)));
}

#[test]
fn what_cannot_be_applied_takes_its_batch_with_it() {
    for bad in [
        NewOp::new("playlist", "1", "insert"),
        NewOp::new("playlist", "1", "insert").payload(&json!({ "name": 5 })),
        NewOp::new("playlist", "1", "set").field("name").payload(&json!({ "value": [] })),
        NewOp::new("track_rating", "h", "set").payload(&json!({ "value": -1 })),
        NewOp::new("track_rating", "h", "set").payload(&json!({ "value": 256 })),
        NewOp::new("track_rating", "h", "set").payload(&json!({ "value": "5" })),
    ] {
        let mut later = Model::new(Version::Later);
        let batch = [op(&NewOp::rename(1), 1), op(&bad, 2)];
        assert_eq!(push(&mut later, "d", &batch), (500, json!("apply failed")), "{bad:?}");
        assert!(later.stored().is_empty());
        assert_eq!(push(&mut Model::new(Version::First), "d", &batch).0, 200);
    }
}

#[test]
fn a_prefix_belongs_to_the_path() {
    let model = Model::new(Version::First).with_prefix("/music");
    let status =
        |path| model.refuse_early("POST", path, Some("application/json"), Some("alice"), None).map(|a| a.status);
    assert_eq!(status("/music/api/v1/sync/ops"), None);
    assert_eq!(status("/music/api/v1/sync/ops?x=1"), None);
    for other in ["/api/v1/sync/ops", "/music//api/v1/sync/ops", "/musicapi/v1/sync/ops"] {
        assert_eq!(status(other), Some(404), "{other}");
    }
}
