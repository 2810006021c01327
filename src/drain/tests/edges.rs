//! Single situations at the edges, each named after what must not happen in it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::world::{RULES, Table, World, status};
use crate::drain::action::*;
use crate::drain::memory::{Memory, Uplink};
use crate::drain::{Pass, Rules};
use crate::op::*;

/// A pass over `table` up to the point where its first request is on the wire and nothing else is under way.
fn up_to_the_wire(table: &mut Table, now: Duration) -> (Pass, Vec<Op>) {
    let mut pass = Pass::new(RULES, Memory::default(), Uplink::new(RULES.batch_bytes));
    let mut sent = None;
    loop {
        match pass.next(now) {
            Some(Action::Store(request)) => {
                let result = table.perform(&request);
                pass.on(Event::Stored(result), now);
            }
            Some(Action::Send(batch)) => sent = Some(batch.ops),
            Some(other) => panic!("{other:?}"),
            None => return (pass, sent.unwrap()),
        }
    }
}

fn accepted(ops: &[Op]) -> Event {
    Event::Replied(Reply::Accepted(ops.iter().filter_map(|op| op.operation_id.uuid()).collect()))
}

#[test]
fn a_deadline_that_is_over_is_not_waited_for_while_a_lane_is_busy() {
    let now = Duration::from_secs(5);
    let later = now + Duration::from_secs(9);
    let mut table = Table::with(30);
    let (mut pass, ops) = up_to_the_wire(&mut table, now);
    pass.on(accepted(&ops), now);
    assert_eq!(pass.deadline(), Some(now + Duration::from_secs(1)), "it is there while it is of use");
    // The next batch goes out; then the settling is late, and begins.
    assert!(matches!(pass.next(later), Some(Action::Send(_))));
    assert!(matches!(pass.next(later), Some(Action::Store(Request::Settle(_)))));
    assert!(pass.next(later).is_none());
    assert_eq!(pass.deadline(), None, "the database is busy: a tick changes nothing");
    pass.on(Event::Stop, later);
    assert_eq!(pass.deadline(), None, "the end is waited for, not the deadline");
}

#[test]
fn a_server_that_answers_faster_than_rows_are_read_does_not_put_off_settling() {
    let mut now = Duration::from_secs(5);
    let mut table = Table::with(10_000);
    let mut pass = Pass::new(RULES, Memory::default(), Uplink::new(RULES.batch_bytes));
    let (mut most, mut asked) = (0, None);
    loop {
        match pass.next(now) {
            Some(Action::Store(request)) => asked = Some(request),
            // The answer is there at once; what is asked of the database comes later.
            Some(Action::Send(batch)) => pass.on(accepted(&batch.ops), now),
            Some(Action::Finish(outcome)) => break assert_eq!((outcome.sent, outcome.remaining), (10_000, 0)),
            Some(Action::SendEmpty) => panic!("nothing was refused"),
            None if asked.is_none() => now = pass.deadline().unwrap(),
            None => {
                now += Duration::from_millis(20);
                let result = table.perform(&asked.take().unwrap());
                pass.on(Event::Stored(result), now);
            }
        }
        most = most.max(pass.memory.acked.iter().map(|run| run.rows).sum());
    }
    assert!(most <= 1_000, "{most} accepted rows were kept back");
}

#[test]
fn a_queue_in_which_a_row_stays_is_not_emptied_without_a_look() {
    let poisoned: fn(&mut World) = |world: &mut World| world.server.poison.extend([world.uuid(33)]);
    let refused = |world: &mut World| world.server.refused.extend([world.uuid(33)]);
    let failing = |world: &mut World| {
        world.server.front = Some(Box::new(|number, _| (number == 3).then(|| status(503, "not now"))));
    };
    let unnamed = |world: &mut World| {
        world.server.front = Some(Box::new(|number, ops| {
            let named = ops.iter().skip(1).filter_map(|op| op.operation_id.uuid());
            (number == 3).then(|| Reply::Accepted(named.collect()))
        }));
    };
    let stopped = |world: &mut World| world.stop_at = Some(8);
    for (at, hinder) in [poisoned, refused, failing, unnamed, stopped].iter().enumerate() {
        let mut world = World::new(Table::with(35));
        hinder(&mut world);
        for _ in 0..4 {
            let outcome = world.pass().unwrap();
            let whole =
                |request: &Request| matches!(request, Request::Settle(Settlement { whole: true, stays: false, .. }));
            let tried = world.table.log.drain(..).any(|request| whole(&request));
            assert!(!tried || world.table.rows.is_empty(), "{at}: {outcome:?}");
        }
    }
}

#[test]
fn nor_one_whose_last_answer_leaves_a_row_out_while_the_agent_ends() {
    let mut now = Duration::from_secs(5);
    let mut table = Table::with(20);
    let mut pass = Pass::new(Rules { batch_ops: 30, ..RULES }, Memory::default(), Uplink::new(RULES.batch_bytes));
    let mut settlements = Vec::new();
    loop {
        match pass.next(now) {
            Some(Action::Store(request)) => {
                if let Request::Settle(settlement) = &request {
                    settlements.push((settlement.whole, settlement.stays));
                }
                let result = table.perform(&request);
                pass.on(Event::Stored(result), now);
            }
            Some(Action::Send(batch)) => {
                pass.on(Event::Stop, now);
                let named: Vec<Op> = batch.ops.iter().filter(|op| op.id != 7).cloned().collect();
                pass.on(accepted(&named), now);
            }
            Some(Action::Finish(outcome)) => break assert_eq!(outcome.sent, 19),
            Some(Action::SendEmpty) => panic!("nothing was refused"),
            None => now = pass.deadline().unwrap(),
        }
    }
    assert_eq!(settlements.first(), Some(&(true, true)));
}

#[test]
fn rows_that_left_the_queue_count_when_falling_stamps_are_mended() {
    let mut world = World::new(Table::with(0));
    for id in 1..=10 {
        world.table.add(id, 100 + id);
    }
    for id in 11..=15 {
        world.table.add(id, id);
    }
    world.table.clock = 3;
    // The head is stored and gone before the rows behind it are looked at.
    world.rules.batch_ops = 5;
    let outcome = world.pass().unwrap();
    assert_eq!((outcome.sent, outcome.error), (15, None));
    world.assert_stored(15, &[]);

    let mut reserved = None;
    let mut table = Table::with(0);
    table.add(1, 500);
    table.add(2, 5);
    table.clock = 3;
    let (mut pass, ops) = up_to_the_wire(&mut table, Duration::ZERO);
    assert_eq!(ops.len(), 1);
    for request in table.log {
        if let Request::Reserve(reserve) = request {
            reserved = Some(reserve);
        }
    }
    assert_eq!(reserved.unwrap().floor, 500);
    pass.on(Event::Stop, Duration::ZERO);
}

#[test]
fn a_row_that_cannot_be_sent_does_not_end_the_search_behind_a_suspect() {
    let mut table = Table::with(3);
    table.rows.get_mut(&3).unwrap().doomed = true;
    let mut pass = Pass::new(RULES, Memory::default(), Uplink::new(RULES.batch_bytes));
    let mut now = Duration::ZERO;
    let outcome = loop {
        match pass.next(now) {
            Some(Action::Store(request)) => {
                let result = table.perform(&request);
                pass.on(Event::Stored(result), now);
            }
            Some(Action::Send(batch)) => {
                // Queued since the pass began, so that only the search sees them.
                for id in table.clock + 1..=6 {
                    table.add(id, id);
                    table.rows.get_mut(&id).unwrap().sick = id != 5;
                }
                let poison = batch.ops.iter().any(|op| op.id == 3);
                pass.on(if poison { Event::Replied(status(500, "insert failed")) } else { accepted(&batch.ops) }, now);
            }
            Some(Action::Finish(outcome)) => break outcome,
            None => now = pass.deadline().unwrap(),
            Some(Action::SendEmpty) => panic!("nothing was refused"),
        }
    };
    assert_eq!((outcome.sent, outcome.error), (3, None), "row 5 showed that the server lives");
    assert_eq!(table.quarantined.keys().copied().collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_quarantined_row_that_still_cannot_be_read_keeps_its_date() {
    let mut world = World::new(Table::with(3));
    world.table.rows.get_mut(&2).unwrap().sick = true;
    world.pass().unwrap();
    assert_eq!(world.table.quarantined.len(), 1);
    (world.table.due, world.table.log) = (vec![2], Vec::new());
    world.pass().unwrap();
    assert!(!world.table.log.iter().any(|request| matches!(request, Request::Quarantine(_))));
    assert!(world.table.log.iter().any(|request| matches!(request, Request::StillRefused(refusal) if refusal.id == 2)));
}

#[test]
fn an_app_that_queues_all_the_time_does_not_make_a_search_endless() {
    let mut table = Table::with(3);
    table.rows.get_mut(&1).unwrap().doomed = true;
    let mut pass = Pass::new(RULES, Memory::default(), Uplink::new(RULES.batch_bytes));
    let requests = Rc::new(Cell::new(0));
    let mut now = Duration::ZERO;
    let outcome = loop {
        match pass.next(now) {
            Some(Action::Store(request)) => {
                let result = table.perform(&request);
                pass.on(Event::Stored(result), now);
            }
            Some(Action::Send(_)) => {
                requests.set(requests.get() + 1);
                assert!(requests.get() < 100, "a server that is down is asked without end");
                pass.on(Event::Replied(status(500, "insert failed")), now);
                let id = table.rows.keys().next_back().unwrap() + 1;
                (id..id + 3000).for_each(|id| table.add(id, id));
            }
            Some(Action::Finish(outcome)) => break outcome,
            None => now = pass.deadline().unwrap(),
            Some(Action::SendEmpty) => panic!("nothing was refused"),
        }
    };
    assert_eq!((outcome.next, outcome.quarantined), (Next::LocalBackOff, 0));
    assert!(requests.get() <= 15, "{}", requests.get());
}

#[test]
fn an_agent_that_is_asked_to_end_does_not_settle_for_ever() {
    let now = Duration::from_secs(5);
    let mut table = Table::with(1_000);
    let mut pass = Pass::new(Rules { batch_ops: 1_000, ..RULES }, Memory::default(), Uplink::new(RULES.batch_bytes));
    let (mut at, mut settled) = (now, 0);
    let outcome = loop {
        match pass.next(at) {
            Some(Action::Store(request)) => {
                settled += usize::from(matches!(request, Request::Settle(_)));
                // Half of what is left, in a second.
                at += Duration::from_secs(u64::from(matches!(request, Request::Settle(_))));
                if settled > 0 {
                    // Whoever asks again does not give it more time.
                    pass.on(Event::Stop, at);
                }
                let result = table.perform(&request);
                pass.on(Event::Stored(result), at);
            }
            Some(Action::Send(batch)) => {
                pass.on(Event::Stop, at);
                // An answer that is long in coming does not take that time away.
                assert!(pass.next(at).is_none());
                at += Duration::from_secs(4);
                pass.on(accepted(&batch.ops), at);
            }
            Some(Action::Finish(outcome)) => break outcome,
            Some(Action::SendEmpty) => panic!("nothing was refused"),
            None => at = pass.deadline().unwrap(),
        }
    };
    assert_eq!((outcome.sent, settled), (1_000, 2));
    assert_eq!(outcome.remaining, 250, "they are absorbed when they are sent again");
    assert_eq!(pass.into_memory().0.acked[0].rows, 250, "unless the same process goes on");
}

#[test]
fn between_two_short_transactions_others_have_their_turn_unless_nobody_is_there() {
    let now = Duration::from_secs(5);
    for alone in [false, true] {
        let mut table = Table::with(1);
        let (mut pass, ops) = up_to_the_wire(&mut table, now);
        pass.on(accepted(&ops), now);
        let Some(Action::Store(Request::Settle(asked))) = pass.next(now) else { panic!("it is settled at the end") };
        let left = asked.runs.clone();
        pass.on(Event::Stored(Ok(Answer::Settled(Settled { left, alone, ..Settled::default() }))), now);
        let settles = |action| matches!(action, Some(Action::Store(Request::Settle(_))));
        if alone {
            assert!(settles(pass.next(now)));
        } else {
            let rested = pass.deadline().expect("it is not forgotten");
            assert!(rested >= now + Duration::from_millis(10), "whoever waits asks every 10 ms at the latest");
            assert!(pass.next(rested.saturating_sub(Duration::from_micros(1))).is_none());
            assert!(settles(pass.next(rested)));
        }
    }
}
