//! A user who never looks is told, on the desktop and seldom: what has been wrong for a day, once, and again after a week.
#![cfg(debug_assertions)]

use std::os::unix::net::UnixListener;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Fault, Reply, Server, Version};
use testkit::token;

use crate::common::bus::{self, Bus, Manner};
use crate::common::clock::Clock;
use crate::common::daemon::{Daemon, PROMPT, eventually, holds_within};
use crate::common::{Stage, assert_delivered};

/// Who waits for a server waits longer than the test; a jump of the clock cuts it, as a sleep does.
const SETTINGS: &str = "[retry]\ninitial = \"1h\"\nmax = \"1h\"\n[drain]\ninterval = \"1s\"\n";
/// A few ticks of a timer of one second: who tells at each has told by then.
const TICKS: Duration = Duration::from_millis(3_500);
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// What the user wrote.
const WRITTEN: &str = "Mes nuits blanches à Odessa, 1987";
/// Behind it, the agent says nothing for others than who looks for a mistake.
const UNTOLD: &str = "the user could not be told";

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
    clock: Clock,
    ops: Vec<NewOp>,
}

impl Case {
    /// A profile with two ops.
    fn new(name: &str) -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        stage.configure(SETTINGS);
        let profile = stage.profile(name, "alice");
        let ops: Vec<_> = (1..=2).map(|id| NewOp::rename(id).payload(&json!({ "value": WRITTEN }))).collect();
        profile.enqueue(&ops).unwrap();
        let clock = Clock::new(&stage);
        Self { server, stage, profile, clock, ops }
    }

    /// The same at a server that refuses the token.
    fn refused() -> Self {
        let case = Self::new("Zoë");
        case.server.always(Fault::Answer(Reply::text(401, "token expired")));
        case
    }

    /// A daemon beside a bus at this address, `later` than now.
    fn daemon(&self, address: &str, later: i64) -> Daemon {
        self.clock.jump(later);
        let mut agent = self.clock.command(&self.stage);
        agent.env("DBUS_SESSION_BUS_ADDRESS", address).args(["--log-level", "debug", "run"]);
        Daemon::start_as(&mut agent, &self.stage.socket())
    }

    fn concern(&self) -> Value {
        self.stage.state()["concern"].clone()
    }

    /// Waits until the agent remembers that the token is refused.
    #[track_caller]
    fn waits_for_the_beginning(&self) {
        self.waits_for_the_beginning_of("refused");
    }

    #[track_caller]
    fn waits_for_the_beginning_of(&self, kind: &str) {
        eventually("it is remembered", || self.concern()[kind][self.profile.id.to_string()].is_i64());
    }

    /// Until the agent remembers that somebody was told.
    #[track_caller]
    fn waits_until_told(&self) {
        eventually("it is remembered that somebody was told", || self.concern()["told"].is_i64());
    }

    /// Something is wrong from now on, and nobody looks for `later`; the daemon of then.
    fn nobody_looks_for(&self, later: i64, bus: &Bus) -> Daemon {
        let mut daemon = self.daemon(bus.address(), 0);
        self.waits_for_the_beginning();
        daemon.stop();
        self.daemon(bus.address(), later)
    }
}

/// Waits a few ticks, in which nobody is told.
#[track_caller]
fn keeps_still(bus: &Bus, why: &str) {
    let before = bus.shown().len();
    assert!(!holds_within(TICKS, || bus.shown().len() > before), "{why}: {:?}", bus.shown());
}

#[test]
fn a_day_of_a_refused_sign_in_is_told_once_and_again_after_a_week_without_a_secret() {
    let case = Case::refused();
    let Some(bus) = Bus::with_desktop(case.stage.home(), Manner::Shows) else { return };
    let mut daemon = case.nobody_looks_for(DAY_MS + HOUR_MS, &bus);
    eventually("somebody is told", || bus.shown().len() == 1);
    case.waits_until_told();
    let shown = &bus.shown()[0];
    let wanted = "The server has refused the sign-in of “Zoë” since yesterday: sign in again from WaveFlow's settings.";
    assert_eq!((shown.title.as_str(), shown.body.as_str()), ("WaveFlow is not syncing", wanted));
    let token = token::for_user("alice");
    for secret in token.split('.').chain([WRITTEN, "blanches", &case.server.url()]) {
        assert!(!shown.whole.contains(secret), "{secret:?} is in {shown:?}");
    }
    keeps_still(&bus, "it was told");
    daemon.kill();
    let mut daemon = case.daemon(bus.address(), 7 * DAY_MS);
    daemon.wait_for_state(case.profile.id, "unauthorized");
    keeps_still(&bus, "it was told six days ago, by an agent that was killed");
    daemon.stop();
    let daemon = case.daemon(bus.address(), 8 * DAY_MS + 2 * HOUR_MS);
    eventually("somebody is told again", || bus.shown().len() == 2);
    assert!(bus.shown()[1].body.contains("for 8 days"), "{:?}", bus.shown());
    keeps_still(&bus, "it was told");
    case.server.clear_faults();
    daemon.ask("drain now");
    assert_delivered(&case.server, &case.ops);
    eventually("it is over", || case.concern()["refused"] == json!({}));
    assert!(case.concern()["told"].is_i64(), "a week is a week");
}

#[test]
fn what_is_held_or_refused_for_a_day_is_told_with_its_numbers_and_a_name_that_is_no_markup() {
    let case = Case::new("<b>Zoë</b> & Co\u{7}");
    let Some(bus) = Bus::with_desktop(case.stage.home(), Manner::Shows) else { return };
    // It takes a few tries to be sure of an op.
    case.stage.configure_more("[drain]\ninterval = \"1s\"\n");
    let mut daemon = case.daemon(bus.address(), 0);
    let refused = NewOp::rename(8).payload_text(r#"{"value":"a\u0000b"}"#);
    case.profile.enqueue(&[refused, NewOp::rename(9)]).unwrap();
    eventually("it is refused", || daemon.profile(case.profile.id)["quarantined"] == 1);
    let older = |id| NewOp::rename(id).created_at(1_000_000);
    case.profile.enqueue(&[older(3), older(4), older(5)]).unwrap();
    eventually("they are held", || daemon.profile(case.profile.id)["held"] == 3);
    ["held", "quarantined"].iter().for_each(|kind| case.waits_for_the_beginning_of(kind));
    daemon.stop();
    let daemon = case.daemon(bus.address(), 2 * DAY_MS + HOUR_MS);
    eventually("somebody is told", || bus.shown().len() == 1);
    let wanted = "3 operations of “&lt;b&gt;Zoë&lt;/b&gt; &amp; Co ” held back and 1 refused by the server for 2 days: \
                  see `waveflow-sync-agent status`.";
    let shown = &bus.shown()[0];
    assert_eq!((shown.title.as_str(), shown.body.as_str()), ("WaveFlow does not sync everything", wanted));
    assert!(daemon.ping() < PROMPT);
    keeps_still(&bus, "it was told");
}

#[test]
fn a_clock_that_jumps_under_the_daemon_tells_nobody_anything() {
    let case = Case::refused();
    let Some(bus) = Bus::with_desktop(case.stage.home(), Manner::Shows) else { return };
    let daemon = case.daemon(bus.address(), 0);
    case.waits_for_the_beginning();
    for offset in [8 * DAY_MS, 365 * DAY_MS, 0, -8 * DAY_MS, 40_000 * DAY_MS, 0] {
        case.clock.jump(offset);
        keeps_still(&bus, "the time did not pass");
    }
    assert!(daemon.ping() < PROMPT);
    assert_eq!(case.concern()["told"], Value::Null);
}

#[test]
fn a_server_that_is_out_of_reach_for_a_while_ends_no_day() {
    let case = Case::refused();
    // Nobody listens there: this is about what is remembered.
    let nowhere = format!("unix:path={}", bus::socket(case.stage.home()).display());
    let mut daemon = case.daemon(&nowhere, 0);
    case.waits_for_the_beginning();
    let began = case.concern();
    case.server.clear_faults();
    case.server.always(Fault::Answer(Reply::proxy(502)));
    daemon.ask("drain now");
    daemon.wait_for_state(case.profile.id, "backing_off");
    assert!(!holds_within(TICKS, || case.concern() != began), "{began} became {}", case.concern());
    daemon.stop();
}

#[test]
fn switched_off_nobody_is_told_and_a_day_begins_when_it_is_switched_on() {
    let case = Case::refused();
    let Some(bus) = Bus::with_desktop(case.stage.home(), Manner::Shows) else { return };
    let mut daemon = case.daemon(bus.address(), 0);
    case.waits_for_the_beginning();
    daemon.stop();
    case.stage.configure(&format!("{SETTINGS}[notify]\ndesktop = false\n"));
    let daemon = case.daemon(bus.address(), 2 * DAY_MS);
    daemon.wait_for_state(case.profile.id, "unauthorized");
    keeps_still(&bus, "nobody wants to be told");
    assert_eq!(case.concern(), json!({"refused": {}, "held": {}, "quarantined": {}, "told": null}));
    case.stage.configure(SETTINGS);
    assert_eq!(daemon.ask("reload")["error"], Value::Null);
    case.waits_for_the_beginning();
    keeps_still(&bus, "a day has not passed");
}

#[test]
fn without_a_bus_or_a_desktop_on_it_nothing_is_said_above_debug_and_somebody_is_told_when_there_is_one() {
    let case = Case::refused();
    let nowhere = format!("unix:path={}", bus::socket(case.stage.home()).display());
    case.clock.jump(0);
    let mut daemon = case.daemon(&nowhere, 0);
    case.waits_for_the_beginning();
    daemon.stop();
    let tries_once_in_silence = |address: &str| {
        let mut daemon = case.daemon(address, DAY_MS + HOUR_MS);
        eventually("it was tried", || daemon.log().contains(UNTOLD));
        assert!(!holds_within(TICKS, || daemon.log().matches(UNTOLD).count() > 1), "{}", daemon.log());
        daemon.stop();
        let log = daemon.log();
        let is_loud =
            |line: &&str| !line.contains("DEBUG") && ["told", "bus", "otif"].iter().any(|it| line.contains(it));
        assert_eq!(log.lines().find(is_loud), None);
        assert!(!log.contains("ERROR"), "{log}");
        assert_eq!(case.concern()["told"], Value::Null, "nobody was told");
    };
    tries_once_in_silence(&nowhere);
    let Some(mut bus) = Bus::start(case.stage.home()) else { return };
    tries_once_in_silence(bus.address());
    bus.come(Manner::Shows);
    let _daemon = case.daemon(bus.address(), DAY_MS + HOUR_MS);
    eventually("somebody is told", || bus.shown().len() == 1);
    case.waits_until_told();
}

#[test]
fn a_desktop_that_cannot_show_it_is_asked_once_in_an_hour() {
    let case = Case::refused();
    let Some(bus) = Bus::with_desktop(case.stage.home(), Manner::Refuses) else { return };
    let daemon = case.nobody_looks_for(DAY_MS + HOUR_MS, &bus);
    eventually("it is asked", || bus.shown().len() == 1);
    eventually("that is said", || daemon.log().contains(UNTOLD));
    keeps_still(&bus, "it was asked");
    assert_eq!(case.concern()["told"], Value::Null);
}

#[test]
fn a_bus_that_never_answers_keeps_nobody_waiting() {
    let case = Case::refused();
    let socket = bus::socket(case.stage.home());
    let address = format!("unix:path={}", socket.display());
    let mut daemon = case.daemon(&address, 0);
    case.waits_for_the_beginning();
    daemon.stop();
    let deaf = UnixListener::bind(&socket).unwrap();
    let mut daemon = case.daemon(&address, DAY_MS + HOUR_MS);
    deaf.set_nonblocking(false).unwrap();
    let called = deaf.accept().unwrap();
    assert!(daemon.ping() < PROMPT);
    case.server.clear_faults();
    daemon.ask("drain now");
    assert_delivered(&case.server, &case.ops);
    eventually("it is given up", || daemon.log().contains("did not answer within 5 s"));
    drop(called);
    daemon.stop();
}
