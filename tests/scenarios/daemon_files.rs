//! What the app does to its files under a running daemon: profiles and directories come, go and are replaced; files are
//! locked or cannot be written. The daemon lives, the others' ops flow, and `status` says what is wrong with this one.

use std::fs;

use rusqlite::Connection;
use serde_json::json;
use testkit::data_dir::{DataDir, Generation};
use testkit::ops::NewOp;
use testkit::server::{Fault, Server, Version};
use testkit::token;

use crate::common::daemon::{Daemon, PROMPT, SOON, eventually};
use crate::common::mount::Mount;
use crate::common::pair::Pair;
use crate::common::{DEVICE, Stage, assert_delivered};

#[test]
fn a_profile_deleted_in_mid_pass_and_made_again_keeps_nobody_waiting() {
    let case = Pair::new();
    let canonical = case.one.canonical_id().unwrap().unwrap().to_string();
    case.server.when(Some(1), Fault::HoldBeforeStore, move |seen| seen.profile.as_ref() == Some(&canonical));
    case.one.enqueue(&NewOp::renames(3)).unwrap();
    assert!(case.server.wait_until_held(SOON));
    case.stage.dir.delete_profile(&case.one).unwrap();
    // Whoever waits for the server's answer about the deleted one keeps the other waiting.
    case.flows(&case.other);
    eventually("it is gone from status", || case.daemon.profile(case.one.id).is_null());
    let again = case.stage.dir.add_profile_with_id(case.one.id, "Zoë again").unwrap();
    again.sign_in(&token::for_user("alice")).unwrap();
    case.flows(&case.other);
    eventually("it is back in status", || case.daemon.profile(again.id)["name"] == "Zoë again");
    case.server.release();
    case.flows(&again);
    assert_eq!(case.server.stats().peak_per_profile(), 1);
}

#[test]
fn a_profile_made_again_at_once_under_the_same_number_is_served() {
    let case = Pair::new();
    case.flows(&case.one);
    case.stage.dir.delete_profile(&case.one).unwrap();
    let again = case.stage.dir.add_profile_with_id(case.one.id, "Zoë").unwrap();
    again.sign_in(&token::for_user("alice")).unwrap();
    case.flows(&again);
    case.flows(&case.other);
}

#[test]
fn a_profile_that_is_added_is_served() {
    let case = Pair::new();
    let third = case.stage.profile("夜の音楽", "alice");
    case.flows(&third);
    assert_eq!(case.daemon.profile(third.id)["name"], "夜の音楽");
}

#[test]
fn the_app_installed_after_the_daemon_started_is_served() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.dir.clone().reset().unwrap();
    fs::remove_dir_all(stage.home().join("data")).unwrap();
    let daemon = Daemon::start(&stage);
    let status = daemon.ask("status");
    assert!(status["problem"].is_string() && status["profiles"] == json!([]), "{status}");
    let answer = daemon.ask("drain now");
    assert_eq!((&answer["outcome"], &answer["reason"]), (&json!("skipped"), &json!("unavailable")), "{answer}");
    let dir = DataDir::new(stage.dir.path(), Generation::Three).unwrap();
    dir.set_device_id(Some(DEVICE)).unwrap();
    dir.set_server_url(Some(&server.url())).unwrap();
    let profile = dir.add_profile("Zoë").unwrap();
    profile.sign_in(&token::for_user("alice")).unwrap();
    let ops = NewOp::renames(3);
    profile.enqueue(&ops).unwrap();
    assert!(server.wait_for(|stats| stats.stored == 3, SOON), "{}", daemon.log());
    assert_delivered(&server, &ops);
    assert_eq!(daemon.ask("status")["problem"], json!(null));
}

#[test]
fn a_data_directory_that_is_taken_away_and_put_back_is_served_again() {
    let case = Pair::new();
    case.flows(&case.one);
    let (here, away) = (case.stage.dir.path().to_owned(), case.stage.home().join("away"));
    fs::rename(&here, &away).unwrap();
    eventually("it says so", || case.daemon.ask("status")["problem"].is_string());
    assert!(!here.exists(), "it made something in its place");
    fs::rename(&away, &here).unwrap();
    eventually("it is back", || case.daemon.profile(case.one.id)["name"] == "Zoë");
    case.flows(&case.one);
    case.flows(&case.other);
}

#[test]
fn a_reset_app_that_starts_anew_is_served() {
    let case = Pair::new();
    case.flows(&case.one);
    case.stage.dir.clone().reset().unwrap();
    let dir = DataDir::new(case.stage.dir.path(), Generation::Three).unwrap();
    dir.set_device_id(Some("1e0ae6ae-0e5c-4f7d-a0f8-6d5df0e9b6ad")).unwrap();
    dir.set_server_url(Some(&case.server.url())).unwrap();
    let anew = dir.add_profile("Anew").unwrap();
    anew.sign_in(&token::for_user("alice")).unwrap();
    case.flows(&anew);
}

#[test]
fn a_database_replaced_under_an_open_connection_is_read_anew() {
    let case = Pair::new();
    let export = case.stage.home().join("export.db");
    // One row lies in the export, and nowhere else.
    case.daemon.ask("pause");
    let inside = NewOp::rename(7);
    case.one.enqueue(std::slice::from_ref(&inside)).unwrap();
    case.one.export(&export).unwrap();
    case.daemon.ask("resume");
    eventually("it is sent", || case.one.pending_count().unwrap() == 0);
    let stored = case.server.stats().stored;
    // The daemon has the old file open now, a few milliseconds after its pass.
    case.one.replace_by_import(&export).unwrap();
    eventually("the row of the import is settled in the new file", || {
        case.one.pending_count().is_ok_and(|count| count == 0)
    });
    assert_eq!(case.server.stats().stored, stored, "absorbed: it has been there before");
    case.flows(&case.one);
    case.flows(&case.other);
    let db = Connection::open(case.one.db_path()).unwrap();
    let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn a_database_that_is_locked_for_seconds_is_waited_for_and_the_others_flow() {
    let case = Pair::new();
    let lock = Connection::open(case.one.db_path()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Read, sent, and then not to be settled.
    let stored = case.server.stats().stored;
    drop(lock);
    case.one.enqueue(&NewOp::renames(1)).unwrap();
    assert!(case.server.wait_for(|stats| stats.stored > stored, SOON));
    let lock = Connection::open(case.one.db_path()).unwrap();
    eventually("the lock is had", || lock.execute_batch("BEGIN EXCLUSIVE").is_ok());
    case.daemon.ask(&format!("wake {}", case.one.id));
    case.flows(&case.other);
    assert!(case.daemon.ping() < PROMPT);
    lock.execute_batch("ROLLBACK").unwrap();
    case.flows(&case.one);
}

#[test]
fn app_db_locked_for_seconds_stops_nobody() {
    let case = Pair::new();
    case.daemon.ask("pause");
    let ops = NewOp::renames(4);
    case.one.enqueue(&ops[..2]).unwrap();
    case.other.enqueue(&ops[2..]).unwrap();
    let lock = case.stage.dir.app_db().unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    case.daemon.ask("resume");
    assert!(case.server.wait_for(|stats| stats.stored == 4, PROMPT), "{}", case.daemon.log());
    assert!(case.daemon.ping() < PROMPT);
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    let third = case.stage.profile("夜の音楽", "alice");
    case.flows(&third);
}

#[test]
fn a_file_that_is_damaged_is_said_and_the_others_flow() {
    let case = Pair::new();
    eventually("the files are closed", || case.daemon.has_closed_the_files());
    let whole = fs::read(case.one.db_path()).unwrap();
    fs::write(case.one.db_path(), b"this is no database, but long enough to be looked at".repeat(100)).unwrap();
    case.daemon.ask("wake");
    eventually("status says so", || {
        let status = case.daemon.profile(case.one.id);
        status["state"] == "unavailable" || status["last_error"]["kind"] == "database"
    });
    println!("damaged: {}", case.daemon.profile(case.one.id));
    case.flows(&case.other);
    fs::write(case.one.db_path(), whole).unwrap();
    case.flows(&case.one);
}

#[test]
fn an_app_db_that_is_locked_for_good_is_said_and_served_again_when_it_is_free() {
    let case = Pair::new();
    eventually("the files are closed", || case.daemon.has_closed_the_files());
    let app = case.stage.dir.app_db().unwrap();
    app.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; UPDATE app_setting SET updated_at = updated_at + 1",
    )
    .unwrap();
    assert_eq!(case.daemon.ask("drain now")["reason"], "unavailable");
    let status = case.stage.status_head();
    assert!(status.starts_with("Not every profile's files can be read"), "{status}");
    assert!(status.contains("is locked by another program"), "{status}");
    app.execute_batch("ROLLBACK").unwrap();
    drop(app);
    let ops = NewOp::renames(2);
    case.one.enqueue(&ops).unwrap();
    assert!(case.server.wait_for(|stats| stats.stored >= 2, SOON), "nothing arrives\n{}", case.daemon.log());
    assert_delivered(&case.server, &ops);
}

#[test]
fn a_read_only_file_system_is_said_and_served_again_when_it_can_be_written() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::new(Generation::Three);
    let place = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new(place.path(), "32m") else { return };
    let dir = DataDir::new(place.path().join("data"), Generation::Three).unwrap();
    dir.set_server_url(Some(&server.url())).unwrap();
    let profile = dir.add_profile("Zoë").unwrap();
    profile.sign_in(&token::for_user("alice")).unwrap();
    let ops = NewOp::renames(3);
    profile.enqueue(&ops).unwrap();
    stage.configure(&format!("data_dir = \"{}\"\n[drain]\ninterval = \"1h\"\n", dir.path().display()));
    assert!(mount.run(&["-o", "remount,ro"]));
    let daemon = Daemon::start(&stage);
    let status = stage.status_head();
    assert!(status.contains("app.db: is on a read-only file system; mount that for writing"), "{status}");
    assert_eq!(daemon.ask("drain now")["reason"], "unavailable");
    assert!(mount.run(&["-o", "remount,rw"]));
    assert_eq!(daemon.ask("drain now")["sent"], 3, "{}", daemon.log());
    assert_delivered(&server, &ops);
}
