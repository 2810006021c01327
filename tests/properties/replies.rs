//! An answer: a line with its status, header lines, an empty line, the body. In the body, the byte 1 stands for the token
//! and the byte 2 for the request.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use uuid::Uuid;
use waveflow_sync_agent::drain::verdict::{Verdict, judge};
use waveflow_sync_agent::op::{Op, OperationId, Pair, Reply};
use waveflow_sync_agent::push::reply::read_parts;

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.c2lnbmF0dXJlIG9mIGFsaWNl";
const REQUEST: &str = "{\"device_id\":\"d\",\"ops\":[{\"payload\":{\"value\":\"Dear diary, today I met somebody\"}}]}";
/// A token's piece of this length is worth having.
const TOKEN_PIECE: usize = 16;
/// A quotation of this length tells what the user wrote.
const QUOTATION: usize = 24;
/// A sentence has 160 characters; what stands around it is ours.
const WORDS_MAX: usize = 200;
/// Longer waits are taken for this.
const YEAR_S: u64 = 365 * 24 * 3600;

/// See the module.
pub(crate) fn check(input: &[u8]) {
    let Some((status, headers, body)) = take_apart(input) else { return };
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let Some(reply) = read_parts(status, &headers, &body, TOKEN, REQUEST.as_bytes()) else { return };
    match &reply {
        Reply::Accepted(ids) => {
            assert_eq!(status, 200);
            check_accepted(ids, &body);
        }
        Reply::Regression { device_id, stored_max, offending } => {
            let Some(tree) = conflict(status, "lamport_regression", device_id, &body) else { return };
            let numbers = (tree["stored_max"].as_i64(), tree["offending_lamport_ts"].as_i64());
            assert_eq!(numbers, (Some(*stored_max), Some(*offending)));
        }
        Reply::PairRegression { device_id, offending } => {
            let Some(tree) = conflict(status, "hlc_regression", device_id, &body) else { return };
            let pair = &tree["offending_hlc"];
            let numbers = (pair["wall"].as_i64(), pair["logical"].as_i64());
            assert_eq!(numbers, (Some(offending.wall), Some(offending.logical)));
        }
        Reply::Status { status: told, retry_after, words } => {
            assert_eq!(*told, status);
            assert!(retry_after.is_none_or(|wait| wait.as_secs() <= YEAR_S));
            assert!(retry_after.is_none() || headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("retry-after")));
            check_words(words);
            assert!(expected(status, &body).is_none(), "{reply:?}");
        }
        Reply::Failed { .. } => panic!("a whole answer is no failure"),
    }
    if let Some(expected) = expected(status, &body) {
        assert_eq!(reply, expected);
    }
    check_verdict(reply);
}

type Headers = Vec<(String, Vec<u8>)>;

fn take_apart(input: &[u8]) -> Option<(u16, Headers, Vec<u8>)> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let status: u16 = std::str::from_utf8(lines.next()?).ok()?.trim().parse().ok()?;
    let mut headers = Headers::new();
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        headers.push((String::from_utf8(line[..colon].to_vec()).ok()?, line[colon + 1..].to_vec()));
    }
    let mut body = Vec::new();
    for byte in lines.collect::<Vec<_>>().join(&b'\n') {
        match byte {
            1 => body.extend_from_slice(TOKEN.as_bytes()),
            2 => body.extend_from_slice(REQUEST.as_bytes()),
            byte => body.push(byte),
        }
    }
    Some((status, headers, body))
}

/// Whoever is named stands in the body, as often as he is named.
fn check_accepted(ids: &[Uuid], body: &[u8]) {
    // Nobody looks into the texts of a row, which may then be anything.
    let Ok(text) = std::str::from_utf8(body) else { return };
    if let Ok(keys) = serde_json::from_str::<Keys>(text) {
        assert_eq!(keys.0.iter().filter(|key| *key == "accepted").count(), 1, "which of them?");
    }
    match serde_json::from_str::<Value>(text) {
        Ok(tree) => assert_eq!(named(&tree).as_deref(), Some(ids)),
        // Deeper than a tree is read, or a number that does not fit: neither is looked at. Escapes hide a name.
        Err(_) if text.contains('\\') => {}
        Err(_) => {
            let lower = text.to_lowercase().replace('-', "");
            ids.iter().for_each(|id| assert!(lower.contains(&id.simple().to_string()), "{id} is not in it"));
        }
    }
}

/// The keys of an object, each as often as it stands there; a tree keeps one of each.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Keys;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        reader.deserialize_map(Object)
    }
}

/// The ids in the rows of a tree; `None` where it is no list of rows that all have one.
fn named(tree: &Value) -> Option<Vec<Uuid>> {
    let rows = tree.as_object()?.get("accepted")?.as_array()?;
    rows.iter().map(|row| Uuid::try_parse(row.as_object()?.get("operation_id")?.as_str()?).ok()).collect()
}

/// The tree of a conflict; `None` where something that nobody looks at is too deep or too large for one.
fn conflict(status: u16, error: &str, device_id: &str, body: &[u8]) -> Option<Value> {
    assert!(status == 409 && device_id.len() <= 256);
    let tree: Value = serde_json::from_slice(body).ok()?;
    assert_eq!((tree["error"].as_str(), tree["device_id"].as_str()), (Some(error), Some(device_id)));
    Some(tree)
}

/// What a body says that leaves no doubt: every key of interest as often as there is something under it, spelt without
/// escapes.
fn expected(status: u16, body: &[u8]) -> Option<Reply> {
    let text = std::str::from_utf8(body).ok().filter(|text| !text.contains('\\'))?;
    let tree: Value = serde_json::from_str(text).ok()?;
    let count = |key: &str| text.matches(&format!("\"{key}\"")).count();
    let text_of = |key: &str| tree.as_object()?.get(key)?.as_str();
    let number = |tree: &Value, key: &str| tree.as_object()?.get(key)?.as_i64();
    if status == 200 {
        let ids = named(&tree)?;
        return (count("accepted") == 1 && count("operation_id") == ids.len()).then_some(Reply::Accepted(ids));
    }
    let keys = ["error", "device_id", "stored_max", "offending_lamport_ts", "offending_hlc", "wall", "logical"];
    if status != 409 || keys.iter().any(|key| count(key) > 1) {
        return None;
    }
    let device_id = text_of("device_id").filter(|id| id.len() <= 256)?.to_owned();
    match text_of("error")? {
        "lamport_regression" if tree.get("offending_hlc").is_none() => Some(Reply::Regression {
            device_id,
            stored_max: number(&tree, "stored_max")?,
            offending: number(&tree, "offending_lamport_ts")?,
        }),
        "hlc_regression" if tree.get("stored_max").is_none() && tree.get("offending_lamport_ts").is_none() => {
            let pair = tree.get("offending_hlc")?;
            let offending = Pair { wall: number(pair, "wall")?, logical: number(pair, "logical")? };
            Some(Reply::PairRegression { device_id, offending })
        }
        _ => None,
    }
}

fn check_words(words: &str) {
    assert!(!words.is_empty() && words.chars().count() <= WORDS_MAX, "{words:?}");
    let steers = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!words.contains(steers), "{words:?}");
    let repeats = |secret: &str, length| {
        let bytes = secret.as_bytes();
        words.as_bytes().windows(length).any(|piece| bytes.windows(length).any(|secret| secret == piece))
    };
    assert!(!repeats(TOKEN, TOKEN_PIECE), "the token in {words:?}");
    assert!(!repeats(REQUEST, QUOTATION), "the request in {words:?}");
}

/// Only an answer that names ops settles any.
fn check_verdict(reply: Reply) {
    let ids = match &reply {
        Reply::Accepted(ids) => Some(ids.clone()),
        _ => None,
    };
    match (judge(reply, "d"), ids) {
        (Verdict::Accepted(named), Some(ids)) => {
            // In the server's order, in another one, and beside an op that it did not name.
            let ops: Vec<Op> = ids.iter().map(|id| op(*id)).collect();
            let others: Vec<Op> = ids.iter().rev().copied().chain([Uuid::max()]).map(op).collect();
            assert_eq!(named.among(&ops), vec![true; ids.len()]);
            let told = named.among(&others);
            assert_eq!(told.split_last(), Some((&ids.contains(&Uuid::max()), &*vec![true; ids.len()])));
        }
        (Verdict::Accepted(_), None) => panic!("nothing was named, and something settles"),
        (_, ids) => assert_eq!(ids, None),
    }
}

fn op(id: Uuid) -> Op {
    let operation_id = OperationId::Canonical(id);
    Op { id: 1, operation_id, stamp: 1, pair: None, doomed: false, follows: true, bytes: 1, queued_at: 0 }
}
