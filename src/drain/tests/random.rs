//! Thousands of seeded lives of a queue, with everything going wrong at random: replies of every kind, lost answers,
//! stamps taken by others, unbelievable maxima, rows that vanish, files that fail, kills, stops, account switches.
//!
//! What is checked at every step: rows leave only once they are stored (1), stored order is queue order and stamps rise
//! (2), what is killed loses nothing (3), the clock never falls and stays in range (4), what is acknowledged is not sent
//! again, no tick is waited for in vain, and a pass that gets nowhere makes a bounded number of requests. And at the end,
//! once faults stop: everything arrives.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use uuid::Uuid;

use super::world::{RULES, Server, Table, status};
use crate::drain::Pass;
use crate::drain::action::*;
use crate::drain::memory::{Memory, Uplink};
use crate::op::*;

/// Lives. Their seeds are `0..LIVES`; a failure names its own.
const LIVES: u64 = 2_000;
/// Requests of one pass that neither stores nor quarantines anything.
const IDLE_REQUESTS: usize = 40;
/// Seeds that once failed, kept for good.
const ONCE_FAILED: [u64; 0] = [];

#[test]
fn whatever_goes_wrong_everything_arrives_once_and_in_order() {
    for seed in ONCE_FAILED.into_iter().chain(0..LIVES) {
        let told = Told(seed);
        Life::new(seed).live();
        drop(told);
    }
}

/// Names the seed when its life ends in a panic.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

/// One queue, its server and its agent.
struct Life {
    rng: Rng,
    table: Table,
    server: Server,
    memory: Memory,
    uplink: Uplink,
    now: Duration,
    /// In a hundred requests, so many go wrong.
    faults: u8,
    /// Bodies of more ops than this never get through.
    narrow: Option<(usize, bool)>,
    next_id: i64,
    /// Ops that have to arrive.
    expected: BTreeSet<i64>,
    /// Ops that may come later than the ones behind them: probed, quarantined or held once.
    exempt: BTreeSet<i64>,
    /// Refused alone, by a fault that passes; a second time would be proof.
    blamed: BTreeSet<i64>,
    /// Stamp of the last op that was stored in its turn.
    highest: i64,
    requests: usize,
}

/// What is under way.
#[derive(Default)]
struct Lanes {
    asked: Option<Request>,
    sent: Option<Vec<Op>>,
    /// What the rows read last were picked by.
    probe: bool,
}

fn uuid(id: i64) -> Uuid {
    Uuid::from_u128(u128::from(id.unsigned_abs()) | 1 << 100)
}

fn row_of(uuid: &Uuid) -> i64 {
    i64::try_from(uuid.as_u128() & u128::from(u64::MAX)).unwrap()
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut life = Self {
            table: Table::with(0),
            server: Server::default(),
            memory: Memory::default(),
            uplink: Uplink::new(RULES.batch_bytes),
            now: Duration::from_secs(1_000),
            faults: rng.u8(0..40),
            narrow: rng.bool().then(|| (rng.usize(4..12), rng.bool())),
            next_id: 1,
            expected: BTreeSet::new(),
            exempt: BTreeSet::new(),
            blamed: BTreeSet::new(),
            highest: 0,
            requests: 0,
            rng,
        };
        life.table.stride = life.rng.usize(1..8);
        life.enqueue();
        life
    }

    fn live(mut self) {
        for _ in 0..self.rng.usize(1..8) {
            self.between_passes();
            self.pass(true);
        }
        // From here on nothing new goes wrong.
        self.faults = 0;
        self.server.told_max = None;
        self.exempt.extend(std::mem::take(&mut self.table.held));
        (self.server.poison, self.server.refused) = (BTreeSet::new(), BTreeSet::new());
        self.table.rows.values_mut().for_each(|row| row.sick = false);
        for _ in 0..60 {
            self.now += Duration::from_secs(400);
            self.table.due = self.table.quarantined.keys().copied().collect();
            let outcome = self.pass(false).expect("nothing kills it");
            if outcome.remaining == 0 && outcome.quarantined == 0 {
                break;
            }
        }
        assert!(self.table.rows.is_empty(), "{:?} never arrive", self.table.rows.keys());
        let arrived: BTreeSet<i64> = self.server.order.iter().map(row_of).collect();
        assert_eq!(self.server.order.len(), arrived.len(), "stored twice");
        assert!(arrived.is_superset(&self.expected), "lost: {:?}", self.expected.difference(&arrived));
    }

    fn between_passes(&mut self) {
        self.now += Duration::from_millis(self.rng.u64(0..400_000));
        self.enqueue();
        if self.rng.u8(0..4) == 0 {
            self.table.due = self.table.quarantined.keys().copied().collect();
        }
        if self.rng.u8(0..3) == 0 {
            // Whoever comes back releases what was held, in its place, behind what has gone.
            self.exempt.extend(std::mem::take(&mut self.table.held));
        }
        self.server.told_max = match self.rng.u8(0..6) {
            0 => Some(i64::MAX),
            1 => Some(1 << 31),
            _ => None,
        };
        if self.rng.u8(0..3) == 0 {
            // Another profile of the same device: its own clock, the same stamps.
            let from = self.table.clock - self.rng.i64(0..20);
            self.server.stamps.extend(from.max(1)..=from + self.rng.i64(0..60));
        }
    }

    fn enqueue(&mut self) {
        for _ in 0..self.rng.usize(0..30) {
            let id = self.next_id;
            self.next_id += 1 + i64::from(self.rng.u8(0..20) == 0);
            let stamp = self.table.clock + 1;
            self.table.add(id, stamp);
            self.expected.insert(id);
            match self.rng.u8(0..60) {
                0 => drop(self.server.refused.insert(uuid(id))),
                1 => drop(self.server.poison.insert(uuid(id))),
                2 => {
                    self.table.rows.get_mut(&id).unwrap().sick = true;
                    self.exempt.insert(id);
                }
                3 => self.table.rows.get_mut(&id).unwrap().doomed = true,
                4 => drop(self.table.held.insert(id)),
                _ => {}
            }
        }
    }

    /// `None` where it was killed.
    fn pass(&mut self, rough: bool) -> Option<Outcome> {
        let mut pass = Pass::new(RULES, self.memory.clone(), self.uplink.clone());
        let mut lanes = Lanes::default();
        let (mut idle_requests, mut progress) = (0, self.progress());
        for _ in 0..100_000 {
            while let Some(action) = pass.next(self.now) {
                match action {
                    Action::Finish(outcome) => {
                        (self.memory, self.uplink) = pass.into_memory();
                        return Some(outcome);
                    }
                    Action::Store(request) => assert!(lanes.asked.replace(request).is_none()),
                    Action::Send(batch) => {
                        self.check_batch(&pass, &batch.ops);
                        assert!(lanes.sent.replace(batch.ops).is_none());
                    }
                    Action::SendEmpty => assert!(lanes.sent.replace(Vec::new()).is_none()),
                }
            }
            assert!(lanes.asked.is_some() || lanes.sent.is_some(), "a pass that waits for nothing");
            assert!(pass.deadline().is_none_or(|at| at > self.now), "a tick that is due changes nothing");
            if rough && self.rng.u16(0..400) == 0 {
                self.die(lanes);
                return None;
            }
            let event = self.event(&mut lanes, rough);
            pass.on(event, self.now);
            if std::mem::replace(&mut progress, self.progress()) != progress {
                (idle_requests, self.requests) = (0, 0);
            }
            idle_requests = idle_requests.max(self.requests);
            assert!(idle_requests <= IDLE_REQUESTS, "{idle_requests} requests without progress");
        }
        panic!("the pass does not end");
    }

    fn progress(&self) -> (usize, usize, usize, i64) {
        (self.server.order.len(), self.table.rows.len(), self.table.quarantined.len(), self.table.clock)
    }

    /// Killed: the database did what it was asked or not, the server got what was sent or not.
    fn die(&mut self, lanes: Lanes) {
        if let Some(ops) = lanes.sent.filter(|_| self.rng.bool()) {
            self.store(&ops, lanes.probe);
        }
        if let Some(request) = lanes.asked.filter(|_| self.rng.bool()) {
            let _ = self.perform(&request);
        }
        self.memory = Memory::default();
    }

    fn event(&mut self, lanes: &mut Lanes, rough: bool) -> Event {
        self.now += Duration::from_millis(self.rng.u64(0..300));
        if rough {
            match self.rng.u16(0..600) {
                0 => return Event::Stop,
                1..10 => return Event::Tick,
                10..16 => self.drain_of_the_app(),
                16..20 => self.discard(),
                20..28 => self.enqueue(),
                _ => {}
            }
        }
        let store_first = lanes.sent.is_none() || self.rng.bool();
        if let Some(request) = lanes.asked.take_if(|_| store_first) {
            if let Request::Read(plan) = &request {
                lanes.probe = plan.pick != Pick::First;
            }
            if rough && self.rng.u16(0..300) == 0 {
                return Event::Stored(self.go_wrong(&request));
            }
            return Event::Stored(self.perform(&request));
        }
        if let Some(ops) = lanes.sent.take() {
            return Event::Replied(self.reply(&ops, lanes.probe));
        }
        Event::Tick
    }

    fn go_wrong(&mut self, request: &Request) -> Result<Answer, StoreError> {
        if matches!(request, Request::Read(_)) && self.rng.bool() {
            return Ok(Answer::AccountChanged);
        }
        let gone = self.rng.u8(0..3) == 0;
        if gone {
            // The same rows in another file: imported from an export.
            self.table.snapshot.file += 1;
        }
        let kind = if gone { StoreErrorKind::Gone } else { StoreErrorKind::Failed };
        Err(StoreError { kind, message: "on purpose".into() })
    }

    fn perform(&mut self, request: &Request) -> Result<Answer, StoreError> {
        let clock = self.table.clock;
        let before = self.table.rows.len();
        let acked: Vec<i64> = match request {
            Request::Settle(acks) => acks.iter().map(|ack| ack.id).collect(),
            _ => Vec::new(),
        };
        let answer = self.table.perform(request);
        assert!(self.table.clock >= clock && self.table.clock < STAMP_LIMIT, "the clock fell or left its range");
        assert!(self.table.rows.len() == before || !acked.is_empty(), "only settling takes rows away");
        for id in acked {
            assert!(self.server.stored.contains_key(&uuid(id)), "row {id} left without being stored");
        }
        if let Request::Quarantine(refusals) = request {
            for id in refusals.iter().map(|refusal| refusal.id) {
                let sick = self.table.rows.get(&id).is_none_or(|row| row.sick);
                let guilty = self.server.poison.contains(&uuid(id)) || self.server.refused.contains(&uuid(id));
                assert!(sick || guilty, "healthy row {id} in quarantine");
                self.exempt.insert(id);
            }
        }
        self.table.log.clear();
        answer
    }

    fn check_batch(&mut self, pass: &Pass, ops: &[Op]) {
        assert!(ops.is_sorted_by(|a, b| a.id < b.id && a.stamp < b.stamp), "a batch out of order");
        assert!(ops.len() <= RULES.batch_ops);
        for op in ops {
            assert!(pass.memory.acked.iter().all(|ack| ack.id != op.id), "row {} is accepted already", op.id);
            assert!(!self.table.held.contains(&op.id), "row {} is held", op.id);
        }
    }

    fn reply(&mut self, ops: &[Op], probe: bool) -> Reply {
        self.requests += 1;
        if let Some((most, refuses)) = self.narrow
            && ops.len() > most
        {
            let slow = Reply::Failed { kind: FailedKind::Timeout, words: "too slow".into() };
            return if refuses { status(413, "too large") } else { slow };
        }
        if self.rng.u8(0..100) >= self.faults {
            return self.store(ops, probe);
        }
        let failed = |kind| Reply::Failed { kind, words: "on purpose".into() };
        let fault = self.rng.u8(0..14);
        // A fault that passes looks like the op's own where it hits the same op alone twice.
        let alone = ops.len() <= 1;
        let blames = alone && ops.first().is_none_or(|op| !self.blamed.insert(op.id));
        match fault {
            0 => {
                self.store(ops, probe);
                failed(FailedKind::Network)
            }
            1 => {
                self.store(ops, probe);
                failed(FailedKind::Timeout)
            }
            2 => failed(FailedKind::Sending),
            3 => failed(FailedKind::Tls),
            4 => status(200, "an HTML page"),
            5 => status(302, "to a login page"),
            6 => status(401, ""),
            7 => Reply::Status { status: 429, retry_after: Some(Duration::from_secs(5)), words: String::new() },
            8 => status(404, ""),
            9 => Reply::Regression { device_id: "else".into(), stored_max: 7, offending: 7 },
            10 if !ops.is_empty() => match self.store(ops, probe) {
                Reply::Accepted(ids) => Reply::Accepted(ids.into_iter().filter(|_| self.rng.bool()).collect()),
                other => other,
            },
            11 if !blames => status(*self.rng.choice(&[400, 413, 415, 422]).unwrap(), "a hiccup"),
            12 if !blames => status(500, "deadlock"),
            _ => status(503, "a proxy"),
        }
    }

    /// The server's own answer, and the check of what it stored in which order.
    fn store(&mut self, ops: &[Op], probe: bool) -> Reply {
        let before = self.server.order.len();
        let reply = self.server.answer(ops);
        let stored: Vec<i64> = self.server.order[before..].iter().map(row_of).collect();
        for id in stored {
            if probe {
                self.exempt.insert(id);
            }
            if self.exempt.contains(&id) {
                continue;
            }
            let waits = |(other, row): &(&i64, &super::world::Row)| {
                let passed_by = self.table.held.contains(other) || self.exempt.contains(other);
                !passed_by && !self.server.stored.contains_key(&row.uuid)
            };
            let overtaken = self.table.rows.range(..id).find(waits);
            assert!(overtaken.is_none(), "row {id} is stored before row {}", overtaken.unwrap().0);
            let stamp = self.server.stored[&uuid(id)];
            assert!(stamp > self.highest, "row {id} has stamp {stamp}, and {} was stored before it", self.highest);
            self.highest = stamp;
        }
        reply
    }

    /// The app drains its first rows itself: whatever they are, and deletes them all.
    fn drain_of_the_app(&mut self) {
        let device = self.rng.usize(1..15);
        let first = self.table.rows.iter().take(device);
        let ops: Vec<Op> = first
            .map(|(id, row)| Op {
                id: *id,
                operation_id: OperationId::Canonical(row.uuid),
                stamp: row.stamp,
                pair: None,
                doomed: false,
            })
            .collect();
        // It knows nothing of hold and quarantine.
        self.exempt.extend(ops.iter().map(|op| op.id).filter(|id| self.table.held.contains(id)));
        if matches!(self.store(&ops, false), Reply::Accepted(_)) {
            self.table.rows.retain(|id, _| ops.iter().all(|op| op.id != *id));
        }
    }

    /// A row goes by the user's will.
    fn discard(&mut self) {
        let ids: Vec<i64> = self.table.rows.keys().copied().collect();
        if let Some(id) = self.rng.choice(&ids) {
            self.table.rows.remove(id);
            self.expected.remove(id);
            // Perhaps it is on its way already.
            self.exempt.insert(*id);
            self.table.quarantined.remove(id);
        }
    }
}
