//! A few lives in every test run (`.ci/run` lives thousands), and the books themselves.

use uuid::Uuid;

use super::alike::Pairing;
use super::disk::{Disk, Nature};
use super::oracle::{Known, Oracle};
use super::server::Sent;
use super::{defaults, live};

/// Lives of each test run. Their seeds are `0..LIVES`; a failure names its own.
const LIVES: u64 = 1_000;
#[test]
fn whatever_happens_everything_arrives_once_and_in_order() {
    let config = defaults().unwrap();
    let (mut steps, mut arrived) = (0, 0);
    for seed in 0..LIVES {
        let report = live(seed, &config, false);
        assert_eq!(report.breach, None, "seed {seed}; `cargo run -p testkit --bin simulate -- --seed {seed} --trace`");
        steps += report.steps;
        arrived += report.arrived;
    }
    println!("{LIVES} lives, {steps} steps, {arrived} ops stored");
    assert!(steps > 100_000 && arrived > 5_000, "lives in which nothing happens show nothing");
}

#[test]
fn a_seed_brings_back_the_same_life() {
    let config = defaults().unwrap();
    for seed in 0..30 {
        let (first, second) = (live(seed, &config, true), live(seed, &config, true));
        assert!(first.trace.len() > 10);
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!((first.steps, first.seen), (second.steps, second.seen), "seed {seed}");
    }
}

/// Comparisons of each test run.
const COMPARED: u64 = 300;

#[test]
fn the_made_up_files_answer_as_the_real_ones_do() {
    let directory = tempfile::tempdir().unwrap();
    let pairing = Pairing::new(directory.path()).unwrap();
    for seed in 0..COMPARED {
        pairing.compare(seed).unwrap();
    }
}

const OP: Uuid = Uuid::from_u128(7);

fn books() -> Oracle {
    let known =
        Known { profile: 0, owner: Some(0), nature: Nature::Healthy, late: false, free: false, stored: [None; 2] };
    let mut books = Oracle::default();
    books.guarded = true;
    books.ops.insert(OP, known);
    books
}

fn sent(row: i64, stamp: i64) -> Sent {
    Sent { operation_id: OP, stamp, pair: None, profile: 0, row, read: 0 }
}

#[test]
fn each_breach_is_noticed() {
    type Breach = fn(&mut Oracle);
    let breaches: [(&str, Breach); 8] = [
        ("left the queue", |books| books.settled(0, 1, OP)),
        ("is in quarantine", |books| books.quarantined(OP)),
        ("the clock of profile 0", |books| books.raised(0, Some(9), 8)),
        ("the clock of profile 0", |books| books.raised(0, Some(9), 1 << 31)),
        ("stored as 1's", |books| books.stored(0, &sent(1, 1), 1, Uuid::nil(), &Disk::new())),
        ("is stored twice", |books| {
            books.stored(0, &sent(1, 1), 0, Uuid::nil(), &Disk::new());
            books.stored(0, &sent(1, 2), 0, Uuid::nil(), &Disk::new());
        }),
        ("out of order", |books| books.sent(&[sent(1, 2), sent(2, 2)], 0)),
        ("is sent again", |books| {
            books.acked.insert((0, OP), 1);
            books.sent(&[sent(1, 1)], 0);
        }),
    ];
    for (words, breach) in breaches {
        let mut books = books();
        breach(&mut books);
        assert!(books.breach.as_ref().is_some_and(|said| said.contains(words)), "{words}: {:?}", books.breach);
    }
    let mut calm = books();
    calm.raised(0, Some(1 << 40), 5);
    calm.stored(0, &sent(1, 1), 0, Uuid::nil(), &Disk::new());
    calm.settled(0, 1, OP);
    calm.sent(&[sent(1, 1), sent(2, 2)], 0);
    assert_eq!(calm.breach, None);
}
