//! How the daemon starts and ends: signals, stale sockets, a second daemon.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Fault, Server, Version};

use crate::common::daemon::{Daemon, SOON, eventually};
use crate::common::{Stage, assert_delivered, command};

/// What the service manager's patience allows; the promise.
const GRACE: Duration = Duration::from_secs(5);
/// Slack of a loaded machine.
const SLACK: Duration = Duration::from_secs(1);

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
        stage.configure_more("[drain]\nbatch_ops = 20\n");
        let profile = stage.profile("Zoë", "alice");
        let ops = NewOp::renames(100);
        profile.enqueue(&ops).unwrap();
        Self { server, stage, profile, ops }
    }

    /// In the middle of the second of five batches, whose answer does not come.
    fn daemon_in_mid_batch(&self, fault: &Fault) -> Daemon {
        self.server.next(Fault::Pass);
        self.server.next(fault.clone());
        let daemon = Daemon::start(&self.stage);
        assert!(self.server.wait_until_held(SOON));
        daemon
    }

    /// The next daemon delivers the rest, and nothing twice.
    fn finish(self) {
        self.server.release();
        self.server.clear_faults();
        let mut daemon = Daemon::start(&self.stage);
        eventually("the rest is sent", || self.profile.pending_count().unwrap() == 0);
        assert_delivered(&self.server, &self.ops);
        assert_eq!(self.server.stored().len(), self.ops.len(), "stored twice");
        daemon.stop();
        assert!(!self.stage.socket().exists(), "the socket is left behind");
    }
}

#[test]
fn sigterm_in_mid_batch_ends_within_five_seconds_and_nothing_is_lost_or_doubled() {
    for fault in [Fault::HoldBeforeStore, Fault::HoldAfterStore] {
        let case = Case::new();
        let mut daemon = case.daemon_in_mid_batch(&fault);
        daemon.signal(Signal::TERM);
        let (code, took) = daemon.ended();
        assert_eq!(code, Some(0), "{}", daemon.log());
        println!("ended {took:?} after SIGTERM, with a server that does not answer ({fault:?})");
        assert!(took < GRACE + SLACK, "{took:?}");
        case.finish();
    }
}

#[test]
fn sigterm_waits_for_an_answer_that_is_on_its_way_and_begins_nothing_new() {
    let case = Case::new();
    let mut daemon = case.daemon_in_mid_batch(&Fault::HoldAfterStore);
    daemon.signal(Signal::TERM);
    eventually("it is stopping", || daemon.log().contains("stopping"));
    case.server.release();
    let (code, took) = daemon.ended();
    assert_eq!(code, Some(0));
    assert!(took < GRACE, "{took:?}");
    assert_eq!(case.server.stats().stored, 40, "another batch was begun");
    assert_eq!(case.profile.pending_count().unwrap(), 60, "the answer was thrown away");
    case.finish();
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let case = Case::new();
    let mut daemon = case.daemon_in_mid_batch(&Fault::HoldBeforeStore);
    daemon.signal(Signal::TERM);
    eventually("it is stopping", || daemon.log().contains("stopping"));
    daemon.signal(Signal::INT);
    let (code, took) = daemon.ended();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    case.finish();
}

/// What is in force from now on has another directory, so that the old one has to be left first; the configuration as it was.
fn reload_that_waits(case: &Case, daemon: &Daemon) -> String {
    let elsewhere = case.stage.home().join("elsewhere");
    let same = fs::read_to_string(case.stage.config_path()).unwrap();
    case.stage.configure(&format!("data_dir = {elsewhere:?}\n{same}"));
    daemon.signal(Signal::HUP);
    eventually("the profile is let go", || daemon.ask("status")["profiles"].as_array().is_some_and(Vec::is_empty));
    same
}

#[test]
fn sigterm_is_heard_in_the_middle_of_a_reload_that_waits_for_the_server() {
    let case = Case::new();
    let mut daemon = case.daemon_in_mid_batch(&Fault::HoldBeforeStore);
    let same = reload_that_waits(&case, &daemon);
    daemon.signal(Signal::TERM);
    let (code, took) = daemon.ended();
    assert_eq!(code, Some(0));
    assert!(took < GRACE + SLACK, "{took:?}");
    case.stage.configure(&same);
    case.finish();
}

#[test]
fn sigterm_in_the_middle_of_a_reload_waits_for_the_answer_too_that_the_reload_waits_for() {
    let case = Case::new();
    let mut daemon = case.daemon_in_mid_batch(&Fault::HoldAfterStore);
    let same = reload_that_waits(&case, &daemon);
    daemon.signal(Signal::TERM);
    eventually("it is stopping", || daemon.log().contains("stopping"));
    case.server.release();
    assert_eq!(daemon.ended().0, Some(0));
    assert_eq!(case.profile.pending_count().unwrap(), 60, "the answer was thrown away");
    case.stage.configure(&same);
    case.finish();
}

#[test]
fn sigkill_leaves_a_socket_that_the_next_one_replaces() {
    let case = Case::new();
    let mut daemon = case.daemon_in_mid_batch(&Fault::HoldAfterStore);
    daemon.kill();
    assert!(case.stage.socket().exists(), "nobody could tidy up");
    case.finish();
}

#[test]
fn sighup_reads_the_configuration_again_and_drains() {
    let old = Server::start(Version::Later).unwrap();
    let new = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &old);
    stage.configure("[retry]\ninitial = \"1h\"\nmax = \"1h\"\n[drain]\ninterval = \"1h\"\n");
    old.go_down();
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(4);
    profile.enqueue(&ops).unwrap();
    let daemon = Daemon::start(&stage);
    daemon.wait_for_state(profile.id, "backing_off");
    stage.configure(&format!("[server]\nurl = \"{}\"\n", new.url()));
    daemon.signal(Signal::HUP);
    assert!(new.wait_for(|stats| stats.stored == 4, SOON), "{}", daemon.log());
    assert_delivered(&new, &ops);
    eventually("status names it", || daemon.profile(profile.id)["server"] == json!(new.url()));
    // A wrong file changes nothing, and is said.
    stage.configure("[server]\nurll = \"x\"\n");
    daemon.signal(Signal::HUP);
    eventually("it says what is wrong", || daemon.log().contains("the configuration is as before"));
    assert!(daemon.log().contains("urll"), "{}", daemon.log());
    let answer = daemon.ask("reload");
    assert_eq!(answer["error"]["code"], "wrong_configuration", "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("urll"));
    profile.enqueue(&NewOp::renames(1)).unwrap();
    assert!(new.wait_for(|stats| stats.stored == 5, SOON));
    // What cannot change while it runs is said as well.
    stage.configure("[control]\nsocket = \"/nowhere/else.sock\"\n");
    let answer = daemon.ask("reload");
    assert!(answer["message"].as_str().unwrap().contains("control.socket"), "{answer}");
}

#[test]
fn a_second_daemon_ends_with_75_and_the_first_goes_on() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let daemon = Daemon::start(&stage);
    let pid = daemon.pid();
    let elsewhere = stage.home().join("elsewhere.sock");
    for (arguments, words) in [
        (vec!["run"], "another agent is behind it".to_owned()),
        (vec!["run", "--socket", elsewhere.to_str().unwrap()], format!("process {pid}")),
    ] {
        let run = stage.run(&arguments).ended_with(75);
        assert!(run.stderr.contains(&words), "{run:?}");
        assert!(!elsewhere.exists(), "it left its socket behind");
        assert_eq!(daemon.ask("ping")["pid"], pid);
    }
    // Neither may `once` beside it.
    stage.once("0").ended_with(75);
    profile.enqueue(&NewOp::renames(2)).unwrap();
    assert!(server.wait_for(|stats| stats.stored == 2, SOON));
    // On another directory and another socket there may be a second one.
    let other = Stage::with(Generation::Three, &server);
    let second = Daemon::start_as(command(other.home()).arg("run"), &other.socket());
    assert_ne!(second.pid(), pid);
}
