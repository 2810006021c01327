//! The server that only echoes, and the search for ids that it and the bare loops live on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::ops::{Mix, NewOp};
use uuid::Uuid;

use super::echo::{Echo, content_length, echo};
use super::ground::verify_order;
use super::scan;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

fn request(ops: &[NewOp]) -> (Vec<u8>, Vec<u128>) {
    let ops: Vec<Value> = ops.iter().map(as_sent).collect();
    let ids = ops.iter().map(|op| Uuid::try_parse(op["operation_id"].as_str().unwrap()).unwrap().as_u128()).collect();
    // A tree writes its keys in alphabetical order; a request begins each op with its id.
    let ops: Vec<String> = ops
        .iter()
        .map(|op| {
            let mut rest = op.clone();
            let id = rest.as_object_mut().unwrap().remove("operation_id").unwrap();
            format!("{{\"operation_id\":{id},{}", rest.to_string().strip_prefix('{').unwrap())
        })
        .collect();
    (format!("{{\"device_id\":\"d\",\"ops\":[{}]}}", ops.join(",")).into_bytes(), ids)
}

fn as_sent(op: &NewOp) -> Value {
    let payload = op.payload.as_ref().map(|text| serde_json::from_str::<Value>(text).unwrap());
    json!({ "operation_id": op.operation_id.to_string(), "entity": op.entity, "entity_id": op.entity_id,
            "field": op.field, "op": op.op, "payload": payload })
}

fn places(body: &[u8]) -> Option<Vec<scan::Place>> {
    let mut places = Vec::new();
    scan::ops(body, &mut places).then_some(places)
}

#[test]
fn the_search_finds_the_ops_that_a_json_reader_finds() {
    let ops: Vec<_> = Mix::new(3).take(2000).collect();
    let (body, ids) = request(&ops);
    let found = places(&body).unwrap();
    assert_eq!(found.iter().map(|place| place.id).collect::<Vec<_>>(), ids);
    let read: Value = serde_json::from_slice(&body).unwrap();
    for (place, op) in found.iter().zip(read["ops"].as_array().unwrap()) {
        assert_eq!(&serde_json::from_slice::<Value>(&body[place.op.clone()]).unwrap(), op);
    }
}

#[test]
fn the_words_of_an_op_inside_a_string_are_no_op() {
    let quoting = r#"{"operation_id":"00000000-0000-4000-8000-000000000000"}"#;
    let op = NewOp::new("track", "1", "set").payload(&json!({ "value": quoting }));
    let (body, ids) = request(&[op.clone(), NewOp::rename(1)]);
    assert_eq!(places(&body).unwrap().iter().map(|place| place.id).collect::<Vec<_>>(), ids);
}

#[test]
fn what_is_no_request_is_none() {
    for bad in
        ["", "{}", "{\"ops\":[{\"operation_id\":\"x\"}]}", "{\"ops\":[{\"operation_id\":\"00000000-0000-4000-8000-0000"]
    {
        assert!(places(bad.as_bytes()).is_none_or(|places| places.is_empty()), "{bad}");
    }
    assert_eq!(places(b"{\"device_id\":\"d\",\"ops\":[]}\n").unwrap(), []);
}

#[test]
fn an_answer_has_every_row_whole_and_in_order() {
    let ops: Vec<_> = Mix::new(4).take(300).collect();
    let (body, ids) = request(&ops);
    let (mut answer, mut rows) = (Vec::new(), 7);
    echo(&body, &places(&body).unwrap(), &mut rows, &mut answer).unwrap();
    let begin = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(content_length(&answer[..begin]).unwrap(), answer.len() - begin);
    let read: Value = serde_json::from_slice(&answer[begin..]).unwrap();
    let accepted = read["accepted"].as_array().unwrap();
    assert_eq!(accepted.len(), ops.len());
    for (place, (row, op)) in accepted.iter().zip(&ops).enumerate() {
        assert_eq!((&row["id"], &row["device_id"]), (&json!(place + 8), &json!("d")));
        let sent = as_sent(op);
        assert!(sent.as_object().unwrap().iter().all(|(key, value)| row[key] == *value), "{row} for {sent}");
        assert!(row["created_at"].is_string());
    }
    let mut named = Vec::new();
    scan::ids(&answer, |id| named.push(id));
    assert_eq!(named, ids);
    echo(b"{\"device_id\":\"d\",\"ops\":[]}", &[], &mut rows, &mut answer).unwrap();
    assert!(answer.ends_with(b"\r\n\r\n{\"accepted\":[]}"));
}

#[test]
fn what_was_sent_is_in_the_books_in_order_and_not_before_it_was_there() {
    let server = Echo::start(Duration::ZERO).unwrap();
    let ops: Vec<_> = Mix::new(5).without_large().take(50).collect();
    let mut all = Vec::new();
    for part in ops.chunks(20) {
        let mut stream = TcpStream::connect(server.url().strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let (body, ids) = request(part);
        stream.write_all(format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
        let (first, last) = body.split_at(body.len() - 1);
        stream.write_all(first).unwrap();
        assert!(server.wait_for(all.len() + 1, Duration::from_millis(20)).is_err(), "it was not all there");
        stream.write_all(last).unwrap();
        all.extend(ids);
        let mut answer = [0; 16];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK\r");
    }
    let ledger = server.take();
    assert_eq!(ledger.ids, all);
    assert_eq!(ledger.requests.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [20, 40, 50]);
    assert!(server.take().ids.is_empty());
}

#[test]
fn a_drain_that_lost_doubled_or_swapped_an_op_has_no_figure() {
    assert!(verify_order(&[1, 2, 3], &[1, 2, 3]).is_ok());
    for wrong in [&[1, 2][..], &[1, 2, 3, 3], &[1, 2, 2, 3], &[2, 1, 3], &[]] {
        assert!(verify_order(&[1, 2, 3], wrong).is_err(), "{wrong:?}");
    }
}
