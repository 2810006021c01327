//! The pass against a made-up queue and server: each row of the verdict table, and each promise about order.

mod edges;
mod world;

use std::time::Duration;

use super::action::*;
use super::memory::{Memory, UPLINK_MIN};
use super::run::Run;
use crate::op::*;
use world::{OP_BYTES, Server, Table, World, status};

fn failed(message: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Failed, message: message.into() }
}

#[test]
fn a_queue_is_delivered_in_order_and_leaves_nothing() {
    let mut world = World::new(Table::with(95));
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.remaining, outcome.error, outcome.next), (95, 0, None, Next::WhenWoken));
    world.assert_stored(95, &[]);
    assert!(world.table.rows.is_empty());
    assert_eq!(world.server.requests, 10);
}

#[test]
fn the_next_batch_is_read_while_one_is_on_the_wire() {
    let mut world = World::new(Table::with(30));
    let mut reads_at_first_reply = None;
    let mut pass = super::Pass::new(world.rules, world.memory.clone(), world.uplink.clone());
    let mut reads = 0;
    let mut sending = false;
    for _ in 0..100 {
        match pass.next(world.now) {
            Some(Action::Store(Request::Read(_))) => reads += 1,
            Some(Action::Send(_)) => sending = true,
            Some(Action::Finish(_)) => break,
            None if sending => {
                reads_at_first_reply = Some(reads);
                break;
            }
            _ => {}
        }
        if reads == 1 && !sending {
            let rows =
                Rows { batch: Batch { ops: vec![op(1)], body: bytes::Bytes::new() }, cursor: 1, ..Rows::default() };
            pass.on(Event::Stored(Ok(Answer::Rows(rows))), world.now);
        } else if reads == 0 {
            let snapshot = Snapshot { newest: Some(30), ..world.table.snapshot.clone() };
            pass.on(Event::Stored(Ok(Answer::Begun(snapshot))), world.now);
        }
    }
    assert_eq!(reads_at_first_reply, Some(2));
    world.now += Duration::ZERO;
}

fn op(id: i64) -> Op {
    Op {
        id,
        operation_id: OperationId::new("x"),
        stamp: id,
        pair: None,
        doomed: false,
        follows: false,
        bytes: 1,
        queued_at: 0,
    }
}

#[test]
fn an_empty_queue_sends_nothing_and_a_missing_device_id_is_made_only_for_ops() {
    let mut world = World::new(Table::with(0));
    world.table.snapshot.device = None;
    assert_eq!(world.pass().unwrap().sent, 0);
    assert!(!world.table.log.contains(&Request::EnsureDevice));
    world.table.add(1, 1);
    assert_eq!(world.pass().unwrap().sent, 1);
    assert!(world.table.log.contains(&Request::EnsureDevice));
}

#[test]
fn a_shut_gate_sends_nothing() {
    let mut world = World::new(Table::with(3));
    world.table.snapshot.token = false;
    assert_eq!(world.pass().unwrap().skipped, Some(Reason::SignedOut));
    assert_eq!((world.server.requests, world.table.rows.len()), (0, 3));
}

#[test]
fn nothing_leaves_the_queue_that_the_server_did_not_name() {
    let named = |count: usize| {
        move |_: usize, ops: &[Op]| {
            Some(Reply::Accepted(ops.iter().take(count).filter_map(|op| op.operation_id.uuid()).collect()))
        }
    };
    for (count, kind) in [(0, ErrorKind::NotTheServer), (3, ErrorKind::Server)] {
        let mut world = World::new(Table::with(5));
        world.server.front = Some(Box::new(named(count)));
        let outcome = world.pass().unwrap();
        assert_eq!((outcome.sent, outcome.remaining), (count as u64, 5 - count as u64));
        assert_eq!(outcome.error.unwrap().kind, kind);
        assert_eq!(outcome.next, Next::BackOff);
        assert!(world.table.rows.values().all(|row| row.words.is_some()), "the missing ones are marked");
    }
}

#[test]
fn what_is_no_waveflow_server_takes_nothing() {
    let answers = [(200, Next::BackOff), (302, Next::BackOff), (404, Next::Slow), (204, Next::Slow), (405, Next::Slow)];
    for (code, next) in answers {
        let mut world = World::new(Table::with(25));
        world.server.front = Some(Box::new(move |_, _| Some(status(code, "an HTML page"))));
        let outcome = world.pass().unwrap();
        assert_eq!((outcome.sent, outcome.remaining, outcome.next), (0, 25, next));
        assert_eq!(outcome.error.unwrap().kind, ErrorKind::NotTheServer);
        assert!(world.table.quarantined.is_empty());
        assert_eq!(world.server.requests, 1);
    }
}

#[test]
fn something_that_refuses_everything_is_no_server_and_quarantines_nothing() {
    for code in [400, 413, 415, 422] {
        let mut world = World::new(Table::with(25));
        world.server.front = Some(Box::new(move |_, _| Some(status(code, "no"))));
        let outcome = world.pass().unwrap();
        assert_eq!((outcome.sent, outcome.remaining), (0, 25));
        assert_eq!(outcome.error.unwrap().kind, ErrorKind::NotTheServer);
        assert!(world.table.quarantined.is_empty());
        assert!(world.server.requests <= 6, "halving 10 takes 4, then the empty batch: {}", world.server.requests);
    }
}

#[test]
fn a_refused_op_is_quarantined_with_proof_and_the_rest_goes_on_in_order() {
    for refused in [vec![1], vec![17], vec![25], vec![3, 4, 5], vec![1, 10, 11, 25]] {
        let mut world = World::new(Table::with(25));
        world.server.refused = refused.iter().map(|id| world.uuid(*id)).collect();
        let outcome = world.pass().unwrap();
        assert_eq!((outcome.remaining, outcome.quarantined, outcome.error), (0, refused.len() as u64, None));
        assert_eq!(world.table.quarantined.keys().copied().collect::<Vec<_>>(), refused);
        assert!(world.table.quarantined.values().all(|words| words == "422: no such thing"));
        world.assert_stored(25, &refused);
    }
}

#[test]
fn a_refusal_that_does_not_repeat_quarantines_nothing() {
    let mut world = World::new(Table::with(25));
    world.server.front = Some(Box::new(|number, _| {
        (number < 5).then(|| if number == 4 { Reply::Accepted(vec![]) } else { status(400, "hiccup") })
    }));
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.quarantined, outcome.error), (25, 0, None));
    world.assert_stored(25, &[]);
}

#[test]
fn a_taken_stamp_is_observed_and_everything_behind_is_stamped_anew_in_order() {
    let mut world = World::new(Table::with(30));
    world.server.stamps = (1..=50).collect();
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.remaining, outcome.error), (30, 0, None));
    world.assert_stored(30, &[]);
    assert!(world.server.stored.values().all(|stamp| *stamp > 50));
    assert_eq!(world.table.clock, *world.server.stamps.last().unwrap(), "the clock is at the highest");
}

#[test]
fn killed_between_any_two_writes_of_a_restamp_order_and_ops_are_kept() {
    let mut deaths = 0;
    for end_at in 0..200 {
        let mut world = World::new(Table::with(30));
        world.server.stamps = (5..=50).collect();
        world.table.end_at = Some(end_at);
        if world.pass().is_none() {
            deaths += 1;
        }
        world.table.end_at = None;
        world.memory = Memory::default();
        // The app goes on meanwhile.
        let next = world.table.clock + 1;
        world.table.add(31, next);
        world.drain(5);
        world.assert_stored(31, &[]);
    }
    assert!(deaths > 20, "{deaths}");
}

#[test]
fn a_maximum_beyond_2_31_is_not_believed_and_the_queue_does_not_jam() {
    for count in [1, 2, 30] {
        let mut world = World::new(Table::with(count));
        world.server.stamps = (1..=5_000).collect();
        world.server.told_max = Some(i64::MAX);
        world.drain(10);
        world.assert_stored(count, &[]);
        assert!(world.table.clock < 1 << 20, "{}", world.table.clock);
    }
}

#[test]
fn the_third_conflict_without_progress_backs_off() {
    let mut world = World::new(Table::with(5));
    world.server.front = Some(Box::new(|_, ops| {
        Some(Reply::Regression { device_id: "dev".into(), stored_max: ops[0].stamp, offending: ops[0].stamp })
    }));
    let outcome = world.pass().unwrap();
    assert_eq!(outcome.error.unwrap().kind, ErrorKind::Clock);
    assert_eq!((world.server.requests, outcome.next), (3, Next::LocalBackOff));
    world.server.front = None;
    world.drain(1);
    world.assert_stored(5, &[]);
}

#[test]
fn a_conflict_about_another_device_leaves_the_clock_alone() {
    let mut world = World::new(Table::with(5));
    world.server.front =
        Some(Box::new(|_, _| Some(Reply::Regression { device_id: "else".into(), stored_max: 999, offending: 1 })));
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.next, world.table.clock), (0, Next::BackOff, 5));
    assert!(world.table.rows.values().all(|row| row.words.is_some()));
}

#[test]
fn stamps_that_fall_within_the_queue_are_mended_before_they_are_sent() {
    let mut world = World::new(Table::with(0));
    for (id, stamp) in [(1, 100), (2, 101), (3, 5), (4, 6), (5, STAMP_LIMIT + 7)] {
        world.table.add(id, stamp);
    }
    world.table.clock = 6;
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.error), (5, None));
    world.assert_stored(5, &[]);
    assert!(world.server.stored.values().all(|stamp| *stamp < STAMP_LIMIT));
}

#[test]
fn a_refused_token_touches_no_row_and_waits_for_another() {
    for code in [401, 403] {
        let mut world = World::new(Table::with(25));
        world.server.front = Some(Box::new(move |_, _| Some(status(code, ""))));
        let outcome = world.pass().unwrap();
        assert_eq!((outcome.next, outcome.remaining), (Next::NewToken, 25));
        assert_eq!(outcome.error.unwrap().kind, ErrorKind::Unauthorized);
        assert!(world.table.rows.values().all(|row| row.words.is_none()));
    }
}

#[test]
fn a_broken_server_is_not_blamed_on_an_op() {
    let mut world = World::new(Table::with(50));
    world.server.front = Some(Box::new(|_, _| Some(status(500, "insert failed"))));
    let mut requests = Vec::new();
    for _ in 0..10 {
        let before = world.server.requests;
        let outcome = world.pass().unwrap();
        assert_eq!((outcome.next, outcome.remaining), (Next::LocalBackOff, 50));
        requests.push(world.server.requests - before);
        world.now += Duration::from_secs(20);
    }
    assert!(world.table.quarantined.is_empty());
    assert_eq!(requests[..2], [1, 1], "the first two are only waited for");
    assert!(requests[2] > 4 && requests[2] <= 20, "the third is looked into, in a bounded number: {requests:?}");
    assert!(requests[3..].iter().all(|count| *count == 1), "and not soon again: {requests:?}");
    world.now += world.rules.isolate_every;
    world.server.front = None;
    world.drain(1);
    world.assert_stored(50, &[]);
}

#[test]
fn poison_ops_are_found_alone_and_in_a_row_and_nothing_else_suffers() {
    let cases: [&[i64]; 6] = [&[1], &[23], &[23, 24, 25], &[2, 12, 13, 22, 40], &[1, 2, 3, 4], &[38, 39]];
    for poison in cases {
        let mut world = World::new(Table::with(50));
        world.server.poison = poison.iter().map(|id| world.uuid(*id)).collect();
        let outcome = world.drain(4);
        assert_eq!(outcome.quarantined, poison.len() as u64, "{poison:?}");
        assert_eq!(world.table.quarantined.keys().copied().collect::<Vec<_>>(), poison);
        world.assert_stored(50, poison);
    }
}

#[test]
fn a_long_run_of_poison_ops_is_got_over_too() {
    let mut world = World::new(Table::with(200));
    let poison: Vec<i64> = (20..=150).collect();
    world.server.poison = poison.iter().map(|id| world.uuid(*id)).collect();
    let outcome = world.drain(4);
    assert_eq!(outcome.quarantined, poison.len() as u64);
    assert_eq!(world.server.order.len(), 69, "every healthy op arrived");
}

#[test]
fn a_poison_op_at_the_very_end_waits_for_one_behind_it() {
    let mut world = World::new(Table::with(5));
    world.server.poison = [world.uuid(5)].into();
    for _ in 0..6 {
        let outcome = world.pass().unwrap();
        assert_eq!(outcome.quarantined, 0, "nothing to compare with");
        world.now += Duration::from_secs(400);
    }
    let next = world.table.clock + 1;
    world.table.add(6, next);
    assert_eq!(world.drain(4).quarantined, 1);
    world.assert_stored(6, &[5]);
}

#[test]
fn what_the_contract_says_is_refused_is_looked_into_at_once() {
    let mut world = World::new(Table::with(30));
    for id in [7, 8] {
        world.table.rows.get_mut(&id).unwrap().doomed = true;
    }
    world.server.poison = [world.uuid(7), world.uuid(8)].into();
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.quarantined, outcome.remaining, outcome.error), (2, 0, None));
    world.assert_stored(30, &[7, 8]);
}

#[test]
fn a_passing_500_loses_no_op_and_blames_none() {
    for number in 0..8 {
        let mut world = World::new(Table::with(50));
        world.server.front = Some(Box::new(move |n, _| (n == number).then(|| status(500, "deadlock"))));
        let outcome = world.drain(2);
        assert_eq!(outcome.quarantined, 0);
        world.assert_stored(50, &[]);
    }
}

#[test]
fn a_body_that_is_too_long_is_halved_and_the_size_is_remembered() {
    let mut world = World::new(Table::with(60));
    world.rules.batch_ops = 40;
    world.server.front = Some(Box::new(|_, ops| (ops.len() > 8).then(|| status(413, "too large"))));
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.quarantined, outcome.error), (60, 0, None));
    world.assert_stored(60, &[]);
    assert!(world.uplink.bytes <= 16 * OP_BYTES, "{:?}", world.uplink);
}

#[test]
fn the_third_slow_request_in_a_row_halves_the_batch() {
    let mut world = World::new(Table::with(40));
    world.rules.batch_ops = 40;
    let slow = || Reply::Failed { kind: FailedKind::Timeout, words: "took too long".into() };
    world.server.front = Some(Box::new(move |_, ops| (ops.len() > 10).then(slow)));
    let mut passes = 0;
    loop {
        let outcome = world.pass().unwrap();
        passes += 1;
        if outcome.remaining == 0 {
            break;
        }
        assert_eq!(outcome.error.unwrap().kind, ErrorKind::Timeout);
        assert!(passes < 20);
    }
    assert_eq!(passes, 7, "twice three strikes, then it fits");
    world.assert_stored(40, &[]);
    assert!(world.uplink.bytes >= UPLINK_MIN);
}

#[test]
fn what_a_proxy_names_as_its_time_is_kept() {
    let mut world = World::new(Table::with(4));
    world.server.front = Some(Box::new(|_, _| {
        Some(Reply::Status { status: 429, retry_after: Some(Duration::from_secs(7)), words: String::new() })
    }));
    assert_eq!(world.pass().unwrap().next, Next::RetryAfter(Duration::from_secs(7)));
    assert!(world.table.rows.values().all(|row| row.words.is_some()));
}

#[test]
fn accepted_rows_that_cannot_be_settled_are_settled_first_next_time_and_not_sent_again() {
    for at in 3..20 {
        let mut world = World::new(Table::with(25));
        world.table.fail_at = Some((at, failed("disk full")));
        let outcome = world.pass().unwrap();
        if world.table.rows.is_empty() {
            continue;
        }
        assert_eq!(outcome.error.clone().unwrap().kind, ErrorKind::Database, "{at}");
        assert!(outcome.remaining > 0);
        let sent = world.server.order.len();
        world.table.fail_at = None;
        world.table.log.clear();
        let (rows, requests) = (world.table.rows.len(), world.server.requests);
        world.drain(2);
        world.assert_stored(25, &[]);
        assert_eq!(world.server.stored.len(), 25);
        if sent == 25 {
            assert_eq!(world.server.requests, requests, "nothing is sent twice; {rows} rows were left");
        }
    }
}

#[test]
fn another_file_in_the_place_of_the_queue_is_not_settled_by_the_old_ones_answers() {
    let mut world = World::new(Table::with(25));
    let gone = StoreError { kind: StoreErrorKind::Gone, message: "replaced".into() };
    world.table.fail_at = Some((4, gone));
    let outcome = world.pass().unwrap();
    assert_eq!(outcome.error.unwrap().kind, ErrorKind::Database);
    assert!(world.memory.acked.is_empty());
    // And acknowledgements that were kept are dropped where the next pass finds another file.
    world.memory.acked.extend(Run::of([(1, &OperationId::Canonical(world.uuid(1)))], 1));
    world.memory.file = 1;
    world.table = Table::with(3);
    world.table.snapshot.file = 2;
    world.server = Server::default();
    world.drain(1);
    world.assert_stored(3, &[]);
}

#[test]
fn an_account_that_changes_in_mid_pass_ends_it_and_another_begins_at_once() {
    for at in 0..4 {
        let mut world = World::new(Table::with(35));
        world.table.switch_account_at = Some(at);
        let outcome = world.pass().unwrap();
        assert_eq!((outcome.next, outcome.error), (Next::Now, None));
        assert_eq!(outcome.sent, world.server.order.len() as u64, "what was on the wire counts");
        world.table.switch_account_at = None;
        world.drain(1);
        world.assert_stored(35, &[]);
    }
}

#[test]
fn a_stop_ends_the_pass_after_what_is_on_the_wire() {
    for at in 0..20 {
        let mut world = World::new(Table::with(35));
        world.stop_at = Some(at);
        let outcome = world.pass().unwrap();
        assert_eq!(outcome.sent, world.server.order.len() as u64);
        assert_eq!(outcome.remaining, world.table.rows.len() as u64);
        assert_eq!(world.table.rows.len() + world.server.order.len(), 35, "what was accepted is settled");
        world.stop_at = None;
        world.drain(1);
        world.assert_stored(35, &[]);
    }
}

#[test]
fn held_rows_are_passed_over_and_said() {
    let mut world = World::new(Table::with(5));
    world.table.held = [2, 3].into();
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.held, outcome.skipped), (3, 2, None));
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.held, outcome.skipped), (0, 2, Some(Reason::Held)));
}

#[test]
fn a_quarantined_op_is_tried_again_when_it_is_due_after_everything_else() {
    let mut world = World::new(Table::with(5));
    world.server.refused = [world.uuid(2)].into();
    world.pass().unwrap();
    assert_eq!(world.table.quarantined.len(), 1);
    world.table.due = vec![2];
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.quarantined, outcome.error), (0, 1, None));
    assert!(matches!(world.table.log.iter().rev().nth(1), Some(Request::StillRefused(refusal)) if refusal.id == 2));
    world.server.refused.clear();
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.quarantined), (1, 0));
    assert!(world.table.rows.is_empty());
}

#[test]
fn a_quarantined_op_whose_stamp_is_taken_gets_a_fresh_one_alone() {
    let mut world = World::new(Table::with(5));
    world.server.refused = [world.uuid(2)].into();
    world.pass().unwrap();
    world.server.refused.clear();
    world.server.stamps.insert(2);
    world.table.due = vec![2];
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.error), (1, None));
    assert!(world.table.log.iter().any(|request| matches!(request, Request::Reserve(reserve) if reserve.alone)));
}
