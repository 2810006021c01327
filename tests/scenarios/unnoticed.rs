//! The app never notices: nothing of its files changes but what has to, and no lock is held for long.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use testkit::data_dir::{Generation, Profile, Style};
use testkit::made_up_app::{MadeUpApp, Script};
use testkit::ops::{Mix, NewOp};
use testkit::server::{Server, Version};

use crate::common::{DEVICE, Stage, assert_delivered};

/// How long a write lock may be held. The promise is 25 ms; unoptimised code gets twice that.
const LOCK_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 50 } else { 25 });
/// Between two looks at the lock: so short that nothing is missed, and not a busy loop that keeps the agent out.
const LOOK_EVERY: Duration = Duration::from_micros(300);
/// A disk that is busy with somebody else's data can stall any write once; a lock that is held for too long by design is
/// so every time.
const ATTEMPTS: usize = 3;
/// Rows in the queue while the lock is watched.
const ROWS: u64 = 20_000;

/// Everything about a database that is not the app's rows of today.
#[derive(Debug, PartialEq, Eq)]
struct Nature {
    untouchables: Vec<i64>,
    migrations: Vec<(i64, Vec<u8>)>,
    journal_mode: String,
    schema: Vec<(String, String)>,
}

fn nature(db: &Connection, untouchables: Vec<i64>) -> Nature {
    let pairs = |sql: &str| {
        let mut statement = db.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<rusqlite::Result<Vec<(String, String)>>>().unwrap()
    };
    let mut statement = db.prepare("SELECT version, checksum FROM _sqlx_migrations ORDER BY version").unwrap();
    let migrations = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    Nature {
        untouchables,
        migrations: migrations.collect::<rusqlite::Result<_>>().unwrap(),
        journal_mode: db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap(),
        schema: pairs("SELECT name, coalesce(sql, '') FROM main.sqlite_schema ORDER BY name"),
    }
}

fn natures(profile: &Profile) -> [Nature; 2] {
    let data = profile.open().unwrap();
    let app = profile.data_dir().app_db().unwrap();
    [nature(data.connection(), data.untouchables().unwrap()), nature(&app, Vec::new())]
}

/// Settings of the profile without the clocks, and the credential: nothing of it is the agent's.
fn belongings(profile: &Profile) -> Vec<String> {
    let db = profile.open().unwrap();
    let mut all = Vec::new();
    for sql in [
        "SELECT key || value || value_type || updated_at FROM profile_setting WHERE key NOT LIKE 'sync.hlc.%' \
         AND key <> 'sync.lamport_local_max'",
        "SELECT provider || quote(token_encrypted) || created_at || updated_at FROM auth_credential",
        "SELECT kind || id || coalesce(value, '') || updated_at FROM entity",
        "SELECT key || value || value_type || updated_at FROM app.app_setting",
        "SELECT id || name || data_dir || canonical_id || last_used_at FROM app.profile",
    ] {
        let mut statement = db.connection().prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        all.extend(rows.map(Result::unwrap));
    }
    all
}

#[test]
fn a_whole_drain_changes_nothing_it_has_no_business_with() {
    for generation in [Generation::Two, Generation::Three, Generation::Future] {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(generation, &server);
        let profile = stage.profile("Zoë", "alice");
        let mut ops = NewOp::renames(200);
        ops[50] = NewOp::rename(50).payload_text(r#"{"value":"a\u0000b"}"#);
        profile.enqueue(&ops).unwrap();
        profile.open().unwrap().connection().pragma_update(None, "user_version", 7).unwrap();
        server.model(|model| model.take_stamps("alice", DEVICE, [1, 90]));
        let before = (natures(&profile), belongings(&profile));
        stage.once("20s").ended_with(0);
        assert_eq!(server.stored().len(), 199);
        assert_eq!((natures(&profile), belongings(&profile)), before);
        assert_eq!(names(&profile.path), ["data.db"], "nothing else lies there, not even a WAL");
        assert_eq!(names(stage.dir.path()), ["app.db", "profiles"]);
    }
}

/// What lies in a directory.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

/// Size and time of every file below `path`.
fn traces(path: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                left.push(entry.path());
            } else {
                found.insert(entry.path().display().to_string(), (meta.len(), meta.modified().unwrap()));
            }
        }
    }
    found
}

fn data_version(db: &Connection) -> i64 {
    db.query_row("PRAGMA main.data_version", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_second_run_over_an_empty_queue_writes_nothing() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(20)).unwrap();
    stage.once("10s").ended_with(0);
    // The app stays open, so that neither opening nor closing beside it writes anything either.
    let (data, app) = (profile.open().unwrap(), stage.dir.app_db().unwrap());
    let versions = || (data_version(data.connection()), data_version(&app));
    let before = (versions(), traces(&stage.home().join("data")), traces(&stage.home().join("state")));
    let requests = server.stats().requests;
    for _ in 0..3 {
        stage.once("5s").ended_with(0);
    }
    let after = (versions(), traces(&stage.home().join("data")), traces(&stage.home().join("state")));
    assert_eq!(after, before);
    assert_eq!(server.stats().requests, requests);
}

#[test]
fn trying_again_in_vain_within_a_minute_writes_nothing() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(20)).unwrap();
    server.always(testkit::server::Fault::Answer(testkit::server::Reply::proxy(502)));
    stage.once("0").ended_with(75);
    let data = profile.open().unwrap();
    let before = (data_version(data.connection()), traces(&stage.home().join("state")));
    stage.once("1s").ended_with(75);
    let after = (data_version(data.connection()), traces(&stage.home().join("state")));
    assert_eq!(after, before);
    assert!(server.stats().requests > 2);
    assert!(profile.pending().unwrap().iter().all(|row| row.attempt_count == 1));
}

/// How long this thread and the agent's database thread have waited for a processor so far: on a busy machine that is
/// most of the time a lock seems to be held, and not the agent's doing. Zero where the system does not tell.
fn waited(agent: u32) -> Duration {
    let delay = |path: &Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        Duration::from_nanos(text.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0))
    };
    let tasks = fs::read_dir(format!("/proc/{agent}/task")).into_iter().flatten().filter_map(Result::ok);
    let is_database = |task: &Path| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "database");
    let database = tasks.map(|task| task.path()).find(|task| is_database(task));
    delay(Path::new("/proc/thread-self/schedstat"))
        + database.map_or(Duration::ZERO, |task| delay(&task.join("schedstat")))
}

/// The longest time the write lock of `path` could not be had, as seen by somebody who tries all the time, and how many
/// times it could not.
fn longest_lock(path: &Path, agent: u32, done: &AtomicBool) -> (Duration, usize) {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::ZERO).unwrap();
    let (mut longest, mut locks) = (Duration::ZERO, 0);
    let mut since: Option<(Instant, Duration)> = None;
    while !done.load(Ordering::Relaxed) {
        if db.execute_batch("BEGIN IMMEDIATE").is_ok() {
            db.execute_batch("ROLLBACK").unwrap();
            if let Some((since, before)) = since.take() {
                longest = longest.max(since.elapsed().saturating_sub(waited(agent).saturating_sub(before)));
                locks += 1;
            }
        } else if since.is_none() {
            since = Some((Instant::now(), waited(agent)));
        }
        thread::sleep(LOOK_EVERY);
    }
    (longest, locks)
}

/// Drains [`ROWS`] rows that need fresh stamps; the longest lock seen meanwhile.
fn longest_lock_of_a_drain() -> Duration {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(ROWS);
    profile.enqueue(&ops).unwrap();
    server.model(|model| model.take_stamps("alice", DEVICE, [1]));
    let done = AtomicBool::new(false);
    let (longest, locks) = thread::scope(|scope| {
        let agent = stage.start(&["--json", "once", "--wait", "60s"]);
        let (path, pid, done) = (profile.db_path(), agent.pid(), &done);
        let watcher = scope.spawn(move || longest_lock(&path, pid, done));
        let run = agent.finish();
        done.store(true, Ordering::Relaxed);
        run.ended_with(0);
        watcher.join().unwrap()
    });
    assert_delivered(&server, &ops);
    assert!(locks > 3, "the watcher saw {locks} locks only");
    longest
}

#[test]
fn no_write_lock_is_held_for_long_while_twenty_thousand_rows_are_stamped_anew_and_drained() {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let longest = longest_lock_of_a_drain();
        if longest < LOCK_MAX {
            return;
        }
        seen.push(longest);
    }
    panic!("each time a lock was held too long: {seen:?}");
}

#[test]
fn twenty_thousand_accepted_rows_leave_no_more_behind_in_the_log_than_a_few() {
    for newer in [0, 100] {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        let ops = NewOp::renames(ROWS);
        profile.enqueue(&ops).unwrap();
        // The app has it open, so that the log stays, and writes while the first batch is on its way.
        let mut app = profile.open().unwrap();
        let emptied =
            app.connection().query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        assert_eq!(emptied.unwrap(), 0);
        server.hold_after_store();
        let agent = stage.start(&["--json", "once", "--wait", "60s"]);
        assert!(server.wait_until_held(Duration::from_secs(60)));
        app.enqueue(&(1..=newer).map(|n| NewOp::rename(ROWS + n)).collect::<Vec<_>>()).unwrap();
        server.release();
        agent.finish().ended_with(0);
        assert_eq!(server.stored().len() as u64, ROWS + newer);
        assert_eq!(profile.pending_count().unwrap(), 0);
        // One by one they touch a page each, and the log has hundreds of times as much.
        let log = fs::metadata(profile.path.join("data.db-wal")).unwrap().len();
        assert!(log < 2_000_000, "{newer} queued meanwhile: {log} bytes");
    }
}

#[test]
fn an_app_that_goes_on_working_fails_no_more_often_than_there_are_writes() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let first: Vec<_> = Mix::new(8).without_large().take(500).collect();
    profile.enqueue(&first).unwrap();
    let app = MadeUpApp::start(&profile, &Script { ops: 1_500, ..Script::default() }).unwrap();
    assert!(app.wait_for(20, Duration::from_secs(20)));
    let mut runs = 0;
    while !app.wait_for(1_400, Duration::ZERO) && runs < 200 {
        stage.once("5s").ended_with(0);
        runs += 1;
    }
    let report = app.finish();
    stage.once("20s").ended_with(0);
    assert_eq!(report.error, None);
    let stored: Vec<_> = server.stored().iter().map(|row| row.operation_id).collect();
    let all: Vec<_> = first.iter().map(|op| op.operation_id).chain(report.committed.clone()).collect();
    assert_eq!(stored.len(), all.len());
    assert!(stored == all, "stored order is queue order");
    // A commit of the agent's in the middle of an action costs that action, and so does one under way when the action
    // goes from reading to writing; there is one for each batch it settles.
    let (failed, batches) = (report.busy_snapshot + report.busy, server.stats().exchanges.len());
    assert!(failed <= batches, "{failed} actions failed, for {batches} batches");
    // Waiting for the lock is no failure as long as nobody notices.
    assert!(report.latency(1.0) < Duration::from_secs(1), "{:?}", report.latency(1.0));
}

#[test]
fn an_app_that_holds_the_write_lock_for_a_while_is_waited_for() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let mut ops = NewOp::renames(20);
    profile.enqueue(&ops).unwrap();
    server.hold_after_store();
    let agent = stage.start(&["--json", "once", "--wait", "20s"]);
    assert!(server.wait_until_held(Duration::from_secs(20)));
    let more = NewOp::rename(21);
    let decided = server.stats().exchanges.len();
    let mut app = profile.open().unwrap();
    app.enqueue_as(Style::Immediate, std::slice::from_ref(&more), || {
        // The answer comes while the app is in its transaction; the agent has to wait to settle.
        server.release();
        assert!(server.wait_for(|stats| stats.exchanges.len() > decided, Duration::from_secs(20)));
    })
    .unwrap();
    ops.push(more);
    agent.finish().ended_with(0);
    assert_delivered(&server, &ops);
    assert_eq!(server.stored().len(), ops.len());
}

#[test]
fn no_transaction_is_open_while_a_request_is_on_its_way() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.configure_more("[drain]\nbatch_ops = 10\n");
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(100);
    profile.enqueue(&ops).unwrap();
    // The first one: while nothing is accepted there is nothing to settle, which would end a transaction.
    server.hold_after_store();
    let agent = stage.start(&["--json", "once", "--wait", "20s"]);
    assert!(server.wait_until_held(Duration::from_secs(20)));
    let app = profile.open().unwrap();
    // Something the agent has not read yet: a transaction of its own that is open would keep this in the WAL.
    app.set_mode("hybrid").unwrap();
    // What the agent reads ahead takes a moment; then nothing is in the way of a checkpoint that empties the WAL.
    let deadline = Instant::now() + Duration::from_secs(5);
    let emptied = || {
        let sql = "PRAGMA main.wal_checkpoint(TRUNCATE)";
        app.connection().query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
    };
    app.connection().busy_timeout(Duration::ZERO).unwrap();
    while emptied() != (0, 0, 0) {
        assert!(Instant::now() < deadline, "the agent keeps a transaction open: {:?}", emptied());
        thread::sleep(LOOK_EVERY);
    }
    assert_eq!(server.stats().held, 1, "the request was on its way all the time");
    app.connection().execute_batch("BEGIN IMMEDIATE; COMMIT").unwrap();
    server.release();
    agent.finish().ended_with(0);
    assert_delivered(&server, &ops);
}
