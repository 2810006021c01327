//! Ops as a user makes them: one by hand ([`NewOp`]), or a seeded mixture of everything ([`Mix`]).
//!
//! What must always hold: what [`Mix`] makes is accepted and applied by both servers, and the same seed makes the same
//! ops, operation ids included.

use serde_json::{Value, json};
use uuid::Uuid;

/// How large an op's payload grows now and then (contract, section 2: 12 bytes to 250 kB).
pub const LARGE_PAYLOAD_BYTES: usize = 250_000;

/// A usual payload's size.
const USUAL_PAYLOAD_BYTES: usize = 400;

/// One track's op in this many carries a large payload, unless [`Mix::without_large`] was asked for.
const LARGE_EVERY: usize = 50;

/// Words that are not ASCII, for names.
const WORDS: [&str; 8] = ["Soirée", "Ночь", "夜の音楽", "Zoë", "🎵 mix", "naïve", "Übung", "قائمة"];

/// Letters of a large payload: two bytes each in UTF-8.
const FILLER: &str = "é";

/// An op that is about to be queued; a change of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOp {
    /// Idempotency key.
    pub operation_id: Uuid,
    /// `playlist`, `library`, …
    pub entity: String,
    /// Integer, UUID, hash or path, as text.
    pub entity_id: String,
    /// `None`: about the whole entity.
    pub field: Option<String>,
    /// `set`, `delete`, `insert`, `noop`.
    pub op: String,
    /// JSON text, or NULL.
    pub payload: Option<String>,
    /// Milliseconds; `None`: the moment it is queued.
    pub created_at: Option<i64>,
}

impl NewOp {
    /// An op with a fresh id, without field and payload.
    pub fn new(entity: &str, entity_id: &str, op: &str) -> Self {
        Self {
            operation_id: Uuid::new_v4(),
            entity: entity.into(),
            entity_id: entity_id.into(),
            field: None,
            op: op.into(),
            payload: None,
            created_at: None,
        }
    }

    /// The commonest op there is: playlist `n` gets a name.
    pub fn rename(n: u64) -> Self {
        Self::new("playlist", &n.to_string(), "set").field("name").payload(&json!({ "value": format!("Soirée {n}") }))
    }

    /// `n` renames, of playlists 1 to `n`.
    pub fn renames(n: u64) -> Vec<Self> {
        (1..=n).map(Self::rename).collect()
    }

    /// About this field.
    #[must_use]
    pub fn field(mut self, field: &str) -> Self {
        self.field = Some(field.into());
        self
    }

    /// With this payload.
    #[must_use]
    pub fn payload(mut self, payload: &Value) -> Self {
        self.payload = Some(payload.to_string());
        self
    }

    /// With this text where JSON should be; may be anything.
    #[must_use]
    pub fn payload_text(mut self, text: &str) -> Self {
        self.payload = Some(text.into());
        self
    }

    /// With this id.
    #[must_use]
    pub fn id(mut self, operation_id: Uuid) -> Self {
        self.operation_id = operation_id;
        self
    }

    /// Queued at this moment, in ms since the epoch.
    #[must_use]
    pub fn created_at(mut self, ms: i64) -> Self {
        self.created_at = Some(ms);
        self
    }
}

/// An endless, seeded mixture of what users do.
pub struct Mix {
    random: fastrand::Rng,
    large: bool,
    tracks: usize,
}

impl Mix {
    /// Starts the mixture of this seed.
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), large: true, tracks: 0 }
    }

    /// Leaves the 250 kB payloads out.
    #[must_use]
    pub fn without_large(mut self) -> Self {
        self.large = false;
        self
    }

    fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random.u128(..).to_be_bytes()).into_uuid()
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.random.usize(..WORDS.len())]
    }

    fn hash(&mut self) -> String {
        format!("{:032x}{:032x}", self.random.u128(..), self.random.u128(..))
    }

    fn playlist(&mut self) -> NewOp {
        let id = if self.random.bool() { self.random.u16(1..500).to_string() } else { self.uuid().to_string() };
        match self.random.u8(..4) {
            0 => NewOp::new("playlist", &id, "insert").payload(&json!({ "name": self.word(), "color_id": "blue" })),
            1 => NewOp::new("playlist", &id, "delete"),
            2 => NewOp::new("playlist", &id, "noop"),
            _ => NewOp::new("playlist", &id, "set").field("name").payload(&json!({ "value": self.word() })),
        }
    }

    fn track(&mut self) -> NewOp {
        let path = format!("/home/zoë/Musique/{}/{:04}.flac", self.word(), self.random.u16(..9999));
        self.tracks += 1;
        let filler = if self.large && self.tracks.is_multiple_of(LARGE_EVERY) {
            LARGE_PAYLOAD_BYTES
        } else {
            self.random.usize(USUAL_PAYLOAD_BYTES / 2..USUAL_PAYLOAD_BYTES)
        };
        let lyrics = FILLER.repeat(filler / FILLER.len());
        NewOp::new("track", &path, "set").field("tags").payload(&json!({ "value": { "lyrics": lyrics } }))
    }

    fn one(&mut self) -> NewOp {
        match self.random.u8(..10) {
            0..=3 => self.playlist(),
            4 | 5 => self.track(),
            6 => {
                let hash = self.hash();
                let op = if self.random.bool() { "insert" } else { "delete" };
                NewOp::new("liked_track", &hash, op)
            }
            7 => {
                let (hash, rating) = (self.hash(), self.random.u8(..));
                NewOp::new("track_rating", &hash, "set").payload_text(&format!("{{\"value\":{rating:>3}}}"))
            }
            _ => {
                let id = self.random.u8(1..9).to_string();
                NewOp::new("library", &id, "set").field("name").payload(&json!({ "value": self.word() }))
            }
        }
    }
}

impl Iterator for Mix {
    type Item = NewOp;

    fn next(&mut self) -> Option<NewOp> {
        let operation_id = self.uuid();
        Some(self.one().id(operation_id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_makes_the_same_ops_and_another_seed_others() {
        let ops: Vec<_> = Mix::new(7).take(300).collect();
        assert_eq!(ops, Mix::new(7).take(300).collect::<Vec<_>>());
        assert_ne!(ops, Mix::new(8).take(300).collect::<Vec<_>>());
        assert_eq!(ops.iter().map(|op| op.operation_id).collect::<HashSet<_>>().len(), 300);
        assert!(ops.iter().all(|op| op.operation_id.get_version_num() == 4));
    }

    #[test]
    fn a_mixture_has_everything_in_it() {
        let ops: Vec<_> = Mix::new(1).take(5000).collect();
        let entities: HashSet<_> = ops.iter().map(|op| op.entity.as_str()).collect();
        assert_eq!(entities, HashSet::from(["playlist", "track", "liked_track", "track_rating", "library"]));
        assert!(ops.iter().any(|op| op.field.is_none()) && ops.iter().any(|op| op.payload.is_none()));
        let sizes: Vec<_> = ops.iter().filter_map(|op| op.payload.as_ref().map(String::len)).collect();
        assert!(sizes.iter().min().is_some_and(|&smallest| smallest <= 15));
        assert!(sizes.iter().any(|&size| size > LARGE_PAYLOAD_BYTES));
        assert!(Mix::new(1).without_large().take(5000).all(|op| op.payload.is_none_or(|p| p.len() < 1000)));
    }
}
