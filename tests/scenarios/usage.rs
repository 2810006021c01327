//! Directories, locks and configuration: how the command ends where it cannot begin.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;
use testkit::data_dir::Generation;
use testkit::ops::NewOp;
use testkit::server::{Server, Version};

use crate::common::{Agent, Stage, assert_delivered, command};

#[test]
fn a_missing_data_directory_is_tried_later() {
    let home = tempfile::tempdir().unwrap();
    let run = Agent::start(command(home.path()).args(["--json", "once"])).finish().ended_with(75);
    assert_eq!(run.json["error"]["code"], json!("no_data_dir"));
    let told = run.json["error"]["message"].as_str().unwrap();
    assert!(told.contains("data/app.waveflow/waveflow") && told.contains("Flatpak"), "{told}");
    let run = Agent::start(command(home.path()).arg("once")).finish().ended_with(75);
    assert!(run.stdout.is_empty() && run.stderr.contains("app.db"), "{run:?}");
    assert!(!home.path().join("data").exists(), "nothing was made");
}

#[test]
fn a_directory_without_profiles_is_no_failure() {
    let stage = Stage::new(Generation::Three);
    let run = stage.once("5s").ended_with(0);
    assert_eq!(run.json, json!({"outcome": "skipped", "reason": "unavailable", "profiles": []}));
}

#[test]
fn the_flatpak_apps_directory_is_found() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".var/app/app.waveflow.WaveFlow/data/app.waveflow/waveflow");
    let server = Server::start(Version::Later).unwrap();
    let dir = testkit::data_dir::DataDir::new(path, Generation::Three).unwrap();
    dir.set_server_url(Some(&server.url())).unwrap();
    let profile = dir.add_profile("Zoë").unwrap();
    profile.sign_in(&testkit::token::for_user("alice")).unwrap();
    let ops = NewOp::renames(2);
    profile.enqueue(&ops).unwrap();
    Agent::start(command(home.path()).args(["--json", "once"])).finish().ended_with(0);
    assert_delivered(&server, &ops);
}

#[test]
fn a_second_agent_is_told_who_is_there_and_tries_later() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(3);
    profile.enqueue(&ops).unwrap();
    server.hold_after_store();
    let first = stage.start(&["--json", "once"]);
    assert!(server.wait_until_held(Duration::from_secs(20)));
    let second = stage.once("0").ended_with(75);
    assert_eq!(second.json["error"]["code"], json!("locked"));
    let told = second.json["error"]["message"].as_str().unwrap();
    if cfg!(target_os = "linux") {
        assert!(told.contains(&first.pid().to_string()) && told.contains("waveflow-sync"), "{told}");
    }
    let by_another_way = stage.home().join("link");
    std::os::unix::fs::symlink(stage.dir.path(), &by_another_way).unwrap();
    stage.run(&["--data-dir", by_another_way.to_str().unwrap(), "once", "--wait", "0"]).ended_with(75);
    assert_eq!(server.stats().exchanges.len() + server.stats().held, 1, "the others sent nothing");
    server.release();
    first.finish().ended_with(0);
    assert_delivered(&server, &ops);
}

#[test]
fn a_wrong_configuration_names_file_line_and_key() {
    let stage = Stage::new(Generation::Three);
    let cases = [
        ("[retry]\nmaxx = \"5m\"\n", 2, "retry.maxx", "did you mean `retry.max`"),
        ("\n\n[sever]\n", 3, "sever", "did you mean `[server]`"),
        ("[drain]\nbatch_ops = 5000\n", 2, "drain.batch_ops", "1024"),
        ("[drain]\n\nbatch_ops = \"many\"\n", 3, "drain.batch_ops", "allowed"),
        ("[retry]\ninitial = \"10m\"\nmax = \"1m\"\n", 2, "retry.initial", "longer"),
        ("[server]\nurl = \"ftp://x\"\n", 2, "server.url", "allowed"),
        ("[retry\n", 1, "", ""),
    ];
    for (toml, line, key, more) in cases {
        stage.configure(toml);
        let run = stage.run(&["once"]).ended_with(78);
        let place = format!("{}:{line}", stage.config_path().display());
        assert!(run.stderr.contains(&place), "no {place} in {}", run.stderr);
        assert!(run.stderr.contains(key) && run.stderr.contains(more), "{toml}: {}", run.stderr);
        assert!(run.stdout.is_empty());
        let run = stage.once("0").ended_with(78);
        assert!(run.json["error"]["message"].as_str().is_some_and(|told| told.contains(&place)), "{run:?}");
    }
}

#[test]
fn a_ca_file_that_is_not_there_is_told_and_sends_nothing() {
    let server = Server::builder(Version::Later).tls(testkit::server::Leaf::Good).start().unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(1)).unwrap();
    stage.configure("[server]\nca_file = \"nowhere.pem\"\n");
    let run = stage.once("0");
    assert!(matches!(run.code, Some(75 | 78)), "{run:?}");
    assert!(format!("{}{}", run.stdout, run.stderr).contains("nowhere.pem"), "{run:?}");
    assert_eq!((server.stored().len(), profile.pending_count().unwrap()), (0, 1));
}

#[test]
fn a_state_directory_that_is_not_ours_is_refused() {
    let stage = Stage::new(Generation::Three);
    let directory = stage.home().join("state/waveflow/sync-agent");
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    let run = stage.run(&["once"]).ended_with(77);
    assert!(run.stderr.contains("chmod go-w"), "{}", run.stderr);
}

#[test]
fn state_that_makes_no_sense_is_kept_aside_and_the_queue_is_drained() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(3);
    profile.enqueue(&ops).unwrap();
    let path = stage.state_path();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "half a fi").unwrap();
    stage.once("10s").ended_with(0);
    assert_delivered(&server, &ops);
    assert_eq!(fs::read(path.with_file_name("state.json.unreadable-1")).unwrap(), b"half a fi");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn people_read_a_line_for_each_profile() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(3)).unwrap();
    let run = stage.run(&["once"]).ended_with(0);
    assert_eq!(run.stdout, "Profile 1 “Zoë”: 3 sent, 0 waiting.\nDone: 3 sent.\n");
}

#[test]
fn a_wait_that_is_over_ends_the_run_after_what_is_on_the_wire() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.configure_more("[drain]\nbatch_ops = 1\n");
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(1_000)).unwrap();
    server.always(testkit::server::Fault::DelayAfter(Duration::from_millis(50)));
    let run = stage.once("500ms").ended_with(75);
    assert!(run.took < Duration::from_secs(5), "{:?}", run.took);
    let stored = server.stored().len();
    assert!(stored > 0);
    assert_eq!(run.json["sent"], json!(stored));
    assert_eq!(profile.pending_count().unwrap(), 1_000 - stored, "what was accepted is gone from the queue");
}

#[test]
fn a_failure_that_arrives_after_the_wait_is_over_is_told() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(3)).unwrap();
    profile.paste_token(&testkit::token::expired("alice")).unwrap();
    server.always(testkit::server::Fault::DelayBefore(Duration::from_secs(1)));
    let run = stage.once("300ms").ended_with(75);
    assert_eq!(run.kind(), "unauthorized", "{run:?}");
    // And so does an acceptance, after which the failure before it is history.
    server.clear_faults();
    profile.paste_token(&testkit::token::for_user("alice")).unwrap();
    let mut count = 0;
    server.script(move |_| {
        count += 1;
        let reply = testkit::server::Reply::proxy(503);
        Some(if count == 1 {
            testkit::server::Fault::Answer(reply)
        } else {
            testkit::server::Fault::DelayAfter(Duration::from_secs(1))
        })
    });
    let run = stage.once("500ms").ended_with(0);
    assert_eq!((&run.json["sent"], run.kind()), (&json!(3), ""));
}
