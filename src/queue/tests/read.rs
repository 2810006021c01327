//! Rows into a body: limits, picks, order, and rows that no app would write.

use rusqlite::Connection;
use rusqlite::types::Value;

use super::*;
use crate::queue::read::PAYLOAD_MAX;

#[test]
fn a_batch_ends_at_its_limits_and_the_next_one_begins_there() {
    let place = Place::with(Generation::One, 10);
    let four = place.read(&Plan { max_ops: 4, ..plan() });
    assert_eq!((ids(&four), four.cursor, four.end), (vec![1, 2, 3, 4], 4, false));
    let rest = place.read(&Plan { after: four.cursor, above: Some(4), ..plan() });
    assert_eq!((ids(&rest), rest.cursor, rest.end), ((5..=10).collect(), 10, true));
    let some = place.read(&Plan { after: 2, until: 5, ..plan() });
    assert_eq!((ids(&some), some.end), (vec![3, 4, 5], true), "not beyond `until`");

    let whole = four.batch.body.len();
    let bytes = place.read(&Plan { max_bytes: whole, ..plan() });
    assert!((1..=4).contains(&bytes.batch.ops.len()) && bytes.batch.body.len() <= whole, "{:?}", bytes.batch);
    assert_eq!(bytes.cursor, i64::try_from(bytes.batch.ops.len()).unwrap());
    let tiny = place.read(&Plan { max_bytes: 1, ..plan() });
    assert_eq!(ids(&tiny), [1], "the first one always");
    assert!(place.read(&Plan { after: 10, ..plan() }).end);
}

#[test]
fn the_body_is_what_the_server_reads() {
    let place = Place::new(Generation::Three);
    let id = place
        .raw(&RawOp::new(&op().payload_text("{\"value\": \"Soirée\"}"), 42).with("hlc_wall", 7).with("hlc_logical", 3));
    let rows = place.read(&plan());
    let body: serde_json::Value = serde_json::from_slice(&rows.batch.body).unwrap();
    assert_eq!(body["device_id"], "dev");
    let sent = &body["ops"][0];
    assert_eq!((&sent["lamport_ts"], &sent["payload"]["value"]), (&42.into(), &"Soirée".into()));
    assert_eq!((&sent["hlc"]["wall"], &sent["hlc"]["logical"]), (&7.into(), &3.into()));
    assert_eq!(rows.batch.ops[0].id, id);
}

#[test]
fn columns_of_each_generation_are_told_apart() {
    for (generation, pairs) in
        [(Generation::One, false), (Generation::Two, false), (Generation::Three, true), (Generation::Future, true)]
    {
        let place = Place::with(generation, 2);
        assert_eq!(place.columns, Columns { pairs });
        let rows = place.read(&plan());
        assert_eq!(rows.batch.ops.len(), 2);
        assert!(rows.batch.ops.iter().all(|op| op.pair.is_some() == pairs), "{generation:?}");
    }
    let empty = Connection::open_in_memory().unwrap();
    assert_eq!(columns::look(&empty).unwrap(), None);
    empty.execute_batch("CREATE TABLE sync_pending_op (id INTEGER PRIMARY KEY)").unwrap();
    assert!(columns::look(&empty).unwrap_err().message.contains("operation_id"));
}

#[test]
fn what_a_server_refuses_for_ever_travels_alone() {
    let place = Place::with(Generation::One, 2);
    place.raw(&RawOp::new(&op().payload_text("\"\\u0000\""), 10));
    place.raw(&RawOp::new(&op(), 11));
    place.raw(&RawOp::new(&op(), 12));
    assert_eq!(ids(&place.read(&plan())), [1, 2]);
    let doomed = place.read(&Plan { after: 2, ..plan() });
    assert_eq!((ids(&doomed), doomed.batch.ops[0].doomed, doomed.end), (vec![3], true, false));
    assert_eq!(ids(&place.read(&Plan { after: 3, ..plan() })), [4, 5]);
    assert_eq!(ids(&place.read(&Plan { after: 3, alone: vec![5], ..plan() })), [4]);
    assert_eq!(ids(&place.read(&Plan { after: 4, alone: vec![5], ..plan() })), [5]);
}

#[test]
fn a_row_that_cannot_be_read_spoils_nothing_but_itself() {
    let place = Place::new(Generation::Three);
    let blob = || Value::Blob(vec![0xff, 0xfe]);
    let wrong: [(&'static str, Value); 9] = [
        ("operation_id", blob()),
        ("lamport_ts", Value::Text("soon".into())),
        ("entity", blob()),
        ("entity_id", blob()),
        ("field", blob()),
        ("payload", blob()),
        ("payload", Value::Text("gibberish".into())),
        ("created_at", Value::Text("yesterday".into())),
        ("hlc_wall", Value::Text("noon".into())),
    ];
    let mut stamp = 0;
    for (column, value) in wrong {
        stamp += 2;
        place.raw(&RawOp::new(&op(), stamp));
        place.raw(&RawOp::new(&op(), stamp + 1).with(column, value));
    }
    let rows = place.read(&plan());
    assert_eq!(ids(&rows), (0..9).map(|i| 2 * i + 1).collect::<Vec<_>>());
    assert_eq!(rows.sick.iter().map(|sick| sick.id).collect::<Vec<_>>(), (1..=9).map(|i| 2 * i).collect::<Vec<_>>());
    assert_eq!((rows.cursor, rows.end, rows.disorder), (18, true, None));
    let text = format!("{:?}", rows.sick);
    assert!(!text.contains("yesterday") && !text.contains("gibberish"), "no value of a row's: {text}");
    let some = place.read(&Plan { max_ops: 2, pick: Pick::Nth(0), ..plan() });
    assert_eq!((ids(&some), some.sick.len()), (vec![1, 3], 1));
}

#[test]
fn an_id_that_is_no_utf8_does_not_travel_under_another_name() {
    let place = Place::with(Generation::Three, 2);
    place
        .app
        .connection()
        .execute("UPDATE sync_pending_op SET operation_id = CAST(x'ff' AS TEXT) WHERE id = 1", [])
        .unwrap();
    let rows = place.read(&plan());
    assert_eq!((ids(&rows), rows.sick.len()), (vec![2], 1));
    assert!(rows.sick[0].words.contains("`operation_id`"), "{:?}", rows.sick);
}

#[test]
fn a_payload_beyond_all_measure_is_not_loaded() {
    let place = Place::new(Generation::One);
    let long = |bytes: i64| {
        RawOp::new(&op(), bytes).with("payload", format!("\"{}\"", "x".repeat(usize::try_from(bytes).unwrap() - 2)))
    };
    place.raw(&long(PAYLOAD_MAX));
    place.raw(&long(PAYLOAD_MAX + 1));
    let rows = place.read(&plan());
    assert_eq!((ids(&rows), rows.batch.ops[0].doomed), (vec![1], true), "the server's word refuses it");
    let rows = place.read(&Plan { after: 1, ..plan() });
    assert_eq!((rows.batch.ops.len(), rows.sick.len(), rows.end), (0, 1, true));
    assert!(rows.sick[0].words.contains("2 MiB"));
}

#[test]
fn a_stamp_that_does_not_rise_ends_the_batch_before_it() {
    let place = Place::new(Generation::One);
    for stamp in [5, 7, 6, 8, 1 << 31, 9] {
        place.raw(&RawOp::new(&op(), stamp));
    }
    let rows = place.read(&plan());
    assert_eq!((ids(&rows), rows.cursor, rows.disorder, rows.end), (vec![1, 2], 2, Some(3), false));
    let rows = place.read(&Plan { above: Some(5), ..plan() });
    assert_eq!((ids(&rows), rows.disorder, rows.cursor), (vec![], Some(1), 0), "not above what came before");
    let rows = place.read(&Plan { after: 3, above: Some(7), ..plan() });
    assert_eq!((ids(&rows), rows.disorder), (vec![4], Some(5)), "2^31 and above are no stamps");
    let rows = place.read(&Plan { above: None, ..plan() });
    assert_eq!((rows.batch.ops.len(), rows.disorder), (4, None), "any stamp; the one over 2^31 is doomed, so alone");
}

#[test]
fn picks_look_at_the_rows_that_take_part() {
    let place = Place::with(Generation::One, 9);
    let admit = |id: i64, _: &OperationId, _: i64| match id {
        2 | 9 => Admission::Held,
        3 => Admission::Quarantined,
        _ => Admission::Waiting,
    };
    let pick = |pick, after| {
        let rows = place.read_as(&Plan { pick, after, max_ops: 1, above: None, ..plan() }, &admit);
        ids(&rows)
    };
    assert_eq!(pick(Pick::First, 1), [4]);
    assert_eq!(pick(Pick::Nth(0), 1), [4]);
    assert_eq!(pick(Pick::Nth(2), 1), [6]);
    assert_eq!(pick(Pick::Nth(5), 1), [0_i64; 0]);
    assert_eq!(pick(Pick::Newest, 1), [8]);
    assert_eq!(pick(Pick::Newest, 8), [0_i64; 0]);
    assert_eq!(pick(Pick::Quarantined, 0), [3]);
    let rows = place.read_as(&plan(), &admit);
    assert_eq!((ids(&rows), rows.cursor, rows.end), (vec![1, 4, 5, 6, 7, 8], 9, true));
}
