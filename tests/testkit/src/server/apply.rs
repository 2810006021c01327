//! Which ops the later server can apply. It applies in the transaction that stores, so what cannot be applied is not
//! stored either, nor is anything else of its batch.
//!
//! What must always hold: an op of an entity, field or kind unknown here is no failure: it is logged and left alone.

use serde_json::Value;

use super::wire::LaterOp;

/// Whether the op can be applied to a profile. Ops without a profile are logged only and never get here.
pub(super) fn applicable(op: &LaterOp) -> bool {
    let payload = op.payload.as_ref();
    let value = payload.and_then(|payload| payload.get("value"));
    match (op.entity.trim(), op.op.trim(), op.field.as_deref()) {
        ("playlist", "insert", _) => payload.and_then(|payload| payload.get("name")).is_some_and(Value::is_string),
        ("playlist" | "library", "set", Some("name")) => value.is_some_and(Value::is_string),
        ("track_rating", "set" | "insert", _) => is_rating(value),
        _ => true,
    }
}

/// 0 to 255, or a rating taken back.
fn is_rating(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Null) => true,
        Some(value) => value.as_u64().is_some_and(|rating| rating <= 255),
        None => false,
    }
}
