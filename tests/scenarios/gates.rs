//! Every reason for not draining a profile, and what is told about it.

use std::fs;

use serde_json::json;
use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Server, Version};
use testkit::{time, token};

use crate::common::{Run, Stage, assert_delivered};

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
    ops: Vec<NewOp>,
}

impl Case {
    fn new() -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        let ops = NewOp::renames(5);
        profile.enqueue(&ops).unwrap();
        Self { server, stage, profile, ops }
    }

    /// The profile is skipped for `reason`, nothing is sent, no row is touched, and that is no failure.
    #[track_caller]
    fn skipped(&self, reason: &str) -> Run {
        let before = self.profile.pending().unwrap();
        let run = self.stage.once("5s").ended_with(0);
        let reason = json!(reason);
        assert_eq!((&run.json["outcome"], &run.json["reason"]), (&json!("skipped"), &reason), "{run:?}");
        let line = run.profile(self.profile.id);
        assert_eq!((&line["outcome"], &line["reason"]), (&json!("skipped"), &reason));
        assert_eq!(self.server.stats().requests, 0);
        assert_eq!(self.profile.pending().unwrap(), before);
        run
    }

    #[track_caller]
    fn then_arrives(&self) {
        self.stage.once("10s").ended_with(0);
        assert_delivered(&self.server, &self.ops);
    }
}

#[test]
fn without_a_server_it_is_not_configured() {
    let case = Case::new();
    for url in [None, Some(""), Some("   ")] {
        case.stage.dir.set_server_url(url).unwrap();
        case.skipped("not_configured");
    }
    case.stage.dir.set_server_url(Some(&case.server.url())).unwrap();
    case.then_arrives();
}

#[test]
fn the_configurations_server_stands_in_for_the_apps() {
    let case = Case::new();
    case.stage.dir.set_server_url(None).unwrap();
    case.stage.configure(&format!("[server]\nurl = \"{}\"\n", case.server.url()));
    case.then_arrives();
}

#[test]
fn without_a_token_it_is_signed_out() {
    let case = Case::new();
    case.profile.sign_out().unwrap();
    case.skipped("signed_out");
    case.profile.open().unwrap().sign_in_at("  \n", 0).unwrap();
    case.skipped("signed_out");
    // Signed in again, at a time before these ops were queued.
    case.profile.open().unwrap().sign_in_at(&token::for_user("alice"), time::now_ms() - 60_000).unwrap();
    case.then_arrives();
}

#[test]
fn local_mode_sends_nothing_and_any_other_word_does() {
    let case = Case::new();
    case.profile.set_mode("local").unwrap();
    case.skipped("local_mode");
    case.profile.set_mode("whatever").unwrap();
    case.then_arrives();
}

#[test]
fn without_a_canonical_id_the_profile_is_not_ready() {
    let case = Case::new();
    let id = case.profile.canonical_id().unwrap();
    case.profile.set_canonical_id(None).unwrap();
    case.skipped("profile_not_ready");
    case.profile.set_canonical_id(id).unwrap();
    case.then_arrives();
}

#[test]
fn a_migration_between_two_runs_is_noticed() {
    let server = Server::start(Version::Later).unwrap();
    let mut stage = Stage::with(Generation::One, &server);
    let profile = stage.profile("Zoë", "alice");
    let mut ops = NewOp::renames(3);
    profile.enqueue(&ops).unwrap();
    stage.dir.migrate(Generation::Three).unwrap();
    let run = stage.once("5s").ended_with(0);
    assert_eq!(run.json["reason"], json!("profile_not_ready"));
    let profile = stage.dir.profiles().unwrap().remove(0);
    profile.set_canonical_id(Some(uuid::Uuid::new_v4())).unwrap();
    let more = NewOp::renames(3);
    profile.enqueue(&more).unwrap();
    ops.extend(more);
    stage.once("10s").ended_with(0);
    assert_delivered(&server, &ops);
}

#[test]
fn a_profile_without_the_queues_table_has_no_queue() {
    let case = Case::new();
    let db = case.profile.open().unwrap();
    db.connection().execute_batch("DROP TABLE sync_pending_op").unwrap();
    drop(db);
    let run = case.stage.once("5s").ended_with(0);
    assert_eq!(run.profile(case.profile.id)["reason"], json!("no_queue"));
    assert_eq!(case.server.stats().requests, 0);
}

#[test]
fn a_pause_in_the_state_file_stops_every_profile() {
    let case = Case::new();
    let path = case.stage.state_path();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, r#"{"version":1,"state":{"paused":true}}"#).unwrap();
    case.skipped("paused");
    fs::write(&path, r#"{"version":1,"state":{"paused":false}}"#).unwrap();
    case.then_arrives();
}

#[test]
fn the_current_apps_empty_queue_is_drained_of_nothing_and_left_alone() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Head, &server);
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(3)).unwrap();
    let run = stage.once("5s").ended_with(0);
    assert_eq!((&run.json["outcome"], &run.json["sent"]), (&json!("drained"), &json!(0)));
    assert_eq!(server.stats().requests, 0);
}

#[test]
fn a_refused_token_leaves_the_rows_as_they_are() {
    let case = Case::new();
    for token in [token::expired("alice"), token::jwt("alice", token::ISSUER, 1)] {
        case.profile.paste_token(&token).unwrap();
        let before = case.profile.pending().unwrap();
        let run = case.stage.once("1s").ended_with(75);
        assert_eq!((&run.json["outcome"], run.kind()), (&json!("drained"), "unauthorized"));
        assert_eq!(run.json["remaining"], json!(5));
        assert_eq!(case.profile.pending().unwrap(), before, "no marks");
        let printed = format!("{}{}", run.stdout, run.stderr);
        assert!(!printed.contains(&token), "the token was printed");
    }
    case.profile.paste_token(&token::for_user("alice")).unwrap();
    case.then_arrives();
}

#[test]
fn of_several_profiles_each_has_its_own_reason() {
    let case = Case::new();
    let local = case.stage.profile("local", "alice");
    local.set_mode("local").unwrap();
    let out = case.stage.profile("out", "alice");
    out.sign_out().unwrap();
    let run = case.stage.once("10s").ended_with(0);
    assert_eq!((&run.json["outcome"], &run.json["sent"]), (&json!("drained"), &json!(5)));
    assert_eq!(run.profile(local.id)["reason"], json!("local_mode"));
    assert_eq!(run.profile(out.id)["reason"], json!("signed_out"));
    assert_delivered(&case.server, &case.ops);
}
