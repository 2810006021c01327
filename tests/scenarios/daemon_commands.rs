//! The commands that speak to the daemon: `drain now`, `status`, `pause`, `queue …`, with a daemon and without one.

use serde_json::{Value, json};
use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Server, Version};
use testkit::token;

use crate::common::Stage;
use crate::common::daemon::{Daemon, eventually};

/// A word of the payload that no output may hold.
const SECRET: &str = "dernière soirée";

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

    /// One op that the server refuses for ever, one of another account, and the daemon that found them.
    fn with_sick_and_held() -> (Self, Daemon, String, String) {
        let case = Self::new();
        let held = NewOp::rename(1);
        case.stage.dir.set_server_url(Some("http://127.0.0.1:9")).unwrap();
        case.profile.enqueue(std::slice::from_ref(&held)).unwrap();
        // Seen under Alice's account, then Bob signs in.
        case.stage.once("0").ended_with(75);
        case.profile.sign_out().unwrap();
        case.profile.sign_in(&token::for_user("bob")).unwrap();
        case.stage.dir.set_server_url(Some(&case.server.url())).unwrap();
        let sick = NewOp::rename(2).payload_text(&format!("{{\"value\":\"{SECRET}\\u0000\"}}"));
        let ops = [sick.clone(), NewOp::rename(3), NewOp::rename(4)];
        case.profile.enqueue(&ops).unwrap();
        let daemon = Daemon::start(&case.stage);
        eventually("the sick one is set aside", || {
            let status = daemon.profile(case.profile.id);
            status["quarantined"] == 1 && status["held"] == 1 && status["pending"] == 0
        });
        (case, daemon, sick.operation_id.to_string(), held.operation_id.to_string())
    }

    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let run = self.stage.run(&[&["--json"], arguments].concat()).ended_with(code);
        assert!(run.json.is_object() && run.stdout.lines().count() == 1, "not one document: {run:?}");
        assert!(!run.stdout.contains(SECRET) && !run.stderr.contains(SECRET), "{run:?}");
        run.json
    }
}

#[test]
fn without_a_daemon_status_says_what_waits_and_the_rest_says_that_there_is_none() {
    let case = Case::new();
    case.profile.enqueue(&NewOp::renames(4)).unwrap();
    let status = case.json(&["status"], 69);
    assert_eq!((&status["pid"], &status["profiles"][0]["pending"]), (&json!(null), &json!(4)), "{status}");
    let run = case.stage.run(&["status"]).ended_with(69);
    let begin = "Not everything is on the server: 4 waiting.\nNo agent is running; start it with `waveflow-sync-agent";
    assert!(run.stdout.starts_with(begin) && run.stderr.is_empty(), "{run:?}");
    for arguments in [&["drain", "now"][..], &["queue", "list"], &["queue", "retry"]] {
        let answer = case.json(arguments, 69);
        assert!(answer["error"]["message"].as_str().is_some_and(|words| !words.is_empty()), "{answer}");
        let run = case.stage.run(arguments).ended_with(69);
        assert!(run.stdout.is_empty() && run.stderr.contains("waveflow-sync-agent run"), "{run:?}");
    }
    assert_eq!(case.server.stats().requests, 0);
}

#[test]
fn without_a_daemon_pause_and_resume_are_for_the_next_one_and_for_once() {
    let case = Case::new();
    case.profile.enqueue(&NewOp::renames(4)).unwrap();
    assert_eq!(case.json(&["pause"], 0)["paused"], true);
    assert_eq!(case.json(&["once"], 0)["reason"], "paused");
    assert!(case.stage.run(&["resume"]).ended_with(0).stdout.starts_with("Sending again."));
    assert_eq!(case.json(&["once"], 0)["sent"], 4);
}

#[test]
fn with_a_daemon_drain_now_and_status_answer_people_and_programs() {
    let case = Case::new();
    case.stage.configure_more("[drain]\ninterval = \"1h\"\n[watch]\nmode = \"off\"\n");
    let daemon = Daemon::start(&case.stage);
    eventually("the first pass is over", || daemon.profile(case.profile.id)["last_success"].is_string());
    daemon.wait_until_quiet();
    case.profile.enqueue(&NewOp::renames(3)).unwrap();
    let status = case.json(&["status"], 0);
    assert_eq!((&status["pid"], &status["profiles"][0]["pending"]), (&json!(daemon.pid()), &json!(3)));
    assert!(case.stage.run(&["status"]).ended_with(0).stdout.starts_with("Not everything is on the server: 3 waiting"));
    assert_eq!(case.json(&["drain", "now"], 0)["sent"], 3);
    assert!(case.stage.run(&["status"]).ended_with(0).stdout.starts_with("Everything is on the server."));
    case.stage.run(&["drain", "now", "42"]).ended_with(64);
    // Ops that remain are 75.
    case.profile.enqueue(&NewOp::renames(2)).unwrap();
    case.server.go_down();
    let answer = case.json(&["drain", "now"], 75);
    assert_eq!((&answer["remaining"], &answer["error"]["kind"]), (&json!(2), &json!("network")), "{answer}");
    let run = case.stage.run(&["drain", "now"]).ended_with(75);
    assert!(!run.stdout.is_empty(), "{run:?}");
}

#[test]
fn a_pause_lasts_until_resume_restarts_included() {
    let case = Case::new();
    let mut daemon = Daemon::start(&case.stage);
    case.json(&["pause"], 0);
    case.profile.enqueue(&NewOp::renames(3)).unwrap();
    let answer = case.json(&["drain", "now"], 0);
    assert_eq!((&answer["outcome"], &answer["reason"]), (&json!("skipped"), &json!("paused")));
    daemon.kill();
    drop(daemon);
    assert_eq!(case.json(&["status"], 69)["paused"], true);
    let daemon = Daemon::start(&case.stage);
    daemon.wait_for_state(case.profile.id, "paused");
    assert_eq!(daemon.ask("status")["paused"], true);
    assert_eq!(case.server.stats().requests, 0);
    case.stage.run(&["resume"]).ended_with(0);
    eventually("all is sent", || case.server.stats().stored == 3);
}

#[test]
fn what_is_set_aside_is_listed_retried_and_discarded() {
    let (case, daemon, sick, held) = Case::with_sick_and_held();
    let listed = case.json(&["queue", "list"], 0);
    let state = |id: &str| {
        let ops = listed["ops"].as_array().unwrap();
        ops.iter().find(|op| op["operation_id"] == id).map(|op| op["state"].clone())
    };
    assert_eq!((state(&sick), state(&held)), (Some(json!("quarantined")), Some(json!("held"))), "{listed}");
    let run = case.stage.run(&["queue", "list"]).ended_with(0);
    assert!(run.stdout.contains(&sick) && run.stdout.contains(&held) && !run.stdout.contains(SECRET), "{run:?}");
    // Nobody is asked where there is no terminal, and nothing goes without having been asked.
    case.stage.run(&["queue", "discard", &sick]).ended_with(64);
    case.json(&["queue", "discard", &sick], 64);
    assert_eq!(case.profile.pending_count().unwrap(), 2);
    // Tried again, alone, and refused again.
    let requests = case.server.stats().requests;
    case.stage.run(&["queue", "retry", &sick]).ended_with(0);
    assert!(case.server.wait_for(|stats| stats.requests > requests, crate::common::daemon::SOON));
    // What shows that the server is well.
    case.profile.enqueue(&NewOp::renames(2)).unwrap();
    eventually("it is set aside again", || {
        let status = daemon.profile(case.profile.id);
        status["quarantined"] == 1 && status["pending"] == 0
    });
    let answer = case.json(&["queue", "discard", "--yes", &sick], 0);
    assert_eq!(answer["discarded"]["operation_id"], json!(sick), "{answer}");
    assert_eq!(case.profile.pending_count().unwrap(), 1);
    let state = case.stage.state().to_string();
    assert!(state.contains(&sick) && !state.contains(SECRET), "{state}");
    // A held one can be let go: under the account that is signed in now.
    case.stage.run(&["queue", "retry", &held]).ended_with(0);
    eventually("it is sent", || case.profile.pending_count().unwrap() == 0);
    case.stage.run(&["queue", "discard", "--yes", &held]).ended_with(64);
    assert_eq!(case.json(&["queue", "list"], 0)["ops"], json!([]));
    assert!(!daemon.log().contains(SECRET));
}

#[test]
fn an_op_that_only_waits_is_not_discarded() {
    let case = Case::new();
    let op = NewOp::rename(1);
    case.server.go_down();
    case.profile.enqueue(std::slice::from_ref(&op)).unwrap();
    let daemon = Daemon::start(&case.stage);
    daemon.wait_for_state(case.profile.id, "backing_off");
    case.stage.run(&["queue", "discard", "--yes", &op.operation_id.to_string()]).ended_with(64);
    assert_eq!(case.profile.pending_count().unwrap(), 1);
}
