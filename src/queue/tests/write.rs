//! Settling, marking and counting.

use std::time::Duration;

use super::*;
use crate::drain::action::{Ack, Refusal};
use crate::queue::{census, mark, settle};

fn ack(place: &Place, id: i64) -> Ack {
    let pending = place.app.pending().unwrap();
    let row = pending.iter().find(|row| row.id == id).unwrap();
    Ack { id, operation_id: OperationId::new(&row.operation_id) }
}

#[test]
fn a_row_goes_by_id_and_operation_id_and_what_is_gone_counts() {
    let place = Place::with(Generation::Three, 5);
    let (one, two, three) = (ack(&place, 1), ack(&place, 2), ack(&place, 3));
    let swapped = Ack { id: 4, operation_id: two.operation_id.clone() };
    let acks = [one.clone(), swapped, three, one];
    assert_eq!(settle::settle(&place.database, &acks).unwrap(), 4);
    assert_eq!(place.app.pending().unwrap().iter().map(|row| row.id).collect::<Vec<_>>(), [2, 4, 5]);
}

#[test]
fn an_operation_id_written_otherwise_is_found_as_it_was_written() {
    let place = Place::new(Generation::One);
    let text = "00000000-0000-4000-8000-0000000000AB";
    place.raw(&RawOp::new(&op(), 1).with("operation_id", text.to_owned()));
    let canonical = Ack { id: 1, operation_id: OperationId::new(&text.to_lowercase()) };
    settle::settle(&place.database, &[canonical]).unwrap();
    assert_eq!(place.app.pending_count().unwrap(), 1);
    settle::settle(&place.database, &[Ack { id: 1, operation_id: OperationId::new(text) }]).unwrap();
    assert_eq!(place.app.pending_count().unwrap(), 0);
}

#[test]
fn one_transaction_deletes_no_longer_than_its_budget_and_always_something() {
    let place = Place::with(Generation::One, 5);
    let acks: Vec<Ack> = place.read(&plan()).batch.ops.iter().map(Into::into).collect();
    assert_eq!(settle::settle_within(&place.database, &acks, Duration::ZERO).unwrap(), 1);
    assert_eq!(place.app.pending_count().unwrap(), 4);
    assert_eq!(settle::settle(&place.database, &acks[1..]).unwrap(), 4);
    assert_eq!(place.app.pending_count().unwrap(), 0);
}

#[test]
fn a_mark_is_written_once_a_minute_and_when_the_words_change() {
    let place = Place::with(Generation::One, 3);
    let mark = |words: &str, now: i64| {
        let before = place.version();
        mark::mark(&place.database, &[1, 3, 77], words, now).unwrap();
        place.version() != before
    };
    let now = 1_750_000_000_000;
    let seen = |id: usize| {
        let row = place.app.pending().unwrap().remove(id - 1);
        (row.last_attempt_at, row.attempt_count, row.last_error)
    };
    assert!(mark("503", now));
    assert_eq!(seen(1), (Some(now), 1, Some("503".into())));
    assert_eq!(seen(2), (None, 0, None));
    assert!(!mark("503", now + 59_000), "nothing is written when nothing changed");
    assert!(mark("401", now + 59_000), "other words");
    assert_eq!(seen(3), (Some(now + 59_000), 2, Some("401".into())));
    assert!(mark("401", now + 119_001), "a minute later");
    assert!(mark("401", now - 86_400_000), "the clock was set back by a day");
    assert_eq!(seen(1).0, Some(now - 86_400_000));
    assert!(!mark("401", now - 86_400_000 + 1));
    place.app.connection().execute("DELETE FROM sync_pending_op", []).unwrap();
    assert!(!mark("other", now), "the rows are gone");
}

#[test]
fn only_rows_with_news_are_written_again() {
    let place = Place::with(Generation::One, 2);
    let now = 1_750_000_000_000;
    mark::mark(&place.database, &[1], "503", now).unwrap();
    mark::mark(&place.database, &[1, 2], "503", now + 10).unwrap();
    let counts: Vec<_> =
        place.app.pending().unwrap().iter().map(|row| (row.attempt_count, row.last_attempt_at)).collect();
    assert_eq!(counts, [(1, Some(now)), (1, Some(now + 10))]);
}

#[test]
fn a_quarantined_row_says_so_in_the_app() {
    let place = Place::with(Generation::One, 2);
    let refusal = Refusal { id: 2, operation_id: OperationId::new("x"), words: "422: no".into() };
    mark::mark_quarantined(&place.database, &[refusal], 5).unwrap();
    assert_eq!(place.app.pending().unwrap()[1].last_error.as_deref(), Some("quarantined: 422: no"));
    assert_eq!(place.app.pending().unwrap()[0].last_error, None);
}

#[test]
fn rows_are_counted_found_and_labelled() {
    let place = Place::with(Generation::One, 3);
    let two = ack(&place, 2);
    let text = "x".repeat(10_000);
    let blob = RawOp::new(&op().created_at(9), 10).with("operation_id", rusqlite::types::Value::Blob(vec![1, 2]));
    let blob = place.raw(&blob.with("entity", text.clone()).with("field", text));
    let found = place
        .database
        .read(|connection| {
            assert_eq!((census::newest(connection)?, census::total(connection)?), (Some(4), 4));
            let mut seen = Vec::new();
            census::look(connection, |id, created_at| seen.push((id, created_at)))?;
            assert_eq!(seen[0], (4, 9), "by age");
            let by_text = OperationId::new(&two.operation_id.to_string());
            assert_eq!(census::find(connection, i64::MIN, &by_text)?.unwrap().id, 2, "wherever it is");
            assert_eq!(census::find(connection, 3, &by_text)?.unwrap().id, 2);
            assert_eq!(census::find(connection, 2, &OperationId::new("else"))?, None);
            census::find(connection, blob, &OperationId::new("x'0102'"))
        })
        .unwrap()
        .unwrap();
    assert_eq!((found.id, found.created_at), (blob, 9));
    assert!(found.entity.len() < 100 && found.field.unwrap().len() < 100, "a label has an end");
    place.app.connection().execute("DELETE FROM sync_pending_op", []).unwrap();
    assert_eq!(place.database.read(census::newest).unwrap(), None);
}
