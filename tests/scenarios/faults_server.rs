//! Servers, and ways to them, that never come to an end: each costs the daemon a bounded time and a bounded memory, its
//! socket answers meanwhile, nothing leaves the queue for it, and everything is delivered once they behave.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Fault, Leaf, Server, Version};

use crate::common::daemon::{Daemon, PROMPT, SOON, eventually, holds_within};
use crate::common::{Stage, assert_delivered, sendings};

/// Ops in the queue: one batch, of some 60 kB.
const OPS: u64 = 200;
/// Tries that are watched.
const TRIES: u64 = 4;
/// What they may cost in memory, in kB. An answer is read up to 64 kB and eight times the request.
const MORE_KB: u64 = 4_000;
/// For a request, and for connecting.
const PATIENCE: &str = "[server]\nrequest_timeout = \"1s\"\nconnect_timeout = \"1s\"\n";

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
    daemon: Daemon,
    ops: Vec<NewOp>,
}

impl Case {
    fn new() -> Self {
        Self::of(Server::start(Version::Later).unwrap())
    }

    /// A server, and a daemon that has delivered to it, so that what it takes to do so is not counted.
    fn of(server: Server) -> Self {
        let stage = Stage::with(Generation::Three, &server);
        let trusted = if server.ca_pem().is_some() { "ca_file = \"ca.pem\"\n" } else { "" };
        stage.configure_more(&format!("{PATIENCE}{trusted}"));
        fs::write(stage.config_path().with_file_name("ca.pem"), server.ca_pem().unwrap_or_default()).unwrap();
        let profile = stage.profile("Zoë", "alice");
        let ops = NewOp::renames(OPS);
        let daemon = Daemon::start(&stage);
        profile.enqueue(&ops).unwrap();
        eventually("the way is known", || profile.pending_count().unwrap() == 0);
        Self { server, stage, profile, daemon, ops }
    }

    /// The most memory it ever had, in kB.
    fn peak(&self) -> u64 {
        self.daemon.number("status", "VmHWM")
    }

    /// Queues as many ops again and waits until `tries` has counted a few in vain; fails unless they were cheap, the
    /// socket answered meanwhile, the trouble is of `kind`, its words hold `words`, and nothing left the queue.
    #[track_caller]
    fn bears(&mut self, what: &str, kind: &str, words: &str, tries: impl Fn(&Self) -> u64) {
        let (peak, before, began) = (self.peak(), tries(self), Instant::now());
        let more = NewOp::renames(OPS);
        self.profile.enqueue(&more).unwrap();
        self.ops.extend(more);
        let mut slowest = Duration::ZERO;
        eventually("it is tried a few times", || {
            slowest = slowest.max(self.daemon.ping());
            tries(self) >= before + TRIES
        });
        // The system counts in steps of its own, and may have counted too many before.
        let (cost, took) = (self.peak().saturating_sub(peak), began.elapsed());
        println!("{what}: {TRIES} tries in {took:?}, {cost} kB more, the slowest ping {slowest:?}");
        assert!(cost < MORE_KB, "{cost} kB");
        assert!(slowest < PROMPT, "{slowest:?}");
        self.daemon.wait_for_state(self.profile.id, "backing_off");
        let error = self.daemon.profile(self.profile.id)["last_error"].clone();
        assert_eq!(error["kind"], kind, "{error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        assert_eq!(self.profile.pending_count().unwrap(), self.ops.len() / 2, "something left the queue");
        assert!(self.stage.quarantined().is_empty());
    }

    /// Meets `fault` a few times, and the real server then.
    #[track_caller]
    fn outlives(mut self, fault: Fault, kind: &str, words: &str) {
        let what = format!("{fault:?}");
        self.server.always(fault);
        self.bears(&what, kind, words, |case| case.server.stats().requests);
        self.server.clear_faults();
        self.is_delivered();
    }

    #[track_caller]
    fn is_delivered(&self) {
        eventually("the queue is empty", || self.profile.pending_count().unwrap() == 0);
        assert_delivered(&self.server, &self.ops);
        assert_eq!(self.server.stored().len(), self.ops.len(), "something was stored twice");
        self.daemon.wait_for_state(self.profile.id, "idle");
    }
}

#[test]
fn a_server_that_sends_headers_for_ever_is_left_and_everything_is_delivered_later() {
    Case::new().outlives(Fault::EndlessHeaders, "not_the_server", "its head is too long");
}

#[test]
fn an_unbounded_body_is_left_and_everything_is_delivered_later() {
    Case::new().outlives(Fault::EndlessBody, "not_the_server", "an answer of more than");
}

#[test]
fn ten_thousand_header_lines_are_not_read_and_everything_is_delivered_later() {
    Case::new().outlives(Fault::ManyHeaders(10_000), "not_the_server", "its head is too long");
}

#[test]
fn a_slow_loris_reply_is_left_when_the_time_is_over_and_everything_is_delivered_later() {
    Case::new().outlives(Fault::Trickle(Duration::from_millis(100)), "timeout", "no answer within");
}

#[test]
fn a_server_that_never_answers_is_left_when_the_time_is_over_and_everything_is_delivered_later() {
    Case::new().outlives(Fault::Silence, "timeout", "no answer within");
}

/// Where a server over TLS should be: takes every connection and never comes to the end of a greeting.
struct Greeter {
    address: SocketAddr,
    count: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Between two bytes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Greeter {
    /// `talks`: it says a byte now and then of a greeting that is as long as one can be; else nothing at all.
    fn at(address: SocketAddr, talks: bool) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (count, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, ends) = (Arc::clone(&count), Arc::clone(&over));
        let thread = thread::spawn(move || {
            let mut clients: Vec<TcpStream> = Vec::new();
            while !ends.load(Ordering::SeqCst) {
                if let Ok((mut client, _)) = listener.accept() {
                    counted.fetch_add(1, Ordering::SeqCst);
                    if talks {
                        // A handshake record of 16 kB, in which a ServerHello of nearly as much begins.
                        let _ = client.write_all(&[22, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc, 3, 3]);
                    }
                    clients.push(client);
                }
                // Who has gone is not written to any more.
                clients.retain_mut(|client| !talks || client.write_all(&[0]).is_ok());
                thread::sleep(LOOK_EVERY);
            }
        });
        Self { address, count, over, thread: Some(thread) }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
        // Nobody listens there any more.
        assert!(TcpStream::connect(self.address).is_err() || thread::panicking());
    }
}

#[test]
fn a_tls_handshake_that_never_ends_is_left_when_the_time_is_over_and_everything_is_delivered_later() {
    for talks in [false, true] {
        let mut case = Case::of(Server::builder(Version::Later).tls(Leaf::Good).start().unwrap());
        case.server.go_down();
        let greeter = Greeter::at(case.server.address(), talks);
        let what = if talks { "a greeting byte by byte" } else { "no greeting at all" };
        case.bears(what, "timeout", "no connection within", |_| greeter.count());
        drop(greeter);
        case.server.come_back().unwrap();
        case.is_delivered();
        assert_eq!(sendings(&case.server, &case.ops), vec![1; case.ops.len()], "a request came through");
    }
}

#[test]
fn an_uplink_of_30_kilobytes_a_second_gets_batches_that_pass_in_time_and_everything_is_delivered() {
    /// Bytes a second.
    const UPLINK: usize = 30_000;
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    // In small: a batch of 128 KiB takes four times as long as a request may, as one of 1 MiB does where it may take 9 s.
    stage.configure_more(&format!("{PATIENCE}[drain]\nbatch_bytes = \"128KiB\"\n"));
    let profile = stage.profile("Zoë", "alice");
    server.always(Fault::ReadSlowly(UPLINK));
    let name = "é".repeat(250);
    let ops: Vec<_> = (0..300).map(|n| NewOp::rename(n).payload(&serde_json::json!({ "value": name }))).collect();
    let daemon = Daemon::start(&stage);
    let began = Instant::now();
    profile.enqueue(&ops).unwrap();
    let mut slowest = Duration::ZERO;
    assert!(
        holds_within(SOON * 2, || {
            slowest = slowest.max(daemon.ping());
            profile.pending_count().unwrap() == 0
        }),
        "{} stored; {}",
        server.stored().len(),
        daemon.log()
    );
    assert_delivered(&server, &ops);
    assert_eq!(server.stored().len(), ops.len(), "something was stored twice");
    let stats = server.stats();
    let accepted = stats.exchanges.iter().filter(|exchange| exchange.stored > 0);
    let largest = accepted.map(|exchange| exchange.request.body_bytes).max().unwrap();
    println!(
        "{} ops in {:?}, {} requests, the largest that passed {largest} bytes",
        ops.len(),
        began.elapsed(),
        stats.requests
    );
    assert!(largest <= UPLINK, "{largest} bytes in a second");
    assert!(slowest < PROMPT, "{slowest:?}");
    daemon.wait_for_state(profile.id, "idle");
}
