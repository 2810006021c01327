//! Whatever answers in the server's place: no row leaves the queue for it, and none is quarantined.

use serde_json::json;
use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Fault, Reply, Server, Version};

use crate::common::{Run, Stage, assert_delivered};

/// Ops in the queue: enough to be halved a few times.
const OPS: u64 = 20;

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
    ops: Vec<NewOp>,
}

impl Case {
    fn new(fault: Fault) -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        let ops = NewOp::renames(OPS);
        profile.enqueue(&ops).unwrap();
        server.always(fault);
        Self { server, stage, profile, ops }
    }

    /// Tries for a while; whatever happens, every row stays as it was queued.
    #[track_caller]
    fn refused(&self, wait: &str) -> Run {
        let run = self.stage.once(wait).ended_with(75);
        assert_eq!((&run.json["outcome"], &run.json["sent"]), (&json!("drained"), &json!(0)));
        assert_eq!(run.json["remaining"], json!(OPS));
        let rows = self.profile.pending().unwrap();
        let stamps: Vec<_> = rows.iter().map(|row| row.stamp).collect();
        assert_eq!(stamps, (1..=20).collect::<Vec<_>>());
        let quarantined = |row: &&testkit::data_dir::Pending| {
            row.last_error.as_deref().is_some_and(|error| error.starts_with("quarantined"))
        };
        assert_eq!(rows.iter().filter(quarantined).count(), 0);
        assert_eq!(self.stage.quarantined().len(), 0);
        run
    }

    /// The real server is back.
    #[track_caller]
    fn recovers(&self) {
        self.server.clear_faults();
        self.stage.once("10s").ended_with(0);
        assert_delivered(&self.server, &self.ops);
        assert_eq!(self.server.stored().len(), self.ops.len());
        assert_eq!(self.profile.pending_count().unwrap(), 0);
    }
}

/// Fails unless nothing goes, the outcome is of `kind` and its words hold `words`, and all is well afterwards.
#[track_caller]
fn nothing_goes(fault: Fault, kind: &str, words: &[&str]) -> Case {
    let case = Case::new(fault);
    let run = case.refused("1500ms");
    assert_eq!(run.kind(), kind, "{run:?}");
    for word in words {
        assert!(run.message().contains(word), "no “{word}” in “{}”", run.message());
    }
    assert_eq!(run.profile(case.profile.id)["error"]["kind"], kind);
    case.recovers();
    case
}

#[test]
fn a_200_with_a_page_accepts_nothing() {
    nothing_goes(Fault::Answer(Reply::captive_portal()), "not_the_server", &["200", "HTML page", "Welcome"]);
}

#[test]
fn a_redirect_is_not_followed() {
    nothing_goes(Fault::Answer(Reply::login_redirect()), "not_the_server", &["302", "http://login.example/"]);
}

#[test]
fn a_200_that_names_nobody_accepts_nothing() {
    let reply = Reply::json(200, &json!({"accepted": []}));
    nothing_goes(Fault::Answer(reply), "not_the_server", &["200", "without naming"]);
}

#[test]
fn a_200_with_other_json_accepts_nothing() {
    let reply = Reply::json(200, &json!({"status": "ok"}));
    nothing_goes(Fault::Answer(reply), "not_the_server", &["200", "JSON without"]);
}

#[test]
fn a_200_that_names_other_ops_accepts_nothing() {
    let row = json!({"operation_id": "00000000-0000-4000-8000-00000000000a", "id": 1});
    let reply = Reply::json(200, &json!({"accepted": [row]}));
    nothing_goes(Fault::Answer(reply), "not_the_server", &["200", "without naming"]);
}

#[test]
fn a_200_that_leaves_one_op_out_accepts_the_others_only() {
    let case = Case::new(Fault::Pass);
    let named: Vec<_> =
        case.ops.iter().skip(1).map(|op| json!({"operation_id": op.operation_id.to_string()})).collect();
    case.server.clear_faults();
    case.server.always(Fault::Answer(Reply::json(200, &json!({"accepted": named}))));
    case.stage.once("0").ended_with(75);
    let rows = case.profile.pending().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].operation_id, case.ops[0].operation_id.to_string());
    assert!(rows[0].last_error.as_deref().is_some_and(|error| error.contains("without naming 1 of 20")));
}

#[test]
fn a_200_cut_in_the_middle_accepts_nothing() {
    let case = nothing_goes(Fault::CutMidReply, "network", &[]);
    assert!(case.server.stats().requests > 2);
}

#[test]
fn a_200_cut_in_the_middle_under_a_length_that_fits_accepts_nothing() {
    let reply = Reply::new(200).body("application/json", r#"{"accepted":[{"id":1,"operation_id":"0000"#);
    nothing_goes(Fault::Answer(reply), "not_the_server", &["200", "cut short"]);
}

#[test]
fn a_proxy_that_refuses_everything_quarantines_nothing() {
    for status in [400, 413, 415, 422] {
        let words = [status.to_string()];
        let words: Vec<_> = words.iter().map(String::as_str).chain(["even an empty batch"]).collect();
        nothing_goes(Fault::Answer(Reply::proxy(status)), "not_the_server", &words);
    }
}

#[test]
fn a_proxy_that_knows_nobody_there_quarantines_nothing() {
    for status in [404, 405, 407, 410, 204] {
        nothing_goes(Fault::Answer(Reply::proxy(status)), "not_the_server", &[&status.to_string()]);
    }
}

#[test]
fn a_server_that_is_down_behind_its_proxy_is_waited_for() {
    for status in [408, 429, 502, 503, 504] {
        nothing_goes(Fault::Answer(Reply::proxy(status)), "server", &[&status.to_string()]);
    }
}

#[test]
fn a_server_whose_database_is_down_quarantines_nothing() {
    nothing_goes(Fault::Answer(Reply::insert_failed()), "server", &["500", "insert failed"]);
}

#[test]
fn a_server_that_is_not_there_is_waited_for() {
    let case = Case::new(Fault::Pass);
    case.server.go_down();
    let run = case.refused("1500ms");
    assert_eq!(run.kind(), "network");
    assert!(run.message().contains("127.0.0.1"), "{}", run.message());
    case.server.come_back().unwrap();
    case.recovers();
}

#[test]
fn a_retry_after_longer_than_the_wait_ends_the_run_at_once() {
    let case = Case::new(Fault::Answer(Reply::too_many_requests("3000")));
    let run = case.refused("30s");
    assert!(run.took < std::time::Duration::from_secs(5), "{:?}", run.took);
    assert_eq!(case.server.stats().requests, 1);
    assert_eq!(run.kind(), "server");
}

#[test]
fn a_proxy_with_a_smaller_limit_gets_smaller_requests() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let ops: Vec<_> = testkit::ops::Mix::new(5).without_large().take(2_000).collect();
    profile.enqueue(&ops).unwrap();
    server.always(Fault::RefuseOver { bytes: 100_000, reply: Reply::proxy(413) });
    stage.once("20s").ended_with(0);
    assert_delivered(&server, &ops);
    assert_eq!(stage.quarantined().len(), 0);
}
