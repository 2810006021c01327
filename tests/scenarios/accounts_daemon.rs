//! Whose ops are whose, while the daemon runs.

use serde_json::json;
use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Server, Version};
use testkit::{time, token};

use crate::common::daemon::{Daemon, eventually};
use crate::common::{Stage, applied, assert_delivered};

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
}

impl Case {
    fn new() -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        Self { server, stage, profile }
    }

    /// Ops that are older than the sign-in, so that nobody can tell whose they are.
    fn enqueue_old(&self, n: u64) -> Vec<NewOp> {
        let at = time::now_ms() - 60_000;
        let ops: Vec<_> = NewOp::renames(n).into_iter().map(|op| op.created_at(at)).collect();
        self.profile.enqueue(&ops).unwrap();
        ops
    }

    #[track_caller]
    fn wait_for_held(&self, daemon: &Daemon, held: u64) {
        eventually(&format!("{held} are held and nothing else waits"), || {
            let status = daemon.profile(self.profile.id);
            (&status["held"], &status["pending"]) == (&json!(held), &json!(0))
        });
    }
}

#[test]
fn a_fresh_token_holds_nothing_back_while_the_daemon_runs() {
    for down in [false, true] {
        let case = Case::new();
        let daemon = Daemon::start(&case.stage);
        if down {
            case.server.go_down();
        }
        let mut ops = NewOp::renames(3);
        case.profile.enqueue(&ops).unwrap();
        let state = if down { "backing_off" } else { "idle" };
        daemon.wait_for_state(case.profile.id, state);
        let fresh = token::jwt("alice", token::ISSUER, time::now_s() + 1000);
        case.profile.open().unwrap().paste_token_at(&fresh, time::now_ms() + 10_000).unwrap();
        // Older than the token's change, newer than the sign-in.
        let more = NewOp::renames(2);
        case.profile.enqueue(&more).unwrap();
        ops.extend(more);
        if down {
            case.server.come_back().unwrap();
        }
        case.wait_for_held(&daemon, 0);
        assert_delivered(&case.server, &ops);
        assert!(case.server.stored().iter().all(|row| row.user == "alice"));
    }
}

#[test]
fn ops_of_an_unknown_owner_are_let_go_or_dropped_one_by_one_while_the_daemon_runs() {
    let case = Case::new();
    let old = case.enqueue_old(4);
    let daemon = Daemon::start(&case.stage);
    case.wait_for_held(&daemon, 4);
    let new = NewOp::renames(2);
    case.profile.enqueue(&new).unwrap();
    eventually("what is new is sent past them", || applied(&case.server, &new).len() == 2);
    assert!(applied(&case.server, &old).is_empty());

    let id = |at: usize| old[at].operation_id.to_string();
    case.stage.run(&["queue", "retry", &id(1)]).ended_with(0);
    case.wait_for_held(&daemon, 3);
    assert_delivered(&case.server, &old[1..2]);
    case.stage.run(&["queue", "discard", "--yes", &id(2)]).ended_with(0);
    case.wait_for_held(&daemon, 2);
    assert_eq!(case.profile.pending_count().unwrap(), 2);
    case.stage.run(&["queue", "retry", &id(0)]).ended_with(0);
    case.wait_for_held(&daemon, 1);
    assert_eq!(applied(&case.server, &old).len(), 2);
    case.stage.run(&["queue", "retry", &id(3)]).ended_with(0);
    case.wait_for_held(&daemon, 0);
    let sent: Vec<_> = applied(&case.server, &old).into_iter().map(|row| (row.operation_id, row.user)).collect();
    assert_eq!(sent, [1, 0, 3].map(|at: usize| (old[at].operation_id, "alice".to_owned())));
    assert_eq!(case.profile.pending_count().unwrap(), 0);
}

#[test]
fn retrying_all_lets_go_of_nothing_whose_owner_is_unknown_and_retrying_each_listed_one_does() {
    let case = Case::new();
    let old = case.enqueue_old(3);
    let daemon = Daemon::start(&case.stage);
    case.wait_for_held(&daemon, 3);
    // All that was refused, that is: a person lets go by name what may be somebody else's.
    case.stage.run(&["queue", "retry"]).ended_with(0);
    daemon.ask("drain now");
    case.wait_for_held(&daemon, 3);
    assert_eq!(case.server.stats().requests, 0);
    let listed = case.stage.run(&["--json", "queue", "list"]).ended_with(0);
    for op in listed.json["ops"].as_array().unwrap() {
        assert_eq!(op["state"], "held");
        case.stage.run(&["queue", "retry", op["operation_id"].as_str().unwrap()]).ended_with(0);
    }
    case.wait_for_held(&daemon, 0);
    assert_eq!(applied(&case.server, &old).len(), 3);
    assert_eq!(case.profile.pending_count().unwrap(), 0);
    // Let go was what was there, not what comes.
    let more = case.enqueue_old(2);
    case.wait_for_held(&daemon, 2);
    assert!(applied(&case.server, &more).is_empty());
}
