//! An idle daemon: no request, no file open, nothing written, next to no threads.

use std::time::{Duration, Instant};

use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Server, Version};

use crate::common::Stage;
use crate::common::daemon::{Daemon, eventually, holds_within};

/// Ticks of the timer that are watched.
const WATCHED: Duration = Duration::from_millis(4500);
/// The timer's.
const TICK: Duration = Duration::from_secs(1);
/// Bytes that tick and signal descriptors (8 each) may take in that time; a page of SQLite's is 4096.
const BYTES_MAX: u64 = 512;

struct Idle {
    server: Server,
    _stage: Stage,
    profile: Profile,
    daemon: Daemon,
}

impl Idle {
    fn new(settings: &str) -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        stage.configure_more(settings);
        let profile = stage.profile("Zoë", "alice");
        let daemon = Daemon::start(&stage);
        Self { server, _stage: stage, profile, daemon }
    }

    /// Fails if anything happens that an idle agent has no business with, over more than four ticks.
    #[track_caller]
    fn watch(&self) {
        let daemon = &self.daemon;
        eventually("the files are closed", || daemon.has_closed_the_files());
        // What its own answers to this test have cost is over; from here on nobody asks it anything.
        eventually("the database thread is gone", || daemon.number("status", "Threads") <= 2);
        // Closing them changed them: the next tick looks at `app.db` once for that.
        let written = || daemon.number("io", "write_bytes");
        eventually("nothing is written any more", || {
            let before = written();
            !holds_within(TICK * 2, || written() != before)
        });
        let requests = self.server.stats().requests;
        let look = || (daemon.number("io", "wchar"), daemon.number("io", "syscw"), daemon.number("io", "write_bytes"));
        let before = look();
        let began = Instant::now();
        let opened = holds_within(WATCHED, || !daemon.has_closed_the_files());
        assert!(!opened, "it opened the files: {:?}", daemon.descriptors());
        let after = look();
        println!("idle for {:?}: {before:?}, then {after:?}", began.elapsed());
        assert_eq!(self.server.stats().requests, requests, "it talked to the server");
        assert!(after.0 - before.0 <= BYTES_MAX, "it wrote: {before:?}, then {after:?}");
        assert_eq!(after.2, before.2, "it wrote to a disk");
        assert!(daemon.number("status", "Threads") <= 2);
    }
}

#[test]
fn with_the_app_closed_an_idle_daemon_touches_nothing() {
    let idle = Idle::new("[drain]\ninterval = \"1s\"\n");
    idle.profile.enqueue(&NewOp::renames(3)).unwrap();
    eventually("all is sent", || idle.server.stats().stored == 3);
    idle.watch();
    // And it is not asleep for good.
    idle.profile.enqueue(&NewOp::renames(2)).unwrap();
    eventually("all is sent", || idle.server.stats().stored == 5);
    idle.watch();
}

#[test]
fn with_the_app_open_an_idle_daemon_touches_nothing() {
    let idle = Idle::new("[drain]\ninterval = \"1s\"\n");
    let mut app = idle.profile.open().unwrap();
    app.enqueue(&NewOp::renames(3)).unwrap();
    eventually("all is sent", || idle.server.stats().stored == 3);
    idle.watch();
    app.enqueue(&NewOp::renames(2)).unwrap();
    eventually("all is sent", || idle.server.stats().stored == 5);
}

#[test]
fn looking_every_second_does_not_keep_the_files_open() {
    let idle = Idle::new("[watch]\nmode = \"poll\"\npoll_interval = \"1s\"\n");
    let mut app = idle.profile.open().unwrap();
    app.enqueue(&NewOp::renames(3)).unwrap();
    eventually("all is sent", || idle.server.stats().stored == 3);
    idle.watch();
}

#[test]
fn while_a_server_is_left_alone_the_files_are_closed_whatever_waits_in_them() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.configure("[retry]\ninitial = \"1h\"\nmax = \"1h\"\n[drain]\ninterval = \"1s\"\n");
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(3)).unwrap();
    server.go_down();
    let daemon = Daemon::start(&stage);
    daemon.wait_for_state(profile.id, "backing_off");
    profile.enqueue(&NewOp::renames(2)).unwrap();
    let idle = Idle { server, _stage: stage, profile, daemon };
    idle.watch();
    idle.server.come_back().unwrap();
    assert_eq!(idle.daemon.ask("drain now")["sent"], 5);
}

#[test]
fn the_apps_last_close_cleans_up_after_itself_beside_an_idle_daemon() {
    let idle = Idle::new("[drain]\ninterval = \"1s\"\n");
    let mut app = idle.profile.open().unwrap();
    app.enqueue(&NewOp::renames(3)).unwrap();
    eventually("all is sent", || idle.server.stats().stored == 3);
    eventually("the files are closed", || idle.daemon.has_closed_the_files());
    drop(app);
    let log = idle.profile.path.join("data.db-wal");
    assert!(holds_within(Duration::from_secs(10), || !log.exists()), "the log outlives the app");
}
