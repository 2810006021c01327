//! What came back, read into a [`Reply`]. Pure.
//!
//! What must always hold: an op counts as accepted only where a whole, well-formed answer names it; anything else is a
//! [`Reply::Status`], for others to judge. Rows that come back are read as a stream: no tree, and nothing of a payload
//! is kept.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use uuid::Uuid;

use super::words::{self, Secrets};
use crate::op::{Pair, Reply};

/// A device id is a UUID; whatever is longer is not ours, and is not kept.
const MAX_DEVICE_ID: usize = 256;

/// Longer waits than this are taken for this: an answer must not overflow somebody's clock.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(365 * 24 * 3600);

/// An answer, whole.
pub(super) struct Answer<'a> {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its headers.
    pub(super) headers: &'a HeaderMap,
    /// Its body, or the beginning of it where `whole` is false.
    pub(super) body: &'a [u8],
    /// Whether the body ends where `body` ends.
    pub(super) whole: bool,
    /// When it came.
    pub(super) now: SystemTime,
}

/// Whether an answer of this status is of use only with its whole body.
pub(super) fn needs_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::OK | StatusCode::CONFLICT)
}

/// Reads an answer.
pub(super) fn read(answer: &Answer<'_>, secrets: &Secrets<'_>) -> Reply {
    let known = match answer.status {
        StatusCode::OK if answer.whole => accepted(answer.body),
        StatusCode::CONFLICT if answer.whole => conflict(answer.body),
        _ => None,
    };
    known.unwrap_or_else(|| Reply::Status {
        status: answer.status.as_u16(),
        retry_after: retry_after(answer.headers, answer.now),
        words: describe(answer, secrets),
    })
}

/// Reads an answer that did not come over a wire of ours, whole, to a request of `token` and `request`; headers that are
/// none are left out. `None`: there is no such status. For tests from outside.
pub fn read_parts(status: u16, headers: &[(&str, &[u8])], body: &[u8], token: &str, request: &[u8]) -> Option<Reply> {
    let status = StatusCode::from_u16(status).ok()?;
    let pairs =
        headers.iter().filter_map(|(name, value)| Some((name.parse().ok()?, HeaderValue::from_bytes(value).ok()?)));
    let headers: HeaderMap = pairs.collect::<Vec<(HeaderName, HeaderValue)>>().into_iter().collect();
    let answer = Answer { status, headers: &headers, body, whole: true, now: SystemTime::now() };
    Some(read(&answer, &Secrets { token, request }))
}

fn describe(answer: &Answer<'_>, secrets: &Secrets<'_>) -> String {
    if answer.status.is_redirection() {
        let location = answer.headers.get(header::LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
        return match location.map(|location| words::location(&location, secrets)) {
            Some(location) if !location.is_empty() => format!("redirects to {location}"),
            _ => "redirects to nowhere".to_owned(),
        };
    }
    if answer.headers.contains_key(header::CONTENT_ENCODING) {
        return "an encoded answer, though none was asked for".to_owned();
    }
    let text = answer.body.trim_ascii_start();
    if needs_body(answer.status) && matches!(text.first(), Some(b'{' | b'[')) {
        // These hold rows, which hold what the user wrote: only their kind is told.
        return match serde_json::from_slice::<IgnoredAny>(text) {
            Ok(_) if answer.status == StatusCode::OK => "JSON without a list of accepted operations",
            Ok(_) => "JSON that tells no known conflict",
            Err(error) if error.is_eof() => "an answer cut short",
            Err(_) => "broken JSON",
        }
        .to_owned();
    }
    words::describe(answer.body, secrets)
}

/// `Retry-After`, in seconds or as a date; a date in the past is no wait.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Digits that do not fit mean a very long time.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(MAX_RETRY_AFTER))
}

fn accepted(body: &[u8]) -> Option<Reply> {
    serde_json::from_slice::<Accepted>(body).ok().map(|accepted| Reply::Accepted(accepted.0))
}

fn conflict(body: &[u8]) -> Option<Reply> {
    let Object(conflict) = serde_json::from_slice::<Object<Conflict>>(body).ok()?;
    let device_id = conflict.device_id.filter(|id| id.len() <= MAX_DEVICE_ID)?;
    match conflict.error.as_deref() {
        Some("lamport_regression") => Some(Reply::Regression {
            device_id,
            stored_max: conflict.stored_max?,
            offending: conflict.offending_lamport_ts?,
        }),
        Some("hlc_regression") => {
            Some(Reply::PairRegression { device_id, offending: conflict.offending_hlc?.0.into() })
        }
        _ => None,
    }
}

/// `{"accepted":[{"operation_id":…}]}`. Written by hand, because a derived reader also takes `[[…]]` for it.
struct Accepted(Vec<Uuid>);

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Accepted,
    OperationId,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Accepted {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Top;
        impl<'de> Visitor<'de> for Top {
            type Value = Accepted;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with `accepted`")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Accepted, A::Error> {
                only::<A, Rows>(map, |key| matches!(key, Key::Accepted)).map(|rows| Accepted(rows.0))
            }
        }
        reader.deserialize_map(Top)
    }
}

struct Rows(Vec<Uuid>);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Rows;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of rows")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Rows, A::Error> {
                let mut ids = Vec::new();
                while let Some(Named(id)) = rows.next_element()? {
                    ids.push(id);
                }
                Ok(Rows(ids))
            }
        }
        reader.deserialize_seq(List)
    }
}

/// A row, of which only the operation id is read.
struct Named(Uuid);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Row;
        impl<'de> Visitor<'de> for Row {
            type Value = Named;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row with `operation_id`")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Named, A::Error> {
                only::<A, Id>(map, |key| matches!(key, Key::OperationId)).map(|id| Named(id.0))
            }
        }
        reader.deserialize_map(Row)
    }
}

struct Id(Uuid);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a UUID")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Uuid::try_parse(text).map(Id).map_err(|_| E::custom("not a UUID"))
            }
        }
        reader.deserialize_str(Text)
    }
}

/// The value under the one key that `wanted` knows; it must be there exactly once, since an answer that names two
/// things under one key cannot be relied on.
fn only<'de, A: MapAccess<'de>, T: Deserialize<'de>>(mut map: A, wanted: impl Fn(&Key) -> bool) -> Result<T, A::Error> {
    let mut found = None;
    while let Some(key) = map.next_key::<Key>()? {
        if !wanted(&key) {
            map.next_value::<IgnoredAny>()?;
        } else if found.replace(map.next_value::<T>()?).is_some() {
            return Err(de::Error::custom("the same key twice"));
        }
    }
    found.ok_or_else(|| de::Error::custom("a key is missing"))
}

/// An object and nothing else: a derived reader would also take a list of the values for it.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        reader.deserialize_map(Fields(PhantomData))
    }
}

/// Either conflict. Every field may be missing, so that nothing else than an object with all that is needed passes.
#[derive(serde::Deserialize)]
struct Conflict {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    device_id: Option<String>,
    #[serde(default)]
    stored_max: Option<i64>,
    #[serde(default)]
    offending_lamport_ts: Option<i64>,
    #[serde(default)]
    offending_hlc: Option<Object<WirePair>>,
}

#[derive(serde::Deserialize)]
struct WirePair {
    wall: i64,
    logical: i64,
}

impl From<WirePair> for Pair {
    fn from(pair: WirePair) -> Self {
        Self { wall: pair.wall, logical: pair.logical }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "00000000-0000-4000-8000-00000000000a";
    const TOKEN: &str = "a-token-nobody-may-see";

    fn answer(status: u16, header: Option<(&'static str, &str)>, body: &str) -> Reply {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let answer = Answer { status, headers: &headers, body: body.as_bytes(), whole: true, now };
        read(&answer, &Secrets { token: TOKEN, request: b"" })
    }

    fn words(status: u16, body: &str) -> String {
        match answer(status, None, body) {
            Reply::Status { status: told, retry_after: None, words } if told == status => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn accepted_ops_are_named() {
        let (a, b) = (Uuid::from_u128(0xa), Uuid::from_u128(0xb));
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for (body, ids) in [
            ("{\"accepted\":[]}".to_owned(), vec![]),
            (format!("{{\"a\\u0063cepted\":[{{\"operation\\u005fid\":\"{a}\"}}]}}\n"), vec![a]),
            (
                format!(
                    "{{\"x\":{deep},\"accepted\":[{{\"id\":7,\"operation_id\":\"{a}\",\"payload\":{deep}}},\
                     {{\"payload\":{{\"operation_id\":5}},\"operation_id\":\"{}\",\"hlc\":null}}],\"next\":1e999}}",
                    b.hyphenated().to_string().to_uppercase()
                ),
                vec![a, b],
            ),
        ] {
            assert_eq!(answer(200, None, &body), Reply::Accepted(ids));
        }
    }

    #[test]
    fn any_other_200_accepts_nothing() {
        let row = format!("{{\"operation_id\":\"{A}\"}}");
        for (body, why) in [
            ("<html><title>Sign in</title>".to_owned(), "an HTML page, “Sign in”"),
            (String::new(), "an empty answer"),
            ("OK".to_owned(), "OK"),
            ("{}".to_owned(), "JSON without"),
            ("{\"accepted\":null}".to_owned(), "JSON without"),
            ("{\"accepted\":{}}".to_owned(), "JSON without"),
            ("{\"accepted\":[[]]}".to_owned(), "JSON without"),
            (format!("{{\"accepted\":[\"{A}\"]}}"), "JSON without"),
            (format!("{{\"accepted\":[[\"{A}\"]]}}"), "JSON without"),
            ("{\"accepted\":[{}]}".to_owned(), "JSON without"),
            ("{\"accepted\":[{\"operation_id\":\"x\"}]}".to_owned(), "JSON without"),
            (format!("{{\"accepted\":[{row},{{}}]}}"), "JSON without"),
            (format!("{{\"accepted\":[{row}],\"accepted\":[]}}"), "JSON without"),
            (format!("{{\"accepted\":[{{\"operation_id\":\"{A}\",\"operation_id\":\"{A}\"}}]}}"), "JSON without"),
            (format!("[[{row}]]"), "JSON without"),
            (format!("{{\"Accepted\":[{row}]}}"), "JSON without"),
            (format!("{{\"accepted\":[{row}"), "an answer cut short"),
            (format!("{{\"accepted\":[{row}]"), "an answer cut short"),
            (format!("{{\"accepted\":[{row}]}}x"), "broken JSON"),
            (format!("{{\"accepted\":[{row},]}}"), "broken JSON"),
        ] {
            let words = words(200, &body);
            assert!(words.starts_with(why), "{body}: {words}");
        }
    }

    #[test]
    fn conflicts_are_read() {
        let lamport = "{\"error\":\"lamport_regression\",\"device_id\":\"d\",\"stored_max\":9223372036854775807,\
                       \"offending_lamport_ts\":-10,\"more\":[1]}";
        assert_eq!(
            answer(409, None, lamport),
            Reply::Regression { device_id: "d".to_owned(), stored_max: i64::MAX, offending: -10 }
        );
        let hlc = "{\"error\":\"hlc_regression\",\"device_id\":\"d\",\"offending_hlc\":{\"wall\":1781000000000,\"logical\":3}}";
        let offending = Pair { wall: 1_781_000_000_000, logical: 3 };
        assert_eq!(answer(409, None, hlc), Reply::PairRegression { device_id: "d".to_owned(), offending });
        assert!(matches!(answer(400, None, lamport), Reply::Status { status: 400, .. }));
    }

    #[test]
    fn other_conflicts_are_only_told() {
        let long = "x".repeat(MAX_DEVICE_ID + 1);
        for body in [
            "{\"error\":\"lamport_regression\",\"device_id\":\"d\",\"stored_max\":1}",
            "{\"error\":\"lamport_regression\",\"device_id\":\"d\",\"stored_max\":1.5,\"offending_lamport_ts\":1}",
            "{\"error\":\"lamport_regression\",\"device_id\":7,\"stored_max\":1,\"offending_lamport_ts\":1}",
            "{\"error\":\"lamport_regression\",\"stored_max\":1,\"offending_lamport_ts\":1}",
            "{\"error\":\"hlc_regression\",\"device_id\":\"d\",\"offending_hlc\":{\"wall\":1}}",
            "{\"error\":\"other\",\"device_id\":\"d\",\"stored_max\":1,\"offending_lamport_ts\":1}",
            "{\"error\":\"hlc_regression\",\"device_id\":\"d\",\"offending_hlc\":[1,2]}",
            "[\"lamport_regression\",\"d\",1,2]",
            &format!(
                "{{\"error\":\"lamport_regression\",\"device_id\":\"{long}\",\"stored_max\":1,\"offending_lamport_ts\":1}}"
            ),
        ] {
            assert_eq!(words(409, body), "JSON that tells no known conflict", "{body}");
        }
        assert_eq!(words(409, "{\"error\":"), "an answer cut short");
        assert_eq!(words(409, "conflict"), "conflict");
    }

    #[test]
    fn other_statuses_keep_the_server_s_sentence() {
        assert_eq!(words(400, "device_id is required"), "device_id is required");
        assert_eq!(words(401, ""), "an empty answer");
        assert_eq!(words(503, "{\"message\":\"no route\"}"), "{\"message\":\"no route\"}");
        assert_eq!(words(500, &format!("bad {TOKEN}")), "bad (token)");
    }

    #[test]
    fn redirects_are_told_and_not_followed() {
        let told = answer(302, Some(("location", "http://portal/login?token=1")), "<html>");
        assert_eq!(
            told,
            Reply::Status { status: 302, retry_after: None, words: "redirects to http://portal/login".to_owned() }
        );
        assert_eq!(words(308, "moved"), "redirects to nowhere");
    }

    #[test]
    fn an_encoded_answer_is_not_guessed_at() {
        let told = answer(500, Some(("content-encoding", "gzip")), "abc");
        assert!(matches!(told, Reply::Status { words, .. } if words.starts_with("an encoded answer")));
    }

    #[test]
    fn waits_are_seconds_or_dates() {
        for (value, wait) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(365 * 24 * 3600)),
            ("18446744073709551615", Some(365 * 24 * 3600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(365 * 24 * 3600)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ] {
            let told = answer(503, Some(("retry-after", value)), "");
            let Reply::Status { retry_after, .. } = told else { panic!("{told:?}") };
            assert_eq!(retry_after, wait.map(Duration::from_secs), "{value}");
        }
    }
}
