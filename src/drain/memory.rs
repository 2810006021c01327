//! What a pass hands to the next one: [`Memory`] for each profile, [`Uplink`] for each server. Pure.
//!
//! What must always hold: what was acknowledged and not yet settled is in [`Memory::acked`], so that it is settled
//! first and not sent again; losing a memory loses no op.

use std::collections::VecDeque;
use std::time::Duration;

use super::run::Run;

/// So many failures in a row of one kind, and the batch is looked at instead of waited for.
pub const STRIKES: u32 = 3;
/// Step above the local clock where the server's maximum is not believed; it doubles at each further conflict. Stamps
/// are plenty (2^31), so the first step already passes what a device usually has behind it.
pub const FIRST_STEP: i64 = 1024;
/// The step grows no further: 2^31 has room for a hundred such steps.
pub const LAST_STEP: i64 = 1 << 24;
/// A body is never made smaller than this for a slow uplink's sake: three requests of this size fit any time-out.
pub const UPLINK_MIN: usize = 4096;

/// Full batches in a row before a longer one is tried.
const GROW_AFTER: u32 = 16;

/// What one profile's pass hands to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Which file `acked` is about.
    pub file: u64,
    /// Accepted by the server, still in the queue.
    pub acked: VecDeque<Run>,
    /// The head on which 500 came last, and how often in a row.
    pub broken_head: Option<(i64, u32)>,
    /// When an isolation ended without proof.
    pub unproven_at: Option<Duration>,
    /// Conflicts in a row without an op accepted between them.
    pub conflicts: u32,
    /// The next step above the local clock where the server's maximum is not believed.
    pub step: i64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { file: 0, acked: VecDeque::new(), broken_head: None, unproven_at: None, conflicts: 0, step: FIRST_STEP }
    }
}

impl Memory {
    /// Another 500 on the batch that begins with `head`; says how many in a row.
    pub fn strike(&mut self, head: i64) -> u32 {
        let count = match self.broken_head {
            Some((id, count)) if id == head => count.saturating_add(1),
            _ => 1,
        };
        self.broken_head = Some((head, count));
        count
    }

    /// The step to use now; the next one is twice as long.
    pub fn take_step(&mut self) -> i64 {
        let step = self.step;
        self.step = (step * 2).min(LAST_STEP);
        step
    }

    /// The server accepted something: the conflicts were passing.
    pub fn progressed(&mut self) {
        self.conflicts = 0;
        self.step = FIRST_STEP;
        self.broken_head = None;
    }
}

/// The body size that works for a server: a slow uplink or a proxy's limit makes it smaller, success lets it grow.
///
/// Growing is a guess that costs a time-out where it is wrong, so it is rare, and taken back at the first failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Bodies are made no longer than this, in bytes.
    pub bytes: usize,
    /// Requests in a row that took too long or broke while sending.
    strikes: u32,
    /// Full bodies that went through since the size last changed.
    successes: u32,
    /// The size that worked before the last growth.
    before_growth: Option<usize>,
}

impl Uplink {
    /// Starts at `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { bytes: bytes.max(UPLINK_MIN), strikes: 0, successes: 0, before_growth: None }
    }

    /// A body of `sent` bytes went through; `most` is `batch_bytes`.
    pub fn worked(&mut self, sent: usize, most: usize) {
        self.strikes = 0;
        // Only a full batch says that more may fit.
        if sent.saturating_mul(2) <= self.bytes || self.bytes >= most {
            return;
        }
        self.successes += 1;
        if self.successes >= GROW_AFTER {
            let grown = self.bytes.saturating_add(self.bytes / 8).min(most.max(UPLINK_MIN));
            *self = Self { before_growth: Some(self.bytes), ..Self::new(grown) };
        }
    }

    /// A body of `sent` bytes took too long or broke while sending.
    pub fn struck(&mut self, sent: usize) {
        if let Some(bytes) = self.before_growth.take_if(|bytes| sent > *bytes) {
            *self = Self::new(bytes);
            return;
        }
        self.strikes += 1;
        if self.strikes >= STRIKES {
            self.halve(sent);
        }
    }

    /// A body of `sent` bytes is too long.
    pub fn halve(&mut self, sent: usize) {
        *self = Self::new(sent.min(self.bytes) / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strikes_count_on_one_head_only() {
        let mut memory = Memory::default();
        assert_eq!([memory.strike(7), memory.strike(7), memory.strike(8), memory.strike(8)], [1, 2, 1, 2]);
        memory.progressed();
        assert_eq!(memory.strike(8), 1);
    }

    #[test]
    fn the_third_slow_request_halves_the_body() {
        let mut uplink = Uplink::new(1 << 20);
        for _ in 0..2 {
            uplink.struck(1 << 20);
        }
        uplink.worked(1 << 20, 1 << 20);
        for _ in 0..2 {
            uplink.struck(1 << 20);
            assert_eq!(uplink.bytes, 1 << 20);
        }
        uplink.struck(1 << 20);
        assert_eq!(uplink.bytes, 1 << 19);
        for _ in 0..100 {
            uplink.struck(1);
        }
        assert_eq!(uplink.bytes, UPLINK_MIN);
    }

    #[test]
    fn the_body_grows_slowly_and_shrinks_back_at_the_first_failure() {
        let mut uplink = Uplink::new(1 << 19);
        for _ in 0..100 {
            uplink.worked(100, 1 << 20);
        }
        assert_eq!(uplink.bytes, 1 << 19, "a short batch says nothing about a long one");
        for _ in 0..GROW_AFTER {
            assert_eq!(uplink.bytes, 1 << 19);
            uplink.worked(1 << 19, 1 << 20);
        }
        assert_eq!(uplink.bytes, (1 << 19) + (1 << 16));
        uplink.struck(uplink.bytes);
        assert_eq!(uplink.bytes, 1 << 19);
        for _ in 0..1000 {
            uplink.worked(uplink.bytes, 1 << 20);
        }
        assert_eq!(uplink.bytes, 1 << 20);
    }

    #[test]
    fn steps_double_and_have_an_end() {
        let mut memory = Memory::default();
        assert_eq!([memory.take_step(), memory.take_step(), memory.take_step()], [1024, 2048, 4096]);
        for _ in 0..100 {
            memory.take_step();
        }
        assert_eq!(memory.step, LAST_STEP);
    }
}
