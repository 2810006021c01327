//! What travels: the request's shape, and the real server's sentences about requests of another shape.
//!
//! What must always hold: the names, order and types of the fields here are the real server's, because its error
//! sentences come out of them (`missing field`, `expected struct PushBatchRequest`).

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::model::{Answer, StoredOp, Version};

/// The body of a push; `T` is [`FirstOp`] or [`LaterOp`]. Both versions know it under this one name.
#[derive(Deserialize)]
pub(super) struct PushBatchRequest<T> {
    pub(super) device_id: String,
    pub(super) ops: Vec<T>,
}

/// An op as the first server reads it.
#[derive(Deserialize)]
#[serde(rename = "PushOp")]
struct FirstOp {
    operation_id: Uuid,
    lamport_ts: i64,
    entity: String,
    entity_id: String,
    field: Option<String>,
    op: String,
    payload: Option<Value>,
}

/// An op as the later server reads it.
#[derive(Deserialize)]
#[serde(rename = "PushOp")]
pub(super) struct LaterOp {
    pub(super) operation_id: Uuid,
    pub(super) lamport_ts: i64,
    pub(super) entity: String,
    pub(super) entity_id: String,
    pub(super) field: Option<String>,
    pub(super) op: String,
    pub(super) payload: Option<Value>,
    pub(super) profile_canonical_id: Option<Uuid>,
    pub(super) hlc: Option<Hlc>,
}

/// A pair as the later server reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub struct Hlc {
    /// Milliseconds since the epoch.
    pub wall: i64,
    /// Counter within `wall`.
    pub logical: i32,
}

impl From<FirstOp> for LaterOp {
    fn from(op: FirstOp) -> Self {
        Self {
            operation_id: op.operation_id,
            lamport_ts: op.lamport_ts,
            entity: op.entity,
            entity_id: op.entity_id,
            field: op.field,
            op: op.op,
            payload: op.payload,
            profile_canonical_id: None,
            hlc: None,
        }
    }
}

/// The ops as they came, byte for byte.
#[derive(Deserialize)]
struct RawBatch {
    ops: Vec<Box<RawValue>>,
}

/// Reads a body as this version does, or says what is wrong with it in its words.
pub(super) fn read(version: Version, body: &[u8]) -> Result<PushBatchRequest<LaterOp>, Answer> {
    match version {
        Version::First => {
            let batch: PushBatchRequest<FirstOp> = parse(body)?;
            let ops = batch.ops.into_iter().map(LaterOp::from).collect();
            Ok(PushBatchRequest { device_id: batch.device_id, ops })
        }
        Version::Later => parse(body),
    }
}

/// The ops of a body that [`read`] took, as they came.
pub(super) fn raw_ops(body: &[u8]) -> Vec<Box<RawValue>> {
    serde_json::from_slice::<RawBatch>(body).map(|batch| batch.ops).unwrap_or_default()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        if error.inner().is_data() {
            Answer::text(422, &format!("Failed to deserialize the JSON body into the target type: {error}"))
        } else {
            Answer::text(400, &format!("Failed to parse the request body as JSON: {error}"))
        }
    })?;
    json.end().map_err(|error| Answer::text(400, &format!("Failed to parse the request body as JSON: {error}")))?;
    Ok(value)
}

/// One element of `accepted`.
pub(super) fn accepted(version: Version, row: &StoredOp) -> Value {
    let mut value = json!({
        "id": row.seq,
        "operation_id": row.operation_id,
        "device_id": row.device_id,
        "lamport_ts": row.lamport_ts,
        "entity": row.entity,
        "entity_id": row.entity_id,
        "field": row.field,
        "op": row.op,
        "payload": row.payload,
        "created_at": row.created_at,
    });
    if version == Version::Later {
        value["profile_canonical_id"] = json!(row.profile_canonical_id);
        value["hlc"] = json!({ "wall": row.pair.wall, "logical": row.pair.logical });
    }
    value
}

/// Whether a NUL is in any string or key; the real server's database refuses these.
pub(super) fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}
