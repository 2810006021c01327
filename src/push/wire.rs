//! The request body, and what the contract says a server refuses for ever.
//!
//! What must always hold: a payload's text goes into the body once and as it is, never through a tree; checking one
//! takes linear time and no recursion, whatever the text nests.

use std::io::Write;

use bytes::Bytes;
use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::buffer::{Buffer, Buffers};
use crate::op::{Pair, SERVER_MAX_BYTES, STAMP_LIMIT};

/// Containers the server's JSON reader opens at most, one within the other: its recursion limit of 128 stops at the
/// 128th (contract, section 3: "nesting over 127").
const SERVER_MAX_NESTING: usize = 127;

/// Containers around a payload: the body, `ops`, the op.
const ENVELOPE_NESTING: usize = 3;

/// What a body holds beside its ops, generously: the names, a device id, a `profile_canonical_id`. An op this close to
/// the server's limit travels alone, which is harmless where the guess is too high.
const ENVELOPE_ALLOWANCE: usize = 1024;

/// Numbers beyond this travel alone. The largest `f64` is 1.8e308 and readers differ in the last digits around it.
const SURE_NUMBER: f64 = 1e308;

/// Names, punctuation and the three numbers of an op, all at their longest.
const OP_FRAME: usize = 320;

/// Closes `ops` and the body.
const TAIL: &[u8] = b"]}";

/// One row of the queue, borrowed from the database while it is written into an [`Envelope`].
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Idempotency key, as the queue holds it.
    pub operation_id: &'a str,
    /// Lamport stamp.
    pub lamport_ts: i64,
    /// Kind of thing.
    pub entity: &'a str,
    /// Which one.
    pub entity_id: &'a str,
    /// `None` for ops on the whole entity.
    pub field: Option<&'a str>,
    /// `set`, `delete`, `insert` or `noop`.
    pub op: &'a str,
    /// JSON text.
    pub payload: Option<&'a str>,
    /// Sent as `hlc` where there is one.
    pub pair: Option<Pair>,
}

/// A request body in the making.
pub struct Envelope {
    bytes: Buffer,
    ops: usize,
    /// What ends each op: `profile_canonical_id` if there is one, and the brace.
    op_tail: Vec<u8>,
}

/// A batch without an op: a waveflow-server answers it with an empty list, and touches nothing (contract, section 3).
pub fn empty_batch(device_id: &str) -> Bytes {
    Envelope::new(Buffers::default().take(), device_id, None).finish()
}

impl Envelope {
    /// Begins a body in `buffer`, whose memory is used again and whose content is dropped. With `canonical_id` each op
    /// carries it as `profile_canonical_id`.
    pub fn new(buffer: Buffer, device_id: &str, canonical_id: Option<&str>) -> Self {
        let mut bytes = buffer;
        bytes.clear();
        bytes.extend_from_slice(b"{\"device_id\":");
        quote(&mut bytes, device_id);
        bytes.extend_from_slice(b",\"ops\":[");
        let mut op_tail = Vec::new();
        if let Some(id) = canonical_id {
            op_tail.extend_from_slice(b",\"profile_canonical_id\":");
            quote(&mut op_tail, id);
        }
        op_tail.push(b'}');
        Self { bytes, ops: 0, op_tail }
    }

    /// Adds an op. Its payload is taken as it is: the caller has had it checked by [`lint`].
    pub fn push(&mut self, row: &Row<'_>) {
        let out = &mut self.bytes;
        if self.ops > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"operation_id\":");
        quote(out, row.operation_id);
        out.extend_from_slice(b",\"lamport_ts\":");
        number(out, row.lamport_ts);
        out.extend_from_slice(b",\"entity\":");
        quote(out, row.entity);
        out.extend_from_slice(b",\"entity_id\":");
        quote(out, row.entity_id);
        out.extend_from_slice(b",\"field\":");
        match row.field {
            Some(field) => quote(out, field),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"op\":");
        quote(out, row.op);
        out.extend_from_slice(b",\"payload\":");
        out.extend_from_slice(row.payload.unwrap_or("null").as_bytes());
        if let Some(pair) = row.pair {
            out.extend_from_slice(b",\"hlc\":{\"wall\":");
            number(out, pair.wall);
            out.extend_from_slice(b",\"logical\":");
            number(out, pair.logical);
            out.push(b'}');
        }
        out.extend_from_slice(&self.op_tail);
        self.ops += 1;
    }

    /// Adds an op if the whole body then has at most `max_bytes`; the first one whatever its length. Says whether it did.
    pub fn push_within(&mut self, row: &Row<'_>, max_bytes: usize) -> bool {
        let before = self.bytes.len();
        self.push(row);
        if self.ops > 1 && self.len() > max_bytes {
            self.bytes.truncate(before);
            self.ops -= 1;
            return false;
        }
        true
    }

    /// Ops so far.
    pub fn ops(&self) -> usize {
        self.ops
    }

    /// Bytes of the body if it were finished now.
    #[expect(clippy::len_without_is_empty, reason = "a body is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len() + TAIL.len()
    }

    /// The whole body.
    pub fn finish(self) -> Bytes {
        let mut bytes = self.bytes;
        bytes.extend_from_slice(TAIL);
        bytes.freeze()
    }
}

/// Whether an op may be too long for a server by itself. Cautious: it may be shorter by a kilobyte.
fn is_too_long(row: &Row<'_>) -> bool {
    let texts = [row.operation_id, row.entity, row.entity_id, row.op, row.field.unwrap_or_default()];
    let most = texts.iter().map(|text| 6 * text.len()).sum::<usize>() + row.payload.map_or(0, str::len);
    // Counting what has to be escaped takes a walk over the texts, for nothing where they are short.
    most + OP_FRAME + ENVELOPE_ALLOWANCE > SERVER_MAX_BYTES && op_bound(row) + ENVELOPE_ALLOWANCE > SERVER_MAX_BYTES
}

/// An upper bound for an op's bytes, without what ends it.
fn op_bound(row: &Row<'_>) -> usize {
    OP_FRAME
        + quoted_len(row.operation_id)
        + quoted_len(row.entity)
        + quoted_len(row.entity_id)
        + row.field.map_or(0, quoted_len)
        + quoted_len(row.op)
        + row.payload.map_or(0, str::len)
}

/// Appends `text` as a JSON string.
fn quote(out: &mut impl Write, text: &str) {
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok(), "any str is a JSON string, and memory takes all that is written");
}

/// Appends `value` in decimal.
fn number(out: &mut impl Write, value: i64) {
    let written = serde_json::to_writer(out, &value);
    debug_assert!(written.is_ok(), "any i64 is a JSON number, and memory takes all that is written");
}

/// The most bytes `text` takes as a JSON string: an escape has at most six.
fn quoted_len(text: &str) -> usize {
    let escaped = text.bytes().filter(|b| *b < 0x20 || *b == b'"' || *b == b'\\').count();
    text.len() + 5 * escaped + 2
}

/// Whether the contract says that a server refuses this op for ever, so that it has to travel alone. Cautious: `true`
/// for an op that would have been taken costs a request and nothing else.
///
/// # Errors
/// The payload is not exactly one JSON value; the text says where, and quotes nothing of it.
pub fn lint(row: &Row<'_>) -> Result<bool, String> {
    let payload = row.payload.unwrap_or("null");
    // Reads without recursion and without looking at numbers' sizes and surrogates; `Scan` looks at those.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(payload) {
        return Err(format!("the payload is not JSON: {error}"));
    }
    Ok(columns_doomed(row) || payload_doomed(payload) || is_too_long(row))
}

fn columns_doomed(row: &Row<'_>) -> bool {
    let blank = [row.entity, row.entity_id, row.op].iter().any(|text| text.trim().is_empty());
    let texts = [row.entity, row.entity_id, row.op, row.field.unwrap_or_default()];
    let nul = texts.iter().any(|text| text.contains('\0'));
    let clock = match row.pair {
        None => !(1..STAMP_LIMIT).contains(&row.lamport_ts),
        // `logical` is an i32 there, and both must not be negative.
        Some(pair) => pair.wall < 0 || !(0..=i64::from(i32::MAX)).contains(&pair.logical),
    };
    blank || nul || clock || Uuid::try_parse(row.operation_id).is_err()
}

/// Walks over text that is known to be JSON, looking for what the server cannot store or read.
fn payload_doomed(payload: &str) -> bool {
    let bytes = payload.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => match string_end(bytes, at + 1) {
                Some(end) => at = end,
                None => return true,
            },
            b'[' | b'{' => {
                depth += 1;
                if depth + ENVELOPE_NESTING > SERVER_MAX_NESTING {
                    return true;
                }
                at += 1;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let end = bytes.iter().skip(at).position(|b| !is_number(*b)).map_or(bytes.len(), |len| at + len);
                let value = payload.get(at..end).and_then(|text| text.parse::<f64>().ok());
                if value.is_none_or(|value| value.abs() > SURE_NUMBER) {
                    return true;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    false
}

fn is_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Where the string ends whose content begins at `at`; `None` where it holds what is refused for ever: a NUL, or half
/// of a surrogate pair.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if bytes.get(at + 1) == Some(&b'u') => match unit(bytes, at)? {
                0 | 0xDC00..=0xDFFF => return None,
                0xD800..=0xDBFF => match unit(bytes, at + 6)? {
                    0xDC00..=0xDFFF => at += 12,
                    _ => return None,
                },
                _ => at += 6,
            },
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The UTF-16 unit of the `\uXXXX` at `at`, if there is one.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::buffer::Buffers;

    const ID: &str = "00000000-0000-4000-8000-000000000001";

    fn row(payload: &str) -> Row<'_> {
        Row {
            operation_id: ID,
            lamport_ts: 42,
            entity: "playlist",
            entity_id: "7",
            field: Some("name"),
            op: "set",
            payload: Some(payload),
            pair: None,
        }
    }

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn the_contract_s_example_is_what_comes_out() {
        let mut old = Buffers::default().take();
        old.extend_from_slice(b"old");
        let mut envelope = Envelope::new(old, "dev", Some("canon"));
        let pair = Some(Pair { wall: 1_750_000_000_000, logical: 0 });
        envelope.push(&Row { pair, ..row("{ \"value\": \"Soirée\" }") });
        envelope.push(&Row { field: None, payload: None, ..row("") });
        assert_eq!(envelope.ops(), 2);
        let text = String::from_utf8(envelope.finish().to_vec()).unwrap();
        assert_eq!(
            text,
            format!(
                "{{\"device_id\":\"dev\",\"ops\":[{{\"operation_id\":\"{ID}\",\"lamport_ts\":42,\"entity\":\"playlist\",\
                 \"entity_id\":\"7\",\"field\":\"name\",\"op\":\"set\",\"payload\":{{ \"value\": \"Soirée\" }},\
                 \"hlc\":{{\"wall\":1750000000000,\"logical\":0}},\"profile_canonical_id\":\"canon\"}},\
                 {{\"operation_id\":\"{ID}\",\"lamport_ts\":42,\"entity\":\"playlist\",\"entity_id\":\"7\",\
                 \"field\":null,\"op\":\"set\",\"payload\":null,\"profile_canonical_id\":\"canon\"}}]}}"
            )
        );
    }

    #[test]
    fn an_empty_body_is_one_too() {
        let envelope = Envelope::new(Buffers::default().take(), "d", None);
        assert_eq!(envelope.len(), 26);
        assert_eq!(envelope.finish(), "{\"device_id\":\"d\",\"ops\":[]}");
    }

    #[test]
    fn fine_payloads_are_fine() {
        let deepest = nested(124);
        for text in [
            "{}",
            " \t\r\n[1, -2.5e3, 1e300, 0e999]\n",
            "null",
            "\"\\\\u0000 \\ud83d\\ude00 \\u0001 \\\\ud800\"",
            "\"1e400 [[[ \\\" \"",
            "1e-999",
            &deepest,
        ] {
            assert_eq!(lint(&row(text)), Ok(false), "{text}");
        }
        assert_eq!(lint(&Row { payload: None, ..row("") }), Ok(false));
        let stamp = Row { lamport_ts: i64::MAX, pair: Some(Pair { wall: 0, logical: 2_147_483_647 }), ..row("1") };
        assert_eq!(lint(&stamp), Ok(false));
    }

    #[test]
    fn what_a_server_refuses_for_ever_is_doomed() {
        let (deep, abyss) = (nested(125), nested(1_000_000));
        let digits = "9".repeat(400);
        for text in [
            "{\"value\":\"a\\u0000b\"}",
            "{\"a\\u0000b\":1}",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\uD800x\"",
            "\"\\ud800\\n\"",
            "\"\\ud800\\ud800\\udc00\"",
            "1e400",
            "[-1e400]",
            &digits,
            &deep,
            &abyss,
        ] {
            assert_eq!(lint(&row(text)), Ok(true), "{}", text.get(..20).unwrap_or(text));
        }
        let fine = row("1");
        for row in [
            Row { entity: " ", ..fine },
            Row { entity_id: "", ..fine },
            Row { op: "\t", ..fine },
            Row { entity_id: "a\0b", ..fine },
            Row { field: Some("\0"), ..fine },
            Row { operation_id: "not a uuid", ..fine },
            Row { lamport_ts: 0, ..fine },
            Row { lamport_ts: STAMP_LIMIT, ..fine },
            Row { pair: Some(Pair { wall: -1, logical: 0 }), ..fine },
            Row { pair: Some(Pair { wall: 1, logical: STAMP_LIMIT }), ..fine },
        ] {
            assert_eq!(lint(&row), Ok(true));
        }
        let large = format!("\"{}\"", "x".repeat(SERVER_MAX_BYTES - 500));
        assert_eq!(lint(&row(&large)), Ok(true));
    }

    #[test]
    fn what_is_not_json_is_said_without_quoting_it() {
        for text in
            ["", " ", "secret", "{\"secret\":", "{} secret", "'secret'", "\"secret", "\u{feff}{}", "\"\0\"", "01"]
        {
            let error = lint(&row(text)).unwrap_err();
            assert!(error.contains("not JSON") && !error.contains("secret"), "{error}");
        }
    }

    fn payload() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), {
                any::<String>().prop_map(Value::from)
            }];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    type Columns = (String, i64, String, String, Option<String>, Option<Value>, Option<(i64, i64)>);

    fn columns() -> impl Strategy<Value = Columns> {
        (
            any::<String>(),
            any::<i64>(),
            any::<String>(),
            any::<String>(),
            any::<Option<String>>(),
            prop::option::of(payload()),
            any::<Option<(i64, i64)>>(),
        )
    }

    fn tree((id, stamp, entity, entity_id, field, payload, pair): &Columns, canonical: Option<&str>) -> Value {
        let mut op = json!({
            "operation_id": id, "lamport_ts": stamp, "entity": entity, "entity_id": entity_id, "field": field,
            "op": "set", "payload": payload,
        });
        if let Some((wall, logical)) = pair {
            op["hlc"] = json!({"wall": wall, "logical": logical});
        }
        if let Some(canonical) = canonical {
            op["profile_canonical_id"] = json!(canonical);
        }
        op
    }

    proptest! {
        #[test]
        fn a_body_is_the_tree_made_from_the_same_rows(
            device in any::<String>(), canonical in any::<Option<String>>(), rows in prop::collection::vec(columns(), 0..6)
        ) {
            let mut envelope = Envelope::new(Buffers::default().take(), &device, canonical.as_deref());
            for (id, stamp, entity, entity_id, field, payload, pair) in &rows {
                let payload = payload.as_ref().map(Value::to_string);
                let row = Row {
                    operation_id: id, lamport_ts: *stamp, entity, entity_id, field: field.as_deref(), op: "set",
                    payload: payload.as_deref(), pair: pair.map(|(wall, logical)| Pair { wall, logical }),
                };
                prop_assert!(lint(&row).is_ok());
                let (before, ops) = (envelope.len(), envelope.ops());
                // A body that is one byte too short for it is as it was.
                if ops > 0 {
                    envelope.push(&row);
                    let after = envelope.len();
                    envelope.bytes.truncate(before - TAIL.len());
                    envelope.ops -= 1;
                    prop_assert!(!envelope.push_within(&row, after - 1));
                    prop_assert_eq!((envelope.len(), envelope.ops()), (before, ops));
                    prop_assert!(envelope.push_within(&row, after));
                } else {
                    prop_assert!(envelope.push_within(&row, 0), "the first one, whatever its length");
                }
                prop_assert!(envelope.len() - before <= op_bound(&row) + envelope.op_tail.len());
            }
            let len = envelope.len();
            let body = envelope.finish();
            prop_assert_eq!(body.len(), len);
            let ops: Vec<_> = rows.iter().map(|row| tree(row, canonical.as_deref())).collect();
            prop_assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!({"device_id": device, "ops": ops}));
        }

        #[test]
        fn the_verdict_on_a_payload_is_the_reader_s(text in "[\\[\\]{}:,\" 0-9a-fu\\\\de+.-]{0,40}") {
            if let Ok(doomed) = lint(&row(&text)) {
                let read = serde_json::from_str::<Value>(&text);
                prop_assert!(doomed || read.is_ok());
                let text = read.map(|value| value.to_string()).unwrap_or_default();
                prop_assert!(doomed || !text.contains("\\u0000"));
            }
        }
    }
}
