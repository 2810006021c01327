//! SQLite's automatic checkpoints, which are a WAL hook as ours is.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::common::install;

const PAGE: u64 = 4096;
const COMMITS: usize = 5000;
/// SQLite's own limit.
const PAGES: u64 = 1000;
/// What a commit may add before the checkpoint it brings about, and the log's heads.
const MORE: u64 = 40;

struct Case {
    _directory: TempDir,
    path: PathBuf,
    db: Connection,
}

impl Case {
    fn new(hooks: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
            CREATE TABLE sync_pending_op (id INTEGER PRIMARY KEY AUTOINCREMENT, payload TEXT);
            PRAGMA wal_checkpoint(TRUNCATE);",
        )
        .unwrap();
        if hooks {
            install(&db, &directory.path().join("nobody"));
        }
        Self { _directory: directory, path, db }
    }

    fn commit(&self, count: usize) {
        for _ in 0..count {
            self.db.execute("INSERT INTO sync_pending_op (payload) VALUES (hex(randomblob(500)))", []).unwrap();
        }
    }

    /// Pages there is room for in the log.
    fn log(&self) -> u64 {
        fs::metadata(self.path.with_extension("db-wal")).unwrap().len() / PAGE
    }

    fn limit(&self) -> i64 {
        self.db.query_row("PRAGMA wal_autocheckpoint", [], |row| row.get(0)).unwrap()
    }
}

#[test]
fn the_log_grows_no_larger_with_the_hooks_than_without() {
    let sizes = [false, true].map(|hooks| {
        let case = Case::new(hooks);
        case.commit(COMMITS);
        assert_eq!(case.limit(), 1000);
        case.log()
    });
    println!("{COMMITS} commits: a log of {} pages without the hooks, {} with them", sizes[0], sizes[1]);
    assert_eq!(sizes[0], sizes[1]);
    assert!((PAGES..PAGES + MORE).contains(&sizes[1]), "{sizes:?}");
}

#[test]
fn a_limit_that_is_set_later_is_heeded_and_takes_nothing_away() {
    let case = Case::new(true);
    case.commit(3);
    case.db.execute_batch("PRAGMA wal_autocheckpoint = 100").unwrap();
    case.commit(COMMITS);
    assert_eq!(case.limit(), 100);
    assert!((100..100 + MORE).contains(&case.log()), "{}", case.log());
    // Within a transaction, and once more behind its rows.
    case.db.execute_batch("BEGIN").unwrap();
    case.commit(1);
    case.db.execute_batch("PRAGMA wal_autocheckpoint = 200").unwrap();
    case.commit(1);
    case.db.execute_batch("COMMIT").unwrap();
    assert_eq!(case.limit(), 200);
}

#[test]
fn an_app_that_wants_no_checkpoints_has_none() {
    let case = Case::new(true);
    case.db.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    case.commit(COMMITS);
    assert_eq!(case.limit(), 0);
    assert!(case.log() > 2 * PAGES, "{}", case.log());
}

#[test]
fn what_is_rolled_back_leaves_the_checkpoints_in_place() {
    let case = Case::new(true);
    case.db.execute_batch("PRAGMA wal_autocheckpoint = 300; BEGIN").unwrap();
    case.commit(3);
    case.db.execute_batch("ROLLBACK").unwrap();
    assert_eq!(case.limit(), 300);
}
