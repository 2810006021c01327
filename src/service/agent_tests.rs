use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use super::super::directories;
use super::super::programs::played::{Played, fails, says};
use super::*;
use crate::config::{self, Environment, Flags, Platform};

/// A home on a Mac.
struct Home {
    dir: tempfile::TempDir,
    env: Environment,
    order: Order,
}

const USER: User = User { id: 501, name: None };
const RUNNING: &str = "gui/501/app.waveflow.sync-agent = {\n\tstate = running\n\tpid = 77\n\tlast exit code = 0\n}\n";

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = Environment::new(Platform::MacOs, Path::new("/"), [("HOME", dir.path().to_str().unwrap())]);
        let loaded = config::load_text(&Flags::default(), &env, None, None).unwrap();
        let order = Order::new(Path::new("/usr/local/bin/agent"), &Flags::default(), &loaded, &env).unwrap();
        Self { dir, env, order }
    }

    fn setting<'a>(&'a self, programs: &'a Played) -> Setting<'a> {
        Setting { env: &self.env, user: &USER, programs }
    }

    fn file(&self) -> PathBuf {
        launchd::file(self.dir.path())
    }

    /// An agent that answers so many pings, each on a connection of its own.
    fn answer(&self, times: usize) -> JoinHandle<()> {
        fs::create_dir_all(self.order.socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&self.order.socket).unwrap();
        thread::spawn(move || {
            for _ in 0..times {
                let (mut client, _) = listener.accept().unwrap();
                BufReader::new(client.try_clone().unwrap()).read_line(&mut String::new()).unwrap();
                let version = env!("CARGO_PKG_VERSION");
                writeln!(client, "{{\"pong\":true,\"pid\":77,\"version\":\"{version}\"}}").unwrap();
            }
        })
    }
}

fn line(step: &Step) -> String {
    match step {
        Step::Run { arguments, .. } => {
            arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
        }
        Step::UntilGone { .. } => "wait".to_owned(),
        Step::Write { .. } => "write".to_owned(),
        _ => String::new(),
    }
}

#[test]
fn a_first_install_writes_and_loads_a_changed_one_is_unloaded_first_and_the_same_one_is_left() {
    let home = Home::new();
    let path = home.file();
    let text = launchd::plist(&home.order).unwrap();
    let ours = Standing::Ours(text.clone());
    let job = |state: Option<&str>| Job { state: state.map(str::to_owned), pid: None, last_exit: None };
    let planned = |standing: &Standing, job: &Job, old| {
        let steps = steps(&home.order, (&path, &text), standing, (job, old), &USER);
        steps.iter().map(line).filter(|line| !line.is_empty()).collect::<Vec<_>>()
    };
    let service = "gui/501/app.waveflow.sync-agent";
    let (enable, bootout) = (format!("enable {service}"), format!("bootout {service}"));
    let bootstrap = format!("bootstrap gui/501 {}", path.display());
    assert_eq!(planned(&Standing::Absent, &job(None), false), ["write", &enable, &bootstrap]);
    let changed = Standing::Ours("older".to_owned());
    let again = [bootout.as_str(), "wait", "write", &enable, &bootstrap];
    assert_eq!(planned(&changed, &job(Some("running")), false), again);
    assert_eq!(planned(&ours, &job(Some("running")), true), [bootout.as_str(), "wait", &enable, &bootstrap]);
    assert_eq!(planned(&ours, &job(Some("not running")), false), [format!("kickstart {service}")]);
    assert!(planned(&ours, &job(Some("running")), false).is_empty());
}

#[test]
fn an_install_leaves_a_file_that_an_uninstall_takes_away_with_all_it_made() {
    let home = Home::new();
    let absent = Played::default().on("launchctl print", fails("Could not find service")).on("launchctl", says(""));
    let refusal = install(&home.order, home.setting(&absent)).unwrap_err();
    assert_eq!(refusal.code, "not_started", "{}", refusal.message);
    let answering = home.answer(2);
    let present = Played::default().on("launchctl print", says(RUNNING));
    let report = install(&home.order, home.setting(&present)).unwrap();
    answering.join().unwrap();
    assert_eq!(report.document["changed"], false, "{report:?}");
    assert_eq!(present.asked(), ["launchctl print gui/501/app.waveflow.sync-agent"]);
    fs::write(launchd::log(home.dir.path()), "a line\n").unwrap();
    uninstall(&home.order.state_dir, &home.order.socket, home.setting(&absent)).unwrap();
    assert!(!home.file().exists() && !launchd::log(home.dir.path()).exists());
    let report = uninstall(&home.order.state_dir, &home.order.socket, home.setting(&absent)).unwrap();
    assert_eq!((report.document["changed"].as_bool(), report.exit), (Some(false), Exit::Done));
}

/// What is in a home, with what is in that.
fn all_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { [vec![path.clone()], all_below(&path)].concat() } else { vec![path] })
        .collect()
}

#[test]
fn an_uninstall_leaves_the_home_as_it_was_with_the_socket_in_any_place() {
    let mut home = Home::new();
    for socket in ["Library/Application Support/a & b/sock".into(), home.order.socket.clone()] {
        home.order.socket = home.dir.path().join(socket);
        let absent = Played::default().on("launchctl print", fails("")).on("launchctl", says(""));
        install(&home.order, home.setting(&absent)).unwrap_err();
        if !directories::is_made(&home.order.state_dir) {
            // The scenarios say so.
            return;
        }
        // What launchd leaves, and the agent's own memory.
        drop(UnixListener::bind(&home.order.socket).unwrap());
        fs::write(launchd::log(home.dir.path()), "a line\n").unwrap();
        fs::write(home.order.state_dir.join("state.json"), "{\"version\":1,\"state\":{}}").unwrap();
        // By then nobody may remember the flag.
        let usual = home.order.state_dir.join("sync-agent.sock");
        let report = uninstall(&home.order.state_dir, &usual, home.setting(&absent)).unwrap();
        assert_eq!(report.document["state_dir"], json!(null), "{report:?}");
        assert_eq!(all_below(home.dir.path()), Vec::<PathBuf>::new());
    }
}

#[test]
fn an_agent_that_is_no_service_keeps_its_socket_and_what_it_remembers() {
    let home = Home::new();
    let absent = Played::default().on("launchctl print", fails("")).on("launchctl", says(""));
    install(&home.order, home.setting(&absent)).unwrap_err();
    let answering = home.answer(1);
    let report = uninstall(&home.order.state_dir, &home.order.socket, home.setting(&absent)).unwrap();
    answering.join().unwrap();
    assert!(!home.file().exists() && home.order.socket.exists(), "{report:?}");
    assert_eq!(report.document["state_dir"], json!(home.order.state_dir));
}

#[test]
fn a_file_somebody_changed_is_kept() {
    let home = Home::new();
    fs::create_dir_all(home.file().parent().unwrap()).unwrap();
    fs::write(home.file(), "<plist/>").unwrap();
    let played = Played::default();
    assert_eq!(install(&home.order, home.setting(&played)).unwrap_err().exit, Exit::NotPermitted);
    assert_eq!(
        uninstall(&home.order.state_dir, &home.order.socket, home.setting(&played)).unwrap_err().exit,
        Exit::NotPermitted
    );
    assert_eq!(fs::read_to_string(home.file()).unwrap(), "<plist/>");
    assert!(played.asked().is_empty());
}

#[test]
fn status_says_what_launchd_knows() {
    let home = Home::new();
    let answering = home.answer(1);
    let running = Played::default().on("launchctl print", says(RUNNING));
    let report = status(&home.order.socket, home.setting(&running)).unwrap();
    answering.join().unwrap();
    assert_eq!((report.exit, &report.document["pid"]), (Exit::Done, &json!(77)));
    assert_eq!(report.document["socket"]["answers"], true);
    let ended = Played::default().on("launchctl print", says("\tstate = not running\n\tlast exit code = 78\n"));
    let report = status(&home.order.socket, home.setting(&ended)).unwrap();
    assert_eq!((report.exit, &report.document["last_exit"]), (Exit::NoDaemon, &json!("78")));
    assert_eq!(report.document["socket"]["answers"], json!(null), "asking would have started it");
}
