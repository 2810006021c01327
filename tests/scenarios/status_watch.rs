//! `status` and `status --watch`, in a terminal and in a pipe.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Server, Version};

use crate::common::daemon::{Daemon, SOON, eventually};
use crate::common::terminal::{Terminal, bare};
use crate::common::{Stage, command};

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
}

impl Case {
    fn new() -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        Self { server, stage, profile }
    }

    fn terminal(&self, arguments: &[&str]) -> Option<Terminal> {
        Terminal::start(command(self.stage.home()).args(arguments))
    }
}

#[test]
fn on_a_terminal_it_is_coloured_and_as_wide_and_high_as_that_is() {
    let case = Case::new();
    for number in 2..=30 {
        case.stage.profile(&format!("A profile with a long name, number {number}"), "alice");
    }
    case.profile.enqueue(&NewOp::renames(4)).unwrap();
    let run = |no_color| {
        let mut agent = command(case.stage.home());
        let mut terminal = Terminal::start_in(agent.arg("status").env("NO_COLOR", no_color), 50, 20)?;
        assert_eq!(terminal.ended(), Some(69));
        Some(terminal.text())
    };
    let Some(coloured) = run("") else { return };
    assert!(coloured.starts_with("\u{1b}[31mNot everything is on the server: 4 waiting.\u{1b}[0m\r\n"), "{coloured}");
    let plain = run("1").unwrap();
    assert!(!plain.contains('\u{1b}'), "{plain}");
    assert_eq!(bare(&coloured), plain);
    assert!(plain.lines().all(|line| line.chars().count() <= 50), "{plain}");
    assert_eq!(plain.lines().count(), 19, "one line is the shell's: {plain}");
    assert!(plain.contains("Profile 1 “Zoë”: waiting") && plain.contains(" more: "), "{plain}");
    let piped = case.stage.run(&["status"]).ended_with(69).stdout;
    assert!(!piped.contains('\u{1b}') && piped.lines().count() > 31, "{piped}");
}

#[test]
fn the_lowest_terminal_gets_the_answer_and_a_dumb_one_no_codes() {
    let case = Case::new();
    let _daemon = Daemon::start(&case.stage);
    for (rows, lines) in [(1, 1), (2, 1), (3, 2)] {
        let mut agent = command(case.stage.home());
        let Some(mut terminal) = Terminal::start_in(agent.arg("status").env("TERM", "dumb"), 80, rows) else { return };
        assert_eq!(terminal.ended(), Some(0));
        let text = terminal.text();
        assert!(text.starts_with("Everything is on the server.\r\n") && !text.contains('\u{1b}'), "{text:?}");
        assert_eq!(text.lines().count(), lines, "{rows}: {text:?}");
    }
}

#[test]
fn it_is_kept_current_in_place_and_the_terminal_is_given_back() {
    let case = Case::new();
    let daemon = Daemon::start(&case.stage);
    daemon.wait_until_quiet();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let Some(mut terminal) = case.terminal(&["status", "--watch"]) else { return };
        terminal.shows(&["Everything is on the server.", "Profile 1 “Zoë”: up to date", "Agent 0.1.0"]);
        assert!(terminal.text().contains(ENTER) && !terminal.echoes());
        if signal == Signal::INT {
            case.server.go_down();
            case.profile.enqueue(&NewOp::renames(3)).unwrap();
            terminal.shows(&["Not everything is on the server: 3 waiting.", "onnection", "“Zoë”: trying again"]);
            terminal.resize(40, 6);
            eventually("it is narrow", || {
                let picture = terminal.picture();
                picture.len() <= 6 && picture.iter().all(|line| line.chars().count() < 40)
            });
            terminal.shows(&["3\n  waiting"]);
            case.server.come_back().unwrap();
            terminal.shows(&["Everything is on the server."]);
        }
        terminal.signal(signal);
        assert_eq!(terminal.ended(), Some(0), "{signal:?}");
        let text = terminal.text();
        assert!(text.ends_with(LEAVE) && text.matches(ENTER).count() == 1, "{signal:?}: {text:?}");
        assert!(terminal.echoes(), "{signal:?}");
    }
}

#[test]
fn the_shell_gets_its_terminal_while_it_is_suspended() {
    let case = Case::new();
    let _daemon = Daemon::start(&case.stage);
    let Some(mut terminal) = case.terminal(&["status", "--watch"]) else { return };
    terminal.shows(&["Everything is on the server."]);
    terminal.signal(Signal::TSTP);
    eventually("it is given back", || terminal.text().ends_with(LEAVE) && terminal.echoes());
    eventually("it has stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", terminal.pid())).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    });
    terminal.signal(Signal::CONT);
    eventually("it is there again", || terminal.text().matches(ENTER).count() == 2);
    terminal.signal(Signal::INT);
    assert_eq!(terminal.ended(), Some(0));
    assert!(terminal.text().ends_with(LEAVE));
}

#[test]
fn in_the_background_it_is_stopped_before_it_takes_the_terminal() {
    let case = Case::new();
    let _daemon = Daemon::start(&case.stage);
    let agent = command(case.stage.home());
    // A shell that has the terminal, and a job of its that has not.
    let script = "\"$@\" & wait $!; echo \"stopped by $(($? - 128))\"; kill -KILL $!";
    let mut shell = Command::new("setsid");
    shell.args(["--ctty", "bash", "-mc", script, "bash"]).arg(agent.get_program()).args(["status", "--watch"]);
    shell.env_clear().envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if !["setsid", "bash"].iter().all(|program| Command::new(program).arg("--version").output().is_ok()) {
        println!("skipped: no setsid or no bash here");
        return;
    }
    shell.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let Some(mut terminal) = Terminal::start(&mut shell) else { return };
    terminal.ended();
    let text = terminal.text();
    assert!(text.contains(&format!("stopped by {}", Signal::TTOU.as_raw())), "{text:?}");
    assert!(!text.contains(ENTER), "{text:?}");
}

#[test]
fn a_daemon_that_is_not_there_is_69_and_one_that_goes_away_is_waited_for() {
    let case = Case::new();
    let Some(mut terminal) = case.terminal(&["status", "--watch"]) else { return };
    assert_eq!(terminal.ended(), Some(69));
    assert!(terminal.text().contains("No agent is running") && !terminal.text().contains(ENTER), "{}", terminal.text());
    let mut daemon = Daemon::start(&case.stage);
    let mut terminal = case.terminal(&["status", "--watch"]).unwrap();
    let process = format!("process {}", daemon.pid());
    terminal.shows(&[&process]);
    daemon.kill();
    drop(daemon);
    terminal.shows(&["The agent went away ", "waiting for it to come back", "Before that:"]);
    eventually("the time goes on", || {
        let first = terminal.picture().into_iter().next().unwrap_or_default();
        first.contains("went away") && !first.contains(" 0 seconds") && !first.contains(" 1 second ")
    });
    let daemon = Daemon::start(&case.stage);
    terminal.shows(&[&format!("process {}", daemon.pid()), "Everything is on the server."]);
    assert!(!terminal.picture().join("\n").contains("went away"));
    terminal.signal(Signal::INT);
    assert_eq!(terminal.ended(), Some(0));
}

/// A daemon that is played: it tells of something without end, or hangs up, and says how it stands when it has looked.
struct Played {
    socket: PathBuf,
    ended: Arc<AtomicBool>,
    /// How often it was asked, and listened to.
    asked: Arc<AtomicUsize>,
    heard: Arc<AtomicUsize>,
}

impl Played {
    fn start(stage: &Stage, looks_for: Duration, hangs_up: bool) -> Self {
        let socket = stage.socket();
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let played = Self { socket, ended: Arc::default(), asked: Arc::default(), heard: Arc::default() };
        let (ended, asked, heard) = (played.ended.clone(), played.asked.clone(), played.heard.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok).take_while(|_| !ended.load(Ordering::Relaxed)) {
                let (asked, heard) = (asked.clone(), heard.clone());
                // It ends with the client.
                thread::spawn(move || answer(stream, looks_for, hangs_up, &asked, &heard));
            }
        });
        played
    }

    /// How long it takes until `counter` has gone on by `more`.
    #[track_caller]
    fn time_for(counter: &AtomicUsize, more: usize) -> Duration {
        let (began, first) = (Instant::now(), counter.load(Ordering::Relaxed));
        eventually("it goes on", || counter.load(Ordering::Relaxed) >= first + more);
        began.elapsed()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // It looks when somebody comes.
        let _ = UnixStream::connect(&self.socket);
    }
}

fn answer(stream: UnixStream, looks_for: Duration, hangs_up: bool, asked: &AtomicUsize, heard: &AtomicUsize) {
    let mut line = String::new();
    let mut stream = BufReader::new(stream);
    let _ = stream.read_line(&mut line);
    let mut write = |text: &Value| writeln!(stream.get_mut(), "{text}").is_ok();
    if line == "watch\n" {
        heard.fetch_add(1, Ordering::Relaxed);
        while !hangs_up && write(&json!({"event": "pass_started", "profile": 1})) {}
    } else if line == "status\n" {
        let pending = asked.fetch_add(1, Ordering::Relaxed);
        let (_nobody, tells) = mpsc::channel::<()>();
        if !looks_for.is_zero() {
            let _ = tells.recv_timeout(looks_for);
        }
        let profile = json!({"profile": 1, "name": "A", "state": "draining", "pending": pending});
        write(&json!({"version": "1", "pid": 1, "uptime_s": 1, "paused": false, "profiles": [profile]}));
    }
}

#[test]
fn a_busy_daemon_is_asked_four_times_a_second_and_less_the_longer_it_has_to_look() {
    for (looks_for, asks, at_least) in [(0, 8, 1000), (250, 3, 2000)] {
        let case = Case::new();
        let played = Played::start(&case.stage, Duration::from_millis(looks_for), false);
        let Some(terminal) = case.terminal(&["status", "--watch"]) else { return };
        terminal.shows(&["Not everything is on the server", "Profile 1 “A”: sending"]);
        eventually("it was asked again", || played.asked.load(Ordering::Relaxed) > 2);
        let took = Played::time_for(&played.asked, asks);
        println!("{asks} times asked in {took:?}, where a look takes {looks_for} ms");
        assert!(took > Duration::from_millis(at_least), "{asks} in {took:?}");
        assert!(terminal.pictures() <= played.asked.load(Ordering::Relaxed) * 2 + 10);
    }
}

#[test]
fn a_daemon_that_only_hangs_up_is_looked_for_once_a_second() {
    let case = Case::new();
    let played = Played::start(&case.stage, Duration::ZERO, true);
    let Some(terminal) = case.terminal(&["status", "--watch"]) else { return };
    terminal.shows(&["Not everything is on the server", "Profile 1 “A”: sending"]);
    // Four seconds in truth. The one who counts may be late.
    let took = Played::time_for(&played.heard, 4);
    assert!(took > Duration::from_millis(2500), "four times in {took:?}");
    assert!(!terminal.picture().join("\n").contains("went away"), "it answers");
}

/// `status --watch` into a pipe.
struct Piped {
    child: Child,
    lines: Receiver<String>,
}

impl Piped {
    fn start(case: &Case, arguments: &[&str]) -> Self {
        let mut agent = command(case.stage.home());
        let mut child = agent.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(SOON).expect("a line comes")
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pipe_gets_a_document_for_each_change_and_none_for_time_that_passes() {
    let case = Case::new();
    let mut daemon = Daemon::start(&case.stage);
    daemon.wait_until_quiet();
    let mut piped = Piped::start(&case, &["--json", "status", "--watch"]);
    let document = |piped: &Piped| -> Value { serde_json::from_str(&piped.line()).unwrap() };
    let up_to = |piped: &Piped, holds: fn(&Value) -> bool| {
        let found = (0..20).map(|_| document(piped)).find(holds);
        found.expect("it is told in the next twenty")
    };
    assert_eq!(document(&piped)["profiles"][0]["pending"], 0);
    // Over two seconds, so that ages would have changed.
    assert!(piped.lines.recv_timeout(Duration::from_millis(2500)).is_err(), "nothing has happened");
    case.server.go_down();
    case.profile.enqueue(&NewOp::renames(3)).unwrap();
    up_to(&piped, |it| it["profiles"][0]["pending"] == 3 && it["profiles"][0]["last_error"].is_object());
    case.server.come_back().unwrap();
    up_to(&piped, |it| it["profiles"][0]["pending"] == 0 && it["profiles"][0]["state"] == "idle");
    daemon.kill();
    drop(daemon);
    up_to(&piped, |it| it["error"]["code"] == "no_daemon");
    let _daemon = Daemon::start(&case.stage);
    up_to(&piped, |it| it["profiles"][0]["state"] == "idle");
    assert!(piped.child.try_wait().unwrap().is_none());
}

#[test]
fn a_pipe_gets_a_block_with_its_time_and_who_leaves_ends_it_though_nothing_happens() {
    let case = Case::new();
    let daemon = Daemon::start(&case.stage);
    daemon.wait_until_quiet();
    let mut agent = command(case.stage.home());
    let mut child = agent.args(["status", "--watch"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        line
    };
    let time = line();
    assert!(time.ends_with("Z\n") && time.len() == 21, "{time:?}");
    assert_eq!(line(), "Everything is on the server.\n");
    drop(stdout);
    let mut status = None;
    eventually("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}
