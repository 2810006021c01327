//! What can keep ops from the server, one after the other: `status` names it in its first three lines.

use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Fault, Leaf, Reply, Server, Version};
use testkit::token;

use crate::common::daemon::{Daemon, SOON, holds_within};
use crate::common::{Agent, Stage, command};

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
}

impl Case {
    fn new() -> Self {
        Self::with(Server::start(Version::Later).unwrap())
    }

    fn with(server: Server) -> Self {
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        Self { server, stage, profile }
    }

    fn enqueue(&self) {
        self.profile.enqueue(&NewOp::renames(2)).unwrap();
    }

    /// Waits until the daemon's status begins with `answer` and has these words in its first three lines.
    #[track_caller]
    fn says(&self, answer: &str, words: &[&str]) {
        let mut head = String::new();
        let said = holds_within(SOON, || {
            head = self.stage.status_head();
            head.starts_with(answer) && words.iter().all(|word| head.contains(word))
        });
        assert!(said, "not {words:?} but {head}");
    }
}

const WAITING: &str = "Not everything is on the server: 2 waiting. ";

#[test]
fn a_wrong_address_is_named() {
    for (url, words) in [
        ("music.example", "must begin with http:// or https://"),
        ("http://127.0.0.1:9/waveflow", "127.0.0.1:9: connection refused"),
    ] {
        let case = Case::new();
        case.stage.dir.set_server_url(Some(url)).unwrap();
        case.enqueue();
        let _daemon = Daemon::start(&case.stage);
        case.says(WAITING, &[words]);
    }
}

#[test]
fn a_server_that_is_down_refuses_or_is_somebody_else_is_named_in_its_words() {
    for (fault, words) in [
        (None, "connection refused"),
        (Some(Fault::Answer(Reply::text(401, "token expired"))), "token expired"),
        (Some(Fault::Answer(Reply::text(401, "no"))), "sign in again from WaveFlow's settings"),
        (Some(Fault::Answer(Reply::captive_portal())), "an HTML page, “Welcome”; see that the address"),
        (Some(Fault::Answer(Reply::text(404, ""))), "404: an empty answer; see that the address"),
        (Some(Fault::Answer(Reply::proxy(503))), "503"),
    ] {
        let case = Case::new();
        match fault {
            Some(fault) => case.server.always(fault),
            None => case.server.go_down(),
        }
        case.enqueue();
        let _daemon = Daemon::start(&case.stage);
        case.says(WAITING, &[words]);
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_named() {
    let case = Case::with(Server::builder(Version::Later).tls(Leaf::Good).start().unwrap());
    case.enqueue();
    let _daemon = Daemon::start(&case.stage);
    case.says(WAITING, &["certificate"]);
}

#[test]
fn an_op_that_the_server_refuses_and_one_of_another_account_are_named() {
    let case = Case::new();
    case.profile.enqueue(&[NewOp::rename(1).payload_text("{\"value\":\"\\u0000\"}"), NewOp::rename(2)]).unwrap();
    let _daemon = Daemon::start(&case.stage);
    case.says("Not everything is on the server: 1 refused. ", &["`waveflow-sync-agent queue list`"]);

    let case = Case::new();
    case.server.go_down();
    case.enqueue();
    case.stage.once("0").ended_with(75);
    case.profile.sign_out().unwrap();
    case.profile.sign_in(&token::for_user("bob")).unwrap();
    let _daemon = Daemon::start(&case.stage);
    case.says("Not everything is on the server: 2 held back. ", &["queued under another account", "see `queue list`"]);
}

#[test]
fn what_the_user_has_set_is_named_with_the_way_back() {
    let case = Case::new();
    let daemon = Daemon::start(&case.stage);
    daemon.ask("pause");
    case.enqueue();
    case.says(WAITING, &["Paused: go on with `waveflow-sync-agent resume`."]);
    daemon.ask("resume");
    case.says("Everything is on the server. ", &[]);
    case.profile.sign_out().unwrap();
    case.enqueue();
    case.says(WAITING, &["Signed out: sign in from WaveFlow's settings."]);
}

#[test]
fn a_missing_app_is_named_with_an_agent_and_without() {
    let case = Case::new();
    std::fs::remove_dir_all(case.stage.home().join("data")).unwrap();
    let unknown = "Whether everything is on the server is not known. ";
    let nowhere = "The desktop app's data is not there; looked for app.db in";
    case.says(unknown, &[nowhere]);
    let _daemon = Daemon::start(&case.stage);
    case.says(unknown, &[nowhere]);
}

#[test]
fn an_agent_that_does_not_run_and_one_behind_another_socket_are_named() {
    let case = Case::new();
    case.enqueue();
    case.says(WAITING, &["No agent is running; start it with `waveflow-sync-agent service install`"]);
    let unit = case.stage.home().join("config/systemd/user/waveflow-sync-agent.service");
    std::fs::create_dir_all(unit.parent().unwrap()).unwrap();
    std::fs::write(&unit, "").unwrap();
    case.says(WAITING, &["No agent is running; start it with `systemctl --user start waveflow-sync-agent`."]);
    case.server.go_down();
    let mut daemon = Daemon::start(&case.stage);
    let other = case.stage.home().join("other.sock");
    let run = Agent::start(command(case.stage.home()).args(["status", "--socket"]).arg(other)).finish().ended_with(69);
    let (begin, pid) = (format!("{WAITING}Another agent is at work,"), format!("(process {})", daemon.pid()));
    let head = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(head.starts_with(&begin) && head.contains(&pid) && head.contains("--socket"), "{}", run.stdout);
    daemon.stop();
}
