//! The control socket: for the owner alone, and nothing a client does stops, blocks or grows the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::data_dir::Generation;
use testkit::ops::NewOp;
use testkit::server::{Fault, Server, Version};

use crate::common::daemon::{Client, Daemon, SOON, eventually};
use crate::common::{Stage, command};

/// A ping answered later than this was kept waiting by somebody.
const PROMPT: Duration = Duration::from_secs(2);
/// What a client may make the daemon grow by, in kB.
const GROWTH_MAX: u64 = 8 << 10;

struct Case {
    server: Server,
    stage: Stage,
    daemon: Daemon,
}

impl Case {
    fn new() -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        let daemon = Daemon::start(&stage);
        eventually("the first pass is over", || daemon.profile(profile.id)["last_success"].is_string());
        Self { server, stage, daemon }
    }
}

#[test]
fn the_socket_is_the_owners_whatever_the_umask() {
    for umask in ["000", "777", "022"] {
        let stage = Stage::new(Generation::Three);
        let binary = command(stage.home());
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().envs(binary.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir("/");
        // `exec`: what is ended is the agent itself.
        shell.args(["-c", "umask \"$1\" && exec \"$0\" run"]).arg(binary.get_program()).arg(umask);
        let daemon = Daemon::start_as(&mut shell, &stage.socket());
        let mode = |path: &std::path::Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(daemon.socket()), 0o600, "umask {umask}");
        assert_eq!(mode(daemon.socket().parent().unwrap()), 0o700, "umask {umask}");
    }
}

#[test]
fn every_line_of_help_is_answered_and_an_unknown_one_leaves_the_connection_usable() {
    let case = Case::new();
    let mut client = case.daemon.client();
    let help = client.ask("help").unwrap();
    let lines: Vec<String> = help["commands"].as_object().unwrap().keys().cloned().collect();
    assert!(lines.len() >= 11, "{help}");
    // One who watches is told what happens, and answered no more: see the scenarios of `watch`.
    for line in lines.into_iter().filter(|line| line != "watch") {
        let line = line.split(" [").next().unwrap().replace("OPERATION_ID", "2f1d3c1e-0000-4000-8000-000000000000");
        let answer = client.ask(&line).unwrap_or_else(|| panic!("no answer to {line}"));
        assert!(answer.is_object(), "{line}: {answer}");
        let code = answer["error"]["code"].as_str();
        assert!(code.is_none() || (line.starts_with("queue discard") && code == Some("not_found")), "{line}: {answer}");
    }
    for line in ["fly", "", "\u{1}\u{2}", "DRAIN NOW", "status now", "queue"] {
        assert_eq!(client.ask(line).unwrap()["error"]["code"], "unknown_command", "{line:?}");
    }
    assert_eq!(client.ask("drain now x").unwrap()["error"]["code"], "wrong_argument");
    assert_eq!(client.ask("drain now 99").unwrap()["error"]["code"], "unknown_profile");
    client.ask("resume").unwrap();
    assert_eq!(client.ask("ping").unwrap()["pong"], true);
}

#[test]
fn a_line_without_an_end_is_refused_and_grows_nothing() {
    let case = Case::new();
    let memory = || case.daemon.number("status", "VmRSS");
    let before = memory();
    for _ in 0..20 {
        let mut client = case.daemon.client();
        // It hangs up in the middle of this: then writing fails, which is as good.
        let _ = client.write(&"x".repeat(1 << 20));
        let answer = client.read();
        assert!(answer.is_none_or(|answer| answer["error"]["code"] == "line_too_long"));
        assert!(case.daemon.ping() < PROMPT);
    }
    let mut client = case.daemon.client();
    client.write(&format!("{}\n", "x".repeat(4097))).unwrap();
    assert_eq!(client.read().unwrap()["error"]["code"], "line_too_long");
    assert_eq!(client.read(), None, "what follows such a line cannot be told apart from it");
    assert_eq!(case.daemon.client().ask(&format!("{}ping", " ".repeat(4000))).unwrap()["pong"], true);
    let after = memory();
    assert!(after < before + GROWTH_MAX, "from {before} to {after} kB");
}

#[test]
fn forty_clients_at_once_are_all_answered() {
    let case = Case::new();
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let client = case.daemon.client();
            thread::spawn(move || {
                let mut client = client;
                client.ask("ping")
            })
        })
        .collect();
    let answers: Vec<Option<Value>> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    // More than there is room for are told so.
    let (served, busy) = answers.iter().flatten().fold((0, 0), |(served, busy), answer| {
        (served + usize::from(answer["pong"] == true), busy + usize::from(answer["error"]["code"] == "busy"))
    });
    println!("40 clients: {served} served, {busy} told to come again");
    assert!(served >= 32 && served + busy == 40, "{answers:?}");
    eventually("there is room again", || case.daemon.client().ask("ping").is_some_and(|answer| answer["pong"] == true));
}

#[test]
fn clients_that_stall_vanish_or_never_read_keep_nobody_waiting() {
    let case = Case::new();
    let mut stalling: Vec<Client> = Vec::new();
    for text in ["drain n", "sta", ""] {
        let mut client = case.daemon.client();
        client.write(text).unwrap();
        stalling.push(client);
    }
    // One that asks and asks and never reads: until its own writes are stuck, which takes a few hundred kB.
    let deaf = std::os::unix::net::UnixStream::connect(case.daemon.socket()).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let asking = "help\n".repeat(1000);
    while std::io::Write::write_all(&mut &deaf, asking.as_bytes()).is_ok() {}
    assert!(case.daemon.ping() < PROMPT);
    // Ones that vanish: before the answer, in mid-line, at once.
    for text in ["drain now\n", "status\n", "stat", ""] {
        let mut client = case.daemon.client();
        client.write(text).unwrap();
        drop(client);
        assert!(case.daemon.ping() < PROMPT);
    }
    assert!(case.daemon.ping() < PROMPT);
    // The one that stalled in mid-line goes on, and is heard.
    assert_eq!(stalling[0].ask("ow").unwrap()["outcome"], "drained");
    assert_eq!(stalling[1].ask("tus").unwrap()["paused"], false);
    drop(deaf);
    eventually("nobody is kept", || {
        let sockets = case.daemon.descriptors().iter().filter(|path| path.starts_with("socket:")).count();
        // Its own, two pairs for signals, one on the way to the server, and the three that stall.
        sockets <= 10
    });
}

#[test]
fn who_vanished_while_waiting_for_a_pass_leaves_nothing_behind() {
    let case = Case::new();
    let sockets = || case.daemon.descriptors().iter().filter(|path| path.starts_with("socket:")).count();
    case.server.next(Fault::HoldBeforeStore);
    case.stage.dir.profiles().unwrap()[0].enqueue(&NewOp::renames(1)).unwrap();
    assert!(case.server.wait_until_held(SOON));
    let before = sockets();
    for _ in 0..30 {
        case.daemon.client().write("drain now\n").unwrap();
    }
    eventually("those who left are noticed", || sockets() <= before);
    assert!(case.daemon.ping() < PROMPT);
    case.server.release();
    eventually("all is sent", || case.server.stats().stored == 1);
}

#[test]
fn a_hundred_questions_on_one_connection_are_answered_in_order() {
    let case = Case::new();
    let text: String = (0..50).map(|_| "ping\nstatus\n").collect();
    let began = Instant::now();
    let all = case.daemon.client().say_and_listen(&text);
    let answers: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 100);
    for pair in answers.chunks(2) {
        assert_eq!((&pair[0]["pong"], &pair[1]["paused"]), (&json!(true), &json!(false)));
    }
    println!("a hundred answers in {:?}", began.elapsed());
}
