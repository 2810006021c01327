//! What the hooks tell of, and what not.

use rusqlite::Connection;
use rusqlite::hooks::Action;
use tempfile::TempDir;
use waveflow_sync_hook::{Notifier, notifier};

use crate::common::{Ear, install};

const INSERT: &str = "INSERT INTO sync_pending_op (payload) VALUES ('x');";

struct Case {
    ear: Ear,
    directory: TempDir,
    db: Connection,
}

impl Case {
    /// A queue that is profile 7's, and hooks on a connection to it.
    fn new() -> Self {
        let case = Self::without_hooks();
        case.install(&case.db);
        case
    }

    fn without_hooks() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("profiles/7")).unwrap();
        let db = Connection::open(directory.path().join("profiles/7/data.db")).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
            CREATE TABLE sync_pending_op (id INTEGER PRIMARY KEY AUTOINCREMENT, payload TEXT UNIQUE ON CONFLICT ABORT DEFAULT NULL);
            CREATE TABLE track (id INTEGER PRIMARY KEY, name TEXT);",
        )
        .unwrap();
        Self { ear: Ear::new(), directory, db }
    }

    fn install(&self, db: &Connection) {
        install(db, &self.ear.socket());
    }

    fn run(&self, sql: &str) {
        self.db.execute_batch(sql).unwrap();
    }

    /// Fails unless exactly these lines were said so far: another one, for nobody, is said behind them.
    #[track_caller]
    fn has_said(&self, lines: &[&str]) {
        let mut end = Notifier::at(&self.ear.socket());
        end.note(None);
        end.committed();
        let lines: Vec<&str> = lines.iter().copied().chain(["wake"]).collect();
        self.ear.hears(&lines);
    }
}

/// A row with a payload of its own.
fn insert(payload: &str) -> String {
    format!("INSERT INTO sync_pending_op (payload) VALUES ('{payload}');")
}

#[test]
fn a_commit_is_told_once_whatever_the_number_of_rows() {
    let case = Case::new();
    case.run(&insert("1"));
    case.ear.hears(&["wake 7"]);
    case.run(&format!("BEGIN; {} {} {} COMMIT;", insert("2"), insert("3"), insert("4")));
    case.has_said(&["wake 7", "wake 7"]);
}

#[test]
fn what_is_told_is_committed() {
    let case = Case::new();
    case.run(&format!("BEGIN; {}", insert("1")));
    assert!(case.ear.heard().is_empty());
    case.run("COMMIT");
    case.has_said(&["wake 7"]);
}

#[test]
fn a_rollback_is_told_to_nobody_nor_is_a_row_that_was_refused() {
    let case = Case::new();
    case.run(&format!("BEGIN; {} ROLLBACK; INSERT INTO track (name) VALUES ('x');", insert("1")));
    case.run(&insert("2"));
    case.ear.hears(&["wake 7"]);
    assert!(case.db.execute_batch(&insert("2")).is_err(), "twice the same");
    // The first row of this one is fine, and is undone with the second.
    assert!(case.db.execute_batch("INSERT INTO sync_pending_op (payload) VALUES ('3'), ('2')").is_err());
    case.run("INSERT INTO track (name) VALUES ('y');");
    case.has_said(&["wake 7"]);
}

#[test]
fn other_tables_and_other_changes_are_told_to_nobody() {
    let case = Case::new();
    case.run(&insert("1"));
    case.ear.hears(&["wake 7"]);
    case.run(
        "INSERT INTO track (name) VALUES ('x'); UPDATE track SET name = 'y'; DELETE FROM track;
        UPDATE sync_pending_op SET payload = 'z'; DELETE FROM sync_pending_op; CREATE TABLE sync_pending_op_2 (a);
        INSERT INTO sync_pending_op_2 VALUES (1);",
    );
    case.has_said(&["wake 7"]);
}

#[test]
fn a_queue_in_an_attached_file_is_told_of_too() {
    let case = Case::new();
    let app = Connection::open_in_memory().unwrap();
    case.install(&app);
    let path = case.directory.path().join("profiles/7/data.db");
    app.execute("ATTACH ?1 AS data", [path.to_str().unwrap()]).unwrap();
    app.execute_batch("INSERT INTO data.sync_pending_op (payload) VALUES ('x');").unwrap();
    case.has_said(&["wake 7"]);
}

#[test]
fn a_file_that_is_no_profiles_wakes_everybody() {
    let case = Case::new();
    let elsewhere = Connection::open(case.directory.path().join("copy.db")).unwrap();
    elsewhere
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE sync_pending_op (id INTEGER PRIMARY KEY, payload);")
        .unwrap();
    case.install(&elsewhere);
    elsewhere.execute_batch(INSERT).unwrap();
    case.has_said(&["wake"]);
}

#[test]
fn installing_again_tells_no_more_than_once() {
    let case = Case::new();
    case.install(&case.db);
    case.run(&insert("1"));
    case.ear.hears(&["wake 7"]);
    // In the middle of a transaction: what was noted is not lost.
    case.run(&format!("BEGIN; {}", insert("2")));
    case.install(&case.db);
    case.run(&format!("{} COMMIT; PRAGMA wal_checkpoint;", insert("3")));
    assert_eq!(case.ear.heard().last().map(String::as_str), Some("wake 7"));
}

#[test]
fn a_row_whose_statement_is_not_run_to_its_end_is_told_of_at_once() {
    let case = Case::new();
    let returning = "INSERT INTO sync_pending_op (payload) VALUES (?1) RETURNING id";
    let _id: i64 = case.db.query_row(returning, ["1"], |row| row.get(0)).unwrap();
    case.ear.hears(&["wake 7"]);
    // Within a transaction there is a better moment.
    case.run("BEGIN");
    let _id: i64 = case.db.query_row(returning, ["2"], |row| row.get(0)).unwrap();
    case.run("ROLLBACK");
    case.has_said(&["wake 7"]);
}

#[test]
fn the_apps_own_update_hook_is_replaced_and_a_later_one_replaces_ours() {
    let mut case = Case::without_hooks();
    let (sender, theirs) = std::sync::mpsc::channel();
    let hook = move |_: Action, _: &str, _: &str, _| sender.send(()).unwrap();
    case.db.update_hook(Some(hook.clone())).unwrap();
    case.run(&insert("1"));
    assert!(theirs.try_recv().is_ok());
    case.install(&case.db);
    case.run(&insert("2"));
    assert!(theirs.try_recv().is_err(), "SQLite has room for one");
    case.ear.hears(&["wake 7"]);
    case.db.update_hook(Some(hook)).unwrap();
    case.run(&insert("3"));
    assert!(theirs.try_recv().is_ok());
    case.has_said(&["wake 7"]);
}

#[test]
fn the_apps_own_wal_hook_is_replaced_by_sqlites() {
    let mut case = Case::without_hooks();
    let (sender, theirs) = std::sync::mpsc::channel();
    let hook = move |_: &mut rusqlite::hooks::Wal, _| {
        sender.send(()).unwrap();
        Ok(())
    };
    case.db.wal_hook(Some(hook)).unwrap();
    case.install(&case.db);
    case.run("INSERT INTO track (name) VALUES ('x');");
    assert!(theirs.try_recv().is_ok(), "until there is something to tell");
    case.run(&insert("1"));
    case.ear.hears(&["wake 7"]);
    case.run(&insert("2"));
    assert!(theirs.try_recv().is_err());
    let limit: i64 = case.db.query_row("PRAGMA wal_autocheckpoint", [], |row| row.get(0)).unwrap();
    assert_eq!(limit, 1000, "or the log would grow for ever");
    case.has_said(&["wake 7", "wake 7"]);
}

#[test]
fn a_limit_for_the_log_that_is_set_within_the_transaction_takes_no_wake_away() {
    let case = Case::new();
    case.run(&format!("BEGIN; {} PRAGMA wal_autocheckpoint = 200; {} COMMIT;", insert("1"), insert("2")));
    case.has_said(&["wake 7"]);
}

#[test]
fn a_program_with_hooks_of_its_own_feeds_a_notifier() {
    use std::sync::{Arc, Mutex};

    let mut case = Case::without_hooks();
    let path = case.directory.path().join("profiles/7/data.db");
    let notifier = Arc::new(Mutex::new(Notifier::at(&case.ear.socket())));
    let (noting, forgetting) = (Arc::clone(&notifier), Arc::clone(&notifier));
    case.db
        .update_hook(Some(move |action, _: &str, table: &str, _| {
            if action == Action::SQLITE_INSERT && table == notifier::TABLE {
                noting.lock().unwrap().note(Some(&path));
            }
        }))
        .unwrap();
    case.db.rollback_hook(Some(move || forgetting.lock().unwrap().rolled_back())).unwrap();
    let commit = |sql: &str| {
        case.run(sql);
        notifier.lock().unwrap().committed();
    };
    commit(&insert("1"));
    case.ear.hears(&["wake 7"]);
    commit(&format!("BEGIN; {} ROLLBACK;", insert("2")));
    commit("INSERT INTO track (name) VALUES ('x');");
    case.has_said(&["wake 7"]);
}

#[test]
fn a_path_that_fits_no_socket_is_nobodys_and_costs_no_commit() {
    let case = Case::without_hooks();
    let long = case.directory.path().join("x".repeat(200));
    install(&case.db, &long);
    case.run(&insert("1"));
}

#[test]
fn an_agent_that_hangs_has_one_wake_to_read_and_no_descriptor_is_left() {
    let case = Case::without_hooks();
    let place = case.directory.path().join("hung");
    let listener = std::os::unix::net::UnixListener::bind(&place).unwrap();
    listener.set_nonblocking(true).unwrap();
    install(&case.db, &place);
    (0..1000).for_each(|number| case.run(&insert(&number.to_string())));
    let waiting = std::iter::from_fn(|| listener.accept().ok()).count();
    assert_eq!(waiting, 1);
}
