//! `service install`, `uninstall`, `status`, `print`: the real binary, and a service manager that is played.

mod play;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use serde_json::{Value, json};

use self::play::{Play, SERVICE, SOCKET};
use crate::common::Agent;
use crate::common::daemon::Daemon;

/// Puts `text` where a user has units, as his own.
fn put(play: &Play, name: &str, text: &str) {
    let path = play.unit(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn one_command_installs_enables_and_starts_it_and_it_answers() {
    let play = Play::new();
    let run = play.service(&["install"]).ended_with(0);
    assert!(run.stdout.contains("Installed, enabled and started") && run.stderr.is_empty(), "{run:?}");
    assert_eq!(play.orders(), ["daemon-reload", "enable --now .socket .service"]);
    let text = fs::read_to_string(play.unit(SERVICE)).unwrap();
    assert!(text.contains(&format!("ExecStart={} run\n", play.binary().display())), "{text}");
    assert!(!text.contains("/usr/bin/waveflow-sync-agent"), "{text}");
    assert_eq!(fs::metadata(play.unit(SERVICE)).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(play.unit(SOCKET).is_file());
    let status = play.service(&["status", "--json"]).ended_with(0).json;
    assert_eq!(
        (&status["installed"], &status["enabled"], &status["running"]),
        (&json!(true), &json!(true), &json!(true))
    );
    assert_eq!(status["pid"], json!(play.pid().unwrap()));
    assert_eq!(status["socket"]["answers"], true);
    assert_eq!(status["lingering"], true);
}

#[test]
fn installed_twice_nothing_is_changed_and_that_is_said() {
    let play = Play::new();
    play.service(&["install"]).ended_with(0);
    let (before, pid) = (play.tree(), play.pid());
    play.orders();
    let run = play.service(&["install"]).ended_with(0);
    assert!(run.stdout.starts_with("Nothing to do"), "{run:?}");
    assert_eq!(play.tree(), before);
    assert_eq!((play.pid(), play.orders()), (pid, Vec::new()));
    assert_eq!(play.service(&["install", "--json"]).ended_with(0).json["changed"], false);
}

#[test]
fn installed_with_another_flag_it_is_started_anew_with_it() {
    let play = Play::new();
    play.service(&["install"]).ended_with(0);
    let pid = play.pid();
    play.orders();
    play.service(&["install", "--log-level", "debug"]).ended_with(0);
    assert_eq!(play.orders(), ["stop .socket .service", "daemon-reload", "enable --now .socket .service"]);
    assert_ne!(play.pid(), pid);
    let told = fs::read_to_string(format!("/proc/{}/cmdline", play.pid().unwrap())).unwrap();
    assert!(told.ends_with("\0run\0--log-level\0debug\0"), "{told}");
}

/// What a home has before an install, and what puts it there.
type Home = (&'static str, fn(&Play));

fn homes() -> Vec<Home> {
    vec![
        ("an empty home", |_| {}),
        ("an empty directory for units", |play| fs::create_dir_all(play.unit("")).unwrap()),
        ("units of his own, one enabled", |play| {
            put(play, "mine.service", "[Service]\nExecStart=/bin/true\n");
            fs::create_dir_all(play.unit("default.target.wants")).unwrap();
            symlink(play.unit("mine.service"), play.unit("default.target.wants/mine.service")).unwrap();
        }),
        ("an empty directory for links, with a mode of its own", |play| {
            let path = play.unit("sockets.target.wants");
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("a drop-in for our unit", |play| put(play, "waveflow-sync-agent.service.d/mine.conf", "[Service]\nNice=5\n")),
        ("a configuration", |play| {
            let path = play.home().join(".config/waveflow/sync-agent.toml");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "[drain]\ninterval = \"60s\"\n").unwrap();
        }),
    ]
}

#[test]
fn an_uninstall_leaves_the_home_as_it_was_before_the_install() {
    for (what, prepare) in homes() {
        let play = Play::new();
        if !play.has_attributes() {
            return;
        }
        prepare(&play);
        let before = play.tree();
        play.service(&["install"]).ended_with(0);
        play.service(&["install", "--log-level", "debug"]).ended_with(0);
        assert_ne!(play.tree(), before, "{what}");
        let run = play.service(&["uninstall"]).ended_with(0);
        assert!(run.stdout.contains("left nothing else behind"), "{run:?}");
        assert_eq!(play.tree(), before, "{what}");
        assert_eq!(play.pid(), None, "{what}: it was stopped");
        assert!(play.orders().ends_with(&["daemon-reload".to_owned()]), "{what}");
    }
}

#[test]
fn a_home_with_anything_in_its_path_is_one_as_any_other() {
    let play = Play::in_home("a \"home\" of $X's, 100% \\ é");
    if !play.has_attributes() {
        return;
    }
    let before = play.tree();
    play.service(&["install"]).ended_with(0);
    assert_eq!(play.service(&["install", "--json"]).ended_with(0).json["changed"], false);
    let name = "waveflow-sync-agent.service.d/mine.conf";
    put(&play, name, "[Service]\nNice=5\n");
    let status = play.service(&["status", "--json"]).ended_with(0).json;
    assert_eq!(status["drop_ins"], json!([play.unit(name)]));
    fs::remove_dir_all(play.unit("waveflow-sync-agent.service.d")).unwrap();
    play.service(&["uninstall"]).ended_with(0);
    assert_eq!(play.tree(), before);
}

#[test]
fn a_directory_that_was_made_for_a_socket_goes_with_it() {
    let play = Play::new();
    if !play.has_attributes() {
        return;
    }
    let before = play.tree();
    // Beside the units, above which something is to be taken away too.
    let place = |name: &str| play.home().join(".config/own").join(name);
    for name in ["a 100% sock", "deep/sock"] {
        play.service(&["install", "--socket", place(name).to_str().unwrap()]).ended_with(0);
        assert_eq!(fs::metadata(place("")).unwrap().permissions().mode() & 0o777, 0o700);
    }
    play.service(&["install"]).ended_with(0);
    assert!(!place("").exists(), "nobody listens there any more");
    play.service(&["install", "--socket", place("sock").to_str().unwrap()]).ended_with(0);
    // By then nobody may remember the flag.
    play.service(&["uninstall"]).ended_with(0);
    assert_eq!(play.tree(), before);
}

#[test]
fn an_uninstall_leaves_an_agent_that_is_no_service_what_it_remembers() {
    let play = Play::new();
    play.service(&["install"]).ended_with(0);
    play.systemctl(&["stop", SOCKET, SERVICE]);
    let daemon = Daemon::start_as(play.command().arg("run"), &play.home().join("run/waveflow/sync-agent.sock"));
    let run = play.service(&["uninstall"]).ended_with(0);
    assert!(run.stdout.contains("What the agent remembers stays"), "{run:?}");
    assert!(!play.unit(SERVICE).exists());
    assert_eq!(daemon.ask("pause")["paused"], true);
    assert!(play.home().join(".local/state/waveflow/sync-agent/state.json").is_file());
}

#[test]
fn a_home_that_may_not_be_written_to_is_told_with_77() {
    let play = Play::new();
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root is refused nothing");
        return;
    }
    let mode = |mode| fs::set_permissions(play.home(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o500);
    let run = play.service(&["install"]).ended_with(77);
    mode(0o700);
    assert!(run.stderr.contains(".config") && run.stderr.contains("ermission denied"), "{run:?}");
}

#[test]
fn what_a_user_adds_meanwhile_stays_behind_the_uninstall() {
    let play = Play::new();
    play.service(&["install"]).ended_with(0);
    put(&play, "waveflow-sync-agent.service.d/mine.conf", "[Service]\nNice=5\n");
    let run = play.service(&["install"]).ended_with(0);
    assert!(run.stdout.contains("What you added stays in force"), "{run:?}");
    let run = play.service(&["uninstall"]).ended_with(0);
    assert!(run.stdout.contains("Left, since it is yours") && run.stdout.contains("service.d"), "{run:?}");
    let left: Vec<_> = fs::read_dir(play.unit("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["waveflow-sync-agent.service.d"]);
    assert!(play.unit("waveflow-sync-agent.service.d/mine.conf").is_file());
}

#[test]
fn without_an_install_there_is_nothing_to_uninstall() {
    let play = Play::new();
    let run = play.service(&["uninstall"]).ended_with(0);
    assert!(run.stdout.contains("Nothing is installed"), "{run:?}");
    assert_eq!((play.tree().len(), play.orders().len()), (0, 0));
    let run = play.service(&["status"]).ended_with(69);
    assert!(run.stdout.contains("Not installed") && run.stdout.contains("Does not run"), "{run:?}");
    assert_eq!(play.service(&["status", "--json"]).ended_with(69).json["installed"], false);
}

#[test]
fn a_wrong_configuration_installs_nothing_and_hinders_no_uninstall() {
    let play = Play::new();
    let configure = |text: &str| {
        let path = play.home().join(".config/waveflow/sync-agent.toml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    configure("colour = 1\n");
    play.service(&["install"]).ended_with(78);
    assert!(!play.unit(SERVICE).exists() && play.orders().is_empty());
    configure("");
    play.service(&["install"]).ended_with(0);
    configure("colour = 1\n");
    play.service(&["uninstall"]).ended_with(0);
    assert!(!play.unit(SERVICE).exists());
}

#[test]
fn a_unit_that_is_not_ours_or_was_changed_is_neither_replaced_nor_removed() {
    let play = Play::new();
    put(&play, SERVICE, "[Service]\nExecStart=/bin/true\n");
    for verb in ["install", "uninstall"] {
        let run = play.service(&[verb]).ended_with(77);
        assert!(run.stderr.contains(SERVICE) && run.stderr.contains("not written by"), "{run:?}");
    }
    assert_eq!(fs::read_to_string(play.unit(SERVICE)).unwrap(), "[Service]\nExecStart=/bin/true\n");
    fs::remove_file(play.unit(SERVICE)).unwrap();
    symlink("/dev/null", play.unit(SERVICE)).unwrap();
    play.service(&["install"]).ended_with(77);
    fs::remove_file(play.unit(SERVICE)).unwrap();

    play.service(&["install"]).ended_with(0);
    let edited = fs::read_to_string(play.unit(SOCKET)).unwrap() + "# mine\n";
    fs::write(play.unit(SOCKET), &edited).unwrap();
    let before = play.tree();
    play.orders();
    for arguments in [&["install", "--log-level", "debug"][..], &["uninstall"]] {
        let run = play.service(arguments).ended_with(77);
        assert!(run.stderr.contains(SOCKET) && run.stderr.contains("changed by hand"), "{run:?}");
    }
    assert_eq!((play.tree(), play.orders()), (before, Vec::new()));
    assert!(play.pid().is_some(), "it runs on");
}

#[test]
fn a_packages_units_are_enabled_and_not_shadowed_and_left_by_the_uninstall() {
    let play = Play::new();
    if !play.has_attributes() {
        return;
    }
    let printed = play.service(&["print", "--json"]).ended_with(0).json;
    for (file, name) in printed["files"].as_array().unwrap().iter().zip([SERVICE, SOCKET]) {
        let shipped = file["text"].as_str().unwrap().split_once('\n').unwrap().1;
        play.set(&format!("packaged/{name}"), shipped);
    }
    let before = play.tree();
    let run = play.service(&["install", "--json"]).ended_with(0);
    assert_eq!(run.json["by_package"], true, "{run:?}");
    assert_eq!(play.orders(), ["enable --now .socket .service"]);
    assert!(!play.unit(SERVICE).exists() && !play.unit(SOCKET).exists());
    assert_eq!(play.service(&["install", "--json"]).ended_with(0).json["changed"], false);

    play.service(&["install", "--log-level", "debug"]).ended_with(0);
    assert!(play.unit(SERVICE).is_file(), "what the package does not do takes a unit of his own");
    play.service(&["install"]).ended_with(0);
    assert!(!play.unit(SERVICE).exists(), "and goes when the package's does again");

    play.service(&["uninstall"]).ended_with(0);
    assert_eq!(play.tree(), before);
    assert!(play.path("packaged").join(SERVICE).is_file());
}

#[test]
fn a_program_in_a_directory_with_a_space_and_a_percent_sign_is_started() {
    let play = Play::new().with_binary_at("my programs, 100%/agent");
    play.service(&["install"]).ended_with(0);
    let text = fs::read_to_string(play.unit(SERVICE)).unwrap();
    assert!(text.contains("/my programs, 100%%/agent\" run\n"), "{text}");
    let run = play.service(&["install"]).ended_with(0);
    assert!(run.stdout.contains("temporary directory"), "a warning: {run:?}");
}

#[test]
fn an_agent_that_is_no_service_is_not_pushed_aside() {
    let play = Play::new();
    let daemon = Daemon::start_as(play.command().arg("run"), &play.home().join("run/waveflow/sync-agent.sock"));
    let run = play.service(&["install"]).ended_with(75);
    assert!(run.stderr.contains(&format!("process {}", daemon.pid())), "{run:?}");
    assert!(!play.unit(SERVICE).exists() && play.orders().is_empty());
    daemon.ping();
}

#[test]
fn what_does_not_start_is_said_with_where_to_look() {
    let play = Play::new();
    fs::create_dir_all(play.home().join("run/waveflow/sync-agent.sock.d")).unwrap();
    fs::create_dir_all(play.home().join("run/waveflow/sync-agent.sock")).unwrap();
    let run = play.service(&["install"]).ended_with(69);
    assert!(run.stderr.contains("journalctl --user -u") && run.stderr.contains("service uninstall"), "{run:?}");
    play.service(&["uninstall"]).ended_with(0);
    assert!(!play.unit(SERVICE).exists());
}

#[test]
fn lingering_is_looked_at_and_how_to_turn_it_on_is_said() {
    let play = Play::new();
    play.set("linger", "Linger=no\n");
    let run = play.service(&["install"]).ended_with(0);
    assert!(run.stdout.contains("only while you are logged in"), "{run:?}");
    assert!(run.stdout.contains("loginctl enable-linger"), "{run:?}");
    assert!(play.service(&["status"]).ended_with(0).stdout.contains("loginctl enable-linger"));
    play.set("linger", "Linger=yes\n");
    assert!(!play.service(&["install"]).ended_with(0).stdout.contains("enable-linger"));
}

#[test]
fn a_machine_without_systemd_is_told_what_to_do_instead() {
    let play = Play::new();
    let nowhere = play.path("nothing");
    for verb in ["install", "status"] {
        let run = Agent::start(play.command().args(["service", verb]).env("PATH", &nowhere)).finish().ended_with(69);
        assert!(run.stderr.contains("`waveflow-sync-agent once`"), "{run:?}");
        assert!(run.stderr.contains("does not run systemd"), "{run:?}");
    }
    play.set("broken", "");
    let run = play.service(&["install", "--json"]).ended_with(69);
    assert!(["no_systemd", "no_user_manager"].contains(&run.json["error"]["code"].as_str().unwrap()), "{run:?}");
    assert!(!play.unit(SERVICE).exists());
}

#[test]
fn with_sudo_it_is_refused_and_the_right_command_is_named() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root to be root by sudo");
        return;
    }
    let play = Play::new();
    let run = Agent::start(play.command().args(["service", "install"]).env("SUDO_USER", "zoe")).finish().ended_with(64);
    assert!(run.stderr.contains("As zoe, without sudo: `waveflow-sync-agent service install`"), "{run:?}");
    assert!(play.orders().is_empty());
}

#[test]
fn status_starts_nothing() {
    let play = Play::new();
    play.service(&["install"]).ended_with(0);
    play.systemctl(&["stop", SERVICE]);
    let run = play.service(&["status", "--json"]).ended_with(69);
    assert_eq!((&run.json["running"], &run.json["socket"]["answers"]), (&json!(false), &Value::Null));
    assert_eq!(run.json["socket"]["listening"], true);
    let run = play.service(&["status"]).ended_with(69);
    assert!(run.stdout.contains("The first connection") && run.stdout.contains("starts it"), "{run:?}");
}

#[test]
fn print_shows_the_units_and_writes_nothing() {
    let play = Play::new();
    let run = play.service(&["print"]).ended_with(0);
    for name in [SERVICE, SOCKET] {
        assert!(run.stdout.contains(&format!("# {}\n# Written by", play.unit(name).display())), "{run:?}");
    }
    let json = play.service(&["print", "--json"]).ended_with(0).json;
    assert_eq!((play.tree().len(), play.orders().len()), (0, 0));
    play.service(&["install"]).ended_with(0);
    for file in json["files"].as_array().unwrap() {
        let written = fs::read_to_string(file["path"].as_str().unwrap()).unwrap();
        assert_eq!(file["text"], written);
        assert!(run.stdout.contains(written.trim_end()));
    }
}

#[test]
fn systemd_itself_has_nothing_to_say_against_what_is_printed() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: no systemd-analyze here");
        return;
    }
    let play = Play::new().with_binary_at("my programs, 100%/agent");
    let data = play.path("the app's data\\100%");
    let socket = play.path("a socket.sock");
    let arguments = ["print", "--json", "--data-dir", data.to_str().unwrap(), "--socket", socket.to_str().unwrap()];
    for arguments in [&arguments[..2], &arguments[..]] {
        let printed = play.service(arguments).ended_with(0).json;
        let files: Vec<_> = printed["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| {
                let name = std::path::Path::new(file["path"].as_str().unwrap()).file_name().unwrap().to_str().unwrap();
                play.set(&format!("verify/{name}"), file["text"].as_str().unwrap());
                play.path("verify").join(name)
            })
            .collect();
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--user", "--man=no"]).args(files).env("XDG_RUNTIME_DIR", play.path("verify"));
        let said = verify.output().unwrap();
        let words = String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
        assert!(said.status.success() && words.is_empty(), "{words}");
    }
}
