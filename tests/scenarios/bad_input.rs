//! Files and rows that are not what they should be: each spoils nothing but itself.

use std::collections::HashSet;
use std::fs;

use rusqlite::types::Value as Sql;
use serde_json::json;
use testkit::data_dir::{Generation, Profile, RawOp};
use testkit::ops::NewOp;
use testkit::server::{Server, Version};

use crate::common::{Run, Stage, assert_delivered};

/// Three profiles; whatever happens to the one in the middle, the other two are drained.
struct Case {
    server: Server,
    stage: Stage,
    profiles: [Profile; 3],
    ops: [Vec<NewOp>; 3],
}

impl Case {
    fn new() -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profiles = ["first", "bad", "last"].map(|name| stage.profile(name, "alice"));
        let ops = profiles.each_ref().map(|profile| {
            let ops = NewOp::renames(5);
            profile.enqueue(&ops).unwrap();
            ops
        });
        Self { server, stage, profiles, ops }
    }

    fn bad(&self) -> &Profile {
        &self.profiles[1]
    }

    /// The bad one is skipped for `reason`, with a message that holds `words`, and the others arrive.
    #[track_caller]
    fn others_arrive(&self, reason: &str, words: &[&str]) -> Run {
        let run = self.stage.once("3s").ended_with(0);
        let line = run.profile(self.bad().id);
        assert_eq!((&line["outcome"], &line["reason"]), (&json!("skipped"), &json!(reason)), "{run:?}");
        for word in words {
            assert!(line["message"].as_str().is_some_and(|text| text.contains(word)), "no “{word}”: {line}");
        }
        for which in [0, 2] {
            assert_delivered(&self.server, &self.ops[which]);
        }
        assert_eq!(self.server.stored().len(), 10);
        run
    }
}

#[test]
fn a_profile_whose_directory_is_missing_is_unavailable() {
    let case = Case::new();
    fs::remove_dir_all(&case.bad().path).unwrap();
    case.others_arrive("unavailable", &["data.db", "No such file"]);
    assert!(!case.bad().path.exists(), "nothing was made in its place");
}

#[test]
fn a_profile_whose_file_is_garbage_is_unavailable() {
    let case = Case::new();
    let garbage = b"no database at all ".repeat(500);
    fs::write(case.bad().db_path(), &garbage).unwrap();
    case.others_arrive("unavailable", &["data.db", "damaged"]);
    assert_eq!(fs::read(case.bad().db_path()).unwrap(), garbage);
}

#[test]
fn a_profile_whose_file_is_empty_has_no_queue() {
    let case = Case::new();
    fs::write(case.bad().db_path(), b"").unwrap();
    case.others_arrive("no_queue", &[]);
    assert_eq!(fs::metadata(case.bad().db_path()).unwrap().len(), 0);
}

#[test]
fn a_queue_that_lacks_a_column_is_unavailable() {
    for (table, column) in [("sync_pending_op", "payload"), ("sync_pending_op", "last_error")] {
        let case = Case::new();
        let db = case.bad().open().unwrap();
        db.connection().execute_batch(&format!("ALTER TABLE {table} DROP COLUMN {column}")).unwrap();
        drop(db);
        case.others_arrive("unavailable", &["data.db", &format!("`{column}`")]);
    }
}

#[test]
fn a_profile_that_points_out_of_the_apps_directory_is_unavailable() {
    let case = Case::new();
    let outside = case.stage.home().join("outside");
    fs::rename(&case.bad().path, &outside).unwrap();
    for data_dir in ["../../../outside", outside.to_str().unwrap(), ""] {
        let sql = "UPDATE profile SET data_dir = ?1 WHERE id = ?2";
        case.stage.dir.app_db().unwrap().execute(sql, (data_dir, case.bad().id)).unwrap();
        case.others_arrive("unavailable", &["data_dir"]);
    }
}

#[test]
fn a_profile_whose_entry_makes_no_sense_keeps_no_other_from_draining() {
    let case = Case::new();
    let app = case.stage.dir.app_db().unwrap();
    app.execute("UPDATE profile SET name = x'ff00', data_dir = x'ff' WHERE id = ?1", [case.bad().id]).unwrap();
    drop(app);
    case.others_arrive("unavailable", &[]);
}

#[test]
fn an_app_db_that_is_garbage_is_unavailable() {
    let case = Case::new();
    fs::write(case.stage.dir.app_db_path(), b"garbage ".repeat(1000)).unwrap();
    let run = case.stage.once("1s").ended_with(0);
    assert_eq!((&run.json["outcome"], &run.json["reason"]), (&json!("skipped"), &json!("unavailable")));
    assert!(run.json["profiles"][0]["message"].as_str().is_some_and(|text| text.contains("app.db")), "{run:?}");
}

/// A row that cannot travel, the id it is set aside under, and what the words hold.
fn misfits() -> Vec<(RawOp, String, &'static str)> {
    let with = |column, value: Sql| {
        let op = NewOp::rename(99);
        let id = op.operation_id.to_string();
        (move |stamp| RawOp::new(&op, stamp).with(column, value), id)
    };
    let columns: [(&'static str, Sql, &'static str); 13] = [
        ("payload", Sql::Text("not json".into()), "JSON"),
        ("payload", Sql::Text(r#"{"value":"#.into()), "JSON"),
        ("payload", Sql::Text(String::new()), "JSON"),
        ("payload", Sql::Blob(vec![0xff, 0xfe]), "`payload`"),
        ("payload", Sql::Blob(br#"{"value":"a"}"#.to_vec()), "`payload`"),
        ("entity", Sql::Blob(vec![1]), "`entity`"),
        ("entity_id", Sql::Blob(vec![0xff]), "`entity_id`"),
        ("field", Sql::Blob(vec![2]), "`field`"),
        ("created_at", Sql::Text("yesterday".into()), "`created_at`"),
        ("hlc_wall", Sql::Text("long ago".into()), "`hlc_wall`"),
        ("hlc_wall", Sql::Real(1.5), "`hlc_wall`"),
        ("lamport_ts", Sql::Text("seven".into()), "`lamport_ts`"),
        ("lamport_ts", Sql::Real(7.25), "`lamport_ts`"),
    ];
    let mut rows = Vec::new();
    for (stamp, (column, value, words)) in (100..).zip(columns) {
        let (row, id) = with(column, value);
        rows.push((row(stamp), id, words));
    }
    let blob = RawOp::new(&NewOp::rename(1), 200).with("operation_id", Sql::Blob(vec![0xab, 0xcd]));
    rows.push((blob, "x'abcd'".into(), "`operation_id`"));
    let text = RawOp::new(&NewOp::rename(1), 201).with("operation_id", Sql::Text("no uuid".into()));
    rows.push((text, "no uuid".into(), "422"));
    let blank = RawOp::new(&NewOp::rename(1), 202).with("entity_id", Sql::Text("  ".into()));
    let blank = blank.with("operation_id", Sql::Text("00000000-0000-4000-8000-000000000202".into()));
    rows.push((blank, "00000000-0000-4000-8000-000000000202".into(), "400"));
    rows
}

#[test]
fn rows_that_cannot_travel_are_set_aside_each_by_itself() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let misfits = misfits();
    let mut healthy = NewOp::renames(2);
    profile.enqueue(&healthy).unwrap();
    for (number, (row, _, _)) in misfits.iter().enumerate() {
        profile.insert_raw(row).unwrap();
        profile.set_clock(1_000 + i64::try_from(number).unwrap() * 10).unwrap();
        let op = NewOp::rename(1_000);
        profile.enqueue(std::slice::from_ref(&op)).unwrap();
        healthy.push(op);
    }
    let run = stage.once("20s").ended_with(0);
    assert_eq!(run.profile(profile.id)["quarantined"], json!(misfits.len()), "{run:?}");
    assert_delivered(&server, &healthy);
    let ids: HashSet<_> = misfits.iter().map(|(_, id, _)| id.clone()).collect();
    assert_eq!(stage.quarantined(), ids);
    let remembered = stage.state();
    for (_, id, words) in &misfits {
        let told = &remembered["quarantine"][id]["words"];
        assert!(told.as_str().is_some_and(|told| told.contains(words)), "{id}: {words}: {told}");
    }
    let db = profile.open().unwrap();
    let sql = "SELECT COUNT(*) FROM sync_pending_op WHERE last_error LIKE 'quarantined: %'";
    let marked: i64 = db.connection().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(usize::try_from(marked).unwrap(), misfits.len());
}

#[test]
fn an_id_written_otherwise_is_recognised_in_the_answer() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(3);
    let ids = ops.each_id();
    for ((op, stamp), id) in ops.iter().zip(1..).zip(ids) {
        profile.insert_raw(&RawOp::new(op, stamp).with("operation_id", id)).unwrap();
    }
    stage.once("5s").ended_with(0);
    assert_delivered(&server, &ops);
    assert_eq!(profile.pending_count().unwrap(), 0);
}

/// Each id in another spelling.
trait Spelt {
    fn each_id(&self) -> Vec<String>;
}

impl Spelt for Vec<NewOp> {
    fn each_id(&self) -> Vec<String> {
        let spell = |(place, op): (usize, &NewOp)| match place {
            0 => op.operation_id.to_string().to_uppercase(),
            1 => op.operation_id.simple().to_string(),
            _ => format!("{{{}}}", op.operation_id),
        };
        self.iter().enumerate().map(spell).collect()
    }
}
