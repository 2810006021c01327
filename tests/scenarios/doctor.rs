//! `doctor`, as a person runs it when nothing arrives: whatever is wrong, its first three lines name the cause, with the
//! mend; and it changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};
use testkit::data_dir::{Generation, Profile};
use testkit::http_proxy::Proxy;
use testkit::ops::NewOp;
use testkit::server::{Fault, Leaf, Reply, Server, Version};
use testkit::token;

use crate::common::daemon::{Daemon, eventually};
use crate::common::{Agent, Run, Stage, command};

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
}

impl Case {
    fn new() -> Self {
        Self::of(Server::start(Version::Later).unwrap())
    }

    fn of(server: Server) -> Self {
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        Self { server, stage, profile }
    }

    fn doctor(&self) -> Run {
        self.stage.run(&["doctor"])
    }

    /// The daemon, which has passed.
    fn daemon(&self) -> Daemon {
        let daemon = Daemon::start(&self.stage);
        eventually("it has passed", || daemon.profile(self.profile.id)["last_success"].is_string());
        daemon
    }
}

/// Fails unless the first three lines have these words in them, and every line that tells of something wrong a mend.
#[track_caller]
fn names_the_cause(run: &Run, code: i32, words: &[&str]) {
    println!("{}", run.stdout);
    assert_eq!(run.code, Some(code), "{run:?}");
    let first: Vec<&str> = run.stdout.lines().take(3).collect();
    for word in words {
        assert!(
            first.iter().any(|line| line.contains(word)),
            "{word:?} is not in the first three lines:\n{}",
            run.stdout
        );
    }
    let wrong: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("WRONG")).collect();
    assert!(!wrong.is_empty() && wrong.iter().all(|line| line.contains(" Mend: ")), "{}", run.stdout);
    assert!(first[1].starts_with("WRONG"), "{}", run.stdout);
}

/// What `--json` has to say under this name.
fn found<'a>(run: &'a Run, name: &str) -> Vec<&'a Value> {
    let findings = run.json["findings"].as_array().unwrap_or_else(|| panic!("no findings: {run:?}"));
    findings.iter().filter(|finding| finding["name"] == name).collect()
}

/// Every file below, with its size, the time it was written to, and what is in it.
fn everything(below: &Path) -> BTreeMap<PathBuf, (u64, SystemTime, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut ahead = vec![below.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            if meta.is_dir() {
                ahead.push(path.clone());
            }
            all.insert(path, (meta.len(), meta.modified().unwrap(), bytes));
        }
    }
    all
}

#[test]
fn all_is_well_with_an_agent_at_work_and_the_app_too() {
    let case = Case::new();
    let app = case.profile.open().unwrap();
    let _registry = case.stage.dir.app_db().unwrap();
    case.profile.enqueue(&NewOp::renames(3)).unwrap();
    let daemon = case.daemon();
    let run = case.doctor();
    println!("{}", run.stdout);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.starts_with("All is well"), "{}", run.stdout);
    assert!(!run.stdout.contains("WRONG"), "{}", run.stdout);
    for word in ["is a waveflow-server", "of alice at", "runs, process", "and nobody else", "signed in", "sound"] {
        assert!(run.stdout.contains(word), "{word:?} is not in\n{}", run.stdout);
    }
    let run = case.stage.run(&["--json", "doctor"]);
    assert_eq!((run.code, &run.json["healthy"]), (Some(0), &json!(true)), "{run:?}");
    assert_eq!(run.json["version"], env!("CARGO_PKG_VERSION"));
    assert!(run.json["platform"]["os"].is_string());
    assert_eq!(found(&run, "database").len(), 2, "{}", run.stdout);
    if cfg!(target_os = "linux") {
        // It is this process that plays the app.
        let app = found(&run, "app").first().map(|app| app["words"].to_string()).unwrap_or_default();
        assert!(app.contains(&std::process::id().to_string()), "{}", run.stdout);
    }
    drop((app, daemon));
}

#[test]
fn a_look_without_an_agent_changes_nothing_and_sends_no_op() {
    let case = Case::new();
    case.stage.run(&["once", "--wait", "0"]);
    case.profile.enqueue(&NewOp::renames(3)).unwrap();
    let stored = case.server.stored().len();
    let before = everything(case.stage.home());
    let run = case.doctor();
    names_the_cause(&run, 69, &["none runs behind", "3 ops wait", "service install"]);
    let after = everything(case.stage.home());
    for (path, seen) in &after {
        assert_eq!(before.get(path).map(|was| (was.0, was.1)), Some((seen.0, seen.1)), "{} changed", path.display());
    }
    assert_eq!(before, after);
    assert_eq!((case.server.stored().len(), case.profile.pending_count().unwrap()), (stored, 3));
    // Where nothing waits, a missing agent is no failure: cron does it.
    case.stage.once("10s").ended_with(0);
    let run = case.doctor();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.starts_with("All is well") && run.stdout.contains("none runs behind"), "{}", run.stdout);
}

#[test]
fn a_wrong_address_is_named() {
    let case = Case::of(Server::builder(Version::Later).prefix("/music").start().unwrap());
    case.stage.dir.set_server_url(Some("music.example")).unwrap();
    names_the_cause(&case.doctor(), 75, &["must begin with http:// or https://", "WaveFlow's settings"]);
    case.stage.dir.set_server_url(Some(&format!("http://{}", case.server.address()))).unwrap();
    names_the_cause(&case.doctor(), 75, &["answered 404", "path included"]);
    case.stage.dir.set_server_url(None).unwrap();
    names_the_cause(&case.doctor(), 75, &["no server is known", "enter its address"]);
    case.stage.configure("[server]\nurl = \"http://[::1\"\n");
    let run = case.doctor();
    names_the_cause(&run, 78, &["configuration"]);
}

#[test]
fn a_server_that_is_down_is_named_with_an_agent_and_without() {
    let case = Case::new();
    let daemon = case.daemon();
    case.server.go_down();
    names_the_cause(&case.doctor(), 75, &["connection refused", "see that the server runs"]);
    drop(daemon);
    names_the_cause(&case.doctor(), 75, &["connection refused", "see that the server runs"]);
}

#[test]
fn an_expired_or_refused_token_is_named_and_never_shown() {
    let case = Case::new();
    let expired = token::expired("alice");
    case.profile.sign_in(&expired).unwrap();
    let run = case.doctor();
    names_the_cause(&run, 75, &["profile 1", "of alice", "expired 1 hour ago", "refuses it", "sign in again"]);
    assert!(!run.stdout.contains(&expired) && !run.stdout.contains(expired.split('.').nth(1).unwrap()));
    case.profile.sign_in("what the user pasted by mistake").unwrap();
    let run = case.doctor();
    names_the_cause(&run, 75, &["no JWT", "paste a new token"]);
    assert!(!run.stdout.contains("by mistake"), "{}", run.stdout);
}

#[test]
fn an_authority_that_is_not_trusted_is_named_and_one_that_is_tells_until_when() {
    let case = Case::of(Server::builder(Version::Later).tls(Leaf::Good).start().unwrap());
    names_the_cause(&case.doctor(), 75, &["TLS", "as server.ca_file in the configuration"]);
    assert_eq!(case.server.stats().requests, 0, "no token went there");
    let trust = |pem: &str| {
        fs::write(case.stage.config_path().with_file_name("ca.pem"), pem).unwrap();
        case.stage.configure_more("[server]\nca_file = \"ca.pem\"\n");
    };
    trust(case.server.ca_pem().unwrap());
    let run = case.doctor();
    assert!(run.code == Some(0) && run.stdout.contains("the certificate is good until"), "{run:?}");
    trust("not PEM");
    names_the_cause(&case.doctor(), 78, &["ca.pem", "correct server.proxy or server.ca_file"]);
}

#[test]
fn a_bad_certificate_is_named_for_what_is_bad_about_it() {
    for (leaf, word, mend) in [
        (Leaf::Expired, "has expired", "renew the certificate"),
        (Leaf::WrongName, "is not valid for 127.0.0.1", "use the name the certificate is for"),
    ] {
        let case = Case::of(Server::builder(Version::Later).tls(leaf).start().unwrap());
        fs::write(case.stage.config_path().with_file_name("ca.pem"), case.server.ca_pem().unwrap()).unwrap();
        case.stage.configure_more("[server]\nca_file = \"ca.pem\"\n");
        names_the_cause(&case.doctor(), 75, &[word, mend]);
    }
}

#[test]
fn a_captive_portal_and_a_redirect_are_named() {
    let case = Case::new();
    for (reply, word) in
        [(Reply::captive_portal(), "an HTML page, “Welcome”"), (Reply::login_redirect(), "redirects to")]
    {
        case.server.clear_faults();
        case.server.always(Fault::Answer(reply));
        names_the_cause(&case.doctor(), 75, &[word, "login page"]);
    }
}

#[test]
fn a_poison_op_in_quarantine_is_named() {
    let case = Case::new();
    let poison = NewOp::new("playlist", "2", "set").field("name").payload_text(r#"{"value":"a\u0000b"}"#);
    case.profile.enqueue(&[poison]).unwrap();
    case.profile.enqueue(&NewOp::renames(3)).unwrap();
    case.stage.once("10s").ended_with(0);
    assert_eq!(case.stage.quarantined().len(), 1);
    names_the_cause(&case.doctor(), 75, &["profile 1", "1 op refused by the server", "queue discard"]);
}

/// Nothing is proved against it before the server takes a later one.
#[test]
fn a_poison_op_that_waits_alone_is_named_in_the_servers_words() {
    let case = Case::new();
    let daemon = case.daemon();
    let poison = NewOp::new("playlist", "2", "set").field("name").payload_text(r#"{"value":"a\u0000b"}"#);
    case.profile.enqueue(&[poison]).unwrap();
    eventually("it is refused", || daemon.profile(case.profile.id)["last_error"].is_object());
    names_the_cause(&case.doctor(), 75, &["profile 1", "1 op waits", "500", "see the server's own log"]);
}

#[test]
fn of_several_profiles_each_has_its_own_trouble_named() {
    let case = Case::new();
    let poison = NewOp::new("playlist", "2", "set").field("name").payload_text(r#"{"value":"a\u0000b"}"#);
    let other = case.stage.profile("Ines", "bob");
    other.sign_in(&token::expired("bob")).unwrap();
    let daemon = case.daemon();
    case.profile.enqueue(&[poison]).unwrap();
    other.enqueue(&NewOp::renames(2)).unwrap();
    eventually("it is refused", || daemon.profile(case.profile.id)["last_error"].is_object());
    eventually("so is the token", || daemon.profile(other.id)["state"] == "unauthorized");
    let words = ["profile 1 “Zoë”", "1 op waits", "500", "profile 2 “Ines”", "of bob", "expired 1 hour ago"];
    names_the_cause(&case.doctor(), 75, &words);
}

#[test]
fn ops_that_are_kept_local_wait_for_no_agent() {
    let case = Case::new();
    case.profile.enqueue(&NewOp::renames(2)).unwrap();
    case.profile.set_mode("local").unwrap();
    let run = case.doctor();
    assert!(run.code == Some(0) && run.stdout.contains("kept local, as set in WaveFlow, 2 waiting"), "{run:?}");
}

#[test]
fn a_socket_that_the_agent_would_not_make_is_named() {
    let case = Case::new();
    let socket = case.stage.socket();
    let directory = socket.parent().unwrap();
    fs::create_dir_all(directory).unwrap();
    fs::write(&socket, "precious").unwrap();
    names_the_cause(&case.doctor(), 77, &["socket", "something that is no socket is in its place"]);
    fs::remove_file(&socket).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    names_the_cause(&case.doctor(), 77, &["socket", "other users may write to its directory", "chmod go-w"]);
}

#[test]
fn ops_of_another_account_are_named_as_held_back() {
    let case = Case::new();
    case.profile.enqueue(&NewOp::renames(2)).unwrap();
    // The agent sees whose they are, and cannot send them.
    case.server.go_down();
    case.stage.once("0").ended_with(75);
    case.server.come_back().unwrap();
    case.profile.sign_in(&token::for_user("bob")).unwrap();
    names_the_cause(&case.doctor(), 75, &["profile 1", "2 ops held back", "sign in to the other account"]);
}

#[test]
fn a_pause_is_named_with_an_agent_and_without() {
    let case = Case::new();
    case.stage.run(&["pause"]).ended_with(0);
    names_the_cause(&case.doctor(), 75, &["paused: nothing is sent", "`waveflow-sync-agent resume`"]);
    let _daemon = Daemon::start(&case.stage);
    names_the_cause(&case.doctor(), 75, &["paused: nothing is sent", "`waveflow-sync-agent resume`"]);
}

#[test]
fn without_waveflow_it_says_where_it_looked_and_makes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let run = Agent::start(command(home.path()).arg("doctor")).finish();
    names_the_cause(&run, 75, &["the desktop app's data is not there", "app.waveflow/waveflow", "install WaveFlow"]);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_registry_is_named_and_nothing_is_said_of_what_could_not_be_read() {
    let case = Case::new();
    let path = case.stage.dir.app_db_path();
    let mut bytes = fs::read(&path).unwrap();
    bytes[..100].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let run = case.doctor();
    names_the_cause(&run, 75, &["app.db: is damaged", "start WaveFlow"]);
    assert!(!run.stdout.contains("no server is known"), "{}", run.stdout);
}

#[test]
fn two_agents_on_the_same_data_are_named_by_process() {
    let case = Case::new();
    let daemon = case.daemon();
    let pid = format!("(process {})", daemon.pid());
    let elsewhere = case.stage.home().join("run/other.sock").display().to_string();
    let run = case.stage.run(&["--socket", &elsewhere, "doctor"]);
    names_the_cause(&run, 75, &["another agent serves the same data", &pid, "kill", "--socket"]);
    // One that serves other data, on the socket of the first.
    let other = Case::new();
    let run = other.stage.run(&["--socket", &case.stage.socket().display().to_string(), "doctor"]);
    names_the_cause(&run, 75, &["does not serve this data directory", "--data-dir"]);
}

#[test]
fn a_wrong_configuration_is_a_finding_too() {
    let case = Case::new();
    case.stage.configure("[server]\nurll = \"https://music.example\"\n");
    names_the_cause(&case.doctor(), 78, &["sync-agent.toml:2", "did you mean `server.url`?", "check-config"]);
    let run = case.stage.run(&["--json", "doctor"]);
    assert_eq!((run.code, &run.json["healthy"]), (Some(78), &json!(false)), "{run:?}");
    assert!(found(&run, "configuration")[0]["mend"].is_string());
}

#[test]
fn a_proxy_is_told_of_without_its_password() {
    let case = Case::new();
    let proxy = Proxy::start().unwrap();
    case.stage.configure_more(&format!("[server]\nproxy = \"{}\"\n", proxy.url().replace("://", "://me:secret@")));
    let run = case.stage.run(&["--json", "doctor"]);
    assert!(found(&run, "proxy")[0]["words"].as_str().unwrap().contains("127.0.0.1"), "{}", run.stdout);
    assert!(!run.stdout.contains("secret") && !run.stderr.contains("secret"), "{run:?}");
}

#[test]
fn a_clock_that_is_wrong_is_told_of_by_the_date_of_the_server() {
    let case = Case::new();
    let answer = Reply::json(200, &json!({"accepted": []})).header("Date", "Thu, 01 Jan 2015 00:00:00 GMT");
    case.server.always(Fault::Answer(answer));
    let run = case.stage.run(&["--json", "doctor"]);
    let clock = found(&run, "clock");
    assert_eq!((run.code, &clock[0]["level"]), (Some(0), &json!("notice")), "{run:?}");
    assert!(clock[0]["words"].as_str().unwrap().contains("ahead of the server's"), "{clock:?}");
    assert!(clock[0]["mend"].as_str().unwrap().contains("timedatectl"));
}

#[test]
fn a_server_that_never_answers_is_left_in_time() {
    let case = Case::new();
    case.stage.configure_more("[server]\nrequest_timeout = \"1s\"\n");
    case.server.always(Fault::Silence);
    let run = case.doctor();
    names_the_cause(&run, 75, &["no answer within 1s", "overloaded"]);
}

#[cfg(target_os = "linux")]
mod on_linux {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::process::Command;

    use rustix::process::geteuid;

    use super::{Agent, Case, Generation, NewOp, Server, Stage, Version, command, fs, names_the_cause};
    use crate::common::mount::Mount;
    use crate::common::users::{ORDINARY, agent_of};

    fn allow(case: &Case, file: u32, directory: u32) {
        for entry in fs::read_dir(&case.profile.path).unwrap() {
            fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(file)).unwrap();
        }
        fs::set_permissions(&case.profile.path, Permissions::from_mode(directory)).unwrap();
    }

    #[test]
    fn a_read_only_directory_is_named() {
        let case = Case::new();
        case.profile.enqueue(&NewOp::renames(2)).unwrap();
        // Root is refused nothing, so root looks as somebody else.
        let doctor = || -> Command {
            if geteuid().is_root() { agent_of(ORDINARY, &case.stage) } else { command(case.stage.home()) }
        };
        let mut looks = doctor();
        allow(&case, 0o444, 0o555);
        let run = Agent::start(looks.arg("doctor")).finish();
        allow(&case, 0o644, 0o755);
        names_the_cause(&run, 77, &["data.db cannot be written to by this user", "chmod u+rwX"]);
    }

    /// SQLite as root leaves it to whoever has the database; a backup that root brought back does not.
    #[test]
    fn a_log_that_is_for_reading_only_is_named() {
        let case = Case::new();
        let app = case.profile.open().unwrap();
        case.profile.enqueue(&NewOp::renames(2)).unwrap();
        let is_root = geteuid().is_root();
        let mut looks = if is_root { agent_of(ORDINARY, &case.stage) } else { command(case.stage.home()) };
        let log = case.profile.path.join("data.db-wal");
        if is_root {
            chown(&log, Some(0), Some(0)).unwrap();
        }
        fs::set_permissions(&log, Permissions::from_mode(0o444)).unwrap();
        let run = Agent::start(looks.arg("doctor")).finish();
        fs::set_permissions(&log, Permissions::from_mode(0o644)).unwrap();
        drop(app);
        names_the_cause(&run, 77, &["data.db-wal cannot be written to by this user", "chmod u+rwX", "chown"]);
    }

    #[test]
    fn a_full_disk_and_one_for_reading_only_are_named() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().join("data");
        fs::create_dir(&at).unwrap();
        let Some(disk) = Mount::new(&at, "4m") else { return };
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::at(home, Generation::Three);
        stage.dir.set_server_url(Some(&server.url())).unwrap();
        let profile = stage.profile("Zoë", "alice");
        profile.enqueue(&NewOp::renames(2)).unwrap();
        disk.fill();
        names_the_cause(&stage.run(&["doctor"]), 75, &["the disk of", "is full", "free some space"]);
        disk.free();
        assert!(disk.run(&["-o", "remount,ro"]));
        names_the_cause(&stage.run(&["doctor"]), 75, &["is read-only", "mount it for writing"]);
    }
}
