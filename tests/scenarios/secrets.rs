//! The token and what the user wrote are printed, logged and noted nowhere, whatever a server says.

use std::fs;

use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Fault, Reply, Server, Version};
use testkit::token;

use crate::common::Stage;

/// What the user wrote.
const WRITTEN: &str = "Mes nuits blanches à Odessa, 1987";

/// Runs at the most talkative level, and fails if a secret is anywhere.
#[track_caller]
fn nothing_leaks(stage: &Stage, profile: &Profile) {
    let secret = token::for_user("alice");
    let claims = secret.split('.').nth(1).unwrap();
    for arguments in [&["--json", "--log-level", "trace", "once", "--wait", "500ms"][..], &["once", "--wait", "0"]] {
        let run = stage.run(arguments);
        let noted = fs::read_to_string(stage.state_path()).unwrap_or_default();
        let marks: String = profile.pending().unwrap().into_iter().filter_map(|row| row.last_error).collect();
        for (place, text) in [("stdout", &run.stdout), ("stderr", &run.stderr), ("state", &noted), ("marks", &marks)] {
            assert!(!text.contains(&secret) && !text.contains(claims), "the token is in {place}: {text}");
            assert!(!text.contains(WRITTEN) && !text.contains("blanches"), "what the user wrote is in {place}: {text}");
        }
    }
}

fn case() -> (Server, Stage, Profile) {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let op = NewOp::rename(1).payload(&serde_json::json!({ "value": WRITTEN }));
    let sick = NewOp::new("playlist", "2", "insert").payload_text(&format!(r#"{{"title":"{WRITTEN}"}}"#));
    let broken = NewOp::rename(3).payload_text(&format!(r#"{{"value":"{WRITTEN}"#));
    profile.enqueue(&[op, sick, broken, NewOp::rename(4)]).unwrap();
    (server, stage, profile)
}

#[test]
fn a_server_that_repeats_the_request_leaks_nothing() {
    let payload = format!("cannot store {{\"value\":\"{WRITTEN}\"}}");
    let bearer = format!("who is Bearer {}?", token::for_user("alice"));
    let statuses = [200, 302, 400, 401, 404, 422, 429, 500, 503];
    for (status, said) in statuses.into_iter().flat_map(|status| [(status, &payload), (status, &bearer)]) {
        let (server, stage, profile) = case();
        let first = profile.pending().unwrap()[0].operation_id.clone();
        let (said, location) = (said.clone(), format!("http://x/?t={}", token::for_user("alice")));
        server.script(move |seen| {
            // It repeats what is in this very request, as servers do.
            let words = if seen.operation_ids.contains(&first) { &said } else { "no" };
            Some(Fault::Answer(Reply::text(status, words).header("Location", &location)))
        });
        nothing_leaks(&stage, &profile);
    }
}

#[test]
fn sick_ops_are_set_aside_without_what_they_say() {
    let (server, stage, profile) = case();
    nothing_leaks(&stage, &profile);
    assert_eq!(server.stored().len(), 2);
    assert_eq!(stage.quarantined().len(), 2);
}

#[test]
fn a_token_that_cannot_be_sent_is_not_shown() {
    let (_server, stage, profile) = case();
    profile.sign_in(&format!("{}\u{7f}", token::for_user("alice"))).unwrap();
    nothing_leaks(&stage, &profile);
}
