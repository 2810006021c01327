//! The daemon and a server that is down, that refuses the token, or that names the time.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::data_dir::Generation;
use testkit::made_up_app::{MadeUpApp, Script};
use testkit::ops::NewOp;
use testkit::server::{Fault, Reply, Server, Version};
use testkit::token;

use crate::common::daemon::{Daemon, SOON, eventually};
use crate::common::{Stage, assert_delivered};

/// Counts connections, and closes each at once.
struct Dead {
    address: SocketAddr,
    count: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dead {
    fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let (count, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, ends) = (Arc::clone(&count), Arc::clone(&done));
        let thread = thread::spawn(move || {
            while listener.accept().is_ok() && !ends.load(Ordering::SeqCst) {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, count, done, thread: Some(thread) }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn retry(initial: &str, max: &str) -> String {
    format!("[retry]\ninitial = \"{initial}\"\nmax = \"{max}\"\n[drain]\ninterval = \"1h\"\n")
}

#[test]
fn a_dead_server_is_left_alone_however_busy_the_app_is_and_gets_everything_when_it_is_back() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.configure(&retry("500ms", "1s"));
    let profile = stage.profile("Zoë", "alice");
    server.go_down();
    let dead = Dead::at(server.address());
    let daemon = Daemon::start(&stage);
    // 10 ms apart at the mean: 400 commits are about four seconds.
    let pause = Duration::from_millis(20);
    let script = Script { ops: 400, bursts_percent: 0, deferred_percent: 0, pause, ..Script::default() };
    let began = Instant::now();
    let report = MadeUpApp::start(&profile, &script).unwrap().finish();
    let (took, attempts) = (began.elapsed(), dead.count());
    // Waits are drawn evenly from 0 to 1 s: half a second each. Three times as many do not happen.
    let most = 6 + usize::try_from(took.as_millis()).unwrap() * 6 / 1000;
    println!("{attempts} attempts in {took:?} while the app committed {} times", report.transactions);
    assert!((2..=most).contains(&attempts), "{attempts} attempts in {took:?}");
    let status = daemon.profile(profile.id);
    assert_eq!((&status["pending"], &status["last_error"]["kind"]), (&json!(400), &json!("network")), "{status}");
    drop(dead);
    server.come_back().unwrap();
    let back = Instant::now();
    assert!(server.wait_for(|stats| stats.stored == 400, SOON));
    assert!(back.elapsed() < Duration::from_secs(4), "{:?} after it is back", back.elapsed());
    let stored: Vec<_> = server.stored().iter().map(|row| row.operation_id).collect();
    assert_eq!(stored, report.committed);
    daemon.wait_for_state(profile.id, "idle");
}

#[test]
fn drain_now_ends_the_wait_for_a_server_that_is_back() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.configure(&retry("1h", "1h"));
    let profile = stage.profile("Zoë", "alice");
    let ops = NewOp::renames(5);
    profile.enqueue(&ops).unwrap();
    server.go_down();
    let daemon = Daemon::start(&stage);
    daemon.wait_for_state(profile.id, "backing_off");
    let answer = daemon.ask("drain now");
    assert_eq!((&answer["outcome"], &answer["remaining"]), (&json!("drained"), &json!(5)), "{answer}");
    assert_eq!(answer["error"]["kind"], "network");
    server.come_back().unwrap();
    let asked = Instant::now();
    assert_eq!(daemon.ask("drain now")["sent"], 5);
    assert!(asked.elapsed() < Duration::from_secs(3));
    assert_delivered(&server, &ops);
}

#[test]
fn one_of_three_profiles_tries_for_all() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.configure(&retry("500ms", "500ms"));
    let profiles: Vec<_> = ["A", "B", "C"].map(|name| stage.profile(name, "alice")).into();
    for profile in &profiles {
        profile.enqueue(&NewOp::renames(4)).unwrap();
    }
    server.go_down();
    let dead = Dead::at(server.address());
    let daemon = Daemon::start(&stage);
    for profile in &profiles {
        daemon.wait_for_state(profile.id, "backing_off");
    }
    let (began, first) = (Instant::now(), dead.count());
    eventually("it is tried six times more", || dead.count() >= first + 6);
    // Six tries of one profile take 1.5 s at the mean, and six of three profiles half a second.
    println!("six tries of three profiles took {:?}", began.elapsed());
    assert!(began.elapsed() > Duration::from_millis(600), "all three try: {:?}", began.elapsed());
    drop(dead);
    server.come_back().unwrap();
    assert!(server.wait_for(|stats| stats.stored == 12, SOON));
}

#[test]
fn while_one_profile_tries_the_others_wait_for_what_comes_of_it() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.configure(&retry("300ms", "300ms"));
    let profiles: Vec<_> = ["A", "B", "C"].map(|name| stage.profile(name, "alice")).into();
    for profile in &profiles {
        profile.enqueue(&NewOp::renames(4)).unwrap();
    }
    server.always(Fault::Answer(Reply::proxy(502)));
    let daemon = Daemon::start(&stage);
    for profile in &profiles {
        daemon.wait_for_state(profile.id, "backing_off");
    }
    server.clear_faults();
    server.next(Fault::HoldBeforeStore);
    assert!(server.wait_until_held(SOON));
    let requests = server.stats().requests;
    // More than any wait there can be, by the daemon's own clock: nobody else comes meanwhile.
    let uptime = || daemon.ask("status")["uptime_s"].as_u64().unwrap();
    let now = uptime();
    eventually("two seconds pass", || uptime() >= now + 2);
    assert_eq!(server.stats().requests, requests, "another profile did not wait for the one that tries");
    server.release();
    assert!(server.wait_for(|stats| stats.stored == 12, SOON));
    daemon.wait_for_state(profiles[2].id, "idle");
}

#[test]
fn a_new_token_ends_the_wait_for_one_at_once() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.configure(&retry("1h", "1h"));
    let profile = stage.profile("Zoë", "alice");
    profile.paste_token(&token::expired("alice")).unwrap();
    let ops = NewOp::renames(5);
    profile.enqueue(&ops).unwrap();
    let daemon = Daemon::start(&stage);
    daemon.wait_for_state(profile.id, "unauthorized");
    let status = daemon.profile(profile.id);
    assert!(status["next_attempt_in_s"].as_u64().is_some_and(|seconds| seconds > 3000), "{status}");
    let requests = server.stats().requests;
    // Commits alone do not end it.
    let more = NewOp::renames(3);
    profile.enqueue(&more).unwrap();
    eventually("the commit is noticed", || daemon.profile(profile.id)["pending"] == 8);
    assert_eq!(server.stats().requests, requests);
    profile.paste_token(&token::for_user("alice")).unwrap();
    let pasted = Instant::now();
    assert!(server.wait_for(|stats| stats.stored == 8, SOON));
    println!("{:?} from the new token to the server", pasted.elapsed());
    assert!(pasted.elapsed() < Duration::from_secs(3));
    assert_delivered(&server, &[ops, more].concat());
}

#[test]
fn a_refused_token_goes_again_only_when_the_slow_retry_comes_however_busy_the_app_is() {
    let (slow, server) = (Duration::from_secs(3), Server::start(Version::Later).unwrap());
    let stage = Stage::with(Generation::Three, &server);
    stage.configure(&retry("100ms", "3s"));
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(5)).unwrap();
    server.always(Fault::Answer(Reply::text(401, "invalid or expired token")));
    let daemon = Daemon::start(&stage);
    assert!(server.wait_for(|stats| stats.requests == 1, SOON));
    let first = Instant::now();
    let (mut commits, mut second) = (0, None);
    eventually("it is tried again", || {
        profile.enqueue(&NewOp::renames(1)).unwrap();
        commits += 1;
        second = (server.stats().requests > 1).then(|| first.elapsed());
        second.is_some()
    });
    let second = second.unwrap_or_default();
    println!("again after {second:?} and {commits} commits");
    // The first request may be seen late on a busy machine, and the wait begins with its answer.
    assert!(second > slow / 2, "again after {second:?}");
    assert!(commits > 10, "{commits} commits");
    daemon.wait_for_state(profile.id, "unauthorized");
}

#[test]
fn a_token_that_looks_long_expired_is_tried_all_the_same() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.configure(&retry("1h", "1h"));
    let profile = stage.profile("Zoë", "alice");
    // Whose clock is wrong the server alone decides: this one takes it.
    profile.paste_token(&token::jwt("alice", token::ISSUER, 1)).unwrap();
    let ops = NewOp::renames(3);
    let accepted: Vec<_> = ops.iter().map(|op| json!({"operation_id": op.operation_id.to_string()})).collect();
    server.always(Fault::Answer(Reply::json(200, &json!({"accepted": accepted}))));
    profile.enqueue(&ops).unwrap();
    let daemon = Daemon::start(&stage);
    eventually("the queue is empty", || profile.pending_count().unwrap() == 0);
    daemon.wait_for_state(profile.id, "idle");
    assert_eq!(server.stats().requests, 1);
}

#[test]
fn a_new_address_ends_the_wait_for_the_old_one() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::new(Generation::Three);
    stage.configure(&retry("1h", "1h"));
    // The discard service: nobody has one any more.
    stage.dir.set_server_url(Some("http://127.0.0.1:9")).unwrap();
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(2)).unwrap();
    let daemon = Daemon::start(&stage);
    daemon.wait_for_state(profile.id, "backing_off");
    stage.dir.set_server_url(Some(&server.url())).unwrap();
    assert!(server.wait_for(|stats| stats.stored == 2, Duration::from_secs(5)), "{}", daemon.log());
}

#[test]
fn a_time_the_server_named_is_kept_even_for_who_asks() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    stage.configure(&retry("100ms", "200ms"));
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&NewOp::renames(5)).unwrap();
    server.always(Fault::Answer(Reply::too_many_requests("120")));
    let daemon = Daemon::start(&stage);
    daemon.wait_for_state(profile.id, "backing_off");
    let requests = server.stats().requests;
    let asked = Instant::now();
    for _ in 0..3 {
        let answer = daemon.ask("drain now");
        assert_eq!(
            (&answer["outcome"], &answer["remaining"], &answer["sent"]),
            (&json!("drained"), &json!(5), &json!(0))
        );
        assert_eq!(answer["error"]["kind"], "server", "{answer}");
    }
    assert!(asked.elapsed() < Duration::from_secs(3));
    assert_eq!(server.stats().requests, requests);
    let status = daemon.profile(profile.id);
    assert!(status["next_attempt_in_s"].as_u64().is_some_and(|seconds| (60..=120).contains(&seconds)), "{status}");
}
