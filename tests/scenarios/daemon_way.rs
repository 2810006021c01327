//! Where ops go, under which token, and what is known of the way there, while a daemon runs: what changes is noticed, and
//! what one profile learnt of a server counts for all, and no longer than it should.

use std::time::Duration;

use serde_json::json;
use testkit::data_dir::Generation;
use testkit::ops::NewOp;
use testkit::server::{Fault, Reply, Server, Version};

use crate::common::Stage;
use crate::common::daemon::{Daemon, SOON, eventually};

/// No timer and no back-off of an ordinary length comes to the scenario's help.
const LONG_WAITS: &str = "[retry]\ninitial = \"1h\"\nmax = \"1h\"\n[drain]\ninterval = \"1h\"\nbatch_ops = 10\n";
/// At once, on a machine with other work to do.
const AT_ONCE: Duration = Duration::from_secs(10);

fn stage(server: &Server) -> Stage {
    let stage = Stage::with(Generation::Three, server);
    stage.configure(LONG_WAITS);
    stage
}

#[test]
fn an_address_that_changed_while_a_request_hung_at_the_old_one_is_used_at_once() {
    let (old, new) = (Server::start(Version::Later).unwrap(), Server::start(Version::Later).unwrap());
    let stage = stage(&old);
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(3)).unwrap();
    old.always(Fault::Silence);
    let daemon = Daemon::start(&stage);
    assert!(old.wait_until_held(SOON));
    stage.dir.set_server_url(Some(&new.url())).unwrap();
    old.release();
    assert!(new.wait_for(|stats| stats.stored == 3, AT_ONCE), "{}", daemon.log());
}

#[test]
fn a_new_address_does_not_wait_for_the_time_the_old_server_named() {
    let (old, new) = (Server::start(Version::Later).unwrap(), Server::start(Version::Later).unwrap());
    let stage = stage(&old);
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(3)).unwrap();
    old.always(Fault::Answer(Reply::too_many_requests("3600")));
    let daemon = Daemon::start(&stage);
    daemon.wait_for_state(profile.id, "backing_off");
    stage.dir.set_server_url(Some(&new.url())).unwrap();
    assert!(new.wait_for(|stats| stats.stored == 3, AT_ONCE), "{}", daemon.log());
    assert_eq!(daemon.ask("drain now")["remaining"], 0);
}

#[test]
fn a_time_a_server_named_to_one_profile_is_kept_and_told_by_another_that_signs_in_later() {
    let server = Server::start(Version::Later).unwrap();
    let stage = stage(&server);
    let [first, second] = ["Zoë", "Yve"].map(|name| stage.profile(name, "alice"));
    second.sign_out().unwrap();
    first.enqueue(&NewOp::renames(2)).unwrap();
    server.always(Fault::Answer(Reply::too_many_requests("3600")));
    let daemon = Daemon::start(&stage);
    daemon.wait_for_state(first.id, "backing_off");
    let requests = server.stats().requests;
    second.sign_in(&testkit::token::for_user("alice")).unwrap();
    second.enqueue(&NewOp::renames(4)).unwrap();
    let answer = daemon.ask(&format!("drain now {}", second.id));
    assert_eq!((&answer["outcome"], &answer["remaining"]), (&json!("drained"), &json!(4)), "{answer}");
    assert!(answer["error"]["message"].as_str().is_some_and(|words| words.contains("left alone")), "{answer}");
    daemon.wait_for_state(second.id, "backing_off");
    assert!(daemon.profile(second.id)["next_attempt_in_s"].as_u64().is_some_and(|seconds| seconds > 3000));
    assert_eq!(server.stats().requests, requests, "a time that was named is kept by all");
}

#[test]
fn a_long_pass_that_works_keeps_no_other_profile_waiting() {
    let server = Server::start(Version::Later).unwrap();
    let stage = stage(&server);
    // Of two accounts, so that their stamps do not meet.
    let [first, second] = [("Zoë", "alice"), ("Yve", "bob")].map(|(name, user)| stage.profile(name, user));
    first.enqueue(&NewOp::renames(200)).unwrap();
    server.next(Fault::Answer(Reply::proxy(502)));
    let daemon = Daemon::start(&stage);
    daemon.wait_for_state(first.id, "backing_off");
    // It works again, and takes half a second for each of the twenty requests.
    server.always(Fault::DelayBefore(Duration::from_millis(500)));
    let mut long = daemon.client();
    long.write(&format!("drain now {}\n", first.id)).unwrap();
    assert!(server.wait_for(|stats| stats.stored >= 10, SOON));
    second.enqueue(&NewOp::renames(1)).unwrap();
    assert_eq!(daemon.ask(&format!("drain now {}", second.id))["remaining"], 0);
    let of = |user: &str| server.stored().iter().filter(|row| row.user == user).count();
    let (of_first, of_second) = (of("alice"), of("bob"));
    assert!(of_first < 200 && of_second == 1, "the other profile was waited for: {of_first}, {of_second}");
    assert_eq!(long.read().map(|answer| answer["remaining"].clone()), Some(json!(0)));
    eventually("everything is stored", || server.stored().len() == 201);
}

#[test]
fn an_op_that_gets_500_for_ever_alone_in_its_profile_keeps_no_other_profile_waiting() {
    let server = Server::start(Version::Later).unwrap();
    let stage = stage(&server);
    let [first, second] = [("Zoë", "alice"), ("Yve", "bob")].map(|(name, user)| stage.profile(name, user));
    // Nothing behind it could show that the server lives.
    first.enqueue(&[NewOp::new("playlist", "1", "set").field("name").payload_text(r#"{"value":"a\u0000b"}"#)]).unwrap();
    let daemon = Daemon::start(&stage);
    daemon.wait_for_state(first.id, "backing_off");
    second.enqueue(&NewOp::renames(3)).unwrap();
    assert!(server.wait_for(|stats| stats.stored == 3, AT_ONCE), "{}", daemon.log());
    assert_eq!(daemon.profile(first.id)["pending"], 1);
}
