//! A wall clock that jumps by years in either direction under a running daemon: nothing is lost, nobody waits for years,
//! nothing goes wild, and what the jump leaves in doubt is listed by name.
#![cfg(debug_assertions)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Fault, Hlc, Reply, Server, Version};
use testkit::time;

use crate::common::clock::Clock;
use crate::common::daemon::{Daemon, PROMPT, SOON, eventually, holds_within};
use crate::common::{DEVICE, Stage, applied, assert_delivered, sendings};

const YEAR_MS: i64 = 31_557_600_000;
/// A few ticks of a timer of one second: who does something at each has done it by then.
const TICKS: Duration = Duration::from_millis(2_500);

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
    clock: Clock,
    daemon: Daemon,
}

impl Case {
    fn new(settings: &str) -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        stage.configure(settings);
        let profile = stage.profile("Zoë", "alice");
        let clock = Clock::new(&stage);
        let daemon = Daemon::start_as(clock.command(&stage).arg("run"), &stage.socket());
        Self { server, stage, profile, clock, daemon }
    }

    fn requests(&self) -> u64 {
        self.server.stats().requests
    }

    /// Waits a few ticks, in which nothing is to be sent.
    #[track_caller]
    fn keeps_still(&self, why: &str) {
        let before = self.requests();
        assert!(!holds_within(TICKS, || self.requests() > before), "{why}\n{}", self.daemon.log());
    }

    /// Fails unless the next try is within the hour.
    #[track_caller]
    fn waits_an_hour_at_the_most(&self) {
        let status = self.daemon.profile(self.profile.id);
        assert!(status["next_attempt_in_s"].as_u64().is_some_and(|seconds| seconds <= 3_601), "{status}");
    }
}

/// Queues ops as an app whose clock says `now`, the first of them under a pair that is taken, so that the agent has to
/// draw fresh ones by its own clock.
fn enqueue_at(case: &Case, now: i64) -> Vec<NewOp> {
    let ops: Vec<_> = NewOp::renames(4).into_iter().map(|op| op.created_at(now)).collect();
    case.daemon.ask("pause");
    case.profile.enqueue(&ops).unwrap();
    let row =
        case.profile.pending().unwrap().into_iter().find(|row| row.operation_id == ops[0].operation_id.to_string());
    let (wall, logical) = row.unwrap().pair.unwrap();
    let logical = i32::try_from(logical).unwrap();
    case.server.model(|model| model.take_pairs("alice", DEVICE, [Hlc { wall, logical }]));
    case.daemon.ask("resume");
    ops
}

/// Lets go by name of what is held because it seems to be older than the sign-in.
#[track_caller]
fn let_go(case: &Case, ops: &[NewOp]) {
    eventually("all of them are held", || case.daemon.profile(case.profile.id)["held"] == json!(ops.len()));
    let listed = case.daemon.ask("queue list");
    let names = |op: &NewOp| {
        let is_it = |line: &serde_json::Value| line["operation_id"] == op.operation_id.to_string().as_str();
        listed["ops"].as_array().unwrap().iter().any(|line| is_it(line) && line["state"] == "held")
    };
    assert!(ops.iter().all(names), "{listed}");
    for op in ops {
        assert_eq!(case.daemon.ask(&format!("queue retry {}", op.operation_id)), json!({"retried": 1}));
    }
}

#[test]
fn a_wall_clock_that_jumps_by_years_in_either_direction_loses_nothing_and_lists_what_it_leaves_in_doubt() {
    let case = Case::new("[retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n[drain]\ninterval = \"1s\"\n");
    // One that no server takes is tried again each day.
    let refused = vec![NewOp::rename(9).payload_text(r#"{"value":"a\u0000b"}"#)];
    case.profile.enqueue(&NewOp::renames(1)).unwrap();
    case.profile.enqueue(&refused).unwrap();
    case.profile.enqueue(&NewOp::renames(1)).unwrap();
    let key = refused[0].operation_id.to_string();
    eventually("it is in quarantine", || case.stage.quarantined().contains(&key));
    let signed_in = time::now_ms();
    let (mut all, mut pair) = (Vec::new(), (0, 0));
    let epoch = -time::now_ms() + 60_000;
    for offset in [75 * YEAR_MS, epoch, 0, -100 * YEAR_MS, 200 * YEAR_MS, 0] {
        let tried = sendings(&case.server, &refused)[0];
        let now = case.clock.jump(offset);
        let ops = enqueue_at(&case, now);
        if now < signed_in {
            let_go(&case, &ops);
        }
        let arrived = holds_within(SOON, || applied(&case.server, &ops).len() == ops.len());
        assert!(arrived, "at {now}: {}\n{}", case.daemon.ask("status"), case.daemon.log());
        case.daemon.wait_for_state(case.profile.id, "idle");
        let drawn = case.profile.open().unwrap().last_pair().unwrap().unwrap();
        assert!(drawn > pair && drawn.0 < 1 << 53, "at {now}: {drawn:?} after {pair:?}");
        assert!(offset < 0 || drawn.0 >= now, "{drawn:?} is not by the clock, which says {now}");
        pair = drawn;
        let again = sendings(&case.server, &refused)[0] - tried;
        println!("at {now}: pair {drawn:?}, the refused one was tried {again} times");
        assert_eq!(again, 1, "the daily try");
        assert!(case.daemon.ping() < PROMPT);
        all.extend(ops);
    }
    let in_order: Vec<_> = applied(&case.server, &all).iter().map(|row| row.operation_id).collect();
    assert_eq!(in_order, all.iter().map(|op| op.operation_id).collect::<Vec<_>>());
    assert!(case.stage.quarantined().contains(&key), "the server never took it");
    let status = case.daemon.profile(case.profile.id);
    assert_eq!(
        (&status["pending"], &status["held"], &status["quarantined"]),
        (&json!(0), &json!(0), &json!(1)),
        "{status}"
    );
}

#[test]
fn a_wall_clock_that_jumps_by_years_wakes_a_waiting_daemon_once_and_makes_nobody_wait_for_years() {
    let case = Case::new("[retry]\ninitial = \"1h\"\nmax = \"1h\"\n[drain]\ninterval = \"1s\"\n");
    case.server.always(Fault::Answer(Reply::proxy(502)));
    let ops = NewOp::renames(4);
    case.profile.enqueue(&ops).unwrap();
    case.daemon.wait_for_state(case.profile.id, "backing_off");
    case.waits_an_hour_at_the_most();
    for (offset, wakes) in [(75 * YEAR_MS, true), (0, false), (-55 * YEAR_MS, false), (200 * YEAR_MS, true)] {
        let before = case.requests();
        case.clock.jump(offset);
        if wakes {
            // It looks as if the machine had slept: one try, as after a sleep.
            assert!(case.server.wait_for(|stats| stats.requests > before, SOON), "{}", case.daemon.log());
        }
        case.keeps_still("one try is all that a jump is good for");
        assert_eq!(case.requests(), before + u64::from(wakes));
        case.daemon.wait_for_state(case.profile.id, "backing_off");
        case.waits_an_hour_at_the_most();
    }
    case.server.clear_faults();
    case.clock.jump(0);
    assert_eq!(case.daemon.ask("drain now")["sent"], 4);
    assert_delivered(&case.server, &ops);
}

#[test]
fn a_date_to_come_again_read_by_a_wall_clock_years_off_is_no_wait_for_years_and_no_leave_to_hammer() {
    let case = Case::new("[retry]\ninitial = \"200ms\"\nmax = \"400ms\"\n[drain]\ninterval = \"1h\"\n");
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    case.clock.jump(75 * YEAR_MS);
    case.server.always(Fault::Answer(Reply::too_many_requests(&date)));
    let ops = NewOp::renames(4);
    case.profile.enqueue(&ops).unwrap();
    case.daemon.wait_for_state(case.profile.id, "backing_off");
    let before = case.requests();
    holds_within(TICKS, || false);
    let tries = case.requests() - before;
    println!("{tries} tries in {TICKS:?} where the date to come again was long ago");
    // Waits are drawn evenly from 0 to 400 ms: a dozen is usual.
    assert!((2..60).contains(&tries), "{tries} tries in {TICKS:?}");
    case.clock.jump(-(i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()));
    let far = |status: &serde_json::Value| status["next_attempt_in_s"].as_u64().is_some_and(|seconds| seconds > 3_000);
    eventually("it believes an hour", || far(&case.daemon.profile(case.profile.id)));
    case.waits_an_hour_at_the_most();
    case.server.clear_faults();
    case.daemon.ask("reload");
    assert!(case.server.wait_for(|stats| stats.stored == 4, SOON), "{}", case.daemon.log());
    assert_delivered(&case.server, &ops);
}
