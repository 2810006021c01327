//! Orders of events around an account: sign-outs, sign-ins, pasted tokens, changes, and an agent that is stopped,
//! started and killed between them, or in the middle of a pass.
//!
//! What must always hold: whatever the order, no op is stored under an account that did not queue it, none is lost and
//! none is stored twice; and what the agent saw under its owner is there once the owner has come back. Each order is a
//! line on standard error, whether the test passes or not.

mod order;
mod play;

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use order::{CHANGE, CRASH, DAEMON, Event, LOOK, LOOKS, Order, PASTE, Prefix, REFRESH};
use play::{Tally, play};

/// Orders played side by side for one table: most of the time of each is waiting.
const SIDE_BY_SIDE: usize = 4;
/// Of the random orders.
const SEED: u64 = 20;

/// Plays the orders and prints what came of them; fails where an op was stored under the wrong account or was lost.
#[track_caller]
fn table(title: &str, (orders, left_out): (Vec<Order>, usize)) {
    let next = AtomicUsize::new(0);
    let mut tallies: Vec<(usize, Option<Tally>)> = thread::scope(|scope| {
        let worker = || {
            let mut mine = Vec::new();
            let take = || next.fetch_add(1, Ordering::Relaxed);
            let mut at = take();
            while let Some(order) = orders.get(at) {
                // One that fails in the middle is a line of the table too.
                mine.push((at, catch_unwind(AssertUnwindSafe(|| play(order))).ok()));
                at = take();
            }
            mine
        };
        let workers: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    tallies.sort_unstable_by_key(|(at, _)| *at);
    let mut text =
        format!("{title}: {} orders, {left_out} left out that nobody could tell from others\n", orders.len());
    let mut failed = Vec::new();
    for (at, tally) in tallies {
        let line = match tally {
            Some(tally) => format!("{}: {tally}", orders[at]),
            None => format!("{}: broke off, see above", orders[at]),
        };
        writeln!(text, "  {line}").unwrap();
        if tally.is_none_or(|tally| !tally.is_good()) {
            failed.push(line);
        }
    }
    // Not `eprint!`, which is kept from whoever reads a test that passes.
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    assert!(failed.is_empty(), "{} of {} orders:\n{}", failed.len(), orders.len(), failed.join("\n"));
}

/// Every order of `places` behind each of `prefixes`.
fn every(prefixes: &[Prefix], places: &[&[Event]]) -> (Vec<Order>, usize) {
    let (mut orders, mut left_out) = (Vec::new(), 0);
    for prefix in prefixes {
        let (some, without) = order::every(*prefix, places);
        orders.extend(some);
        left_out += without;
    }
    (orders, left_out)
}

#[test]
fn in_every_order_of_four_events_between_looks_no_op_changes_its_owner() {
    let orders = every(&[Prefix::Sent, Prefix::Waiting], &[LOOKS; 4]);
    table("accounts and looks", orders);
}

#[test]
fn in_every_order_of_three_events_around_a_daemon_no_op_changes_its_owner() {
    let orders = every(&[Prefix::DaemonSent, Prefix::DaemonWaiting], &[DAEMON; 3]);
    table("accounts and a daemon", orders);
}

#[test]
fn in_every_order_around_a_crash_in_mid_pass_no_op_changes_its_owner() {
    let orders = every(&[Prefix::Sent, Prefix::Waiting], &[LOOKS, LOOKS, CHANGE, CRASH, LOOKS, LOOKS]);
    table("accounts and a crash", orders);
}

#[test]
fn in_every_order_before_a_token_is_pasted_over_what_nobody_saw_no_op_changes_its_owner() {
    let orders = every(&[Prefix::Sent, Prefix::Waiting], &[LOOKS, LOOKS, CHANGE, PASTE, LOOK]);
    table("accounts and a token pasted back", orders);
}

#[test]
fn in_every_order_around_a_fresh_token_it_changes_nothing() {
    let (mut orders, mut left_out) = every(&[Prefix::Sent, Prefix::Waiting], &[LOOKS, CHANGE, REFRESH, LOOKS]);
    let beside_a_daemon = every(&[Prefix::DaemonSent, Prefix::DaemonWaiting], &[DAEMON, CHANGE, REFRESH, DAEMON]);
    orders.extend(beside_a_daemon.0);
    left_out += beside_a_daemon.1;
    table("accounts and a fresh token", (orders, left_out));
}

#[test]
fn in_random_longer_orders_no_op_changes_its_owner() {
    table("accounts at random", order::random(SEED, 60, 6..12));
}
