//! `watch`: what happens, line by line, to clients that read and to clients that do not; and the counters of the same.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use testkit::data_dir::Generation;
use testkit::ops::NewOp;
use testkit::server::{Fault, Reply, Server, Version};

use crate::common::daemon::{Client, Daemon, PROMPT, SOON, eventually, holds_within};
use crate::common::{Stage, assert_delivered, command};

fn stage() -> (Server, Stage) {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    (server, stage)
}

/// A client that watches from now on.
fn watcher(daemon: &Daemon) -> Client {
    let mut client = daemon.client();
    assert_eq!(client.ask("watch").unwrap()["event"], "watching");
    client
}

/// Reads up to an event of this kind; all of them.
#[track_caller]
fn up_to(client: &mut Client, event: &str) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let line = client.read().unwrap_or_else(|| panic!("no {event} among {all:?}"));
        all.push(line);
        if all.last().is_some_and(|line| line["event"] == event) {
            return all;
        }
    }
}

#[test]
fn who_watches_sees_a_pass_from_its_begin_to_its_end() {
    let (server, stage) = stage();
    stage.configure_more("[drain]\nbatch_ops = 2\n");
    let profile = stage.profile("Zoë", "alice");
    let daemon = Daemon::start(&stage);
    daemon.wait_until_quiet();
    let mut client = watcher(&daemon);
    server.next(Fault::Answer(Reply::text(500, "down")));
    profile.enqueue(&NewOp::renames(3)).unwrap();
    let failed = up_to(&mut client, "backing_off");
    let names = |lines: &[Value]| -> Vec<String> {
        lines.iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&failed)[..2], ["state_changed", "pass_started"], "{failed:?}");
    let sent = failed.iter().find(|line| line["event"] == "batch_sent").unwrap();
    assert_eq!((&sent["answer"], &sent["ops"], &sent["accepted"]), (&500.into(), &2.into(), &0.into()));
    let ended = failed.iter().rfind(|line| line["event"] == "pass_ended").unwrap();
    assert_eq!((&ended["remaining"], &ended["error"]["kind"]), (&3.into(), &"server".into()));
    assert!(failed.last().unwrap()["wait_s"].as_f64().unwrap() > 0.0);

    let mut rest = up_to(&mut client, "pass_ended");
    rest.extend(up_to(&mut client, "state_changed"));
    let sum = |event: &str, field: &str| -> u64 {
        rest.iter().filter(|line| line["event"] == event).map(|line| line[field].as_u64().unwrap()).sum()
    };
    assert_eq!(
        (sum("batch_sent", "accepted"), sum("settled", "ops"), sum("pass_ended", "sent")),
        (3, 3, 3),
        "{rest:?}"
    );
    assert_eq!(rest.last().unwrap()["to"], "idle");
    assert!(rest.iter().all(|line| line["profile"] == 1 && line["time"].is_string()), "{rest:?}");
}

#[test]
fn who_watches_and_does_not_read_keeps_nobody_waiting_and_is_told_what_he_lost() {
    let (server, stage) = stage();
    stage.configure_more("[drain]\nbatch_ops = 1\n");
    let profile = stage.profile("Zoë", "alice");
    // Far more lines than are kept, and few enough to be sent before one who does not read is let go.
    let ops = NewOp::renames(1_500);
    let daemon = Daemon::start(&stage);
    let dead = watcher(&daemon);
    let mut slow = watcher(&daemon);
    profile.enqueue(&ops).unwrap();
    // Nobody has read a line.
    eventually("all is sent", || profile.pending_count().unwrap() == 0);
    assert_delivered(&server, &ops);
    assert!(daemon.ping() < PROMPT);
    let seen = up_to(&mut slow, "dropped");
    let lost = seen.last().unwrap()["count"].as_u64().unwrap();
    println!("{} lines were kept for one who does not read, {lost} were lost", seen.len());
    assert!(lost > 100 && seen.len() > 100, "{lost} {}", seen.len());
    drop(dead);
    // The next one has everything.
    let mut next = watcher(&daemon);
    profile.enqueue(&NewOp::renames(1)).unwrap();
    up_to(&mut next, "pass_ended");
}

#[test]
fn who_only_watches_leaves_seats_for_others_and_wakes_nobody_while_nothing_happens() {
    let (_server, stage) = stage();
    stage.configure_more("[drain]\ninterval = \"1h\"\n");
    stage.profile("Zoë", "alice");
    let daemon = Daemon::start(&stage);
    let mut watchers: Vec<Client> = (0..16).map(|_| watcher(&daemon)).collect();
    assert_eq!(daemon.ask("watch")["error"]["code"], "busy");
    assert_eq!(daemon.ask("ping")["pong"], true);
    daemon.wait_until_quiet();
    // A look at all of them twice a second would be six wake-ups at least.
    let switches = || daemon.number("status", "voluntary_ctxt_switches");
    let before = switches();
    assert!(!holds_within(Duration::from_secs(3), || switches() > before + 3), "{} {before}", switches());
    // Who has left is missed at once all the same, one who has only said all he has to say is not.
    watchers.pop();
    let mut next = None;
    eventually("his place is free", || {
        let mut client = daemon.client();
        let taken = client.ask("watch").is_some_and(|answer| answer["event"] == "watching");
        next = taken.then_some(client);
        taken
    });
    watchers[0].says_no_more();
    assert_eq!(daemon.ask("drain now")["remaining"], 0);
    for client in [&mut watchers[0], &mut next.unwrap()] {
        up_to(client, "pass_ended");
    }
}

#[test]
fn a_state_that_a_count_changes_is_told_too() {
    let (server, stage) = stage();
    let profile = stage.profile("Zoë", "alice");
    server.always(Fault::Answer(Reply::too_many_requests("3600")));
    profile.enqueue(&NewOp::renames(1)).unwrap();
    let daemon = Daemon::start(&stage);
    daemon.wait_for_state(profile.id, "backing_off");
    let mut client = watcher(&daemon);
    profile.open().unwrap().connection().execute("DELETE FROM sync_pending_op", []).unwrap();
    assert_eq!(daemon.ask("drain now")["remaining"], 0);
    let told = up_to(&mut client, "state_changed");
    let changed = told.last().unwrap();
    assert_eq!((&changed["from"], &changed["to"]), (&"backing_off".into(), &"idle".into()));
}

/// The value of a metric's line.
fn value(text: &str, line: &str) -> f64 {
    let found = text.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {line} in {text}")).parse().unwrap()
}

#[test]
fn the_counters_count_what_happened() {
    let (server, stage) = stage();
    let profile = stage.profile("Zoë", "alice");
    let daemon = Daemon::start(&stage);
    let ops = NewOp::renames(5);
    server.next(Fault::Answer(Reply::proxy(503)));
    profile.enqueue(&ops).unwrap();
    eventually("all is sent", || profile.pending_count().unwrap() == 0);
    daemon.wait_until_quiet();
    let run = stage.run(&["metrics"]);
    assert_eq!(run.code, Some(0));
    let text = run.stdout;
    for (line, expected) in [
        ("waveflow_sync_ops_accepted_total{profile=\"1\"}", 5.0),
        ("waveflow_sync_ops_settled_total{profile=\"1\"}", 5.0),
        ("waveflow_sync_requests_total{answer=\"503\"}", 1.0),
        ("waveflow_sync_requests_total{answer=\"200\"}", 1.0),
        ("waveflow_sync_passes_total{outcome=\"failed\",profile=\"1\"}", 1.0),
        ("waveflow_sync_pending_ops{profile=\"1\"}", 0.0),
        ("waveflow_sync_push_duration_seconds_count", 2.0),
        ("waveflow_sync_commit_to_acknowledged_seconds_count", 5.0),
        ("waveflow_sync_agent_build_info{version=\"0.1.0\"}", 1.0),
    ] {
        assert!((value(&text, line) - expected).abs() < 1e-9, "{line} is not {expected}: {text}");
    }
    assert!(value(&text, "waveflow_sync_wakeups_total{trigger=\"watch\"}") >= 1.0);
    // Nobody counts while it is paused; and each who asks counts.
    for (line, asked) in [("pause", 1.0), ("resume", 2.0), ("queue retry", 3.0), ("reload", 4.0)] {
        daemon.ask(line);
        let text = daemon.ask("metrics")["metrics"].as_str().unwrap().to_owned();
        assert!(
            (value(&text, "waveflow_sync_wakeups_total{trigger=\"asked\"}") - asked).abs() < 1e-9,
            "{line}: {text}"
        );
    }
    daemon.ask("pause");
    profile.enqueue(&NewOp::renames(1)).unwrap();
    daemon.ask("drain now");
    let text = daemon.ask("metrics")["metrics"].as_str().unwrap().to_owned();
    assert!(!text.contains("waveflow_sync_pending_ops{"), "{text}");
}

#[test]
fn promtool_has_nothing_to_say_against_the_counters() {
    let (server, stage) = stage();
    let profile = stage.profile("Zoë", "alice");
    let daemon = Daemon::start(&stage);
    server.next(Fault::Answer(Reply::proxy(503)));
    profile.enqueue(&NewOp::renames(2)).unwrap();
    eventually("all is sent", || profile.pending_count().unwrap() == 0);
    let text = daemon.ask("metrics")["metrics"].as_str().unwrap().to_owned();
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut running) = promtool.spawn() else {
        println!("skipped: no promtool here");
        return;
    };
    running.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn without_a_daemon_there_are_no_counters_and_that_is_said() {
    let (_server, stage) = stage();
    let run = stage.run(&["metrics"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(69), ""));
    assert!(run.stderr.contains("no agent is running"), "{}", run.stderr);
}

fn http(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn the_counters_are_on_a_loopback_port_where_the_configuration_says_and_a_taken_port_is_no_trouble() {
    let (_server, stage) = stage();
    stage.profile("Zoë", "alice");
    // Kept until the daemon has met it.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    stage.configure_more(&format!("[metrics]\nlisten = \"{address}\"\n"));
    let daemon = Daemon::start_as(command(stage.home()).arg("run"), &stage.socket());
    eventually("it is said", || daemon.log().contains("metrics.listen"));
    drop(taken);
    assert_eq!(daemon.ask("reload")["reloaded"], true);
    let asked = |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let get = |path: &str| asked(&address.to_string(), path);
    let mut answer = String::new();
    assert!(holds_within(SOON, || {
        answer = http(address, &get("/metrics")).unwrap_or_default();
        !answer.is_empty()
    }));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("# TYPE waveflow_sync_wakeups_total counter"), "{answer}");
    assert!(http(address, &get("/")).unwrap().starts_with("HTTP/1.1 404"));
    let head = http(address, &get("/metrics").replace("GET", "HEAD")).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(http(address, &asked("evil.example", "/metrics")).unwrap().starts_with("HTTP/1.1 421"));
    // The same port again, with somebody connected who says nothing.
    let _idle = TcpStream::connect(address).unwrap();
    assert_eq!(daemon.ask("reload")["reloaded"], true);
    assert!(holds_within(SOON, || {
        http(address, &get("/metrics")).is_some_and(|answer| answer.starts_with("HTTP/1.1 200 OK\r\n"))
    }));
    assert_eq!(daemon.log().matches("metrics.listen").count(), 1, "{}", daemon.log());
}
