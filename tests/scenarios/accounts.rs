//! Whose ops are whose: none travels under another account's token.

use serde_json::json;
use testkit::data_dir::{Generation, Profile, RawOp};
use testkit::ops::NewOp;
use testkit::server::{Server, Version};
use testkit::{time, token};

use crate::common::{Stage, assert_in_order};

/// What the server stored under `user`.
#[track_caller]
fn assert_stored(server: &Server, user: &str, ops: &[NewOp]) {
    let rows: Vec<_> = server.stored().into_iter().filter(|row| row.user == user).collect();
    assert_in_order(&rows, ops);
}

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
}

impl Case {
    fn new(generation: Generation) -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(generation, &server);
        let profile = stage.profile("Zoë", "alice");
        Self { server, stage, profile }
    }

    fn enqueue(&self, n: u64) -> Vec<NewOp> {
        let ops = NewOp::renames(n);
        self.profile.enqueue(&ops).unwrap();
        ops
    }

    /// The agent sees the queue while the server is down.
    fn seen_offline(&self) {
        self.server.go_down();
        let run = self.stage.once("0").ended_with(75);
        assert_eq!(run.kind(), "network");
        self.server.come_back().unwrap();
    }

    /// Everything waits for somebody else.
    #[track_caller]
    fn all_held(&self, held: u64) {
        let requests = self.server.stats().requests;
        let run = self.stage.once("5s").ended_with(0);
        assert_eq!((&run.json["outcome"], &run.json["reason"]), (&json!("skipped"), &json!("held")), "{run:?}");
        assert_eq!(run.profile(self.profile.id)["held"], json!(held));
        assert_eq!(self.server.stats().requests, requests, "nothing was sent");
    }
}

#[test]
fn ops_of_the_first_account_wait_while_a_second_one_is_signed_in() {
    for generation in Generation::QUEUEING {
        let case = Case::new(generation);
        let mut alices = case.enqueue(3);
        case.stage.once("10s").ended_with(0);
        alices.extend(case.enqueue(30));
        case.seen_offline();
        case.profile.sign_out().unwrap();
        case.profile.sign_in(&token::for_user("bob")).unwrap();
        case.all_held(30);
        let bobs = case.enqueue(5);
        let run = case.stage.once("10s").ended_with(0);
        assert_eq!(run.profile(case.profile.id)["held"], json!(30));
        assert_stored(&case.server, "bob", &bobs);
        assert_stored(&case.server, "alice", &alices[..3]);
        assert_eq!(case.profile.pending_count().unwrap(), 30);
        case.profile.sign_out().unwrap();
        case.profile.sign_in(&token::for_user("alice")).unwrap();
        case.stage.once("10s").ended_with(0);
        assert_stored(&case.server, "alice", &alices);
        assert_stored(&case.server, "bob", &bobs);
        assert_eq!(case.profile.pending_count().unwrap(), 0);
    }
}

#[test]
fn a_token_pasted_over_another_accounts_sends_none_of_its_ops() {
    let case = Case::new(Generation::Three);
    let alices = case.enqueue(10);
    case.seen_offline();
    let late = case.enqueue(2);
    case.profile.paste_token(&token::for_user("bob")).unwrap();
    case.all_held(12);
    let bobs = case.enqueue(3);
    case.stage.once("10s").ended_with(0);
    assert_stored(&case.server, "bob", &bobs);
    case.profile.paste_token(&token::for_user("alice")).unwrap();
    let run = case.stage.once("10s").ended_with(0);
    assert_stored(&case.server, "alice", &alices);
    // Queued after the agent last looked and before the other account came: nobody can say whose these are.
    assert_eq!(run.profile(case.profile.id)["held"], json!(late.len()));
    assert_eq!(case.profile.pending_count().unwrap(), late.len());
}

#[test]
fn ops_queued_before_the_agents_first_start_and_the_credential_are_held() {
    let case = Case::new(Generation::Three);
    let now = time::now_ms();
    let old: Vec<_> = NewOp::renames(4).into_iter().map(|op| op.created_at(now - 60_000)).collect();
    case.profile.enqueue(&old).unwrap();
    case.all_held(4);
    let new = case.enqueue(2);
    let run = case.stage.once("10s").ended_with(0);
    assert_eq!((&run.json["sent"], &run.profile(case.profile.id)["held"]), (&json!(2), &json!(4)));
    assert_stored(&case.server, "alice", &new);
    assert!(case.stage.quarantined().is_empty());
}

#[test]
fn a_fresh_token_of_the_same_account_changes_nothing() {
    let case = Case::new(Generation::Three);
    let ops = case.enqueue(10);
    case.seen_offline();
    let fresh = token::jwt("alice", token::ISSUER, time::now_s() + 1000);
    case.profile.open().unwrap().paste_token_at(&fresh, time::now_ms() + 10_000).unwrap();
    case.stage.once("10s").ended_with(0);
    assert_stored(&case.server, "alice", &ops);
}

#[test]
fn the_same_name_at_another_issuer_is_another_account() {
    let case = Case::new(Generation::Three);
    case.enqueue(10);
    case.seen_offline();
    let stranger = token::jwt("alice", "https://elsewhere.example", time::now_s() + 1000);
    case.profile.sign_out().unwrap();
    case.profile.sign_in(&stranger).unwrap();
    case.all_held(10);
}

#[test]
fn a_token_pasted_in_the_middle_of_a_drain_carries_none_of_the_first_accounts_ops() {
    let case = Case::new(Generation::Three);
    case.stage.configure_more("[drain]\nbatch_ops = 5\n");
    let ops = case.enqueue(40);
    case.server.hold_after_store();
    let agent = case.stage.start(&["--json", "once", "--wait", "10s"]);
    assert!(case.server.wait_until_held(std::time::Duration::from_secs(10)));
    case.profile.paste_token(&token::for_user("bob")).unwrap();
    case.server.clear_faults();
    case.server.release();
    let run = agent.finish().ended_with(0);
    assert!(run.profile(case.profile.id)["held"].as_u64().is_some_and(|held| held > 0), "{run:?}");
    assert_stored(&case.server, "bob", &[]);
    case.profile.paste_token(&token::for_user("alice")).unwrap();
    case.stage.once("10s").ended_with(0);
    assert_stored(&case.server, "alice", &ops);
}

#[test]
fn a_token_that_names_nobody_is_used_without_a_guard() {
    let case = Case::new(Generation::Three);
    case.profile.sign_in("opaque").unwrap();
    case.profile.insert_raw(&RawOp::new(&NewOp::rename(1).created_at(5), 1)).unwrap();
    let run = case.stage.once("0").ended_with(75);
    assert_eq!(run.kind(), "unauthorized", "it was sent, and this server knows no such token");
    let guarded = || case.stage.run(&["--json", "status"]).ended_with(69).profile(case.profile.id)["guarded"].clone();
    assert_eq!(guarded(), json!(false));
    let told = case.stage.run(&["status"]).ended_with(69).stdout;
    assert!(told.contains("does not say whose it is"), "{told}");
    case.profile.sign_out().unwrap();
    assert_eq!(guarded(), json!(null));
    case.profile.sign_in(&token::for_user("alice")).unwrap();
    assert_eq!(guarded(), json!(true));
}

#[test]
fn ops_of_an_account_that_was_pasted_over_and_back_unseen_go_where_a_fresh_token_would_send_them() {
    let case = Case::new(Generation::Three);
    let mut ops = case.enqueue(2);
    case.seen_offline();
    case.profile.paste_token(&token::for_user("bob")).unwrap();
    // Bob's in truth; but all that is left of him is a token of Alice's that is newer than her row, as after a refresh,
    // and a refresh must hold nothing back.
    ops.extend(case.enqueue(3));
    case.profile.paste_token(&token::for_user("alice")).unwrap();
    case.stage.once("10s").ended_with(0);
    assert_stored(&case.server, "alice", &ops);
    assert_eq!(case.profile.pending_count().unwrap(), 0, "and nothing is lost");
}
