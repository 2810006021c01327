//! Another file, or another past of the same file, under a running daemon: a database replaced, deleted and made again
//! with the same ids, a backup restored into the live file, a credential that vanishes. What was accepted from the one
//! never takes a row away from the other.

use std::path::PathBuf;

use serde_json::json;
use testkit::data_dir::Profile;
use testkit::ops::NewOp;
use testkit::server::{Fault, Reply};
use testkit::token;

use crate::common::daemon::{SOON, eventually};
use crate::common::pair::Pair;
use crate::common::{applied, assert_delivered, sendings};

/// Rows and their operation ids.
fn rows(profile: &Profile) -> Vec<(i64, String)> {
    profile.pending().unwrap().into_iter().map(|row| (row.id, row.operation_id)).collect()
}

/// Queues `ops` in `profile` and waits until they are stored and the answer is held back; their rows.
#[track_caller]
fn stored_and_not_heard(pair: &Pair, profile: &Profile, ops: &[NewOp]) -> Vec<(i64, String)> {
    pair.server.hold_after_store();
    profile.enqueue(ops).unwrap();
    assert!(pair.server.wait_until_held(SOON), "{}", pair.daemon.log());
    rows(profile)
}

/// Fails unless these rows have the same ids and other operations.
#[track_caller]
fn assert_mixed_up(one: &[(i64, String)], other: &[(i64, String)]) {
    assert!(one.iter().zip(other).all(|(one, other)| one.0 == other.0 && one.1 != other.1), "{one:?}, {other:?}");
}

#[test]
fn a_database_replaced_while_a_request_is_on_the_wire_loses_no_row_with_the_same_id() {
    let pair = Pair::new();
    let (old, new) = (NewOp::renames(3), NewOp::renames(3));
    let before = stored_and_not_heard(&pair, &pair.one, &old);
    pair.one.replace_by_empty().unwrap();
    pair.one.sign_in(&token::for_user("alice")).unwrap();
    pair.one.enqueue(&new).unwrap();
    assert_mixed_up(&before, &rows(&pair.one));
    pair.server.release();
    pair.drained(&pair.one);
    assert_delivered(&pair.server, &[old, new].concat());
    pair.flows(&pair.one);
}

#[test]
fn a_database_deleted_and_made_again_with_the_same_id_while_a_request_is_on_the_wire_loses_no_row() {
    let pair = Pair::new();
    let (old, new) = (NewOp::renames(3), NewOp::renames(3));
    let before = stored_and_not_heard(&pair, &pair.one, &old);
    pair.stage.dir.delete_profile(&pair.one).unwrap();
    let again = pair.stage.dir.add_profile_with_id(pair.one.id, "Zoë again").unwrap();
    again.sign_in(&token::for_user("alice")).unwrap();
    again.enqueue(&new).unwrap();
    assert_mixed_up(&before, &rows(&again));
    pair.flows(&pair.other);
    pair.server.release();
    pair.drained(&again);
    assert_delivered(&pair.server, &[old, new].concat());
    pair.flows(&again);
}

/// Delivers three ops, of which a backup is kept that has them in its queue.
fn with_a_backup() -> (Pair, Vec<NewOp>, PathBuf) {
    let pair = Pair::new();
    let ops = NewOp::renames(3);
    pair.daemon.ask("pause");
    pair.one.enqueue(&ops).unwrap();
    let backup = pair.stage.home().join("backup.db");
    pair.one.export(&backup).unwrap();
    pair.daemon.ask("resume");
    pair.drained(&pair.one);
    (pair, ops, backup)
}

/// Everything is there once, in order, and the clock is above all of it.
#[track_caller]
fn assert_caught_up(pair: &Pair, ops: &[NewOp]) {
    pair.drained(&pair.one);
    assert_delivered(&pair.server, ops);
    assert_eq!(pair.server.stored().len(), ops.len(), "something was stored twice");
    let highest = pair.server.stored().iter().map(|row| row.lamport_ts).max().unwrap();
    assert!(pair.one.clock().unwrap() >= Some(highest), "{:?} under {highest}", pair.one.clock());
    pair.flows(&pair.one);
}

#[test]
fn a_backup_restored_into_the_live_file_between_two_passes_rewinds_queue_and_clock_and_loses_nothing() {
    let (pair, first, backup) = with_a_backup();
    let second = NewOp::renames(4);
    pair.one.enqueue(&second).unwrap();
    pair.drained(&pair.one);
    let mut app = pair.one.open().unwrap();
    app.restore(&backup).unwrap();
    assert_eq!(app.clock().unwrap(), Some(3));
    // Stamps that are taken, and ids that were used.
    let third = NewOp::renames(5);
    assert_eq!(app.enqueue(&third).unwrap(), [4, 5, 6, 7, 8]);
    drop(app);
    assert_caught_up(&pair, &[first, second, third].concat());
}

#[test]
fn a_backup_restored_into_the_live_file_while_a_request_is_on_the_wire_loses_no_row_with_the_same_id() {
    let (pair, first, backup) = with_a_backup();
    let (second, third) = (NewOp::renames(4), NewOp::renames(4));
    let before = stored_and_not_heard(&pair, &pair.one, &second);
    let mut app = pair.one.open().unwrap();
    app.restore(&backup).unwrap();
    app.enqueue(&third).unwrap();
    let after = rows(&pair.one);
    assert_eq!(after.len(), 7, "the first three are back");
    assert_mixed_up(&before, &after[3..]);
    pair.server.release();
    assert_caught_up(&pair, &[first, second, third].concat());
    assert_eq!(app.pending_count().unwrap(), 0);
}

#[test]
fn a_backup_of_another_accounts_time_restored_into_the_live_file_gives_nobody_the_others_ops() {
    let (pair, first, backup) = with_a_backup();
    pair.server.always(Fault::Answer(Reply::proxy(502)));
    pair.one.sign_in(&token::for_user("bob")).unwrap();
    let his = NewOp::renames(5);
    pair.one.enqueue(&his).unwrap();
    eventually("it is remembered whose they are", || {
        pair.stage.state()["books"].to_string().contains("\"subject\":\"bob\"},\"up_to\":8")
    });
    // Alice is back, and so is what she had queued; what she queues now has ids that were his.
    let mut app = pair.one.open().unwrap();
    app.restore(&backup).unwrap();
    let hers = NewOp::renames(4);
    app.enqueue(&hers).unwrap();
    assert!(app.pending().unwrap().iter().all(|row| row.id < 8));
    pair.server.clear_faults();
    pair.drained(&pair.one);
    let rows = applied(&pair.server, &[first, hers].concat());
    assert_eq!(rows.len(), 7);
    assert!(rows.iter().all(|row| row.user == "alice"));
    assert!(applied(&pair.server, &his).is_empty(), "nobody has them any more");
}

#[test]
fn a_credential_that_vanishes_while_a_request_is_on_the_wire_ends_the_pass_and_the_rest_waits_for_it() {
    let pair = Pair::with("[drain]\ninterval = \"1h\"\nbatch_ops = 2\n");
    let ops = NewOp::renames(10);
    stored_and_not_heard(&pair, &pair.one, &ops);
    pair.one.sign_out().unwrap();
    pair.server.release();
    pair.daemon.wait_for_state(pair.one.id, "signed_out");
    eventually("what was accepted is settled all the same, and the pass is over", || {
        let (stored, pending) = (pair.server.stored().len(), pair.one.pending_count().unwrap());
        pending < 10 && stored + pending == 10 && pair.daemon.log().contains("signed out")
    });
    // What was on the wire, and what had been read together with the token before it vanished.
    let stored = pair.server.stored().len();
    assert!(stored <= 4, "{stored} of 10");
    let answer = pair.daemon.ask(&format!("drain now {}", pair.one.id));
    assert_eq!((&answer["outcome"], &answer["reason"]), (&json!("skipped"), &json!("signed_out")), "{answer}");
    pair.flows(&pair.other);
    pair.one.sign_in(&token::for_user("alice")).unwrap();
    pair.drained(&pair.one);
    assert_delivered(&pair.server, &ops);
    assert_eq!(sendings(&pair.server, &ops), [1; 10]);
    pair.flows(&pair.one);
}
