//! Under a service manager: what it is told, the socket it hands over, and what happens where the agent cannot serve.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::data_dir::Generation;
use testkit::ops::NewOp;
use testkit::server::{Server, Version};

use crate::common::daemon::{Client, Daemon, SOON, eventually, holds_within};
use crate::common::{Stage, assert_delivered, command};

/// Listens as systemd does.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(stage: &Stage) -> Self {
        let path = stage.home().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path }
    }

    fn starts<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("NOTIFY_SOCKET", &self.path)
    }

    /// The next message, within `patience`.
    fn hears_within(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..count].to_vec()).unwrap())
    }

    /// The next message with all of these in it.
    #[track_caller]
    fn hears(&self, wanted: &[&str]) -> String {
        let mut heard = Vec::new();
        let deadline = Instant::now() + SOON;
        while let Some(message) = self.hears_within(deadline.saturating_duration_since(Instant::now()).max(TICK)) {
            if wanted.iter().all(|part| message.contains(part)) {
                return message;
            }
            heard.push(message);
        }
        panic!("{wanted:?} was not said, but {heard:?}");
    }
}

const TICK: Duration = Duration::from_millis(1);
const WRONG: &str = "[drain]\nintervall = \"1s\"\n";

/// A server, an app with one profile, and a place for the socket.
fn stage() -> (Server, Stage) {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    (server, stage)
}

/// The socket as the manager makes it, listened on before there is an agent.
fn listen(stage: &Stage) -> UnixListener {
    let socket = stage.socket();
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    UnixListener::bind(&socket).unwrap()
}

/// `run`, to be started with the socket handed over.
fn activated(stage: &Stage) -> Command {
    let usual = command(stage.home());
    // The shell has what stands on its input as the third descriptor too, and becomes the agent.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec \"$0\" run 3<&0 </dev/null"]).arg(usual.get_program());
    shell.env_clear().envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("LISTEN_FDS", "1").current_dir(stage.home());
    shell
}

/// Starts it, and waits for nothing.
fn launch(command: &mut Command, listener: &UnixListener, stage: &Stage) -> Daemon {
    let handed_over: OwnedFd = listener.try_clone().unwrap().into();
    Daemon::launch_with_input(command.stdin(Stdio::from(handed_over)), &stage.socket())
}

#[test]
fn the_manager_is_told_that_it_is_ready_how_things_stand_and_that_it_stops() {
    let (server, stage) = stage();
    let profile = stage.profile("Zoë", "alice");
    let manager = Manager::new(&stage);
    let mut daemon = Daemon::start_as(manager.starts(command(stage.home()).arg("run")), &stage.socket());
    manager.hears(&["READY=1\n", "STATUS=1 profile, 0 pending"]);
    let ops = NewOp::renames(3);
    profile.enqueue(&ops).unwrap();
    let status = manager.hears(&["STATUS=1 profile, 0 pending, last success "]);
    let time = status.trim_end().rsplit(' ').next().unwrap();
    assert!(time.len() == 5 && time.as_bytes()[2] == b':', "{status:?}");
    assert_delivered(&server, &ops);

    server.go_down();
    profile.enqueue(&NewOp::renames(2)).unwrap();
    manager.hears(&["STATUS=1 profile, 2 pending, last success ", "; trying again: "]);

    assert_eq!(daemon.ask("pause")["paused"], true);
    manager.hears(&["STATUS=paused, 1 profile, "]);

    daemon.signal(Signal::HUP);
    let reloading = manager.hears(&["RELOADING=1\n"]);
    let stamp = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
    assert!(stamp.parse::<u64>().unwrap() > 0);
    manager.hears(&["READY=1\n"]);
    daemon.stop();
    manager.hears(&["STOPPING=1\n"]);
}

#[test]
fn a_configuration_that_was_not_taken_is_in_the_managers_line_until_it_is_mended() {
    let (_server, stage) = stage();
    stage.profile("Zoë", "alice");
    let manager = Manager::new(&stage);
    let daemon = Daemon::start_as(manager.starts(command(stage.home()).arg("run")), &stage.socket());
    manager.hears(&["READY=1\n"]);
    stage.configure(WRONG);
    let reload = command(stage.home()).arg("reload").output().unwrap();
    assert_eq!(reload.status.code(), Some(78), "{reload:?}");
    daemon.signal(Signal::HUP);
    manager.hears(&["READY=1\n", "STATUS=the configuration is as before: ", "intervall"]);
    stage.configure("");
    let reload = command(stage.home()).arg("reload").output().unwrap();
    assert_eq!((reload.status.code(), reload.stdout), (Some(0), b"reloaded\n".to_vec()));
    manager.hears(&["READY=1\n", "STATUS=1 profile, "]);
}

#[test]
fn the_managers_line_follows_a_pause_where_there_is_no_profile_and_a_profile_that_goes() {
    let (_server, stage) = stage();
    let manager = Manager::new(&stage);
    let daemon = Daemon::start_as(manager.starts(command(stage.home()).arg("run")), &stage.socket());
    manager.hears(&["READY=1\n", "STATUS=0 profiles, "]);
    assert_eq!(daemon.ask("pause")["paused"], true);
    manager.hears(&["STATUS=paused, 0 profiles, "]);
    stage.profile("Zoë", "alice");
    let gone = stage.profile("Ben", "bob");
    manager.hears(&["STATUS=paused, 2 profiles, "]);
    daemon.wait_until_quiet();
    stage.dir.delete_profile(&gone).unwrap();
    manager.hears(&["STATUS=paused, 1 profile, "]);
}

#[test]
fn signs_of_life_come_in_half_the_time_the_manager_waits_for_one() {
    let (_server, stage) = stage();
    stage.profile("Zoë", "alice");
    let manager = Manager::new(&stage);
    let patience = Duration::from_millis(600);
    let mut run = command(stage.home());
    run.arg("run").env("WATCHDOG_USEC", patience.as_micros().to_string());
    let _daemon = Daemon::start_as(manager.starts(&mut run), &stage.socket());
    manager.hears(&["WATCHDOG=1\n"]);
    for _ in 0..5 {
        let began = Instant::now();
        manager.hears(&["WATCHDOG=1\n"]);
        assert!(began.elapsed() < patience, "{:?}", began.elapsed());
    }
}

#[test]
fn no_sign_of_life_is_given_for_a_worker_that_hangs_though_the_socket_answers() {
    let (_server, stage) = stage();
    stage.configure("drain.interval = \"1s\"\n[server]\nconnect_timeout = \"1s\"\nrequest_timeout = \"1s\"\n");
    let profile = stage.profile("Zoë", "alice");
    let manager = Manager::new(&stage);
    let mut run = command(stage.home());
    run.arg("run").env("WATCHDOG_USEC", "400000").env("WAVEFLOW_SYNC_AGENT_HANG_AT", "settle-before");
    let daemon = Daemon::start_as(manager.starts(&mut run), &stage.socket());
    profile.enqueue(&NewOp::renames(3)).unwrap();
    // Nobody listens meanwhile, and its ears are full: that is no reason to wait.
    eventually("it is noticed", || daemon.log().contains("has not got on"));
    // What was said before that may still be on its way.
    while manager.hears_within(TICK).is_some() {}
    assert_eq!(manager.hears_within(Duration::from_secs(1)).filter(|said| said.contains("WATCHDOG")), None);
    daemon.ping();
}

#[test]
fn a_socket_that_was_handed_over_is_served_from_the_first_client_on_and_left_where_it_is() {
    let (server, stage) = stage();
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(7);
    profile.enqueue(&ops).unwrap();
    let listener = listen(&stage);
    // Before there is an agent, as at the start of a session.
    let mut first = Client::connect(&stage.socket()).unwrap();
    first.write("drain now\n").unwrap();
    let mut daemon = launch(&mut activated(&stage), &listener, &stage);
    let answer = first.read().unwrap();
    assert_eq!((&answer["outcome"], &answer["remaining"]), (&"drained".into(), &0.into()), "{answer}");
    assert_delivered(&server, &ops);
    daemon.stop();
    assert!(stage.socket().exists(), "it was not the agent's to remove");
    let mut waiting = Client::connect(&stage.socket()).unwrap();
    waiting.write("ping\n").unwrap();
    let _next = launch(&mut activated(&stage), &listener, &stage);
    assert_eq!(waiting.read().unwrap()["pong"], true);
}

#[test]
fn with_a_wrong_configuration_a_socket_that_was_handed_over_tells_everybody_until_sighup() {
    let (server, stage) = stage();
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(2);
    profile.enqueue(&ops).unwrap();
    stage.configure(WRONG);
    let (listener, manager) = (listen(&stage), Manager::new(&stage));
    let mut daemon = launch(manager.starts(&mut activated(&stage)), &listener, &stage);
    manager.hears(&["READY=1\n", "STATUS=not serving: ", "intervall"]);
    let mut client = daemon.client();
    for line in ["drain now", "status", "pause", "ping", "reload"] {
        let answer = client.ask(line).unwrap();
        assert_eq!(answer["error"]["code"], "wrong_configuration", "{line}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("drain.interval"), "{line}: {answer}");
    }
    assert_eq!(client.ask("fly").unwrap()["error"]["code"], "unknown_command");
    assert!(!daemon.is_over());
    stage.configure("");
    daemon.signal(Signal::HUP);
    eventually("it serves", || client.ask("ping").is_some_and(|answer| answer["pong"] == true));
    assert_eq!(client.ask("drain now").unwrap()["remaining"], 0);
    assert_delivered(&server, &ops);
    daemon.stop();
}

#[test]
fn without_a_socket_that_was_handed_over_a_wrong_configuration_ends_it_with_78() {
    let (_server, stage) = stage();
    stage.configure(WRONG);
    let run = stage.run(&["run"]);
    assert_eq!(run.code, Some(78));
    assert!(run.stderr.contains("drain.interval"), "{}", run.stderr);
}

#[test]
fn where_another_agent_serves_a_socket_that_was_handed_over_says_so_and_reload_tries_again() {
    let (server, stage) = stage();
    let profile = stage.profile("Zoë", "alice");
    let elsewhere = stage.home().join("other.sock");
    let mut other = command(stage.home());
    let mut other = Daemon::start_as(other.arg("run").arg("--socket").arg(&elsewhere), &elsewhere);
    let listener = listen(&stage);
    let mut daemon = launch(&mut activated(&stage), &listener, &stage);
    let mut client = Client::connect(&stage.socket()).unwrap();
    for line in ["drain now", "reload"] {
        let answer = client.ask(line).unwrap();
        assert_eq!(answer["error"]["code"], "unavailable", "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(&format!("process {}", other.pid())), "{answer}");
    }
    for flags in [&["status"][..], &["status", "--json"]] {
        let status = stage.run(flags);
        let said = format!("{}{}", status.stdout, status.stderr);
        assert_eq!(status.code, Some(75), "{said}");
        assert!(said.contains("already served by") && !said.contains("Everything"), "{said}");
    }
    other.stop();
    let ops = NewOp::renames(2);
    profile.enqueue(&ops).unwrap();
    assert_eq!(client.ask("reload").unwrap()["reloaded"], true);
    eventually("it delivers", || profile.pending_count().unwrap() == 0);
    assert_delivered(&server, &ops);
    daemon.stop();
}

#[test]
fn one_that_waits_for_another_agent_gives_its_signs_of_life_each_time_it_tries() {
    let (_server, stage) = stage();
    stage.profile("Zoë", "alice");
    let elsewhere = stage.home().join("other.sock");
    let mut other = command(stage.home());
    let _other = Daemon::start_as(other.arg("run").arg("--socket").arg(&elsewhere), &elsewhere);
    let (listener, manager) = (listen(&stage), Manager::new(&stage));
    let mut run = activated(&stage);
    // As in the unit: half of it is more than the time after which it tries again.
    run.env("WATCHDOG_USEC", "180000000");
    let daemon = launch(manager.starts(&mut run), &listener, &stage);
    manager.hears(&["READY=1\n", "STATUS=not serving: "]);
    manager.hears(&["WATCHDOG=1\n"]);
    assert_eq!(daemon.ask("reload")["error"]["code"], "unavailable");
    manager.hears(&["WATCHDOG=1\n"]);
}

#[test]
fn the_last_words_of_a_process_that_cannot_start_are_an_error_in_the_journal() {
    let (_server, stage) = stage();
    stage.configure(WRONG);
    let journal = stage.home().join("journal");
    let file = fs::File::create(&journal).unwrap();
    let found = file.metadata().unwrap();
    let mut run = command(stage.home());
    run.arg("run").env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino()));
    assert_eq!(run.stderr(file).status().unwrap().code(), Some(78));
    let text = fs::read_to_string(&journal).unwrap();
    assert!(text.starts_with("<3>waveflow-sync-agent: ") && text.lines().count() == 1, "{text}");
}

#[test]
fn a_command_finds_an_agent_that_was_started_without_the_runtime_directory() {
    let (server, stage) = stage();
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(2);
    let memory = stage.home().join("plain-state");
    let beside = memory.join("waveflow/sync-agent/sync-agent.sock");
    let mut run = command(stage.home());
    run.arg("run").env_remove("XDG_RUNTIME_DIR").env("XDG_STATE_HOME", &memory);
    run.env_remove("WAVEFLOW_SYNC_AGENT_SOCKET");
    let _daemon = Daemon::start_as(&mut run, &beside);
    profile.enqueue(&ops).unwrap();
    let mut drain = command(stage.home());
    drain.args(["drain", "now", "--json"]).env("XDG_STATE_HOME", &memory);
    assert!(drain.get_envs().any(|(name, _)| name == "XDG_RUNTIME_DIR"));
    let output = drain.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_delivered(&server, &ops);
    assert!(holds_within(SOON, || profile.pending_count().unwrap() == 0));
}
