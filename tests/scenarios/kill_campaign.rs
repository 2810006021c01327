//! Lives of one data directory in which the real binary is killed again and again: at places it stops at itself, while
//! the server keeps its request, and at random moments; stopped and continued; the app killed too, in mid-transaction;
//! the app's own drain beside it.
//!
//! What must always hold: when the killing ends, every op the app committed is stored once, in order, and the last line
//! says how many kills that took. A life is decided by its number, but for the timing, which is the machine's. One that
//! went wrong is told by its number; `WAVEFLOW_SYNC_AGENT_KILL_LIFE` plays it alone, and `WAVEFLOW_SYNC_AGENT_KILLS`
//! asks for more kills than the usual [`KILLS`].

mod app;
mod end;
mod life;
mod plan;
mod tally;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use waveflow_sync_agent::halt::Place;

use life::live;
use plan::{Plan, ROUNDS};
use tally::Tally;

/// Kills of the binary in a usual run: enough for every place to have its turn a few times.
const KILLS: u64 = 130;
/// How many, instead.
const KILLS_ASKED: &str = "WAVEFLOW_SYNC_AGENT_KILLS";
/// Which life alone.
const LIFE_ASKED: &str = "WAVEFLOW_SYNC_AGENT_KILL_LIFE";
/// Lives played side by side: most of the time of each is waiting.
const SIDE_BY_SIDE: usize = 3;

fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Plays these lives; what came of each, and of all.
fn play(lives: std::ops::Range<u64>) -> (Tally, Vec<String>) {
    let next = AtomicU64::new(lives.start);
    let (total, failed) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if !lives.contains(&number) {
                        break;
                    }
                    // One that fails in the middle does not keep the others from being played.
                    let tally = catch_unwind(AssertUnwindSafe(|| live(&Plan::of(number))));
                    let trouble = tally.as_ref().map_or(Some("broke off, see above".into()), Tally::trouble);
                    if let Some(trouble) = trouble {
                        failed.lock().unwrap().push(format!(
                            "life {number}: {trouble}\n  again: {LIFE_ASKED}={number} cargo test --test scenarios -- \
                             kill_campaign --nocapture"
                        ));
                    }
                    if let Ok(tally) = tally {
                        total.lock().unwrap().add(tally);
                    }
                }
            });
        }
    });
    (total.into_inner().unwrap(), failed.into_inner().unwrap())
}

#[test]
fn killed_at_every_place_and_at_random_nothing_is_lost_doubled_or_out_of_order() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: a release build does not stop where it is asked to");
        return;
    }
    let (alone, kills) = (asked(LIFE_ASKED), asked(KILLS_ASKED).unwrap_or(KILLS));
    let lives = match alone {
        Some(number) => number..number + 1,
        None => 0..kills.div_ceil(ROUNDS as u64),
    };
    let (tally, failed) = play(lives);
    // Not `eprint!`, which is kept from whoever reads a test that passes.
    std::io::stderr().write_all(format!("{tally}\n").as_bytes()).unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // Fewer kills do not come to every place.
    if alone.is_none() && kills >= KILLS {
        let missed: Vec<_> = Place::ALL.iter().filter(|place| tally.kills_at(place.name()) == 0).collect();
        assert!(missed.is_empty(), "it was never killed at {missed:?}");
        assert!(tally.amid > 0, "it was never killed between two transactions of one re-stamp");
    }
}
