//! What happens to a database under a running daemon without another file taking its place: locks held for seconds, a log
//! that is emptied, deleted or cut, pages that are damaged. The daemon lives, the others flow, and what the app's file
//! still has is delivered.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::Signal;
use testkit::data_dir::{Profile, Style};
use testkit::ops::NewOp;
use testkit::server::Fault;

use crate::common::daemon::{PROMPT, SOON, eventually, holds_within};
use crate::common::pair::Pair;
use crate::common::{applied, assert_delivered, sendings};

const PAGE: usize = 4096;

/// Fails unless `SQLite` finds nothing wrong with it.
#[track_caller]
fn assert_sound(profile: &Profile) {
    let db = Connection::open(profile.db_path()).unwrap();
    let words: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(words, "ok");
}

/// Says that it is over, however it ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_storm_of_locks_held_for_seconds_is_outlived_and_the_others_flow_meanwhile() {
    /// A user's own patience would be over; the app's `busy_timeout` is twice as long.
    const HELD: Duration = Duration::from_millis(2_500);
    let pair = Pair::new();
    let mut ops = NewOp::renames(24);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut app = pair.one.open().unwrap();
            // Its own file alone: `app.db` would stop the other profile's app too.
            app.connection().execute_batch("DETACH DATABASE app").unwrap();
            let _over = Over(&over);
            for some in ops.chunks(6) {
                // Next to no time in between: a transaction of the app's own ends, and the next one begins.
                app.enqueue_as(Style::Immediate, some, || {
                    let due = Instant::now() + HELD;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                })
                .unwrap();
            }
        });
        let mut times = 0;
        while !over.load(Ordering::SeqCst) {
            pair.flows(&pair.other);
            assert!(pair.daemon.ping() < PROMPT);
            times += 1;
        }
        println!("the other profile's commits arrived {times} times in the storm");
        assert!(times > 2, "{times} times");
    });
    ops.extend(NewOp::renames(2));
    pair.one.enqueue(&ops[24..]).unwrap();
    pair.drained(&pair.one);
    assert_delivered(&pair.server, &ops);
    assert_eq!(sendings(&pair.server, &ops), [1; 26], "what was accepted and could not be settled was sent again");
}

#[test]
fn a_log_checkpointed_and_emptied_at_every_moment_of_a_pass_costs_nothing() {
    let pair = Pair::with("[drain]\ninterval = \"1h\"\nbatch_ops = 10\n");
    let mut count = 0;
    pair.server.script(move |_| {
        count += 1;
        Some(if count % 2 == 0 { Fault::HoldBeforeStore } else { Fault::HoldAfterStore })
    });
    let ops = NewOp::renames(80);
    let (mut app, broom) = (pair.one.open().unwrap(), pair.one.open().unwrap());
    broom.connection().busy_timeout(Duration::ZERO).unwrap();
    let emptied = |app: &Connection| {
        let sql = "PRAGMA main.wal_checkpoint(TRUNCATE)";
        app.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).is_ok_and(|found| found == (0, 0, 0))
    };
    let over = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        // Somebody empties it all the time …
        let busy = scope.spawn(|| {
            let other = pair.one.open().unwrap();
            other.connection().busy_timeout(Duration::ZERO).unwrap();
            let mut times = 0;
            while !over.load(Ordering::SeqCst) {
                times += usize::from(emptied(other.connection()));
            }
            times
        });
        let ends = Over(&over);
        for some in ops.chunks(40) {
            app.enqueue(some).unwrap();
            // … and once while each request is on the wire, before it is stored or after.
            for _ in 0..4 {
                assert!(pair.server.wait_until_held(SOON), "{}", pair.daemon.log());
                let decided = pair.server.stats().exchanges.len();
                eventually("the log is emptied", || emptied(broom.connection()));
                pair.server.release();
                assert!(pair.server.wait_for(|stats| stats.exchanges.len() > decided, SOON));
            }
        }
        drop(ends);
        busy.join().unwrap()
    });
    println!("the log was emptied {times} times");
    assert!(times > 8, "{times} times");
    pair.server.clear_faults();
    pair.drained(&pair.one);
    drop((app, broom));
    assert_delivered(&pair.server, &ops);
    assert_eq!(sendings(&pair.server, &ops), [1; 80]);
    assert_sound(&pair.one);
    pair.flows(&pair.one);
}

fn log_of(profile: &Profile) -> PathBuf {
    profile.path.join("data.db-wal")
}

/// Deletes the log and its index, as no program of ours would.
fn delete_log(profile: &Profile) {
    for path in [log_of(profile), profile.path.join("data.db-shm")] {
        fs::remove_file(path).unwrap();
    }
}

/// Everything that was committed goes into the main file.
fn checkpoint(profile: &Profile) {
    let app = profile.open().unwrap();
    let sql = "PRAGMA main.wal_checkpoint(TRUNCATE)";
    app.connection().query_row(sql, [], |_| Ok(())).unwrap();
}

#[test]
fn a_log_deleted_while_a_request_is_on_the_wire_loses_nothing_of_the_apps_file() {
    let pair = Pair::new();
    let mut ops = NewOp::renames(5);
    pair.server.hold_after_store();
    pair.one.enqueue(&ops).unwrap();
    assert!(pair.server.wait_until_held(SOON));
    checkpoint(&pair.one);
    delete_log(&pair.one);
    // The app starts, and makes a log of its own.
    let mut app = pair.one.open().unwrap();
    let more = NewOp::renames(3);
    app.enqueue(&more).unwrap();
    ops.extend(more);
    pair.server.release();
    pair.drained(&pair.one);
    assert_delivered(&pair.server, &ops);
    assert_eq!(pair.server.stored().len(), ops.len());
    drop(app);
    pair.flows(&pair.one);
    assert_sound(&pair.one);
}

#[test]
fn a_log_deleted_between_two_passes_keeps_no_commit_waiting_and_is_not_written_back() {
    let pair = Pair::new();
    pair.flows(&pair.one);
    pair.drained(&pair.one);
    checkpoint(&pair.one);
    assert!(!pair.daemon.has_closed_the_files(), "that was the point");
    // Whatever the app does now, it is done when the daemon looks.
    pair.daemon.signal(Signal::STOP);
    delete_log(&pair.one);
    let ops = NewOp::renames(4);
    pair.one.enqueue(&ops).unwrap();
    assert!(fs::metadata(log_of(&pair.one)).unwrap().len() > PAGE as u64, "the rows are in the app's new log alone");
    pair.daemon.signal(Signal::CONT);
    // Closing its connection to the log that is gone deletes the new one, and the rows with it, if nothing forbids it.
    assert!(holds_within(PROMPT, || applied(&pair.server, &ops).len() == 4), "{}", pair.daemon.log());
    pair.drained(&pair.one);
    assert_delivered(&pair.server, &ops);
    pair.flows(&pair.one);
    assert_sound(&pair.one);
}

#[test]
fn a_log_cut_to_nothing_under_the_daemon_is_said_and_what_the_main_file_has_is_delivered() {
    let pair = Pair::new();
    pair.daemon.ask("pause");
    let kept = NewOp::renames(3);
    pair.one.enqueue(&kept).unwrap();
    checkpoint(&pair.one);
    pair.one.enqueue(&NewOp::renames(20)).unwrap();
    assert!(!pair.daemon.has_closed_the_files(), "else the app has moved the log into the main file");
    assert!(fs::metadata(log_of(&pair.one)).unwrap().len() > PAGE as u64);
    File::create(log_of(&pair.one)).unwrap();
    pair.daemon.ask("resume");
    // The twenty were in the log and nowhere else.
    assert!(pair.server.wait_for(|stats| stats.stored >= 3, SOON), "{}", pair.daemon.log());
    pair.flows(&pair.other);
    assert!(pair.daemon.ping() < PROMPT);
    let ops = NewOp::renames(5);
    eventually("the app works again", || pair.one.enqueue(&ops).is_ok());
    pair.drained(&pair.one);
    assert_delivered(&pair.server, &[kept, ops].concat());
    assert_sound(&pair.one);
    println!("{}", pair.daemon.log());
}

/// A copy of the profile's file, and the page where this table or index begins. Nobody of this process has it open.
fn copy(pair: &Pair, of: &str) -> (PathBuf, u64) {
    checkpoint(&pair.one);
    let (copy, db) = (pair.stage.home().join("copy.db"), Connection::open(pair.one.db_path()).unwrap());
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: i64 = db.query_row(sql, [of], |row| row.get(0)).unwrap();
    drop(db);
    fs::copy(pair.one.db_path(), &copy).unwrap();
    (copy, u64::try_from(page).unwrap())
}

fn spoil(path: &Path, page: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0xa5; PAGE], (page - 1) * PAGE as u64).unwrap();
}

/// The queue itself, and what `SQLite` made for its unique `operation_id`.
const PARTS: [&str; 2] = ["sync_pending_op", "sqlite_autoindex_sync_pending_op_1"];

/// Damaged as it is: the daemon says so, and when the app has put a good file there everything is delivered.
#[track_caller]
fn is_outlived(pair: &Pair, ops: &[NewOp], copy: &Path) {
    pair.complains(&pair.one, "is damaged");
    pair.flows(&pair.other);
    assert!(pair.daemon.ping() < PROMPT);
    assert!(!holds_within(Duration::from_millis(500), || sendings(&pair.server, ops).iter().any(|times| *times > 1)));
    pair.one.replace_by_import(copy).unwrap();
    pair.drained(&pair.one);
    assert_delivered(&pair.server, ops);
    assert_sound(&pair.one);
    pair.flows(&pair.one);
}

#[test]
fn a_corrupt_page_in_a_closed_file_is_said_and_the_others_flow_until_it_is_replaced() {
    for part in PARTS {
        let pair = Pair::new();
        pair.daemon.ask("pause");
        let ops = NewOp::renames(100);
        pair.one.enqueue(&ops).unwrap();
        pair.daemon.wait_until_quiet();
        let (copy, page) = copy(&pair, part);
        pair.daemon.wait_until_quiet();
        spoil(&pair.one.db_path(), page);
        pair.daemon.ask("resume");
        is_outlived(&pair, &ops, &copy);
    }
}

#[test]
fn a_page_that_is_damaged_while_a_request_is_on_the_wire_is_said_and_the_others_flow_until_it_is_replaced() {
    let pair = Pair::new();
    let ops = NewOp::renames(100);
    pair.server.hold_after_store();
    pair.one.enqueue(&ops).unwrap();
    assert!(pair.server.wait_until_held(SOON));
    let (copy, page) = copy(&pair, PARTS[1]);
    spoil(&pair.one.db_path(), page);
    pair.server.release();
    is_outlived(&pair, &ops, &copy);
}
