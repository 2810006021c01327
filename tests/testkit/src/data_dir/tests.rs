//! The directory is what the contract says, and the app in it behaves as the contract says.

use std::os::unix::fs::MetadataExt as _;

use rusqlite::types::Value;

use super::*;
use crate::ops::{Mix, NewOp};

fn install(generation: Generation) -> (tempfile::TempDir, DataDir, Profile) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = DataDir::new(temporary.path().join("waveflow"), generation).unwrap();
    let profile = dir.add_profile("Zoë").unwrap();
    (temporary, dir, profile)
}

fn columns(db: &Connection, table: &str) -> Vec<String> {
    let mut rows = db.prepare(&format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid")).unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(|name| name.unwrap()).collect()
}

#[test]
fn a_new_install_has_no_server_and_no_device_id() {
    let (_temporary, dir, profile) = install(Generation::Three);
    assert_eq!((dir.server_url().unwrap(), dir.device_id().unwrap()), (None, None));
    assert_eq!((profile.clock().unwrap(), profile.open().unwrap().token().unwrap()), (None, None));
    let made = dir.device_id_or_new().unwrap();
    assert_eq!(dir.device_id_or_new().unwrap(), made);
    assert_eq!(Uuid::try_parse(&made).unwrap().get_version_num(), 4);
}

#[test]
fn files_are_opened_as_the_app_opens_them() {
    let (_temporary, dir, profile) = install(Generation::One);
    let ask = |db: &Connection, sql: &str| db.query_row(sql, [], |row| row.get::<_, Value>(0)).unwrap();
    let (data, app) = (profile.open().unwrap(), dir.app_db().unwrap());
    for (db, synchronous) in [(data.connection(), 1), (&app, 2)] {
        assert_eq!(ask(db, "PRAGMA journal_mode"), Value::Text("wal".into()));
        assert_eq!(ask(db, "PRAGMA main.synchronous"), Value::Integer(synchronous));
        assert_eq!(ask(db, "PRAGMA page_size"), Value::Integer(4096));
        assert_eq!(ask(db, "PRAGMA wal_autocheckpoint"), Value::Integer(1000));
        assert_eq!(ask(db, "PRAGMA busy_timeout"), Value::Integer(5000));
    }
    assert_eq!(ask(data.connection(), "SELECT COUNT(*) FROM app.profile"), Value::Integer(1));
}

#[test]
fn a_file_migrated_up_has_the_columns_of_a_new_one() {
    for (from, to) in [
        (Generation::One, Generation::Two),
        (Generation::One, Generation::Three),
        (Generation::Two, Generation::Future),
        (Generation::Three, Generation::Head),
    ] {
        let (_temporary, mut dir, profile) = install(from);
        profile.enqueue(&NewOp::renames(3)).unwrap();
        dir.migrate(to).unwrap();
        let (_other_temporary, other, fresh) = install(to);
        for table in ["sync_pending_op", "profile_setting", "auth_credential", "_sqlx_migrations", "outbox"] {
            let migrated = columns(profile.open().unwrap().connection(), table);
            assert_eq!(migrated, columns(fresh.open().unwrap().connection(), table), "{from:?} to {to:?}: {table}");
        }
        assert_eq!(columns(&dir.app_db().unwrap(), "profile"), columns(&other.app_db().unwrap(), "profile"));
        assert_eq!(profile.pending_count().unwrap(), 3);
        if from == Generation::One {
            assert_eq!(profile.canonical_id().unwrap(), None, "NULL until the app's next start");
            assert!(fresh.canonical_id().unwrap().is_some());
        }
    }
}

#[test]
fn the_generations_differ_where_the_contract_says() {
    for generation in Generation::ALL {
        let (_temporary, dir, profile) = install(generation);
        let queue = columns(profile.open().unwrap().connection(), "sync_pending_op");
        assert_eq!(queue.contains(&"hlc_wall".to_owned()), generation.has_hlc());
        assert_eq!(queue.contains(&"origin".to_owned()), generation == Generation::Future);
        let canonical = columns(&dir.app_db().unwrap(), "profile").contains(&"canonical_id".to_owned());
        assert_eq!(canonical, generation.has_canonical_id());
    }
}

#[test]
fn ops_are_queued_in_order_with_rising_stamps_and_pairs() {
    for generation in Generation::QUEUEING {
        let (_temporary, _dir, profile) = install(generation);
        let ops: Vec<_> = Mix::new(3).take(200).collect();
        profile.set_clock(41).unwrap();
        assert_eq!(profile.enqueue(&ops).unwrap(), (42..242).collect::<Vec<_>>());
        let pending = profile.pending().unwrap();
        let ids: Vec<_> = ops.iter().map(|op| op.operation_id.to_string()).collect();
        assert_eq!(pending.iter().map(|row| row.operation_id.clone()).collect::<Vec<_>>(), ids);
        assert_eq!(profile.clock().unwrap(), Some(241));
        let pairs: Vec<_> = pending.iter().filter_map(|row| row.pair).collect();
        assert_eq!(pairs.len(), if generation.has_hlc() { 200 } else { 0 });
        assert!(pairs.windows(2).all(|two| two[0] < two[1]));
        assert_eq!(profile.open().unwrap().last_pair().unwrap(), pairs.last().copied());
    }
}

#[test]
fn a_current_app_writes_its_newer_outbox_only() {
    let (_temporary, mut dir, profile) = install(Generation::Three);
    profile.enqueue(&NewOp::renames(2)).unwrap();
    dir.migrate(Generation::Head).unwrap();
    assert_eq!(profile.enqueue(&[NewOp::rename(9)]).unwrap(), Vec::<i64>::new());
    assert_eq!(profile.pending_count().unwrap(), 2);
    assert_eq!(profile.open().unwrap().entity_count().unwrap(), 3);
}

#[test]
fn a_clock_at_the_end_of_the_integers_goes_on_with_9_and_10() {
    let (_temporary, _dir, profile) = install(Generation::One);
    profile.set_clock(i64::MAX).unwrap();
    assert_eq!(profile.enqueue(&NewOp::renames(2)).unwrap(), [9, 10]);
}

#[test]
fn a_deferred_action_fails_when_somebody_commits_in_between() {
    let (_temporary, _dir, profile) = install(Generation::Three);
    let mut app = profile.open().unwrap();
    let intruder = profile.open().unwrap();
    let failed = app.enqueue_as(Style::Deferred, &[NewOp::rename(1)], || intruder.set_mode("hybrid").unwrap());
    assert!(failed.unwrap_err().is_busy_snapshot());
    assert_eq!((app.pending_count().unwrap(), app.entity_count().unwrap()), (0, 0), "all or nothing");
    app.enqueue_as(Style::Deferred, &[NewOp::rename(1)], || ()).unwrap();
    assert_eq!(app.pending_count().unwrap(), 1);
}

#[test]
fn the_queues_checks_are_in_force() {
    let (_temporary, _dir, profile) = install(Generation::Three);
    let (op, db) = (NewOp::rename(1), profile.open().unwrap());
    db.insert_raw(&RawOp::new(&op, 5)).unwrap();
    let other = NewOp::rename(2);
    for bad in [
        RawOp::new(&other, 5),
        RawOp::new(&other, 0),
        RawOp::new(&op, 6),
        RawOp::new(&other, 6).with("op", "rename".to_owned()),
        RawOp::new(&other, 6).with("hlc_logical", i64::from(i32::MAX) + 1),
        RawOp::new(&other, 6).with("entity", rusqlite::types::Null),
    ] {
        db.insert_raw(&bad).unwrap_err();
    }
    for strange in [
        RawOp::new(&other, 6).with("operation_id", "not a uuid".to_owned()),
        RawOp::new(&other, 7).with("payload", "{".to_owned()).with("lamport_ts", 7.5),
        RawOp::new(&NewOp::rename(3), 8).with("payload", vec![0_u8, 255]).with("created_at", "yesterday".to_owned()),
    ] {
        db.insert_raw(&strange).unwrap();
    }
}

#[test]
fn accounts_come_and_go_without_touching_the_queue() {
    let (_temporary, _dir, profile) = install(Generation::Two);
    let db = profile.open().unwrap();
    let times = || {
        db.connection()
            .query_row("SELECT created_at, updated_at FROM auth_credential", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })
            .unwrap()
    };
    db.paste_token("nobody is signed in").unwrap_err();
    db.sign_in_at("first", 100).unwrap();
    assert_eq!(times(), (100, 100));
    db.paste_token_at("second", 200).unwrap();
    assert_eq!((times(), db.token().unwrap().as_deref()), ((100, 200), Some("second")));
    profile.enqueue(&[NewOp::rename(1)]).unwrap();
    db.sign_out().unwrap();
    assert_eq!((db.token().unwrap(), db.pending_count().unwrap()), (None, 1));
    db.sign_in_at("third", 300).unwrap();
    assert_eq!(times(), (300, 300));
}

#[test]
fn a_deleted_profile_comes_back_with_the_same_path_and_another_file() {
    let (_temporary, dir, profile) = install(Generation::Two);
    profile.enqueue(&NewOp::renames(2)).unwrap();
    dir.delete_profile(&profile).unwrap();
    assert!(!profile.path.exists() && dir.profiles().unwrap().is_empty());
    let back = dir.add_profile_with_id(profile.id, "Zoë").unwrap();
    assert_eq!((back.db_path(), back.pending_count().unwrap()), (profile.db_path(), 0));
    assert!(dir.add_profile("Zoë").is_err(), "names are unique");
    let path = dir.path().to_owned();
    dir.reset().unwrap();
    assert!(!path.exists());
}

#[test]
fn an_import_puts_another_file_under_the_same_path() {
    let (temporary, _dir, profile) = install(Generation::Three);
    profile.enqueue(&NewOp::renames(2)).unwrap();
    let exported = temporary.path().join("export.db");
    profile.export(&exported).unwrap();
    profile.enqueue(&NewOp::renames(3)).unwrap();
    let inode = |profile: &Profile| fs::metadata(profile.db_path()).unwrap().ino();
    let before = inode(&profile);
    profile.replace_by_import(&exported).unwrap();
    assert_ne!(inode(&profile), before);
    assert_eq!((profile.pending_count().unwrap(), profile.clock().unwrap()), (2, Some(2)));
    profile.replace_by_empty().unwrap();
    assert_eq!(profile.pending_count().unwrap(), 0);
}

#[test]
fn a_restored_backup_is_the_same_file_with_the_queue_the_clock_and_the_ids_of_then() {
    let (temporary, _dir, profile) = install(Generation::Three);
    let backup = temporary.path().join("backup.db");
    profile.enqueue(&NewOp::renames(3)).unwrap();
    profile.export(&backup).unwrap();
    let file = std::fs::metadata(profile.db_path()).unwrap().ino();
    let other = profile.open().unwrap();
    profile.enqueue(&NewOp::renames(4)).unwrap();
    profile.open().unwrap().restore(&backup).unwrap();
    assert_eq!((other.pending_count().unwrap(), other.clock().unwrap()), (3, Some(3)));
    assert_eq!(profile.enqueue(&NewOp::renames(1)).unwrap(), [4]);
    assert_eq!(other.pending().unwrap().last().unwrap().id, 4, "an id that was used before");
    assert_eq!(std::fs::metadata(profile.db_path()).unwrap().ino(), file);
    let mode: String = other.connection().query_row("PRAGMA main.journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}
