//! Fresh stamps and pairs: above everything, in order whatever interrupts, and never out of range.

use std::time::Duration;

use testkit::data_dir::Pending;

use super::*;
use crate::drain::action::{Block, Clock, Reserve, StoreErrorKind};
use crate::op::STAMP_LIMIT;
use crate::queue::stamp;

const NOW: i64 = 1_750_000_000_000;

fn from(from: i64) -> Reserve {
    Reserve { clock: Clock::Lamport, from, alone: false, floor: 0, step: 0, words: None }
}

impl Place {
    fn reserve(&self, reserve: &Reserve) -> Option<Block> {
        stamp::reserve(&self.database, reserve, self.columns, NOW).unwrap()
    }

    /// All of it, one transaction after the other.
    fn assign(&self, block: Option<Block>) {
        let mut left = block;
        while let Some(block) = left {
            left = stamp::assign(&self.database, &block).unwrap();
        }
    }

    fn restamp(&self, reserve: &Reserve) {
        let block = self.reserve(reserve);
        self.assign(block);
    }

    fn clock(&self) -> i64 {
        self.app.clock().unwrap().unwrap()
    }

    fn pairs(&self) -> Vec<(i64, i64)> {
        self.app.pending().unwrap().iter().filter_map(|row| row.pair).collect()
    }

    fn set(&self, key: &str, value: &str) {
        self.app.set_setting(key, value, "int").unwrap();
    }
}

fn rises<T: PartialOrd>(values: &[T]) -> bool {
    values.is_sorted_by(|a, b| a < b)
}

#[test]
fn a_block_lies_above_the_clock_the_floor_and_every_stamp_in_the_queue() {
    for (clock, floor, highest, above) in [(9, 0, 5, 9), (5, 70, 5, 70), (2, 0, 300, 300), (4, STAMP_LIMIT, 5, 5)] {
        let mut place = Place::with(Generation::One, 4);
        place.raw(&RawOp::new(&op(), highest));
        place.app.set_clock(clock).unwrap();
        let block = place.reserve(&Reserve { floor, step: 10, words: Some("409".into()), ..from(2) }).unwrap();
        assert!(block.top - 4 >= above + 10, "{block:?}");
        assert_eq!((block.from, block.last, place.clock()), (2, 5, block.top), "the clock is raised first");
        // What the app adds meanwhile lies above.
        place.app.enqueue(&[op()]).unwrap();
        place.assign(Some(block));
        let stamps = place.stamps();
        assert!(rises(&stamps) && stamps[0] == 1 && stamps[1] > above, "{stamps:?}");
        assert_eq!(place.app.pending().unwrap()[1].last_error.as_deref(), Some("409"));
    }
}

#[test]
fn interrupted_after_any_row_the_order_holds_and_a_second_try_mends_it() {
    for dead_after in 0..=10 {
        let place = Place::with(Generation::One, 12);
        let mut left = place.reserve(&Reserve { floor: 50, ..from(3) });
        for done in 0..dead_after {
            // A transaction that is over its time at once stamps one row.
            left = stamp::assign_within(&place.database, &left.unwrap(), Duration::ZERO).unwrap().0;
            let stamps = place.stamps();
            let fresh = stamps.iter().filter(|stamp| **stamp > 50).count();
            assert!(rises(&stamps) && fresh == done + 1, "after {done}: {stamps:?}");
        }
        assert_eq!(left.is_none(), dead_after == 10);
        place.restamp(&Reserve { floor: 50, ..from(3) });
        let stamps = place.stamps();
        assert!(rises(&stamps) && stamps[..2] == [1, 2] && stamps[2] > 50, "{stamps:?}");
    }
}

#[test]
fn a_long_queue_is_stamped_to_its_head() {
    let place = Place::with(Generation::One, 1_000);
    place.restamp(&from(1));
    let stamps = place.stamps();
    assert!(rises(&stamps) && stamps[0] == 1_001 && stamps[999] == 2_000, "no row is left out, no stamp wasted");
}

#[test]
fn holes_between_ids_cost_no_more_stamps_than_there_are_rows() {
    let place = Place::with(Generation::One, 3);
    place.raw(&RawOp::new(&op(), 4).with("id", 1_i64 << 40));
    place.raw(&RawOp::new(&op(), 5).with("id", i64::MAX - 1));
    let block = place.reserve(&from(1)).unwrap();
    assert!(block.top <= 5 + 5, "{block:?}");
    place.assign(Some(block));
    assert!(rises(&place.stamps()) && place.stamps()[0] > 5, "{:?}", place.stamps());
}

#[test]
fn a_clock_that_is_absent_or_out_of_range_counts_as_absent() {
    let mad =
        ["", "soon", "0", "-7", "2147483648", "9223372036854775807", "9.2233720368547758e18", "99999999999999999999"];
    for text in mad {
        let place = Place::with(Generation::One, 2);
        place.set("sync.lamport_local_max", text);
        assert_eq!(place.database.read(stamp::lamport).unwrap(), 0, "{text}");
        place.restamp(&from(1));
        assert_eq!((place.stamps(), place.clock()), (vec![3, 4], 4), "{text}");
    }
    let place = Place::with(Generation::One, 2);
    place.app.remove_setting("sync.lamport_local_max").unwrap();
    place.restamp(&from(2));
    assert_eq!((place.stamps(), place.clock()), (vec![1, 4 - 1], 3));
}

#[test]
fn stamps_beyond_the_range_are_brought_back_into_it() {
    let place = Place::with(Generation::One, 2);
    place.raw(&RawOp::new(&op(), STAMP_LIMIT));
    place.raw(&RawOp::new(&op(), i64::MAX));
    place.app.set_clock(i64::MAX).unwrap();
    place.restamp(&from(3));
    assert_eq!((place.stamps(), place.clock()), (vec![1, 2, 3, 4], 4));
}

#[test]
fn where_no_stamp_is_left_it_says_so_and_changes_nothing() {
    let place = Place::with(Generation::One, 4);
    place.app.set_clock(STAMP_LIMIT - 5).unwrap();
    place.restamp(&Reserve { step: 1 << 24, ..from(1) });
    assert_eq!((place.clock(), place.stamps()[3]), (STAMP_LIMIT - 1, STAMP_LIMIT - 1), "without the step it fits");
    let before = (place.version(), place.stamps());
    let error = stamp::reserve(&place.database, &from(1), place.columns, NOW).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::ClockExhausted);
    assert_eq!((place.version(), place.stamps()), before);
    assert_eq!(place.clock(), STAMP_LIMIT - 1);
}

#[test]
fn a_maximum_that_leaves_no_room_is_no_more_believed_than_one_beyond_the_range() {
    let place = Place::with(Generation::One, 4);
    place.restamp(&Reserve { floor: STAMP_LIMIT - 2, ..from(1) });
    let stamps = place.stamps();
    assert!(rises(&stamps) && stamps[0] > 1000 && stamps[3] < 1 << 20, "{stamps:?}");
    // One that leaves room is.
    place.restamp(&Reserve { floor: STAMP_LIMIT - 6, ..from(1) });
    assert_eq!(place.stamps()[0], STAMP_LIMIT - 5);
}

#[test]
fn one_row_alone_leaves_the_others_as_they_are_and_gone_rows_write_nothing() {
    let place = Place::with(Generation::One, 4);
    let alone = Reserve { alone: true, ..from(2) };
    place.restamp(&alone);
    assert_eq!((place.stamps(), place.clock()), (vec![1, 5, 3, 4], 5));
    place.app.connection().execute("DELETE FROM sync_pending_op WHERE id >= 2", []).unwrap();
    let before = place.version();
    assert_eq!((place.reserve(&alone), place.reserve(&from(2))), (None, None));
    assert_eq!((place.version(), place.clock()), (before, 5));
}

fn hybrid(from: i64) -> Reserve {
    Reserve { clock: Clock::Hybrid, ..self::from(from) }
}

#[test]
fn fresh_pairs_are_drawn_as_the_app_draws_them() {
    let mut place = Place::with(Generation::Three, 4);
    let (wall, logical) = place.app.last_pair().unwrap().unwrap();
    // The app's clock is ahead of ours: the same wall counts on.
    assert!(wall > NOW);
    let before = place.pairs();
    place.restamp(&hybrid(2));
    let after = place.pairs();
    assert_eq!(after[0], before[0]);
    assert!(rises(&after) && after[1] > (wall, logical), "{before:?} {after:?}");
    assert_eq!(place.app.last_pair().unwrap(), Some(after[3]));
    assert_eq!(place.stamps(), [1, 2, 3, 4], "stamps stay");
    place.app.enqueue(&[op()]).unwrap();
    assert!(rises(&place.pairs()));
    // Ours is ahead: a new wall begins at 0.
    let block = stamp::reserve(&place.database, &hybrid(1), place.columns, wall + 1_000_000_000).unwrap().unwrap();
    assert_eq!((block.wall, block.top), (wall + 1_000_000_000, 4));
}

#[test]
fn pairs_are_above_the_rows_where_the_keys_are_behind_them() {
    let cases: [(Option<&str>, Option<&str>); 6] = [
        (None, None),
        (Some("5"), Some("5")),
        // The same wall, with a counter that is behind, or absent.
        (Some("1750000000500"), Some("1")),
        (Some("1750000000500"), None),
        (Some("9223372036854775807"), Some("0")),
        (Some("-3"), Some("2147483648")),
    ];
    for (wall, logical) in cases {
        let place = Place::new(Generation::Three);
        for (stamp, pair) in [(1, (NOW - 5, 0)), (2, (NOW + 500, 6)), (3, (NOW + 500, 7)), (4, (NOW + 500, 8))] {
            place.raw(&RawOp::new(&op(), stamp).with("hlc_wall", pair.0).with("hlc_logical", pair.1));
        }
        wall.inspect(|text| place.set("sync.hlc.last_wall", text));
        logical.inspect(|text| place.set("sync.hlc.last_logical", text));
        place.restamp(&hybrid(3));
        let pairs = place.pairs();
        assert!(rises(&pairs) && pairs[2] > (NOW + 500, 8), "{wall:?} {logical:?}: {pairs:?}");
        assert_eq!(place.app.last_pair().unwrap(), pairs.last().copied());
    }
}

#[test]
fn a_counter_that_would_overflow_moves_on_to_the_next_wall_and_a_mad_wall_is_not_followed() {
    let place = Place::new(Generation::Three);
    for (stamp, wall) in [(1, NOW), (2, NOW), (3, i64::MAX)] {
        place.raw(&RawOp::new(&op(), stamp).with("hlc_wall", wall).with("hlc_logical", 2_147_483_640 + stamp));
    }
    place.set("sync.hlc.last_wall", &NOW.to_string());
    place.set("sync.hlc.last_logical", "2147483646");
    place.restamp(&hybrid(1));
    assert_eq!(place.pairs(), [(NOW + 1, 0), (NOW + 1, 1), (NOW + 1, 2)]);
}

#[test]
fn a_row_without_a_pair_stays_without_one() {
    let place = Place::new(Generation::Three);
    for (stamp, wall) in [(1, 7), (2, 0), (3, 7)] {
        place.raw(&RawOp::new(&op(), stamp).with("hlc_wall", wall).with("hlc_logical", stamp));
    }
    place.restamp(&hybrid(1));
    let pairs: Vec<_> = place.app.pending().unwrap().iter().map(|row: &Pending| row.pair).collect();
    assert!(pairs[1].is_none() && pairs[0] < pairs[2] && pairs[0] >= Some((NOW, 0)), "{pairs:?}");
    let old = Place::with(Generation::One, 2);
    assert_eq!(old.reserve(&hybrid(1)), None, "an app that knows no pairs");
}
