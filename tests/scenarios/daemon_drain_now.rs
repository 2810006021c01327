//! `drain now` over the socket: every caller is answered by a pass that began after its call, and no two passes overlap.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::data_dir::{Generation, Profile};
use testkit::made_up_app::{MadeUpApp, Script};
use testkit::ops::NewOp;
use testkit::server::{Fault, Server, Version};

use crate::common::daemon::{Client, Daemon, SOON, eventually};
use crate::common::{Stage, assert_delivered};

/// Callers at once.
const CALLERS: usize = 20;

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
}

impl Case {
    /// An install with nothing but `drain now` to wake the daemon.
    fn deaf() -> Self {
        let case = Self::new();
        case.stage.configure_more("[drain]\ninterval = \"1h\"\n[watch]\nmode = \"off\"\n");
        case
    }

    fn new() -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        Self { server, stage, profile }
    }

    fn enqueue(&self, count: u64) -> Vec<NewOp> {
        let ops = NewOp::renames(count);
        self.profile.enqueue(&ops).unwrap();
        ops
    }

    /// Fails if an op was in two requests, or two requests of the profile were there at once.
    #[track_caller]
    fn assert_nothing_twice(&self) {
        let stats = self.server.stats();
        assert_eq!(stats.peak_per_profile(), 1, "two passes at once");
        let mut sent: HashMap<String, usize> = HashMap::new();
        stats.batches().into_iter().flatten().for_each(|id| *sent.entry(id).or_default() += 1);
        assert!(sent.values().all(|times| *times == 1), "an op was sent twice");
    }
}

fn the_one_line(all: &str) -> Value {
    assert!(all.ends_with('\n') && all.matches('\n').count() == 1, "not one line: {all:?}");
    serde_json::from_str(all).unwrap()
}

#[test]
fn what_a_shell_pipes_in_is_answered_with_one_line_and_the_end() {
    let case = Case::deaf();
    let daemon = Daemon::start(&case.stage);
    eventually("the first pass is over", || daemon.profile(case.profile.id)["last_success"].is_string());
    daemon.wait_until_quiet();
    let ops = case.enqueue(3);
    let answer = the_one_line(&daemon.client().say_and_listen("drain now\n"));
    let id = case.profile.id;
    let line = json!({"profile": id, "outcome": "drained", "sent": 3, "remaining": 0});
    assert_eq!(answer, json!({"outcome": "drained", "sent": 3, "remaining": 0, "profiles": [line]}));
    assert_delivered(&case.server, &ops);
    // Without the line's end, too; and two lines get two answers.
    assert_eq!(the_one_line(&daemon.client().say_and_listen("drain now"))["sent"], 0);
    assert_eq!(daemon.client().say_and_listen("ping\ndrain now\n").lines().count(), 2);
    case.profile.sign_out().unwrap();
    let answer = the_one_line(&daemon.client().say_and_listen("drain now\n"));
    assert_eq!((&answer["outcome"], &answer["reason"]), (&json!("skipped"), &json!("signed_out")));
}

#[test]
fn nc_and_socat_work_where_they_are_installed() {
    let case = Case::deaf();
    let daemon = Daemon::start(&case.stage);
    let socket = daemon.socket().display().to_string();
    for (tool, arguments) in [("nc", format!("-U {socket}")), ("socat", format!("-t 60 - UNIX-CONNECT:{socket}"))] {
        eventually("the first pass is over", || daemon.profile(case.profile.id)["last_success"].is_string());
        daemon.wait_until_quiet();
        let ops = case.enqueue(2);
        let command = format!("echo drain now | {tool} {arguments}");
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status();
        if !found.unwrap().success() {
            println!("skipped: {tool} is not installed; the same is done by hand elsewhere");
            daemon.ask("drain now");
            continue;
        }
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        let answer = the_one_line(&String::from_utf8(output.stdout).unwrap());
        assert_eq!((&answer["sent"], &answer["remaining"]), (&json!(2), &json!(0)), "{command}");
        assert_delivered(&case.server, &ops);
    }
}

#[test]
fn a_call_in_mid_pass_is_answered_by_the_next_pass_however_long_this_one_takes() {
    let case = Case::deaf();
    let first = case.enqueue(3);
    case.server.next(Fault::HoldBeforeStore);
    let daemon = Daemon::start(&case.stage);
    assert!(case.server.wait_until_held(SOON));
    // Committed before the call, after the pass began: only a pass that begins later can send it.
    let second = case.enqueue(2);
    let mut clients: Vec<Client> = (0..3).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.write("drain now\n").unwrap();
    }
    // The others are heard meanwhile, and who calls is seen to wait.
    assert!(daemon.ping() < Duration::from_secs(2));
    let third = daemon.client();
    let listening = thread::spawn(move || third.say_and_listen("drain now\n"));
    assert_eq!(daemon.profile(case.profile.id)["state"], "draining");
    case.server.release();
    for client in &mut clients {
        let answer = client.read().unwrap();
        assert_eq!((&answer["sent"], &answer["remaining"]), (&json!(2), &json!(0)), "{answer}");
    }
    assert_eq!(the_one_line(&listening.join().unwrap())["remaining"], 0);
    assert_delivered(&case.server, &[first, second].concat());
    case.assert_nothing_twice();
}

#[test]
fn twenty_calls_at_once_while_the_app_commits_two_hundred_times_a_second() {
    let case = Case::new();
    let daemon = Daemon::start(&case.stage);
    // 5 ms apart at the mean.
    let pause = Duration::from_millis(10);
    let script = Script { ops: 2000, bursts_percent: 0, deferred_percent: 0, pause, ..Script::default() };
    let app = MadeUpApp::start(&case.profile, &script).unwrap();
    for round in 1..=3 {
        assert!(app.wait_for(round * 150, SOON));
        let mut queued = Vec::new();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                // Whatever is in the queue before a call is gone when the call is answered.
                let before: Vec<String> = pending(&case.profile);
                let mut client = daemon.client();
                queued.push(before);
                thread::spawn(move || client.ask("drain now").unwrap())
            })
            .collect();
        for (caller, before) in callers.into_iter().zip(queued) {
            let answer = caller.join().unwrap();
            assert_eq!(answer["outcome"], "drained", "{answer}");
            let left = pending(&case.profile);
            assert!(before.iter().all(|id| !left.contains(id)), "answered by a pass that began before the call");
        }
    }
    let report = app.stop();
    assert_eq!(report.error, None);
    eventually("the last commit is sent", || case.profile.pending_count().unwrap() == 0);
    let stored: Vec<_> = case.server.stored().iter().map(|row| row.operation_id).collect();
    assert_eq!(stored, report.committed);
    println!("{} commits, {} requests", report.committed.len(), case.server.stats().requests);
    case.assert_nothing_twice();
}

fn pending(profile: &Profile) -> Vec<String> {
    profile.pending().unwrap().into_iter().map(|row| row.operation_id).collect()
}

#[test]
fn one_profile_is_drained_alone_and_one_that_is_not_there_is_said() {
    let case = Case::deaf();
    let other = case.stage.profile("Ночь", "alice");
    let daemon = Daemon::start(&case.stage);
    for id in [case.profile.id, other.id] {
        eventually("both have passed", || daemon.profile(id)["last_success"].is_string());
    }
    daemon.wait_until_quiet();
    case.enqueue(2);
    let ops = NewOp::renames(3);
    other.enqueue(&ops).unwrap();
    let answer = daemon.ask(&format!("drain now {}", other.id));
    assert_eq!((&answer["sent"], answer["profiles"].as_array().unwrap().len()), (&json!(3), 1), "{answer}");
    assert_eq!(case.profile.pending_count().unwrap(), 2);
    assert_eq!(daemon.ask("drain now 77")["error"]["code"], "unknown_profile");
    // `wake` does not wait.
    case.server.next(Fault::HoldBeforeStore);
    let asked = Instant::now();
    assert_eq!(daemon.ask(&format!("wake {}", case.profile.id))["woken"], true);
    assert!(case.server.wait_until_held(SOON) && asked.elapsed() < SOON);
    case.server.release();
    eventually("it is sent", || case.profile.pending_count().unwrap() == 0);
}
