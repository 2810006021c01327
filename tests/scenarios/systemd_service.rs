//! The agent as a service of a real systemd's: started, asked, reloaded and stopped as a person does it.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::server::{Fault, Reply};
use testkit::token;

use crate::common::container::{ADA, ADMIN, App, BOB, CONFIG, Container, FLATPAK, SERVICE, SOCKET, USUAL};
use crate::common::daemon::{SOON, eventually};

/// The promise: systemd kills what takes longer.
const TO_STOP: Duration = Duration::from_secs(10);

#[test]
fn from_a_fresh_tree_the_first_drain_now_starts_the_agent_and_drains() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    let ops = app.commit(50);
    let (socket, service) = (container.user_unit(SOCKET), container.user_unit(SERVICE));
    socket.ctl(&["enable", "--now"]).ended_with(0);
    assert_eq!((socket.state(), service.state()), ("active listening".to_owned(), "inactive dead".to_owned()));
    let run = container.run(&ADA, &["waveflow-sync-agent", "drain", "now"]).ended_with(0);
    println!("drained {:?} after the first word", run.took);
    app.delivered(&server, &ops);
    assert_eq!((app.pending(), server.stored().len()), (0, 50));
    service.wait_for("ActiveState", "active");
    assert_eq!((service.show("SubState"), service.show("NRestarts")), ("running".to_owned(), "0".to_owned()));
    assert_eq!((service.show("Type"), service.show("NotifyAccess")), ("notify".to_owned(), "main".to_owned()));
    eventually("the success is shown", || service.show("StatusText").contains("last success"));
    let status = service.ctl(&["status"]).ended_with(0).stdout;
    let line =
        status.lines().find_map(|line| line.trim().strip_prefix("Status: ")).unwrap_or_else(|| panic!("{status}"));
    assert!(line.starts_with("\"1 profile, 0 pending, last success "), "{line}");
    assert_eq!(line.trim_matches('"'), service.show("StatusText"));
    // Nobody else's business.
    let modes = "stat --format=%a:%U $XDG_RUNTIME_DIR/waveflow $XDG_RUNTIME_DIR/waveflow/sync-agent.sock";
    assert_eq!(container.shell(&ADA, modes).stdout, "700:ada\n600:ada\n");
}

#[test]
fn any_client_of_the_socket_starts_it_and_commits_flow_from_then_on() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    let ops = app.commit(3);
    container.user_unit(SOCKET).ctl(&["start"]).ended_with(0);
    let answer = container.say("drain now");
    assert_eq!((&answer["outcome"], &answer["remaining"]), (&Value::from("drained"), &Value::from(0)), "{answer}");
    app.delivered(&server, &ops);
    let ops = app.commit(2);
    app.delivered(&server, &ops);
    assert_eq!(server.stored().len(), 5);
}

#[test]
fn enabled_it_delivers_without_a_word_and_again_when_its_user_comes_back() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    // By its name, which has to be looked up from inside the sandbox.
    container.write("/etc/hosts", "127.0.0.1 localhost music.example\n");
    app.set_server(&format!("http://music.example:{}", server.address().port()));
    let service = container.user_unit(SERVICE);
    service.ctl(&["enable", "--now"]).ended_with(0);
    let ops = app.commit(3);
    app.delivered(&server, &ops);
    // All that a user's manager has, the runtime directory too, goes with it and is made again.
    container.run(&ADMIN, &["systemctl", "restart", "user@1000.service"]).ended_with(0);
    let ops = app.commit(2);
    app.delivered(&server, &ops);
    eventually("it is ready", || service.state() == "active running");
    assert_eq!((service.show("NRestarts"), server.stored().len()), ("0".to_owned(), 5));
    assert_eq!(container.say("ping")["pong"], true);
}

#[test]
fn a_reload_has_the_new_configuration_in_force_and_a_wrong_one_changes_nothing() {
    let Some(container) = Container::boot() else { return };
    let (old, new) = (container.server(), container.server());
    let app = App::new(&container, &ADA, &old);
    let service = container.user_unit(SERVICE);
    service.ctl(&["start"]).ended_with(0);
    container.write_home(&ADA, CONFIG, &format!("[server]\nurl = \"{}\"\n", new.url()));
    service.ctl(&["reload"]).ended_with(0);
    // No waiting for it here: `reload` was to do that.
    let ops = app.commit(4);
    assert_eq!(container.say("drain now")["remaining"], 0);
    app.delivered(&new, &ops);
    assert_eq!(service.state(), "active running");
    container.write_home(&ADA, CONFIG, "[server]\nurll = \"x\"\n");
    let reload = service.ctl(&["reload"]);
    assert_ne!(reload.code, Some(0), "a wrong configuration was taken");
    service.signal("HUP");
    eventually("it says so in its line", || service.show("StatusText").contains("urll"));
    assert_eq!((service.state(), service.show("NRestarts")), ("active running".to_owned(), "0".to_owned()));
    let ops = app.commit(2);
    app.delivered(&new, &ops);
    assert_eq!(old.stats().requests, 0);
}

#[test]
fn it_stops_in_time_beside_a_server_that_never_answers_and_the_next_client_starts_it_again() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    let (socket, service) = (container.user_unit(SOCKET), container.user_unit(SERVICE));
    socket.ctl(&["start"]).ended_with(0);
    assert_eq!(container.say("ping")["pong"], true);
    server.always(Fault::HoldBeforeStore);
    let ops = app.commit(3);
    assert!(server.wait_until_held(SOON));
    let began = Instant::now();
    service.ctl(&["stop"]).ended_with(0);
    let took = began.elapsed();
    println!("stopped within {took:?}");
    assert!(took < TO_STOP, "{took:?}");
    assert_eq!((service.show("ExecMainCode"), service.show("ExecMainStatus")), ("1".to_owned(), "0".to_owned()));
    assert_eq!((service.show("Result"), service.state()), ("success".to_owned(), "inactive dead".to_owned()));
    assert_eq!(socket.state(), "active listening");
    server.clear_faults();
    server.release();
    assert_eq!(container.say("drain now")["remaining"], 0);
    app.delivered(&server, &ops);
    assert_eq!((service.state(), server.stored().len()), ("active running".to_owned(), 3));
    // Who does not want it any more stops what starts it.
    socket.ctl(&["stop"]).ended_with(0);
    assert_eq!((service.state(), socket.state()), ("inactive dead".to_owned(), "inactive dead".to_owned()));
}

#[test]
fn the_apps_directory_may_come_later_and_go_and_come_again() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let service = container.user_unit(SERVICE);
    service.ctl(&["start"]).ended_with(0);
    let mut stored = 0;
    let mut delivers = |app: &App| {
        let ops = app.commit(3);
        app.delivered(&server, &ops);
        stored += 3;
        assert_eq!(server.stored().len(), stored);
    };
    for place in [USUAL, FLATPAK] {
        let first = App::at(place, &container, &ADA, &server);
        delivers(&first);
        // What is there when it starts is what its sandbox is laid around.
        service.ctl(&["restart"]).ended_with(0);
        delivers(&first);
        first.reset();
        let second = App::at(place, &container, &ADA, &server);
        delivers(&second);
        second.reset();
    }
    assert_eq!((service.state(), service.show("NRestarts")), ("active running".to_owned(), "0".to_owned()));
}

#[test]
fn each_line_in_the_journal_has_its_priority_and_none_has_the_token() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    // As talkative as it can be.
    let config = "[log]\nlevel = \"trace\"\n[retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n";
    container.write_home(&ADA, CONFIG, config);
    let service = container.user_unit(SERVICE);
    container.user_unit(SOCKET).ctl(&["start"]).ended_with(0);
    let ops = app.commit(3);
    assert_eq!(container.say("drain now")["remaining"], 0);
    app.delivered(&server, &ops);
    // A token that is refused, a configuration that is wrong, and a server that never answers.
    server.next(Fault::Answer(Reply::new(401)));
    app.commit(1);
    eventually("it was refused", || server.stats().requests >= 2);
    container.write_home(&ADA, CONFIG, "[server]\nurll = \"x\"\n");
    assert_ne!(service.ctl(&["reload"]).code, Some(0));
    service.signal("HUP");
    eventually("it says so in its line", || service.show("StatusText").contains("urll"));
    container.write_home(&ADA, CONFIG, config);
    service.ctl(&["reload"]).ended_with(0);
    server.always(Fault::HoldBeforeStore);
    app.commit(1);
    assert!(server.wait_until_held(SOON));
    let status = service.ctl(&["status"]).stdout;
    service.ctl(&["stop"]).ended_with(0);
    let journal = container.journal();
    let own: Vec<&Value> = journal.iter().filter(|line| line["SYSLOG_IDENTIFIER"] == "waveflow-sync-agent").collect();
    for (words, priority) in [
        ("serves 1 profile(s)", "6"),
        ("stopping", "6"),
        ("what is on the wire takes too long", "4"),
        ("the configuration is as before", "3"),
        ("waveflow-sync-agent: ", "3"),
    ] {
        let line = own.iter().find(|line| line["MESSAGE"].as_str().is_some_and(|message| message.contains(words)));
        let line = line.unwrap_or_else(|| panic!("{words:?} is not in the journal: {own:?}"));
        assert_eq!(line["PRIORITY"], priority, "{line}");
        // journald looks up whose a line is, and who only reloads has often ended by then.
        let is_daemons = !words.ends_with(": ");
        assert!(line["_SYSTEMD_USER_UNIT"] == SERVICE || !is_daemons && line["_SYSTEMD_USER_UNIT"].is_null(), "{line}");
    }
    // A prefix that nobody took off, or colours.
    let raw = own
        .iter()
        .find(|line| line["MESSAGE"].as_str().is_none_or(|text| text.starts_with('<') || text.contains('\u{1b}')));
    assert_eq!(raw, None);
    let token = token::for_user(ADA.name);
    for part in token.split('.') {
        assert!(!status.contains(part), "the token is in the status: {status}");
        assert_eq!(journal.iter().find(|line| line.to_string().contains(part)), None, "the token is in the journal");
    }
}

#[test]
fn the_template_serves_a_user_without_a_session_and_the_users_commands_find_it() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &BOB, &server);
    let ops = app.commit(3);
    let service = container.system_unit("waveflow-sync-agent@bob.service");
    service.ctl(&["enable", "--now"]).ended_with(0);
    app.delivered(&server, &ops);
    assert_eq!(service.state(), "active running");
    eventually("the success is shown", || service.show("StatusText").starts_with("1 profile, 0 pending, last success"));
    let ops = app.commit(2);
    // As in a session, and as cron and `su` do it.
    container.run(&BOB, &["waveflow-sync-agent", "drain", "now"]).ended_with(0);
    container.run(&BOB, &["env", "-u", "XDG_RUNTIME_DIR", "waveflow-sync-agent", "drain", "now"]).ended_with(0);
    app.delivered(&server, &ops);
    let started = service.show("ExecMainStartTimestampMonotonic");
    service.ctl(&["reload"]).ended_with(0);
    assert_eq!(service.show("ExecMainStartTimestampMonotonic"), started);
    service.ctl(&["stop"]).ended_with(0);
    assert_eq!((service.show("Result"), service.show("ExecMainStatus")), ("success".to_owned(), "0".to_owned()));
}
