//! What leaves the queue, and who may be there meanwhile.

use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::drain::action::{Settled, Settlement};
use crate::drain::run::Run;
use crate::queue::clear;
use crate::queue::settle::{self, CLEAR_LEAST, Terms};

impl Place {
    /// Nobody has it open any more but us.
    fn without_app(mut self) -> Self {
        let elsewhere = Place::new(Generation::One);
        self.app = elsewhere.app;
        self
    }

    fn runs(&self) -> Vec<Run> {
        let ops = self.read(&plan()).batch.ops;
        Run::gather(&ops, &vec![true; ops.len()])
    }

    /// With all the time it takes on a busy machine.
    fn settle_as(&self, settlement: &Settlement, terms: Terms<'_>) -> Settled {
        settle::settle_within(&self.database, settlement, terms, Duration::from_secs(600)).unwrap()
    }

    fn settle(&self, runs: Vec<Run>) -> Settled {
        self.settle_as(&Settlement { runs, whole: false, stays: false }, Terms::default())
    }

    fn settle_whole(&self, runs: Vec<Run>, read_at: i64) -> Settled {
        let terms = Terms { version: Some(read_at), gone: None };
        self.settle_as(&Settlement { runs, whole: true, stays: false }, terms)
    }

    fn left(&self) -> Vec<i64> {
        let rows = self.database.read(|connection| {
            let mut rows = Vec::new();
            census::look(connection, |id, _| rows.push(id)).map(|()| rows)
        });
        let mut rows = rows.unwrap();
        rows.sort_unstable();
        rows
    }

    fn delete(&self, sql: &str) {
        self.app.connection().execute(sql, []).unwrap();
    }
}

use crate::queue::census;

#[test]
fn a_run_goes_only_while_it_is_of_the_rows_it_was_made_of() {
    let strange = Settled { strange: 5, ..Settled::default() };
    for (change, told, left) in [
        ("SELECT 1", Settled::default(), vec![]),
        ("DELETE FROM sync_pending_op", Settled::default(), vec![]),
        ("DELETE FROM sync_pending_op WHERE id = 2", strange.clone(), vec![1, 3, 4, 5]),
        (
            "UPDATE sync_pending_op SET operation_id = upper(operation_id) || 'F' WHERE id = 5",
            strange.clone(),
            vec![1, 2, 3, 4, 5],
        ),
        ("UPDATE sync_pending_op SET id = 6 WHERE id = 5", strange, vec![1, 2, 3, 4, 6]),
        ("UPDATE sync_pending_op SET lamport_ts = lamport_ts + 100, last_error = 'x'", Settled::default(), vec![]),
    ] {
        let place = Place::with(Generation::Three, 5);
        let runs = place.runs();
        assert_eq!(runs.len(), 1);
        place.app.connection().execute_batch(change).unwrap();
        assert_eq!((place.settle(runs), place.left()), (told, left), "{change}");
    }
}

#[test]
fn one_transaction_deletes_no_longer_than_its_budget_and_always_something() {
    let place = Place::with(Generation::One, 5);
    let (runs, more) = (place.runs(), Run::of([(77, &OperationId::new("x"))], 1));
    let settlement = Settlement { runs: runs.into_iter().chain(more.clone()).collect(), whole: false, stays: false };
    let settled = settle::settle_within(&place.database, &settlement, Terms::default(), Duration::ZERO).unwrap();
    assert_eq!(place.left(), [2, 3, 4, 5]);
    assert_eq!((settled.left.len(), settled.left[0].rows, settled.left[1].clone()), (2, 4, more.unwrap()));
    // What is left is good for the next one.
    assert_eq!((place.settle(settled.left), place.left()), (Settled::default(), vec![]));
}

#[test]
fn who_left_is_told_where_somebody_wants_to_know() {
    let place = Place::with(Generation::One, 3);
    let mut told = Vec::new();
    let mut gone = |operation_id: &OperationId| told.push(operation_id.clone());
    let settlement = Settlement { runs: place.runs(), whole: false, stays: false };
    place.settle_as(&settlement, Terms { version: None, gone: Some(&mut gone) });
    assert_eq!(told.len(), 3);
}

/// Whatever a row can hold: what the app will add one day, what is no text, and what is computed.
const ODD: &str = "ALTER TABLE sync_pending_op ADD COLUMN \"later \"\" one\"; \
    ALTER TABLE sync_pending_op ADD COLUMN twice AS (id * 2); \
    INSERT INTO sync_pending_op (id, operation_id, lamport_ts, entity, entity_id, op, payload, created_at, last_attempt_at, \
    attempt_count, last_error, \"later \"\" one\") VALUES (70, x'00ff', 999, 'Soirée', '1', 'set', '{\"a\":1}', 2.5, 7, 3, 'why', x'')";
const NEWER: &str = "INSERT INTO sync_pending_op (operation_id, lamport_ts, entity, entity_id, op, created_at) \
    SELECT 'new' || value, 1000 + value, 'x', '1', 'set', 1 FROM generate";

impl Place {
    /// Every column of every row from `first` on.
    fn dump(&self, first: i64) -> Vec<String> {
        let mut statement = self.app.connection().prepare("SELECT * FROM sync_pending_op WHERE id >= ?1").unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([first], |row| {
            Ok(format!("{:?}", (0..columns).map(|at| row.get_ref(at).unwrap()).collect::<Vec<_>>()))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn add(&self, rows: usize) {
        let generate = format!(
            "WITH RECURSIVE generate(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM generate LIMIT {rows})"
        );
        self.app.connection().execute_batch(&format!("{generate} {NEWER}")).unwrap();
    }
}

#[test]
fn accepted_rows_go_at_once_only_where_it_is_proved_that_they_are_the_same_rows() {
    let many = CLEAR_LEAST as u64 + 3;
    for (change, goes) in [
        // Nobody wrote.
        ("SELECT 1", true),
        // Somebody wrote, and not here: every row is looked at.
        ("UPDATE profile_setting SET updated_at = 7", true),
        ("UPDATE sync_pending_op SET last_error = 'x'", true),
        ("DELETE FROM sync_pending_op WHERE id = 2", false),
        ("DELETE FROM sync_pending_op WHERE id = 11", false),
        ("UPDATE sync_pending_op SET operation_id = 'other' WHERE id = 2", false),
        ("UPDATE sync_pending_op SET operation_id = 'other' WHERE id = 11", false),
        ("UPDATE sync_pending_op SET id = 600 WHERE id = 2", false),
        // What the app queued meanwhile stays as it is.
        (ODD, true),
    ] {
        let place = Place::with(Generation::Three, many);
        let (read_at, runs) = (place.database.version().unwrap(), place.runs());
        place.app.connection().execute_batch(change).unwrap();
        let before = place.dump(12);
        let settled = place.settle_whole(runs, read_at);
        assert_eq!((settled.crowded, settled.strange > 0, settled.alone), (!goes, !goes, false), "{change}");
        assert_eq!(
            (place.left().len() - before.len(), place.dump(12)),
            (
                if goes {
                    0
                } else {
                    11 - usize::from(change.starts_with("DEL")) - usize::from(change.contains("600"))
                },
                before
            ),
            "{change}"
        );
        // Ids are never used again, although the table was empty.
        place.add(1);
        assert!(place.left().last().is_some_and(|id| *id > 11));
    }
}

#[test]
fn rows_that_stay_are_put_back_as_they_were_and_only_a_few() {
    let held = |id, _: &OperationId, _| if id % 4 == 0 { Admission::Held } else { Admission::Waiting };
    for (newer, goes) in [(0, true), (200, true), (300, false)] {
        let place = Place::with(Generation::Three, 40);
        place.app.connection().execute_batch(ODD).unwrap();
        let rows = place.read_as(&Plan { until: 40, ..plan() }, &held);
        assert!(rows.stays);
        let (read_at, runs) = (place.database.version().unwrap(), Run::gather(&rows.batch.ops, &[true; 30]));
        assert_eq!(runs.len(), 10);
        place.add(newer);
        let others: Vec<String> = place
            .dump(0)
            .into_iter()
            .filter(|row| !rows.batch.ops.iter().any(|op| row.contains(&format!("[Integer({}),", op.id))))
            .collect();
        assert_eq!(others.len(), 11 + newer);
        let settlement = Settlement { runs, whole: true, stays: true };
        let terms = Terms { version: Some(read_at), gone: None };
        let settled = place.settle_as(&settlement, terms);
        assert_eq!(settled, Settled { crowded: !goes, ..Settled::default() });
        assert!(place.dump(0) == others, "{newer}");
    }
    let place = Place::with(Generation::Three, 20);
    let (read_at, runs) = (place.database.version().unwrap(), place.runs());
    place.add(1);
    place
        .app
        .connection()
        .execute_batch("UPDATE sync_pending_op SET entity = CAST(x'ff' AS TEXT) WHERE id = 21")
        .unwrap();
    let before = place.dump(21);
    assert!(place.settle_whole(runs, read_at).crowded, "a text that is none cannot be put back");
    assert_eq!((place.dump(0), place.left()), (before, vec![21]));
}

#[test]
fn a_long_row_that_stays_is_not_even_loaded() {
    let held = |id, _: &OperationId, _| if id == 4 { Admission::Held } else { Admission::Waiting };
    for (bytes, goes) in [(1 << 17, true), ((1 << 20) + 1, false), (3 << 20, false)] {
        let place = Place::with(Generation::Three, 20);
        let sql = "UPDATE sync_pending_op SET payload = printf('%.*c', ?1, 'x') WHERE id = 4";
        place.app.connection().execute(sql, [bytes]).unwrap();
        let rows = place.read_as(&plan(), &held);
        let (read_at, runs) = (place.database.version().unwrap(), Run::gather(&rows.batch.ops, &[true; 19]));
        let before = place.dump(4).swap_remove(0);
        let limit = |connection: &Connection| {
            connection.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, 2 << 20).unwrap();
            Ok(())
        };
        place.database.read(limit).unwrap();
        let settlement = Settlement { runs, whole: true, stays: true };
        let terms = Terms { version: Some(read_at), gone: None };
        let settled = place.settle_as(&settlement, terms);
        assert_eq!((settled.crowded, place.left()), (!goes, vec![4]), "{bytes}");
        assert!(place.dump(0) == [before], "{bytes}");
    }
}

#[test]
fn where_something_follows_a_row_that_goes_each_one_goes_by_itself() {
    let held = |id, _: &OperationId, _| if id == 4 { Admission::Held } else { Admission::Waiting };
    for (change, followers) in [
        (
            "CREATE TABLE follower (op REFERENCES Sync_Pending_Op ON DELETE CASCADE); INSERT INTO follower VALUES (4), (5)",
            1,
        ),
        (
            "CREATE TABLE follower (op REFERENCES sync_pending_op (operation_id)); \
            INSERT INTO follower SELECT operation_id FROM sync_pending_op WHERE id = 4",
            1,
        ),
        (
            "CREATE TABLE follower (op); \
            CREATE TRIGGER gone AFTER DELETE ON Sync_Pending_Op BEGIN INSERT INTO follower VALUES (old.id); END",
            19,
        ),
        (
            "CREATE TABLE follower (op REFERENCES profile_setting); \
            CREATE TRIGGER other AFTER DELETE ON profile_setting BEGIN INSERT INTO follower VALUES (1); END",
            0,
        ),
    ] {
        let place = Place::with(Generation::Three, 20);
        let rows = place.read_as(&plan(), &held);
        // After the pass began.
        let (read_at, runs) = (place.database.version().unwrap(), Run::gather(&rows.batch.ops, &[true; 19]));
        place.app.connection().execute_batch(change).unwrap();
        let settlement = Settlement { runs, whole: true, stays: true };
        let terms = Terms { version: Some(read_at), gone: None };
        let settled = place.settle_as(&settlement, terms);
        assert_eq!((settled.crowded, place.left()), (followers > 0, vec![4]), "{change}");
        let sql = "SELECT count(*) FROM follower";
        let found: i64 = place.app.connection().query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(found, followers, "{change}");
    }
}

#[test]
fn a_row_that_could_not_be_put_back_takes_everything_back() {
    let place = Place::with(Generation::Three, 20);
    let (read_at, runs) = (place.database.version().unwrap(), place.runs());
    place.add(1);
    // As a rule that came after the row.
    let sql = "PRAGMA ignore_check_constraints = 1; UPDATE sync_pending_op SET op = 'odd' WHERE id = 21";
    place.app.connection().execute_batch(sql).unwrap();
    let before = place.dump(21);
    assert!(place.settle_whole(runs, read_at).crowded);
    assert_eq!((place.dump(0), place.left()), (before, vec![21]));
}

#[test]
fn every_index_is_fetched_before_the_queue_is_emptied() {
    for generation in [Generation::One, Generation::Three] {
        let place = Place::with(generation, 20);
        let walked = clear::INDEXES.map(|sql| -> String {
            let sql = format!("EXPLAIN QUERY PLAN {sql}");
            place.app.connection().query_row(&sql, [], |row| row.get("detail")).unwrap()
        });
        let sql = "SELECT name FROM pragma_index_list('sync_pending_op')";
        let mut statement = place.app.connection().prepare(sql).unwrap();
        for name in statement.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap) {
            assert!(walked.iter().any(|plan| plan.contains(&name)), "{name}: {walked:?}");
        }
    }
}

#[test]
fn a_row_that_was_accepted_twice_does_not_stand_for_another_one() {
    let place = Place::with(Generation::Three, 20);
    let read_at = place.database.version().unwrap();
    let ops = place.read(&plan()).batch.ops;
    let (half, other) = ops.split_at(10);
    for runs in [[half, half], [other, half]] {
        let runs: Vec<Run> = runs.iter().flat_map(|ops| Run::gather(ops, &[true; 10])).collect();
        assert_eq!(clear::prove(&place.database, &runs, read_at, false).unwrap(), None);
    }
}

#[test]
fn what_is_committed_behind_the_proof_is_kept_or_ends_it() {
    for (change, clears) in [
        ("SELECT 1", true),
        (
            "INSERT INTO sync_pending_op (operation_id, lamport_ts, entity, entity_id, op, created_at) VALUES ('n', 999, 'x', '1', 'set', 1)",
            true,
        ),
        ("UPDATE profile_setting SET updated_at = 7", true),
        ("DELETE FROM sync_pending_op WHERE id = 3", false),
        // As a backup that is restored into the live file shows.
        ("CREATE TABLE another (x)", false),
    ] {
        let place = Place::with(Generation::Three, 20);
        let (read_at, runs) = (place.database.version().unwrap(), place.runs());
        let unseen = clear::prove(&place.database, &runs, read_at, false).unwrap().unwrap();
        let proof = clear::prove(&place.database, &runs, read_at, true).unwrap().unwrap();
        assert!(proof.looked() && !unseen.looked());
        place.app.connection().execute_batch(change).unwrap();
        let before = place.dump(0);
        let work = |connection: &Connection| clear::clear(&place.database, connection, &proof, 20);
        if change != "SELECT 1" {
            // Where no row was looked at, another one's commit is the end of it.
            let work = |connection: &Connection| clear::clear(&place.database, connection, &unseen, 20);
            assert!(!place.database.write_if(work, |cleared| *cleared).unwrap().0, "{change}");
        }
        let (cleared, _) = place.database.write_if(work, |cleared| *cleared).unwrap();
        assert_eq!(cleared, clears, "{change}");
        assert_eq!(place.dump(0), if clears { before[20..].to_vec() } else { before }, "{change}");
    }
}

#[test]
fn a_count_that_does_not_fit_takes_everything_back() {
    let place = Place::with(Generation::Three, 20);
    let runs = place.runs();
    place.delete("DELETE FROM sync_pending_op WHERE id = 20");
    // As if nobody had written since.
    let read_at = place.database.version().unwrap();
    let settled = place.settle_whole(runs, read_at);
    assert_eq!((settled.crowded, settled.strange, place.left().len()), (true, 20, 19));
}

#[test]
fn every_row_is_looked_at_again_only_where_the_queue_may_go_at_once() {
    // So slow a file that so long rows may not go at once beside the app.
    for (bytes, looks) in [(1 << 24, false), (0, true)] {
        let place = Place::with(Generation::Three, 20);
        place.database.learn(|pace| pace.note_clearing(20, 0, Duration::from_secs(1)));
        assert_eq!(place.database.pace().may_clear(20, bytes), looks);
        let read_at = place.database.version().unwrap();
        let mut runs = place.runs();
        runs.iter_mut().for_each(|run| run.bytes = bytes);
        // Whoever looks sees that one is missing.
        place.delete("DELETE FROM sync_pending_op WHERE id = 3");
        assert_eq!(place.settle_whole(runs, read_at).crowded, looks, "{bytes}");
    }
}

#[test]
fn it_is_known_whether_somebody_else_has_the_file_open() {
    let place = Place::with(Generation::Three, 20);
    let (path, runs) = (place.database.path().to_owned(), place.runs());
    let write = |place: &Place| place.database.write_alone(|_| Ok(()), |()| true).unwrap().is_some();
    assert!(!write(&place), "the app has it open");
    // And goes on as if nothing had been asked.
    place.app.connection().busy_timeout(Duration::ZERO).unwrap();
    place.app.connection().execute_batch("UPDATE profile_setting SET updated_at = 8").unwrap();
    let another = Connection::open(&path).unwrap();
    another.busy_timeout(Duration::ZERO).unwrap();
    another.execute_batch("UPDATE profile_setting SET updated_at = 9").unwrap();
    drop(another);

    let place = place.without_app();
    let looked = place.database.write_alone(
        |_| {
            let late = Connection::open(&path).unwrap();
            late.busy_timeout(Duration::ZERO).unwrap();
            assert!(late.query_row("SELECT count(*) FROM sync_pending_op", [], |_| Ok(())).is_err(), "it has to wait");
            Ok(())
        },
        |()| false,
    );
    assert!(looked.unwrap().is_some());
    // The file is given back, whether it was worth it or not, or failed.
    let failed = || crate::drain::action::StoreError {
        kind: crate::drain::action::StoreErrorKind::Failed,
        message: "on purpose".to_owned(),
    };
    place.database.write_alone(|_| Err::<(), _>(failed()), |()| true).unwrap_err();
    let late = Connection::open(&path).unwrap();
    late.busy_timeout(Duration::ZERO).unwrap();
    late.execute_batch("UPDATE profile_setting SET updated_at = 10").unwrap();
    assert!(!write(&place));
    drop(late);
    assert!(write(&place));

    let settled = place.settle_whole(runs, place.database.version().unwrap());
    assert!(settled.alone && !settled.crowded);
    assert_eq!(place.left(), [0_i64; 0]);
}

#[test]
fn a_log_that_has_grown_is_carried_over_by_us() {
    let place = Place::with(Generation::Three, 1);
    let fill = |pages: usize| {
        let text = "x".repeat(pages * 4096);
        place.database.write(|connection| {
            connection.execute("UPDATE sync_pending_op SET payload = ?1", [text]).unwrap();
            Ok(())
        })
    };
    let left = || -> i64 {
        let sql = "PRAGMA wal_checkpoint(NOOP)";
        place.app.connection().query_row(sql, [], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?)).unwrap()
    };
    fill(500).unwrap();
    assert!(left() >= 500, "a short one waits");
    fill(1200).unwrap();
    assert_eq!(left(), 0);
}
