//! What the machine runs out of under a running daemon: room on a disk, the right to write, descriptors. It says so and
//! lives; what was accepted is not sent again; when there is room everything is delivered.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::geteuid;
use serde_json::json;
use testkit::data_dir::Generation;
use testkit::ops::NewOp;
use testkit::server::{Server, Version};
use waveflow_sync_agent::queue::census;
use waveflow_sync_agent::queue::database::{Database, Durability};

use crate::common::daemon::{Daemon, PROMPT, SOON, eventually, holds_within};
use crate::common::mount::Mount;
use crate::common::pair::Pair;
use crate::common::users::{ORDINARY, agent_of};
use crate::common::{Stage, assert_delivered, command, sendings};

/// Room for the files of a test, and soon filled.
const SMALL: &str = "4m";

/// An install with a file system of its own below `home/place`.
fn on_a_small_disk(place: &str, server: &Server) -> Option<(Mount, Stage)> {
    let home = tempfile::tempdir().unwrap();
    let at = home.path().join(place);
    fs::create_dir(&at).unwrap();
    let disk = Mount::new(&at, SMALL)?;
    let stage = Stage::at(home, Generation::Three);
    stage.dir.set_server_url(Some(&server.url())).unwrap();
    Some((disk, stage))
}

#[test]
fn started_on_a_full_disk_it_says_so_and_delivers_when_there_is_room() {
    let server = Server::start(Version::Later).unwrap();
    let Some((disk, stage)) = on_a_small_disk("data", &server) else { return };
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(3);
    profile.enqueue(&ops).unwrap();
    disk.fill();
    let daemon = Daemon::start(&stage);
    assert!(stage.status_head().contains("the disk is full"), "{}", stage.status_head());
    disk.free();
    assert_eq!(daemon.ask("drain now")["remaining"], 0, "{}", daemon.log());
    eventually("all is sent", || profile.pending_count().is_ok_and(|count| count == 0));
    assert_delivered(&server, &ops);
}

#[test]
fn a_full_disk_under_the_queue_is_said_and_what_was_accepted_is_not_sent_again() {
    let server = Server::start(Version::Later).unwrap();
    let Some((disk, stage)) = on_a_small_disk("data", &server) else { return };
    let profile = stage.profile("Zoë", "alice");
    let daemon = Daemon::start(&stage);
    let ops = NewOp::renames(60);
    server.hold_after_store();
    profile.enqueue(&ops).unwrap();
    assert!(server.wait_until_held(SOON));
    disk.fill();
    server.release();
    let said = |word: &str| {
        let words = &daemon.profile(profile.id)["last_error"]["message"];
        words.as_str().is_some_and(|words| words.contains(word))
    };
    eventually("status says that the disk is full", || said("the disk is full"));
    assert!(stage.status_head().contains("the disk is full"), "{}", stage.status_head());
    for _ in 0..3 {
        let answer = daemon.ask("drain now");
        assert_eq!((&answer["outcome"], &answer["error"]["kind"]), (&json!("drained"), &json!("database")), "{answer}");
        assert_eq!((&answer["sent"], &answer["remaining"]), (&json!(0), &json!(60)), "{answer}");
    }
    assert!(daemon.ping() < PROMPT);
    assert!(profile.enqueue(&NewOp::renames(1)).is_err(), "the disk has room");
    assert_eq!(server.stats().requests, 1, "something was sent again");
    disk.free();
    eventually("the queue is empty", || profile.pending_count().is_ok_and(|count| count == 0));
    let more = NewOp::renames(3);
    profile.enqueue(&more).unwrap();
    assert!(server.wait_for(|stats| stats.stored == 63, SOON), "{}", daemon.log());
    daemon.wait_for_state(profile.id, "idle");
    let all = [ops, more].concat();
    assert_delivered(&server, &all);
    assert_eq!(sendings(&server, &all), vec![1; all.len()]);
}

/// More than fits the page cache is written to the log before the commit, and where that fails the transaction ends without
/// having been taken back.
#[test]
fn a_file_that_nobody_else_has_open_is_given_back_when_the_disk_is_full() {
    let server = Server::start(Version::Later).unwrap();
    let Some((disk, stage)) = on_a_small_disk("data", &server) else { return };
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(60)).unwrap();
    let database = Database::open(&profile.db_path(), Durability::Normal).unwrap();
    // Opens the log.
    assert_eq!(database.read(census::total).unwrap(), 60);
    disk.fill();
    let sql = "UPDATE sync_pending_op SET payload = CAST(zeroblob(65536) AS TEXT)";
    let write = |connection: &Connection| connection.execute(sql, []).map_err(|error| database.error(&error));
    let error = database.write_alone(write, |_| true).unwrap_err();
    assert!(error.message.contains("the disk is full"), "{}", error.message);
    let app = Connection::open(profile.db_path()).unwrap();
    app.busy_timeout(Duration::ZERO).unwrap();
    let count = app.query_row("SELECT count(*) FROM sync_pending_op", [], |row| row.get::<_, i64>(0));
    assert_eq!(count, Ok(60));
}

#[test]
fn a_full_disk_under_the_state_is_said_and_what_it_should_hold_is_written_when_there_is_room() {
    let server = Server::start(Version::Later).unwrap();
    let Some((disk, stage)) = on_a_small_disk("state", &server) else { return };
    stage.configure_more("[drain]\ninterval = \"1s\"\n");
    let profile = stage.profile("Zoë", "alice");
    let mut daemon = Daemon::start(&stage);
    disk.fill();
    let mut ops = NewOp::renames(8);
    ops[3] = NewOp::rename(3).payload_text(r#"{"value":"a\u0000b"}"#);
    profile.enqueue(&ops).unwrap();
    assert!(server.wait_for(|stats| stats.stored == 7, SOON), "{}", daemon.log());
    let refused = ops.remove(3).operation_id.to_string();
    let named = |daemon: &Daemon| daemon.ask("queue list")["ops"][0]["operation_id"] == refused.as_str();
    eventually("the refused one is listed", || named(&daemon));
    assert_delivered(&server, &ops);
    assert!(daemon.log().contains("what the agent remembers is lost when it ends"), "{}", daemon.log());
    assert!(stage.quarantined().is_empty(), "the disk has room");
    disk.free();
    eventually("it is written down", || stage.quarantined().contains(&refused));
    daemon.kill();
    let requests = server.stats().requests;
    let daemon = Daemon::start(&stage);
    eventually("it has passed", || daemon.profile(profile.id)["last_success"].is_string());
    assert!(named(&daemon), "{}", daemon.ask("queue list"));
    assert_eq!(server.stats().requests, requests, "it is tried again although it is known");
}

#[test]
fn a_read_only_directory_is_said_and_the_others_flow_and_what_was_accepted_is_not_sent_again() {
    // Root is refused nothing, so root has the agent run as somebody else.
    let agent = |stage: &Stage| {
        let mut agent = if geteuid().is_root() { agent_of(ORDINARY, stage) } else { command(stage.home()) };
        Daemon::start_as(agent.arg("run"), &stage.socket())
    };
    let pair = Pair::started("[drain]\ninterval = \"1h\"\n", agent);
    pair.daemon.ask("pause");
    let ops = NewOp::renames(3);
    // The app has it open, so that it can be read.
    let mut app = pair.one.open().unwrap();
    app.enqueue(&ops).unwrap();
    pair.daemon.wait_until_quiet();
    let allow = |file: u32, directory: u32| {
        for entry in fs::read_dir(&pair.one.path).unwrap() {
            fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(file)).unwrap();
        }
        fs::set_permissions(&pair.one.path, Permissions::from_mode(directory)).unwrap();
    };
    allow(0o444, 0o555);
    pair.daemon.ask("resume");
    pair.complains(&pair.one, "check its permissions and its directory's");
    pair.flows(&pair.other);
    assert_eq!(pair.daemon.ask(&format!("drain now {}", pair.one.id))["error"]["kind"], "database");
    assert!(sendings(&pair.server, &ops).iter().all(|times| *times < 2), "something was sent again");
    allow(0o644, 0o755);
    pair.drained(&pair.one);
    assert_delivered(&pair.server, &ops);
    assert_eq!(sendings(&pair.server, &ops), [1; 3]);
    drop(app);
    pair.flows(&pair.one);
}

/// The daemon with room for so many descriptors.
fn with_few_descriptors(stage: &Stage, count: u32) -> Daemon {
    let usual = command(stage.home());
    let mut shell = Command::new("sh");
    shell.env_clear().envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(stage.home()).args(["-c", &format!("ulimit -n {count} && exec \"$0\" run")]);
    Daemon::start_as(shell.arg(usual.get_program()), &stage.socket())
}

fn occupy(socket: &Path, count: usize) -> Vec<UnixStream> {
    (0..count).map(|_| UnixStream::connect(socket).unwrap()).collect()
}

#[test]
fn without_descriptors_left_the_daemon_says_so_burns_nothing_and_delivers_when_there_are_some() {
    /// More than the daemon has without clients, fewer than it takes clients.
    const DESCRIPTORS: u32 = 32;
    const WATCHED: Duration = Duration::from_secs(2);
    let pair = Pair::started("[drain]\ninterval = \"1h\"\n", |stage| with_few_descriptors(stage, DESCRIPTORS));
    pair.daemon.wait_until_quiet();
    let clients = occupy(pair.daemon.socket(), 40);
    let said = |word: &str| pair.daemon.log().contains(word);
    eventually("it has no descriptor left", || said("control socket: Too many open files"));
    let ops = NewOp::renames(20);
    pair.one.enqueue(&ops).unwrap();
    eventually("it says why nothing goes", || said("there are too many files open"));
    let (before, lines) = (pair.daemon.processor_time(), pair.daemon.log().lines().count());
    assert!(!holds_within(WATCHED, || pair.server.stats().stored > 0), "there were descriptors");
    let burnt = pair.daemon.processor_time().saturating_sub(before);
    let lines = pair.daemon.log().lines().count() - lines;
    println!("{burnt:?} of processor and {lines} lines of log in {WATCHED:?} without a descriptor");
    assert!(burnt < WATCHED / 4, "{burnt:?} in {WATCHED:?}");
    assert!(lines < 6, "{lines} lines in {WATCHED:?}: {}", pair.daemon.log());
    drop(clients);
    pair.drained(&pair.one);
    assert_delivered(&pair.server, &ops);
    assert!(pair.daemon.ping() < PROMPT);
    pair.flows(&pair.other);
}
