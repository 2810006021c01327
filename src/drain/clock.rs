//! Fresh stamps and pairs: how far a clock is raised, and which row gets which. Pure.
//!
//! What must always hold: a block lies above everything that was handed out, observed or read; the Lamport clock stays
//! below 2^31 and never goes down; rows get their stamps from the last one backwards, so that an interruption leaves a
//! tail that is above the head, never below.

use super::action::{Block, Reserve};
use super::memory::FIRST_STEP;
use crate::op::STAMP_LIMIT;

/// A wall from here on (the year 287396) is nobody's clock, and counts as absent.
pub const WALL_LIMIT: i64 = 1 << 53;

/// The Lamport clock as it is kept; 0 where it is absent or makes no sense.
pub fn lamport(kept: Option<i64>) -> i64 {
    kept.filter(|value| (1..STAMP_LIMIT).contains(value)).unwrap_or(0)
}

/// How high to raise the Lamport clock from `local` so that `room` fresh stamps are ours; `highest` is the highest stamp
/// in the queue that makes sense.
///
/// # Errors
/// No stamps are left below 2^31; the highest in use.
pub fn raise(local: i64, highest: Option<i64>, reserve: &Reserve, room: i64) -> Result<i64, i64> {
    let believed = if reserve.floor < STAMP_LIMIT { reserve.floor } else { 0 };
    let local = local.max(highest.unwrap_or(0));
    let base = local.max(believed);
    // A step is a guess; near the end of the stamps do without. And a maximum that leaves no room is no more to be
    // believed than one beyond the end: no device has stored two thousand million ops.
    let tops = [
        base.saturating_add(reserve.step).saturating_add(room),
        base.saturating_add(room),
        local.saturating_add(reserve.step.max(FIRST_STEP)).saturating_add(room),
    ];
    tops.into_iter().find(|top| *top < STAMP_LIMIT).ok_or(base)
}

/// The wall and the highest logical counter of `room` fresh pairs, drawn as the app does: the wall never goes back, the
/// counter rises within one wall. `wall` and `logical` are what is kept; they may be behind the rows (a power cut takes
/// back settings and rows alike, an import does not), so the higher of the two counts.
pub fn pairs(wall: Option<i64>, logical: Option<i64>, in_rows: (i64, i64), room: i64, now: i64) -> (i64, i64) {
    let wall = wall.filter(|wall| (0..WALL_LIMIT).contains(wall));
    let logical = logical.filter(|logical| (0..STAMP_LIMIT).contains(logical));
    // A wall without its counter: nobody knows how far it got, so a fresh wall is due.
    let in_keys = wall.map_or((0, 0), |wall| logical.map_or((wall + 1, -1), |logical| (wall, logical)));
    let (last_wall, last_logical) = in_keys.max(in_rows);
    let wall = now.max(last_wall);
    let first = if wall == last_wall { last_logical + 1 } else { 0 };
    let (wall, first) = if first + room < STAMP_LIMIT { (wall, first) } else { (wall + 1, 0) };
    (wall, first + room - 1)
}

impl Block {
    /// The stamp for the row `id`, the last one that has none yet; from now on the one before it is.
    pub fn give(&mut self, id: i64) -> i64 {
        let stamp = self.top;
        self.last = id.saturating_sub(1);
        self.top -= 1;
        stamp
    }

    /// Whether a row may be left that has none.
    pub fn is_left(&self) -> bool {
        self.last >= self.from
    }
}
