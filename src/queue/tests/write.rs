//! Marking and counting.

use super::*;
use crate::drain::action::Refusal;
use crate::queue::{census, mark};

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
    let two = OperationId::new(&place.app.pending().unwrap()[1].operation_id);
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
            let by_text = OperationId::new(&two.to_string());
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
