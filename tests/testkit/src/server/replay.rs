//! The 143 answers of the two real servers, given again: by the model alone, and over sockets.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::http::Client;
use crate::token;

#[derive(Deserialize)]
pub(super) struct Line {
    server: String,
    step: u32,
    name: String,
    user: String,
    method: String,
    path: String,
    content_type: Option<String>,
    body: String,
    status: u16,
    answer_type: Option<String>,
    answer: Value,
}

fn lines() -> Vec<Line> {
    let lines: Vec<Line> =
        include_str!("../../data/answers.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 143);
    lines
}

impl Line {
    fn version(&self) -> Version {
        if self.server == "first" { Version::First } else { Version::Later }
    }

    fn token(&self) -> Option<String> {
        match self.user.as_str() {
            "none" => None,
            "garbage" => Some("garbage".into()),
            "expired" => Some(token::expired("alice")),
            user => Some(token::for_user(user)),
        }
    }

    fn compare(&self, status: u16, content_type: Option<&str>, body: &[u8]) {
        let place = format!("{} {}: {}", self.server, self.step, self.name);
        assert_eq!(status, self.status, "{place}");
        assert_eq!(content_type, self.answer_type.as_deref(), "{place}");
        let answer = match content_type {
            Some("application/json") => serde_json::from_slice(body).unwrap(),
            _ => Value::String(String::from_utf8(body.to_vec()).unwrap()),
        };
        assert!(matches(&self.answer, &answer), "{place}:\n got {answer}\nnot {}", self.answer);
    }
}

/// Whether an answer is the expected one, where `*` stands for any scalar.
fn matches(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::String(any), got) if any == "*" => !got.is_null() && !got.is_object() && !got.is_array(),
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len() && expected.iter().zip(got).all(|(expected, got)| matches(expected, got))
        }
        (Value::Object(expected), Value::Object(got)) => {
            expected.len() == got.len()
                && expected.iter().all(|(key, expected)| got.get(key).is_some_and(|got| matches(expected, got)))
        }
        (expected, got) => expected == got,
    }
}

#[test]
fn the_model_gives_the_answers_of_the_real_servers() {
    let (mut first, mut later) = (Model::new(Version::First), Model::new(Version::Later));
    for line in lines() {
        let user = line.token().and_then(|token| token::user_of(&token, crate::time::now_s()));
        let model = if line.version() == Version::First { &mut first } else { &mut later };
        let answer = model.handle(&Request {
            method: &line.method,
            path: &line.path,
            content_type: line.content_type.as_deref(),
            user: user.as_deref(),
            body: line.body.as_bytes(),
            now_ms: 1,
        });
        line.compare(answer.status, answer.content_type, &answer.body);
    }
}

#[test]
fn the_listener_gives_them_too() {
    let limit = Duration::from_secs(10);
    let (first, later) = (Server::start(Version::First).unwrap(), Server::start(Version::Later).unwrap());
    let mut clients = [&first, &later].map(|server| Client::new(&server.url(), limit).unwrap());
    for line in lines() {
        let client = &mut clients[usize::from(line.version() == Version::Later)];
        let (token, content_type) = (line.token(), line.content_type.as_deref());
        let answer =
            client.request(&line.method, &line.path, token.as_deref(), content_type, line.body.as_bytes()).unwrap();
        line.compare(answer.status, answer.content_type.as_deref(), &answer.body);
    }
    assert_eq!(first.stats().connections + later.stats().connections, 2, "every answer left its connection usable");
}

#[test]
fn a_star_stands_for_one_value_and_nothing_else_is_forgiven() {
    let expected = serde_json::json!({ "a": "*", "b": [1] });
    for (got, same) in [
        (serde_json::json!({ "a": 5, "b": [1] }), true),
        (serde_json::json!({ "a": null, "b": [1] }), false),
        (serde_json::json!({ "a": 5, "b": [1], "c": 0 }), false),
        (serde_json::json!({ "a": 5 }), false),
        (serde_json::json!({ "a": 5, "b": [1, 2] }), false),
    ] {
        assert_eq!(matches(&expected, &got), same, "{got}");
    }
}
