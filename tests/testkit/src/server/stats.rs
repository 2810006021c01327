//! What the server saw and said.
//!
//! What must always hold: whatever a client has been told is already in here; and a request stops counting as in flight
//! before the first byte of its answer is written, so that a client that waits for its answers never counts twice.

use std::collections::HashMap;

use super::faults::Seen;

/// The most exchanges that are remembered; a test that makes more has gone wrong.
const MAX_EXCHANGES: usize = 200_000;

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What was asked.
    pub request: Seen,
    /// What was answered; `None`: the connection was cut, or the client went before an answer.
    pub status: Option<u16>,
    /// How many ops it stored.
    pub stored: usize,
}

/// Counters since the server started.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Requests whose head was read.
    pub requests: u64,
    /// Ops stored.
    pub stored: usize,
    /// Requests that wait for a release at this moment.
    pub held: usize,
    /// Requests that were decided, in that order.
    pub exchanges: Vec<Exchange>,
    in_flight: HashMap<String, usize>,
    peaks: HashMap<String, usize>,
}

impl Stats {
    /// Answers with this status.
    pub fn answered(&self, status: u16) -> usize {
        self.exchanges.iter().filter(|exchange| exchange.status == Some(status)).count()
    }

    /// Ids in each request, in order of decision.
    pub fn batches(&self) -> Vec<Vec<String>> {
        self.exchanges.iter().map(|exchange| exchange.request.operation_ids.clone()).collect()
    }

    /// The largest body that came.
    pub fn largest_body(&self) -> usize {
        self.exchanges.iter().map(|exchange| exchange.request.body_bytes).max().unwrap_or(0)
    }

    /// The most requests at once for one profile, over all profiles. A client that went away while the server kept it
    /// waiting counts until the server notices, a few milliseconds later.
    pub fn peak_per_profile(&self) -> usize {
        self.peaks.values().copied().max().unwrap_or(0)
    }

    /// The most requests at once for the profile with this `profile_canonical_id`.
    pub fn peak_of(&self, profile: &str) -> usize {
        self.peaks.get(profile).copied().unwrap_or(0)
    }

    pub(super) fn enter(&mut self, seen: &Seen) {
        let now = self.in_flight.entry(lane(seen)).or_default();
        *now += 1;
        let peak = self.peaks.entry(lane(seen)).or_default();
        *peak = (*peak).max(*now);
    }

    pub(super) fn leave(&mut self, seen: Seen, status: Option<u16>, stored: usize) {
        if let Some(now) = self.in_flight.get_mut(&lane(&seen)) {
            *now = now.saturating_sub(1);
        }
        if self.exchanges.len() < MAX_EXCHANGES {
            self.exchanges.push(Exchange { request: seen, status, stored });
        }
    }
}

/// What a request counts under: its profile, or where none is named (generation 1) its user and device.
fn lane(seen: &Seen) -> String {
    match &seen.profile {
        Some(profile) => profile.clone(),
        None => format!("{:?}/{:?}", seen.user, seen.device_id),
    }
}
