//! What a real systemd makes of an agent that dies, hangs, or cannot serve.

use std::fs;
use std::time::Duration;

use testkit::server::Fault;

use crate::common::container::{ADA, ADMIN, App, CONFIG, Container, SERVICE, SOCKET, Unit};
use crate::common::daemon::{SOON, eventually, holds_within};

const WRONG: &str = "[server]\nurll = \"x\"\n";
/// As long as a worker that hangs may be taken for one that waits: 12 s with these, and the watchdog's own time.
const SHORT: &str = "[server]\nconnect_timeout = \"1s\"\nrequest_timeout = \"1s\"\n";
/// Longer than that by far.
const PATIENCE: Duration = Duration::from_secs(60);
/// What would have come by now, if anything were to come: a loop of restarts turns once in five seconds.
const A_WHILE: Duration = Duration::from_secs(7);

/// Fails unless it was never started again.
#[track_caller]
fn assert_no_restart(service: &Unit) {
    assert!(!holds_within(A_WHILE, || service.show("NRestarts") != "0"), "it is started again");
}

#[test]
fn killed_it_is_started_again_and_everything_is_delivered_once() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    let service = container.user_unit(SERVICE);
    service.ctl(&["start"]).ended_with(0);
    server.next(Fault::HoldAfterStore);
    let ops = app.commit(20);
    assert!(server.wait_until_held(SOON));
    let before = service.pid();
    service.signal("KILL");
    eventually("it is started again", || service.show("NRestarts") == "1" && service.state() == "active running");
    assert_ne!(service.pid(), before);
    server.release();
    app.delivered(&server, &ops);
    assert_eq!(server.stored().len(), 20, "stored twice");
}

#[test]
fn a_process_that_stands_still_is_started_again() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    let service = container.user_unit(SERVICE);
    // The same, sooner. What is stopped does not hear SIGABRT, and is killed.
    service.drop_in("[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=100ms\n");
    service.ctl(&["start"]).ended_with(0);
    let ops = app.commit(2);
    app.delivered(&server, &ops);
    service.signal("STOP");
    let ops = app.commit(3);
    eventually("it is started again", || service.show("NRestarts") == "1");
    app.delivered(&server, &ops);
    assert_eq!((service.state(), server.stored().len()), ("active running".to_owned(), 5));
    assert!(says(&container, "Watchdog timeout"));
}

/// Whether the manager's own words in the journal hold these.
fn says(container: &Container, words: &str) -> bool {
    let of_it = |message: &str| message.starts_with(SERVICE) && message.contains(words);
    container.journal().iter().any(|line| line["MESSAGE"].as_str().is_some_and(of_it))
}

#[test]
fn a_worker_that_hangs_is_noticed_by_the_watchdog_and_its_queue_is_delivered() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    container.write_home(&ADA, CONFIG, SHORT);
    // Only a debug build has a place to hang at.
    let debug = container.path("/usr/local/bin/waveflow-sync-agent-debug");
    fs::copy(env!("CARGO_BIN_EXE_waveflow-sync-agent"), debug).unwrap();
    let service = container.user_unit(SERVICE);
    service.drop_in(
        "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=100ms\n\
         ExecStart=\nExecStart=/usr/local/bin/waveflow-sync-agent-debug run\n\
         Environment=WAVEFLOW_SYNC_AGENT_HANG_AT=settle-before\n",
    );
    service.ctl(&["start"]).ended_with(0);
    let ops = app.commit(3);
    assert!(server.wait_for(|stats| stats.stored == 3, SOON));
    // Alive to everybody but the one who waits for its worker.
    assert_eq!(app.pending(), 3);
    let hangs = service.pid();
    // The next one is the one that was installed.
    service.drop_in("[Service]\nRestartSec=100ms\n");
    let restarted = holds_within(PATIENCE, || service.show("NRestarts") != "0");
    assert!(restarted, "nobody noticed that it hangs:\n{}", service.ctl(&["status"]).stdout);
    app.delivered(&server, &ops);
    assert_eq!(server.stored().len(), 3, "stored twice");
    eventually("it is well again", || service.state() == "active running");
    assert_ne!(service.pid(), hangs);
    assert!(says(&container, "Watchdog timeout"));
}

#[test]
fn with_a_wrong_configuration_clients_are_told_and_nobody_starts_it_again_until_it_is_mended() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    let (socket, service) = (container.user_unit(SOCKET), container.user_unit(SERVICE));
    socket.ctl(&["start"]).ended_with(0);
    let mend = |how: &str| match how {
        "reload" => drop(service.ctl(&["reload"]).ended_with(0)),
        _ => service.signal("HUP"),
    };
    for how in ["reload", "SIGHUP"] {
        container.write_home(&ADA, CONFIG, WRONG);
        for line in ["status", "drain now"] {
            let answer = container.say(line);
            assert_eq!(answer["error"]["code"], "wrong_configuration", "{answer}");
            assert!(answer["error"]["message"].as_str().is_some_and(|words| words.contains("urll")), "{answer}");
        }
        service.wait_for("ActiveState", "active");
        let (pid, ops) = (service.pid(), app.commit(3));
        assert_no_restart(&service);
        assert_eq!((service.pid(), service.state()), (pid, "active running".to_owned()));
        assert!(service.show("StatusText").contains("urll"), "{}", service.show("StatusText"));
        container.write_home(&ADA, CONFIG, "");
        mend(how);
        app.delivered(&server, &ops);
        assert_eq!(service.pid(), pid);
        service.ctl(&["stop"]).ended_with(0);
    }
}

#[test]
fn with_a_wrong_configuration_and_without_a_socket_it_ends_with_78_once() {
    let Some(container) = Container::boot() else { return };
    container.write_home(&ADA, CONFIG, WRONG);
    // The service wants it.
    container.user_unit(SOCKET).ctl(&["mask"]).ended_with(0);
    let service = container.user_unit(SERVICE);
    assert_ne!(service.ctl(&["start"]).code, Some(0));
    assert_no_restart(&service);
    assert_eq!((service.state(), service.show("ExecMainStatus")), ("failed failed".to_owned(), "78".to_owned()));
}

/// Another agent of ada's, started by hand with a socket of its own; its process, by the number it has inside.
fn by_hand(container: &Container) -> String {
    let run = "waveflow-sync-agent run --socket ~/other.sock >/dev/null 2>&1 </dev/null & echo $!";
    let pid = container.shell(&ADA, run).stdout.trim().to_owned();
    eventually("the other one answers", || {
        container.run(&ADA, &["waveflow-sync-agent", "--socket", "/home/ada/other.sock", "status"]).code == Some(0)
    });
    pid
}

#[test]
fn beside_another_agent_and_without_a_socket_it_ends_with_75_once() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    App::new(&container, &ADA, &server);
    by_hand(&container);
    container.user_unit(SOCKET).ctl(&["mask"]).ended_with(0);
    let service = container.user_unit(SERVICE);
    assert_ne!(service.ctl(&["start"]).code, Some(0));
    assert_no_restart(&service);
    assert_eq!((service.state(), service.show("ExecMainStatus")), ("failed failed".to_owned(), "75".to_owned()));
}

#[test]
fn started_by_a_client_beside_another_agent_it_says_so_and_takes_over_when_that_one_ends() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    let other = by_hand(&container);
    let service = container.user_unit(SERVICE);
    container.user_unit(SOCKET).ctl(&["start"]).ended_with(0);
    let answer = container.say("drain now");
    assert!(answer["error"]["message"].as_str().is_some_and(|words| words.contains(&other)), "{answer}");
    service.wait_for("ActiveState", "active");
    let pid = service.pid();
    assert_no_restart(&service);
    assert_eq!((service.pid(), service.state()), (pid, "active running".to_owned()));
    container.shell(&ADMIN, &format!("kill {other}"));
    let ops = app.commit(3);
    app.delivered_within(PATIENCE, &server, &ops);
    assert_eq!(container.say("ping")["pid"], pid);
}
