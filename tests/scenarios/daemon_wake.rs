//! The socket's `wake`, where nothing else tells of a commit: the file watch is off and the timer an hour away.
//!
//! What must always hold: the op is at the server long before the timer; nobody who sits in the seats keeps a `wake` out.

use std::time::{Duration, Instant};

use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Server, Version};

use crate::common::Stage;
use crate::common::daemon::{Client, Daemon, SOON, eventually, holds_within};

/// Nothing else than `wake` tells of a commit.
const UNWATCHED: &str = "[drain]\ninterval = \"1h\"\n[watch]\nmode = \"off\"\n";
/// A pass that is wanted is over by then.
const A_WHILE: Duration = Duration::from_millis(400);
/// Seats, as the agent has them.
const SEATS: usize = 32;

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
    daemon: Daemon,
}

impl Case {
    fn new() -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        stage.configure_more(UNWATCHED);
        let profile = stage.profile("Zoë", "alice");
        let daemon = Daemon::start(&stage);
        eventually("the first pass is over", || daemon.profile(profile.id)["last_success"].is_string());
        daemon.wait_until_quiet();
        Self { server, stage, profile, daemon }
    }

    /// Whoever sat down first, until all seats are taken.
    fn fill_the_seats(&self) -> Vec<Client> {
        let sitting: Vec<Client> = (0..SEATS).map(|_| self.daemon.client()).collect();
        let full = || self.daemon.client().ask("ping").is_none_or(|answer| answer["error"]["code"] == "busy");
        eventually("all seats are taken", full);
        sitting
    }
}

#[test]
fn a_wake_whose_sender_is_gone_is_heard() {
    let case = Case::new();
    for number in 1..=20 {
        case.profile.enqueue(&[NewOp::rename(number)]).unwrap();
        let mut client = case.daemon.client();
        client.write(&format!("wake {}\n", case.profile.id)).unwrap();
        drop(client);
        let stored = usize::try_from(number).unwrap();
        assert!(case.server.wait_for(|stats| stats.stored >= stored, SOON), "{}", case.daemon.log());
    }
}

#[test]
fn a_wake_counts_once_whether_or_not_its_sender_stays_for_the_answer() {
    let case = Case::new();
    let counted = || -> u64 {
        let answer = case.daemon.ask("metrics");
        let mut lines = answer["metrics"].as_str().unwrap().lines();
        lines
            .find_map(|line| line.strip_prefix("waveflow_sync_wakeups_total{trigger=\"hook\"} ")?.parse().ok())
            .unwrap()
    };
    for _ in 0..10 {
        case.daemon.client().write("wake\n").unwrap();
    }
    // Let in one after the other, so what is said now is heard behind all of them.
    assert_eq!(case.daemon.ask("wake")["woken"], true);
    eventually("all are counted", || counted() >= 11);
    case.daemon.wait_until_quiet();
    assert_eq!(counted(), 11);
}

#[test]
fn a_wake_is_heard_where_every_seat_is_taken() {
    let case = Case::new();
    let sitting = case.fill_the_seats();
    for number in 1..=5 {
        case.profile.enqueue(&[NewOp::rename(number)]).unwrap();
        assert_eq!(case.daemon.client().say_and_listen("wake\n").trim_end(), r#"{"woken":true}"#);
        let stored = usize::try_from(number).unwrap();
        assert!(case.server.wait_for(|stats| stats.stored >= stored, SOON), "{}", case.daemon.log());
    }
    drop(sitting);
}

#[test]
fn a_waker_who_stays_needs_a_seat() {
    let case = Case::new();
    let sitting = case.fill_the_seats();
    let mut staying = case.daemon.client();
    let began = Instant::now();
    let mut busy = None;
    while busy.is_none() && began.elapsed() < SOON {
        match staying.ask("wake") {
            Some(answer) if answer["woken"] == true => {}
            other => busy = Some(other),
        }
    }
    let busy = busy.expect("it ends");
    println!("a seat was needed after {:?}", began.elapsed());
    let busy = busy.expect("with words");
    assert_eq!(busy["error"]["code"], "busy", "{busy}");
    drop(sitting);
    eventually("there is room again", || case.daemon.client().ask("ping").is_some_and(|answer| answer["pong"] == true));
}

#[test]
fn silent_clients_in_any_number_keep_a_wake_out_for_a_moment_only() {
    let case = Case::new();
    let silent: Vec<Client> = (0..300).map(|_| case.daemon.client()).collect();
    case.profile.enqueue(&[NewOp::rename(1)]).unwrap();
    let began = Instant::now();
    let mut waker = case.daemon.client();
    waker.write("wake\n").unwrap();
    drop(waker);
    assert!(case.server.wait_for(|stats| stats.stored == 1, SOON), "{}", case.daemon.log());
    println!("behind 300 silent clients: {:?}", began.elapsed());
    drop(silent);
}

#[test]
fn a_wake_for_a_profile_that_was_made_this_moment_is_heard() {
    let case = Case::new();
    let newcomer = case.stage.profile("Ann", "alice");
    newcomer.enqueue(&[NewOp::rename(1)]).unwrap();
    assert_eq!(case.daemon.ask(&format!("wake {}", newcomer.id))["woken"], true);
    assert!(case.server.wait_for(|stats| stats.stored == 1, SOON), "{}", case.daemon.log());
    let another = case.stage.profile("Bob", "alice");
    another.enqueue(&[NewOp::rename(2)]).unwrap();
    assert_eq!(case.daemon.ask("wake")["woken"], true);
    assert!(case.server.wait_for(|stats| stats.stored == 2, SOON), "{}", case.daemon.log());
    assert_eq!(case.daemon.ask("wake 99")["error"]["code"], "unknown_profile");
}

#[test]
fn nothing_is_sent_where_nobody_wakes() {
    let case = Case::new();
    case.profile.enqueue(&[NewOp::rename(1)]).unwrap();
    let sent = holds_within(A_WHILE, || case.server.stats().stored > 0);
    assert!(!sent, "something else than the socket woke it: the other scenarios here show nothing");
}
