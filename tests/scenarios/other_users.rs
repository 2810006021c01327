//! Other users of the machine: they come to nothing, get nothing in the place of ours, and keep nobody out.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Server, Version};

use crate::common::daemon::{Client, Daemon, eventually};
use crate::common::users::{ORDINARY, ROOT, STRANGER, agent_of, as_user, can_act_as_others};
use crate::common::{Agent, Stage, assert_delivered};

/// An answer later than this was kept waiting by somebody.
const PROMPT: Duration = Duration::from_secs(2);
/// What strangers may make the daemon grow by, in kB.
const GROWTH_MAX: u64 = 8 << 10;
/// Connections a stranger keeps open at a time, if he can: ten times the daemon's seats.
const FLOOD: usize = 320;
/// Nothing but clients makes it look.
const ONLY_WHEN_ASKED: &str = "[watch]\nmode = \"off\"\n[drain]\ninterval = \"1h\"\n";

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
    daemon: Daemon,
}

impl Case {
    fn new(owner: u32, config: &str) -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        stage.configure_more(config);
        let profile = stage.profile("Zoë", "alice");
        let daemon = Daemon::start_as(agent_of(owner, &stage).arg("run"), &stage.socket());
        eventually("the first pass is over", || daemon.profile(profile.id)["last_success"].is_string());
        Self { server, stage, profile, daemon }
    }

    /// Opens every directory on the way to the agent's own, as if its owner had no private home.
    fn open_the_way(&self) {
        for below in ["", "run", "state", "state/waveflow", "data", "config"] {
            set_mode(&self.stage.home().join(below), 0o755);
        }
    }

    /// As if somebody had opened the socket itself by hand.
    fn open_the_socket(&self) {
        self.open_the_way();
        set_mode(self.stage.socket().parent().unwrap(), 0o755);
        set_mode(&self.stage.socket(), 0o666);
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_socket_and_what_the_agent_keeps_are_shut_to_others_by_their_modes_alone() {
    if !can_act_as_others() {
        return;
    }
    for owner in [ROOT, ORDINARY] {
        let case = Case::new(owner, "");
        // So that there is a state file.
        case.daemon.ask("pause");
        case.open_the_way();
        let (socket, state) = (case.stage.socket(), case.stage.state_path());
        assert!(socket.exists() && state.exists());
        let (directory, aside) = (socket.parent().unwrap(), case.stage.home().join("data/aside"));
        let tried = as_user(STRANGER, || {
            [
                UnixStream::connect(&socket).map(drop),
                fs::read_dir(directory).map(drop),
                fs::remove_file(&socket),
                fs::rename(&socket, &aside),
                UnixListener::bind(directory.join("mine")).map(drop),
                symlink("/", directory.join("link")),
                fs::read(&state).map(drop),
                fs::write(&state, "{}"),
                fs::read_dir(state.parent().unwrap()).map(drop),
                fs::remove_file(&state),
                fs::rename(directory, &aside),
            ]
            .map(|done| done.map_err(|error| error.kind()))
        });
        assert_eq!(tried, [Err(ErrorKind::PermissionDenied); 11], "the agent of {owner}");
        let home = Stage::new(Generation::Three);
        let mut theirs = agent_of(STRANGER, &home);
        let run = Agent::start(theirs.arg("--socket").arg(&socket).args(["--json", "drain", "now"])).finish();
        assert_eq!(run.code, Some(77), "{run:?}");
        assert!(case.daemon.ping() < PROMPT);
    }
}

#[test]
fn a_stranger_whom_the_modes_let_in_is_neither_answered_nor_heeded() {
    if !can_act_as_others() {
        return;
    }
    for owner in [ROOT, ORDINARY] {
        let case = Case::new(owner, ONLY_WHEN_ASKED);
        case.open_the_socket();
        case.daemon.wait_until_quiet();
        let ops = NewOp::renames(3);
        case.profile.enqueue(&ops).unwrap();
        let socket = case.stage.socket();
        for line in ["pause", "drain now", "wake", "reload", "status", "queue list", "queue retry", "ping", "help", "x"]
        {
            let answer = as_user(STRANGER, || Client::connect(&socket).expect("the modes let him in").ask(line));
            assert_eq!(answer, None, "{line} of a stranger was answered by the agent of {owner}");
        }
        let status = case.daemon.ask("status");
        assert_eq!((&status["paused"], case.server.stats().requests), (&json!(false), 0), "{status}");
        // Its owner may, and root.
        for user in [owner, ROOT] {
            let answer = as_user(user, || Client::connect(&socket)?.ask("drain now"));
            assert_eq!(answer.map(|answer| answer["remaining"].clone()), Some(json!(0)), "{user}");
        }
        assert_delivered(&case.server, &ops);
    }
}

/// Connects and connects as a stranger, says half a line, or far too long ones, or nothing, and never reads.
fn flood(socket: &Path, enough: &AtomicBool, made: &AtomicUsize) {
    let mut kept: Vec<UnixStream> = Vec::new();
    let long = "x".repeat(100_000);
    while !enough.load(Ordering::SeqCst) {
        let Ok(stream) = UnixStream::connect(socket) else { continue };
        stream.set_nonblocking(true).unwrap();
        let said = ["", "drain n", &long, "pause\npause\n"][made.fetch_add(1, Ordering::SeqCst) % 4];
        // Hung up on before it is said, which is as good.
        let _ = (&stream).write(said.as_bytes());
        kept.push(stream);
        if kept.len() > FLOOD {
            kept.remove(0);
        }
    }
}

#[test]
fn a_flood_of_strangers_keeps_nobody_out() {
    if !can_act_as_others() {
        return;
    }
    let case = Case::new(ORDINARY, "");
    case.open_the_socket();
    let (socket, enough, made) = (case.stage.socket(), AtomicBool::new(false), AtomicUsize::new(0));
    let before = case.daemon.number("status", "VmRSS");
    thread::scope(|scope| {
        scope.spawn(|| as_user(STRANGER, || flood(&socket, &enough, &made)));
        // Ended whatever comes of the rest, or the test would hang instead of failing.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| served_meanwhile(&case, &made)));
        enough.store(true, Ordering::SeqCst);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let after = case.daemon.number("status", "VmRSS");
    println!("{} connections of a stranger; from {before} to {after} kB", made.load(Ordering::SeqCst));
    assert!(after < before + GROWTH_MAX, "from {before} to {after} kB");
    let sockets = || case.daemon.descriptors().iter().filter(|path| path.starts_with("socket:")).count();
    eventually("no stranger is kept", || sockets() <= 10);
    assert_eq!(case.daemon.ask("status")["paused"], false);
}

/// The owner asks and the app commits, while there are strangers at the door.
fn served_meanwhile(case: &Case, made: &AtomicUsize) {
    eventually("there is a flood", || made.load(Ordering::SeqCst) > FLOOD);
    let mut ops = Vec::new();
    for _ in 0..20 {
        let seen = made.load(Ordering::SeqCst);
        let took = case.daemon.ping();
        assert!(took < PROMPT, "{took:?}");
        ops.extend(NewOp::renames(1));
        case.profile.enqueue(&ops[ops.len() - 1..]).unwrap();
        eventually("more strangers come", || made.load(Ordering::SeqCst) > seen + 20);
    }
    assert_eq!(case.daemon.ask("drain now")["remaining"], 0);
    assert_delivered(&case.server, &ops);
}

/// Where a stranger may make things, and what he may aim at.
struct Trap {
    stage: Stage,
    /// Everybody's, as `/tmp` is.
    shared: PathBuf,
    /// A directory of the agent's user.
    precious: PathBuf,
}

impl Trap {
    fn new() -> Self {
        let stage = Stage::new(Generation::Three);
        let [shared, precious, own] = ["shared", "precious", "own"].map(|name| stage.home().join(name));
        for path in [&shared, &precious, &own] {
            fs::create_dir(path).unwrap();
        }
        set_mode(stage.home(), 0o755);
        set_mode(&shared, 0o1777);
        set_mode(&own, 0o700);
        fs::write(precious.join("file"), "precious").unwrap();
        Self { stage, shared, precious }
    }

    fn own(&self) -> PathBuf {
        self.stage.home().join("own")
    }

    /// The agent of this user; what is everybody's stays root's.
    fn agent(&self, owner: u32) -> Command {
        let command = agent_of(owner, &self.stage);
        lchown(&self.shared, Some(ROOT), Some(ROOT)).unwrap();
        command
    }

    /// Fails unless the agent ends with 77, says `why`, and leaves everything as it was.
    #[track_caller]
    fn refused(&self, owner: u32, arguments: &[&str], config: &str, why: &str) {
        self.stage.configure(config);
        let run = Agent::start(self.agent(owner).args(arguments)).finish();
        assert_eq!(run.code, Some(77), "{config} of {owner}: {run:?}");
        assert!(run.stderr.contains(why), "{config} of {owner}: no “{why}” in {}", run.stderr);
        let left: Vec<_> = fs::read_dir(&self.precious).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["file"], "something was made behind a link");
        assert_eq!(fs::read_to_string(self.precious.join("file")).unwrap(), "precious");
    }

    #[track_caller]
    fn socket_refused(&self, owner: u32, socket: &Path, why: &str) {
        self.refused(owner, &["run"], &format!("control.socket = {:?}\n", socket.to_str().unwrap()), why);
    }

    #[track_caller]
    fn state_refused(&self, owner: u32, directory: &Path, why: &str) {
        let config = format!("state_dir = {:?}\n", directory.to_str().unwrap());
        for arguments in [&["run"][..], &["once", "--wait", "0"]] {
            self.refused(owner, arguments, &config, why);
        }
    }
}

#[test]
fn a_socket_is_not_made_where_a_stranger_could_put_his_in_its_place() {
    if !can_act_as_others() {
        return;
    }
    for owner in [ROOT, ORDINARY] {
        let trap = Trap::new();
        let (shared, own, precious) = (trap.shared.clone(), trap.own(), trap.precious.clone());
        let squatted = as_user(STRANGER, || {
            // A directory under the name of ours, with a socket in it that listens; one more in what is everybody's.
            fs::create_dir(shared.join("his")).unwrap();
            symlink(&precious, shared.join("link")).unwrap();
            symlink(precious.join("made.sock"), shared.join("link.sock")).unwrap();
            ["his/agent.sock", "agent.sock"].map(|name| UnixListener::bind(shared.join(name)).unwrap())
        });
        trap.socket_refused(owner, &shared.join("his/agent.sock"), "belongs to another user");
        trap.socket_refused(owner, &shared.join("his/deep/agent.sock"), "belongs to another user");
        trap.socket_refused(owner, &shared.join("link/agent.sock"), "link that another user made");
        trap.socket_refused(owner, &shared.join("link/deep/agent.sock"), "link that another user made");
        trap.socket_refused(owner, &shared.join("agent.sock"), "belongs to somebody else");
        trap.socket_refused(owner, &shared.join("link.sock"), "no socket is in its place");
        set_mode(&own, 0o777);
        trap.socket_refused(owner, &own.join("agent.sock"), "other users may write");
        // Its owner may take away what is ours, sticky or not.
        set_mode(&own, 0o1777);
        lchown(&own, Some(STRANGER), Some(STRANGER)).unwrap();
        trap.socket_refused(owner, &own.join("agent.sock"), "belongs to another user");
        // Nobody listened to has been spoken to.
        for listener in &squatted {
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }
}

#[test]
fn a_socket_or_a_link_of_a_stranger_in_a_directory_of_ours_stays_where_it_is() {
    if !can_act_as_others() {
        return;
    }
    for owner in [ROOT, ORDINARY] {
        // It was open to all for a while, and is ours alone again.
        let trap = Trap::new();
        let (socket, link) = (trap.own().join("agent.sock"), trap.own().join("link.sock"));
        set_mode(&trap.own(), 0o777);
        let target = trap.precious.join("made.sock");
        let listener = as_user(STRANGER, || {
            symlink(&target, &link).unwrap();
            UnixListener::bind(&socket).unwrap()
        });
        set_mode(&trap.own(), 0o700);
        trap.socket_refused(owner, &socket, "belongs to somebody else");
        trap.socket_refused(owner, &link, "no socket is in its place");
        assert!(socket.exists() && link.is_symlink());
        drop(listener);
        trap.socket_refused(owner, &socket, "belongs to somebody else");
    }
}

#[test]
fn what_the_agent_keeps_is_not_kept_with_a_stranger() {
    if !can_act_as_others() {
        return;
    }
    for owner in [ROOT, ORDINARY] {
        let trap = Trap::new();
        // `once` looks for the app first.
        trap.stage.profile("Zoë", "alice");
        let (shared, own, precious) = (trap.shared.clone(), trap.own(), trap.precious.clone());
        as_user(STRANGER, || {
            fs::create_dir(shared.join("his")).unwrap();
            symlink(&precious, shared.join("link")).unwrap();
        });
        trap.state_refused(owner, &shared.join("his"), "belongs to another user");
        trap.state_refused(owner, &shared.join("his/deep"), "belongs to another user");
        trap.state_refused(owner, &shared.join("link"), "link that another user made");
        trap.state_refused(owner, &shared.join("link/deep"), "link that another user made");
        trap.state_refused(owner, &shared, "");
        let state = own.join("state.json");
        fs::write(&state, r#"{"version":1,"state":{"paused":true}}"#).unwrap();
        lchown(&state, Some(STRANGER), Some(STRANGER)).unwrap();
        set_mode(&state, 0o644);
        trap.state_refused(owner, &own, "belongs to another user");
        assert!(fs::read_to_string(&state).unwrap().contains("paused"), "it was touched");
    }
}

#[test]
fn the_command_line_believes_no_socket_of_a_stranger() {
    if !can_act_as_others() {
        return;
    }
    let trap = Trap::new();
    let socket = trap.shared.join("agent.sock");
    let listener = as_user(STRANGER, || UnixListener::bind(&socket).unwrap());
    set_mode(&socket, 0o666);
    for command in [&["pause"][..], &["drain", "now"], &["status"], &["queue", "list"]] {
        let run = Agent::start(trap.agent(ORDINARY).arg("--socket").arg(&socket).args(command)).finish();
        assert_eq!(run.code, Some(77), "{run:?}");
        assert!(run.stderr.contains("belongs to another user"), "{run:?}");
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "he was asked");
}
