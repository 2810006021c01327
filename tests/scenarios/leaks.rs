//! Every command, every way to fail and a panic, at the most talkative level: neither the token nor what the user wrote
//! comes out of the process anywhere but on the wire and in the app's own files.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Fault, Reply, Server, Version};
use testkit::token;

use crate::common::daemon::{Daemon, SOON, eventually};
#[cfg(target_os = "linux")]
use crate::common::terminal::Terminal;
use crate::common::{Agent, Stage, TRACEABLE, command};

/// What the user wrote.
const WRITTEN: &str = "Mes nuits blanches à Odessa, 1987";
/// Fails fast, and a request that hangs too.
const IMPATIENT: &str = "[retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n[server]\nrequest_timeout = \"1s\"\n";

/// Words that must be nowhere: whole, in parts, and as JSON writes them.
fn secrets() -> Vec<String> {
    let token = token::for_user("alice");
    // Its header says nothing about anybody.
    let parts: Vec<String> = token.split('.').skip(1).map(str::to_owned).collect();
    let written = [WRITTEN, "blanches", "Mes nuits blanches \\u00e0 Odessa"].map(str::to_owned);
    [token].into_iter().chain(parts).chain(written).collect()
}

/// Fails if a secret is in `bytes`.
#[track_caller]
fn assert_clean(place: &str, bytes: &[u8]) {
    for secret in secrets() {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret:?} is in {place}: {}", String::from_utf8_lossy(bytes));
    }
}

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
}

impl Case {
    /// An op that is well, two that no server takes, and one more, all of them saying what must not come out.
    fn new() -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        stage.configure(IMPATIENT);
        let profile = stage.profile("Zoë", "alice");
        let op = |id| NewOp::rename(id).payload(&serde_json::json!({ "value": WRITTEN }));
        let sick = NewOp::new("playlist", "2", "insert").payload_text(&format!(r#"{{"title":"{WRITTEN}"}}"#));
        let broken = NewOp::rename(3).payload_text(&format!(r#"{{"value":"{WRITTEN}"#));
        profile.enqueue(&[op(1), sick, broken, op(4)]).unwrap();
        Self { server, stage, profile }
    }

    /// `run` at trace, and every line of the socket and every command beside it; then all that came out.
    fn look_everywhere(&self, format: &str) {
        let mut agent = command(self.stage.home());
        agent.args(["--log-level", "trace", "--log-format", format, "run"]);
        let mut daemon = Daemon::start_as(&mut agent, &self.stage.socket());
        for line in self.lines() {
            let answer = daemon.ask(&line);
            assert_clean("the socket", answer.to_string().as_bytes());
        }
        for arguments in self.commands() {
            self.run(&arguments, "with a daemon");
        }
        #[cfg(target_os = "linux")]
        self.watch();
        for name in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{}/{name}", daemon.pid())).unwrap();
            assert!(!bytes.is_empty());
            assert_clean(name, &bytes);
        }
        daemon.stop();
        assert_clean("the log", daemon.log().as_bytes());
        assert!(daemon.log().contains("INFO"), "it said nothing: {}", daemon.log());
        for arguments in self.commands() {
            self.run(&arguments, "without a daemon");
        }
        let state = self.stage.state_path();
        for file in fs::read_dir(state.parent().unwrap()).unwrap() {
            assert_clean("the state directory", &fs::read(file.unwrap().path()).unwrap());
        }
        let marks: String = self.profile.pending().unwrap().into_iter().filter_map(|row| row.last_error).collect();
        assert_clean("the rows' marks", marks.as_bytes());
    }

    fn run(&self, arguments: &[&str], when: &str) {
        for json in [&["--log-level", "trace"][..], &["--log-level", "trace", "--json"]] {
            let run = Agent::start(command(self.stage.home()).args(json).args(arguments)).finish();
            let said = !run.stdout.is_empty() || !run.stderr.is_empty();
            assert!(said, "{arguments:?} {when} said nothing: {run:?}");
            assert_clean(&format!("stdout of {arguments:?} {when}"), run.stdout.as_bytes());
            assert_clean(&format!("stderr of {arguments:?} {when}"), run.stderr.as_bytes());
        }
    }

    /// What does not end by itself, and what is for terminals alone.
    #[cfg(target_os = "linux")]
    fn watch(&self) {
        for arguments in [&["status", "--watch"][..], &["--json", "status", "--watch"], &["drain", "now"]] {
            let mut agent = command(self.stage.home());
            let Some(mut terminal) = Terminal::start(agent.args(["--log-level", "trace"]).args(arguments)) else {
                return;
            };
            eventually("it says something", || !terminal.written().is_empty());
            terminal.signal(Signal::TERM);
            terminal.ended();
            assert_clean(&format!("the terminal of {arguments:?}"), &terminal.written());
        }
    }

    /// Everything that may be asked, and what nobody should write there.
    fn lines(&self) -> Vec<String> {
        let help =
            ["drain now", "drain now 1", "queue list", "queue retry", "status", "wake", "metrics", "help", "ping"];
        let id = self.profile.pending().unwrap().first().map(|row| row.operation_id.clone()).unwrap_or_default();
        let more = [format!("queue retry {id}"), format!("queue discard {id}x"), "pause".into(), "resume".into()];
        let pasted = [token::for_user("alice"), format!("queue discard {WRITTEN}")];
        help.map(str::to_owned).into_iter().chain(more).chain(pasted).chain(["reload".into()]).collect()
    }

    /// All that `--help` names, but for `run`.
    fn commands(&self) -> Vec<Vec<&'static str>> {
        let all = vec![
            vec!["once", "--wait", "0"],
            vec!["drain", "now"],
            vec!["status"],
            vec!["metrics"],
            vec!["reload"],
            vec!["pause"],
            vec!["resume"],
            vec!["queue", "list"],
            vec!["queue", "retry"],
            vec!["doctor"],
            vec!["completions", "bash"],
            vec!["check-config"],
            // Not the two that change the machine.
            vec!["service", "status"],
            vec!["service", "print"],
        ];
        let help = self.stage.run(&["--help"]).stdout;
        let (_, listed) = help.split_once("Commands:\n").unwrap();
        let names =
            listed.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
        let unknown: Vec<&str> = names.filter(|name| *name != "run" && !all.iter().any(|it| it[0] == *name)).collect();
        assert!(unknown.is_empty(), "not looked at: {unknown:?}");
        all
    }
}

/// Every row of the verdict table; servers and proxies repeat what they were sent.
fn failures() -> Vec<Fault> {
    let echo = format!("cannot store {{\"value\":\"{WRITTEN}\"}} for Bearer {}", token::for_user("alice"));
    let location = format!("http://login.example/?token={}", token::for_user("alice"));
    let statuses = [200, 204, 302, 400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 429, 500, 502, 503, 504, 599];
    let answers = statuses.map(|status| Fault::Answer(Reply::text(status, &echo).header("Location", &location)));
    let about = |document| Fault::Answer(Reply::json(409, &document));
    let conflicts = [
        about(
            serde_json::json!({"error": "lamport_regression", "device_id": echo, "stored_max": 5, "offending_lamport_ts": 1}),
        ),
        about(serde_json::json!({"error": echo, "stored_max": 5})),
    ];
    let cuts = [
        Fault::Pass,
        Fault::CutAtAccept,
        Fault::CutMidRequest,
        Fault::CutBeforeStoring,
        Fault::CutAfterStoring,
        Fault::CutMidReply,
        Fault::EndlessBody,
        Fault::EndlessHeaders,
        Fault::Silence,
    ];
    answers.into_iter().chain(conflicts).chain(cuts).collect()
}

#[test]
fn no_command_and_no_failure_lets_the_token_or_a_payload_out() {
    for (number, fault) in failures().into_iter().enumerate() {
        let case = Case::new();
        let first = case.profile.pending().unwrap()[0].operation_id.clone();
        case.server.script(move |seen| {
            let repeats = !matches!(fault, Fault::Answer(_)) || seen.operation_ids.contains(&first);
            Some(if repeats { fault.clone() } else { Fault::Answer(Reply::text(500, "no")) })
        });
        case.look_everywhere(if number % 2 == 0 { "text" } else { "json" });
    }
}

#[test]
fn a_panic_says_where_and_not_what() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: a release build cannot be made to panic");
        return;
    }
    for place in ["database", "reactor"] {
        let case = Case::new();
        let panicking = |arguments: &[&str]| {
            let mut agent = command(case.stage.home());
            agent.env("WAVEFLOW_SYNC_AGENT_PANIC_IN", place).env("RUST_BACKTRACE", "full");
            agent.args(["--log-level", "trace"]).args(arguments);
            agent
        };
        let run = Agent::start(&mut panicking(&["--json", "once", "--wait", "0"])).finish();
        assert!(run.stderr.contains("panicked at src/worker/"), "{run:?}");
        assert_clean("stdout", run.stdout.as_bytes());
        assert_clean("stderr", run.stderr.as_bytes());
        let mut daemon = Daemon::start_as(&mut panicking(&["run"]), &case.stage.socket());
        eventually("it has panicked", || daemon.log().contains("panicked at src/worker/"));
        assert_clean("the socket", daemon.ask("status").to_string().as_bytes());
        daemon.stop();
        assert_clean("the log", daemon.log().as_bytes());
        assert_eq!(case.server.stored().len(), 0, "it panicked before anything was sent");
    }
}

/// A process that may leave a core dump, and is told to: whether this machine keeps any.
fn machine_dumps_cores(directory: &Path) -> bool {
    let mut shell = Command::new("/bin/sh");
    shell.current_dir(directory).args(["-c", "ulimit -S -c unlimited; kill -ABRT $$"]);
    let status = shell.stderr(Stdio::null()).status().expect("a shell");
    status.core_dumped()
}

#[test]
fn there_is_no_core_dump_even_where_the_user_allows_them() {
    let case = Case::new();
    case.server.hold_after_store();
    let mut agent = command(case.stage.home());
    agent.env_remove(TRACEABLE);
    let mut shell = Command::new("/bin/sh");
    let envs = agent.get_envs().filter_map(|(name, value)| Some((name, value?)));
    shell.env_clear().envs(envs).current_dir(case.stage.home());
    shell
        .args(["-c", "ulimit -S -c unlimited 2>/dev/null; exec \"$0\" --log-level trace run"])
        .arg(agent.get_program());
    let mut daemon = Daemon::start_as(&mut shell, &case.stage.socket());
    assert!(case.server.wait_until_held(SOON), "it holds token and payload");
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{line}");
    let environ = fs::read(format!("/proc/{}/environ", daemon.pid()));
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped in part: root may look into every process");
    } else {
        let error = environ.expect_err("the user's other programs cannot look into it");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    daemon.signal(Signal::ABORT);
    let status = daemon.end();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped(), "it left a core dump");
    case.server.clear_faults();
    case.server.release();
    if !machine_dumps_cores(case.stage.home()) {
        eprintln!("skipped in part: this machine keeps no core dumps, so none could be seen to be missing");
    }
}
