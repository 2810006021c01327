//! The reference server without its sockets: requests in, answers out.
//!
//! What must always hold: it answers as the two real servers do (`data/answers.jsonl`, replayed in the tests); a batch
//! is stored whole or not at all; nothing here reads a clock or a socket, so the same requests give the same answers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use serde_json::{Value, json};
use uuid::Uuid;

use super::apply;
use super::wire::{self, Hlc, LaterOp};

/// The path a push goes to, after the prefix.
pub const PUSH_PATH: &str = "/api/v1/sync/ops";
/// The most ops in a request.
pub const MAX_OPS: usize = 1024;
/// The most bytes in a request.
pub const MAX_BODY_BYTES: usize = 2_097_152;

/// Which of the two servers it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Without `hlc`.
    First,
    /// With it.
    Later,
}

/// What the server has of an op.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredOp {
    /// Place in the order of storing, over all users and devices, from 1.
    pub seq: u64,
    /// Whose token it came under.
    pub user: String,
    /// `device_id`, trimmed.
    pub device_id: String,
    /// Idempotency key.
    pub operation_id: Uuid,
    /// Stamp.
    pub lamport_ts: i64,
    /// Trimmed.
    pub entity: String,
    /// Trimmed.
    pub entity_id: String,
    /// As sent.
    pub field: Option<String>,
    /// Trimmed.
    pub op: String,
    /// As sent, but parsed.
    pub payload: Option<Value>,
    /// Milliseconds.
    pub created_at: i64,
    /// As sent; the first server does not read it.
    pub profile_canonical_id: Option<Uuid>,
    /// As sent; the first server does not read it.
    pub hlc: Option<Hlc>,
    /// The pair it counts under: `hlc`, or wall 0 and the stamp.
    pub pair: Hlc,
    /// Whether the later server applied it to a profile, or only logged it.
    pub applied: bool,
    /// The op's JSON as it came, byte for byte.
    pub raw: String,
}

/// One request, as far as the model cares.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `POST`, …
    pub method: &'a str,
    /// With the prefix.
    pub path: &'a str,
    /// The header as it came.
    pub content_type: Option<&'a str>,
    /// Whom the token names; `None` for no token, a bad or an expired one.
    pub user: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
    /// The time it is (ms), for `created_at`.
    pub now_ms: i64,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`; `None` where the body is empty.
    pub content_type: Option<&'static str>,
    /// The whole body.
    pub body: Vec<u8>,
    /// What it stored, as places in [`Model::stored`].
    pub stored: Range<usize>,
}

impl Answer {
    /// No body.
    pub fn empty(status: u16) -> Self {
        Self { status, content_type: None, body: Vec::new(), stored: 0..0 }
    }

    /// A sentence.
    pub fn text(status: u16, sentence: &str) -> Self {
        Self { content_type: Some("text/plain; charset=utf-8"), body: sentence.into(), ..Self::empty(status) }
    }

    /// A document.
    pub fn json(status: u16, document: &Value) -> Self {
        Self { content_type: Some("application/json"), body: document.to_string().into(), ..Self::empty(status) }
    }
}

/// What a (user, device) has stored.
#[derive(Default)]
struct Device {
    ids: HashMap<Uuid, usize>,
    stamps: BTreeSet<i64>,
    pairs: HashSet<Hlc>,
}

impl Device {
    fn take(&mut self, id: Uuid, stamp: i64, pair: Hlc, place: usize) {
        self.ids.insert(id, place);
        self.stamps.insert(stamp);
        self.pairs.insert(pair);
    }
}

/// The server's memory and rules.
pub struct Model {
    version: Version,
    prefix: String,
    rows: Vec<StoredOp>,
    devices: HashMap<(String, String), Device>,
}

impl Model {
    /// An empty server without a path prefix.
    pub fn new(version: Version) -> Self {
        Self { version, prefix: String::new(), rows: Vec::new(), devices: HashMap::new() }
    }

    /// A server behind `prefix` (`/music`, no trailing slash).
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Which server it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Everything stored, in the order of storing.
    pub fn stored(&self) -> &[StoredOp] {
        &self.rows
    }

    /// Makes stamps taken, as if other ops of this user and device had been stored with them.
    pub fn take_stamps(&mut self, user: &str, device_id: &str, stamps: impl IntoIterator<Item = i64>) {
        let device = self.devices.entry((user.to_owned(), device_id.to_owned())).or_default();
        device.stamps.extend(stamps);
    }

    /// Makes pairs taken, likewise.
    pub fn take_pairs(&mut self, user: &str, device_id: &str, pairs: impl IntoIterator<Item = Hlc>) {
        let device = self.devices.entry((user.to_owned(), device_id.to_owned())).or_default();
        device.pairs.extend(pairs);
    }

    /// The highest stamp of a device, 0 where there is none.
    pub fn stored_max(&self, user: &str, device_id: &str) -> i64 {
        let device = self.devices.get(&(user.to_owned(), device_id.to_owned()));
        device.and_then(|device| device.stamps.last().copied()).unwrap_or(0)
    }

    /// Answers a request.
    pub fn handle(&mut self, request: &Request<'_>) -> Answer {
        let length = Some(request.body.len());
        match self.refuse_early(request.method, request.path, request.content_type, request.user, length) {
            Some(answer) => answer,
            None => self.push(request.user.unwrap_or_default(), request.body, request.now_ms),
        }
    }

    /// What is answered before the body is read: 404, 405, 401, 415 and, where the length is known, 413.
    pub fn refuse_early(
        &self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        user: Option<&str>,
        length: Option<usize>,
    ) -> Option<Answer> {
        let path = path.split('?').next().unwrap_or_default();
        if path.strip_prefix(self.prefix.as_str()) != Some(PUSH_PATH) {
            return Some(Answer::empty(404));
        }
        if method != "POST" {
            return Some(Answer::empty(405));
        }
        if user.is_none() {
            return Some(Answer::empty(401));
        }
        if !content_type.is_some_and(is_json) {
            return Some(Answer::text(415, "Expected request with `Content-Type: application/json`"));
        }
        if length.is_some_and(|length| length > MAX_BODY_BYTES) {
            return Some(Answer::text(413, "Failed to buffer the request body: length limit exceeded"));
        }
        None
    }

    pub(super) fn push(&mut self, user: &str, body: &[u8], now_ms: i64) -> Answer {
        let batch = match wire::read(self.version, body) {
            Ok(batch) => batch,
            Err(answer) => return answer,
        };
        let device_id = batch.device_id.trim();
        if device_id.is_empty() {
            return Answer::text(400, "device_id is required");
        }
        if batch.ops.len() > MAX_OPS {
            return Answer::text(400, &format!("a batch holds at most {MAX_OPS} ops"));
        }
        let raw = wire::raw_ops(body);
        let key = (user.to_owned(), device_id.to_owned());
        let mut transaction = Transaction { model: self, key, now_ms, new: Vec::new(), taken: Device::default() };
        let mut accepted = Vec::with_capacity(batch.ops.len());
        for (op, raw) in batch.ops.into_iter().zip(raw) {
            match transaction.store(op, raw.get()) {
                Ok(row) => accepted.push(row),
                Err(answer) => return answer,
            }
        }
        transaction.commit(&accepted)
    }
}

/// `application/json` or `application/…+json`, with or without parameters.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// A batch on its way in. Nothing of it is in the model before [`Transaction::commit`].
struct Transaction<'a> {
    model: &'a mut Model,
    /// User and device.
    key: (String, String),
    now_ms: i64,
    new: Vec<StoredOp>,
    /// What the ops in `new` take; places are those in `new`.
    taken: Device,
}

/// Where an accepted row is.
enum Place {
    Stored(usize),
    New(usize),
}

impl Transaction<'_> {
    fn device(&self) -> Option<&Device> {
        self.model.devices.get(&self.key)
    }

    fn store(&mut self, op: LaterOp, raw: &str) -> Result<Place, Answer> {
        check(&self.key.1, &op)?;
        if let Some(&row) = self.device().and_then(|device| device.ids.get(&op.operation_id)) {
            return Ok(Place::Stored(row));
        }
        if let Some(&row) = self.taken.ids.get(&op.operation_id) {
            return Ok(Place::New(row));
        }
        let pair = self.pair(&op)?;
        self.check_stamp(op.lamport_ts)?;
        self.check_pair(&op, pair)?;
        let applied = self.model.version == Version::Later && op.profile_canonical_id.is_some();
        if applied && !apply::applicable(&op) {
            return Err(Answer::text(500, "apply failed"));
        }
        self.taken.take(op.operation_id, op.lamport_ts, pair, self.new.len());
        self.new.push(StoredOp {
            seq: 0,
            user: self.key.0.clone(),
            device_id: self.key.1.clone(),
            operation_id: op.operation_id,
            lamport_ts: op.lamport_ts,
            entity: op.entity.trim().to_owned(),
            entity_id: op.entity_id.trim().to_owned(),
            field: op.field,
            op: op.op.trim().to_owned(),
            payload: op.payload,
            created_at: self.now_ms,
            profile_canonical_id: op.profile_canonical_id,
            hlc: op.hlc,
            pair,
            applied,
            raw: raw.to_owned(),
        });
        Ok(Place::New(self.new.len() - 1))
    }

    /// The pair an op counts under. Without `hlc` it is derived from the stamp, which then has to fit.
    fn pair(&self, op: &LaterOp) -> Result<Hlc, Answer> {
        match (op.hlc, i32::try_from(op.lamport_ts)) {
            (Some(hlc), _) => Ok(hlc),
            (None, Ok(logical)) => Ok(Hlc { wall: 0, logical }),
            (None, Err(_)) if self.model.version == Version::First => Ok(Hlc { wall: 0, logical: 0 }),
            (None, Err(_)) => Err(Answer::text(500, "insert failed")),
        }
    }

    fn check_stamp(&self, stamp: i64) -> Result<(), Answer> {
        let stored = self.device().is_some_and(|device| device.stamps.contains(&stamp));
        if !stored && !self.taken.stamps.contains(&stamp) {
            return Ok(());
        }
        // Where the stamp was twice in the batch, nothing that is stored has it, and the contract's answer is 0.
        let stored_max = if stored { self.model.stored_max(&self.key.0, &self.key.1) } else { 0 };
        Err(Answer::json(
            409,
            &json!({
                "error": "lamport_regression",
                "device_id": self.key.1,
                "stored_max": stored_max,
                "offending_lamport_ts": stamp,
            }),
        ))
    }

    fn check_pair(&self, op: &LaterOp, pair: Hlc) -> Result<(), Answer> {
        if self.model.version == Version::First {
            return Ok(());
        }
        let stored = self.device().is_some_and(|device| device.pairs.contains(&pair));
        if !stored && !self.taken.pairs.contains(&pair) {
            return Ok(());
        }
        // The pair as it was sent; 0/0 where none was.
        let sent = op.hlc.unwrap_or(Hlc { wall: 0, logical: 0 });
        Err(Answer::json(
            409,
            &json!({
                "error": "hlc_regression",
                "device_id": self.key.1,
                "offending_hlc": { "wall": sent.wall, "logical": sent.logical },
            }),
        ))
    }

    fn commit(self, accepted: &[Place]) -> Answer {
        let first = self.model.rows.len();
        let device = self.model.devices.entry(self.key).or_default();
        for mut row in self.new {
            let place = self.model.rows.len();
            device.take(row.operation_id, row.lamport_ts, row.pair, place);
            row.seq = place as u64 + 1;
            self.model.rows.push(row);
        }
        let rows = accepted.iter().map(|place| match place {
            Place::Stored(row) => &self.model.rows[*row],
            Place::New(row) => &self.model.rows[first + row],
        });
        let rows: Vec<_> = rows.map(|row| wire::accepted(self.model.version, row)).collect();
        Answer { stored: first..self.model.rows.len(), ..Answer::json(200, &json!({ "accepted": rows })) }
    }
}

/// What is wrong with an op whatever is stored.
fn check(device_id: &str, op: &LaterOp) -> Result<(), Answer> {
    if [&op.entity, &op.entity_id, &op.op].iter().any(|text| text.trim().is_empty()) {
        return Err(Answer::text(400, "entity / entity_id / op are required"));
    }
    if op.hlc.is_some_and(|hlc| hlc.wall < 0) {
        return Err(Answer::text(400, "hlc.wall must be >= 0"));
    }
    if op.hlc.is_some_and(|hlc| hlc.logical < 0) {
        return Err(Answer::text(400, "hlc.logical must be >= 0"));
    }
    let texts = [device_id, &op.entity, &op.entity_id, &op.op, op.field.as_deref().unwrap_or_default()];
    let nul = texts.iter().any(|text| text.contains('\0')) || op.payload.as_ref().is_some_and(wire::has_nul);
    if nul { Err(Answer::text(500, "insert failed")) } else { Ok(()) }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
