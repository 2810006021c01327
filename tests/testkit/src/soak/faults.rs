//! The server's faults: one after the other, each kind the server knows.
//!
//! What must always hold: at most one waits at a time, so that what is armed while nobody asks does not pile up; none
//! lasts longer than [`LONGEST`] of its kind says; two that make an op look refused never come close together: a server
//! that takes others and refuses one op twice has condemned it, and the agent would be right to set it aside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::World;
use crate::Result;
use crate::server::{Fault, Reply};

/// A hang or a delay takes up to so many times the pace of the faults: some of them outlast the agent's patience.
const LONGEST: u32 = 4;
/// Faults between two that refuse.
const REFUSALS_APART: u32 = 5;
/// A request over this is a scan's, and a proxy could refuse it.
const LARGE_BYTES: usize = 4096;

/// What it means to those whom it meets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A fault like any other.
    Usual,
    /// Looks as if the op were to blame.
    Refuses,
    /// A 200 that means nothing. The app's own drain believes it and deletes what nobody stored; see
    /// [`crate::foreign_drain`]. That is the app's defect, so its requests are spared.
    Pretends,
}

/// One of all there are, with its name.
fn any(random: &mut fastrand::Rng, time: Duration) -> (&'static str, Kind, Fault) {
    use Kind::{Pretends, Refuses, Usual};
    let answer = |reply: Reply| Fault::Answer(reply);
    match random.u8(..32) {
        0 => ("cut at accept", Usual, Fault::CutAtAccept),
        1 => ("cut before the body", Usual, Fault::CutBeforeBody),
        2 => ("cut in the body", Usual, Fault::CutMidRequest),
        3 => ("503 before the body", Usual, Fault::AnswerEarly(Reply::proxy(503))),
        4 => ("413 for a long one", Refuses, Fault::RefuseOver { bytes: LARGE_BYTES, reply: Reply::proxy(413) }),
        5 => ("cut before storing", Usual, Fault::CutBeforeStoring),
        6 => ("500", Refuses, answer(Reply::insert_failed())),
        7 => ("502", Usual, answer(Reply::proxy(502))),
        8 => ("503", Usual, answer(Reply::proxy(503))),
        9 => ("504", Usual, answer(Reply::proxy(504))),
        10 => ("429", Usual, answer(Reply::too_many_requests("1"))),
        11 => ("401", Usual, answer(Reply::new(401))),
        12 => ("400", Refuses, answer(Reply::text(400, "device_id is required"))),
        13 => ("404", Usual, answer(Reply::proxy(404))),
        14 => ("408", Usual, answer(Reply::new(408))),
        15 => ("409 of somebody else's", Usual, answer(Reply::text(409, "conflict"))),
        16 => ("redirect", Usual, answer(Reply::login_redirect())),
        17 => ("captive portal", Pretends, answer(Reply::captive_portal())),
        18 => ("200 naming nobody", Pretends, answer(Reply::json(200, &serde_json::json!({"accepted": []})))),
        19 => ("200 without a word", Pretends, answer(Reply::new(200))),
        20 => ("silence", Usual, Fault::Silence),
        21 => ("slow before storing", Usual, Fault::DelayBefore(time)),
        22 => ("hang before storing", Usual, Fault::HoldBeforeStore),
        23 => ("cut after storing", Usual, Fault::CutAfterStoring),
        24 => ("504 after storing", Usual, Fault::AnswerAfterStoring(Reply::proxy(504))),
        25 => ("slow after storing", Usual, Fault::DelayAfter(time)),
        26 => ("hang after storing", Usual, Fault::HoldAfterStore),
        27 => ("half an answer", Usual, Fault::CutMidReply),
        28 => ("hang in the answer", Usual, Fault::StallMidReply),
        29 => ("closed after the answer", Usual, Fault::CloseAfterReply),
        30 => ("endless body", Pretends, Fault::EndlessBody),
        _ => ("endless headers", Pretends, Fault::EndlessHeaders),
    }
}

/// A fault at each beat, until it is over.
pub(super) fn play(world: &World<'_>) -> Result<()> {
    let mut random = world.random(1);
    let pace = world.options.fault_every;
    let (mut due, mut release_at) = (Instant::now(), None);
    let mut since_refusal = REFUSALS_APART;
    loop {
        due += pace;
        if world.is_over_within(due.saturating_duration_since(Instant::now())) {
            return Ok(());
        }
        if release_at.is_none_or(|at| at <= Instant::now()) {
            // Whoever was kept waiting is let go, and what is held from here on gets a time of its own.
            world.server.release();
            release_at = Some(Instant::now() + pace.mul_f64(random.f64() * f64::from(LONGEST)));
        }
        let time = pace.mul_f64(random.f64() * f64::from(LONGEST));
        let (name, kind, fault) = loop {
            let fault = any(&mut random, time);
            if fault.1 != Kind::Refuses || since_refusal >= REFUSALS_APART {
                break fault;
            }
        };
        since_refusal = if kind == Kind::Refuses { 0 } else { since_refusal.saturating_add(1) };
        arm(world, name, kind, fault);
    }
}

/// The next request that is meant meets it.
fn arm(world: &World<'_>, name: &'static str, kind: Kind, fault: Fault) {
    let (met, drains) = (Arc::clone(&world.met), Arc::clone(&world.app_drains));
    world.count(super::ARMED);
    world.server.clear_faults();
    world.server.when(Some(1), fault, move |_| {
        let spared = kind == Kind::Pretends && drains.load(Ordering::SeqCst);
        if !spared {
            met.add(name);
        }
        !spared
    });
}

/// How often a fault met somebody; counted under the server's lock, so without one of its own that is held for long.
#[derive(Debug, Default)]
pub(super) struct Met {
    total: AtomicU64,
    names: std::sync::Mutex<super::Counts>,
}

impl Met {
    fn add(&self, name: &'static str) {
        self.total.fetch_add(1, Ordering::Relaxed);
        *super::locked(&self.names).entry(name).or_default() += 1;
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(super) fn by_name(&self) -> super::Counts {
        super::locked(&self.names).clone()
    }
}
