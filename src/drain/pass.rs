//! One pass over one profile's queue: gates, then batches in queue order until the row that was the newest when the
//! pass began, then quarantined ops whose daily try is due, then the outcome.
//!
//! What must always hold: while a batch is on the wire the next one may be read, never sent; nothing is read while a
//! chore (settle, re-stamp, quarantine) waits, so that a read sees what was decided; every way out goes through
//! `Step::Close`.

use std::collections::VecDeque;
use std::time::Duration;

use super::action::{Action, Answer, Block, Clock, Event, Pick, Plan, Refusal, Request, Reserve, Rows, Snapshot};
use super::gate;
use super::memory::{Memory, Uplink};
use super::suspect::Suspect;
use crate::op::{Batch, ErrorKind, Failure, Next, Op, Outcome, SERVER_MAX_OPS};

/// Stamps out of order are mended in place; more often than this in one pass and something else rewrites them.
const MENDS_MAX: u32 = 3;

/// What the user configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// `drain.batch_ops`.
    pub batch_ops: usize,
    /// `drain.batch_bytes`.
    pub batch_bytes: usize,
    /// `retry.max`: an isolation that proved nothing is not repeated sooner.
    pub isolate_every: Duration,
}

/// Where a pass stands.
#[derive(Debug)]
pub(super) enum Step {
    Begin,
    Device,
    Stream,
    /// One op failed alone; is it the op?
    Suspect(Suspect),
    /// A quarantined op's daily try.
    Due(i64),
    Close,
    Finish(Box<Outcome>),
    Over,
}

/// Rows of which one at least failed; they are tried half by half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    /// 500 instead of a refusal.
    pub(super) broken: bool,
    /// Its last row.
    pub(super) end: i64,
    /// Its rows, as far as known.
    pub(super) left: usize,
}

/// A request that is on its way.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) ops: Vec<Op>,
    pub(super) bytes: usize,
    /// Where to read again if it failed.
    pub(super) resume: Place,
}

/// Where reading stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// The highest row that is dealt with.
    pub(super) cursor: i64,
    /// The last stamp that was read; the next has to be above it.
    pub(super) above: i64,
}

/// Why the pass ends, once it does.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) failure: Option<Failure>,
    pub(super) next: Next,
}

/// The state machine; see the module.
#[expect(clippy::struct_excessive_bools, reason = "each is true of a pass by itself, at any step")]
#[derive(Debug)]
pub struct Pass {
    pub(super) rules: Rules,
    pub(super) memory: Memory,
    pub(super) uplink: Uplink,
    pub(super) step: Step,
    pub(super) device: String,
    pub(super) place: Place,
    until: i64,
    /// No row is left up to `until`.
    pub(super) end: bool,
    pub(super) region: Option<Region>,
    /// Rows that failed alone with 500 while a later one was accepted.
    pub(super) suspects: Vec<i64>,
    /// An op behind a failing one was accepted in this pass: the server lives.
    pub(super) alive: bool,
    due: VecDeque<i64>,
    pub(super) chores: VecDeque<Request>,
    pub(super) asked: Option<Request>,
    /// What is being read was decided before something changed.
    pub(super) stale_read: bool,
    pub(super) wire: Option<Wire>,
    pub(super) ahead: Option<(Batch, Place)>,
    /// Accepted rows have to leave the queue before anything is read.
    pub(super) owed: bool,
    /// So many runs, from the first, have waited for a second; none where that is not looked at yet.
    pub(super) late: usize,
    /// When the oldest acknowledgement came that is not settled.
    pub(super) oldest_ack: Option<Duration>,
    /// No short transaction before this.
    pub(super) rest_until: Option<Duration>,
    /// Rows stay behind that were not sent.
    pub(super) stays: bool,
    /// It was asked to end.
    pub(super) stopped: bool,
    /// Then: how long it may settle.
    pub(super) settle_until: Option<Duration>,
    /// They are too many for the rest to go at once.
    pub(super) crowded: bool,
    /// Rows that were accepted are other ones by now: they have to be looked at again.
    pub(super) again: bool,
    pub(super) sent: u64,
    pub(super) ending: Option<Ending>,
    mends: u32,
    /// It ends because the server is to be left alone, which matters only where something waits.
    pub(super) not_yet: bool,
}

impl Pass {
    /// A pass that begins where `memory` and `uplink` left off.
    pub fn new(rules: Rules, memory: Memory, uplink: Uplink) -> Self {
        Self {
            rules,
            memory,
            uplink,
            step: Step::Begin,
            device: String::new(),
            place: Place::default(),
            until: 0,
            end: false,
            region: None,
            suspects: Vec::new(),
            alive: false,
            due: VecDeque::new(),
            chores: VecDeque::new(),
            asked: None,
            stale_read: false,
            wire: None,
            ahead: None,
            owed: false,
            late: 0,
            oldest_ack: None,
            rest_until: None,
            stays: false,
            stopped: false,
            settle_until: None,
            crowded: false,
            again: false,
            sent: 0,
            ending: None,
            mends: 0,
            not_yet: false,
        }
    }

    /// Ops the server accepted so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The server is known now: what works on the way to it.
    pub fn adopt(&mut self, uplink: Uplink) {
        self.uplink = uplink;
    }

    /// What the next pass begins with.
    pub fn into_memory(self) -> (Memory, Uplink) {
        (self.memory, self.uplink)
    }

    /// What to do next, if anything: call until `None`. `now` is monotonic.
    pub fn next(&mut self, now: Duration) -> Option<Action> {
        let gives_up = self.gives_up(now);
        self.owed &= !gives_up;
        if let Some(action) = self.next_owed(now) {
            return Some(action);
        }
        let idle = self.asked.is_none() && self.wire.is_none() && !self.owes();
        if self.ending.is_some() && !matches!(self.step, Step::Close | Step::Finish(_) | Step::Over) {
            if !idle {
                return None;
            }
            self.step = Step::Close;
        }
        match &mut self.step {
            Step::Stream => self.next_in_stream(now),
            _ if !idle => None,
            Step::Begin => Some(self.ask(Request::Begin)),
            Step::Device => Some(self.ask(Request::EnsureDevice)),
            Step::Suspect(_) => self.next_for_suspect(now),
            Step::Due(_) if self.ahead.is_some() => self.take_ahead(),
            Step::Due(id) => {
                let plan = Plan { after: *id - 1, until: *id, ..single(&self.rules, Pick::Quarantined) };
                Some(self.ask(Request::Read(plan)))
            }
            Step::Close if gives_up || self.memory.acked.is_empty() => Some(self.ask(Request::Close)),
            Step::Close => self.settle_last(now),
            Step::Finish(outcome) => {
                let outcome = (**outcome).clone();
                self.step = Step::Over;
                Some(Action::Finish(outcome))
            }
            Step::Over => None,
        }
    }

    /// Takes note of what happened at `now`.
    pub fn on(&mut self, event: Event, now: Duration) {
        match event {
            Event::Stored(result) => {
                let asked = self.asked.take();
                match (asked, result) {
                    (Some(asked), Ok(answer)) => self.stored(&asked, answer, now),
                    (Some(asked), Err(error)) => self.not_stored(&asked, error),
                    (None, _) => {}
                }
            }
            Event::Replied(reply) => self.replied(reply, now),
            Event::Tick => {}
            Event::NotYet(words) => {
                self.fail(ErrorKind::Server, words, Next::Now);
                self.not_yet = true;
            }
            Event::Stop => {
                self.stopped = true;
                self.end(None, Next::WhenWoken);
            }
        }
    }

    pub(super) fn ask(&mut self, request: Request) -> Action {
        self.asked = Some(request.clone());
        Action::Store(request)
    }

    /// Puts a request on the wire.
    pub(super) fn send(&mut self, batch: Batch, resume: Place) -> Action {
        self.wire = Some(Wire { ops: batch.ops.clone(), bytes: batch.body.len(), resume });
        Action::Send(batch)
    }

    fn next_in_stream(&mut self, now: Duration) -> Option<Action> {
        if self.wire.is_none()
            && let Some((batch, resume)) = self.ahead.take()
        {
            return Some(self.send(batch, resume));
        }
        if self.asked.is_some() || self.owes() {
            return None;
        }
        // Before reading on: a server that answers faster than rows are read would put it off to the queue's end.
        if let Some(action) = self.settle_late(now) {
            return Some(action);
        }
        if self.is_full() {
            return None;
        }
        let alone_on_the_way = self.wire.is_none() || self.region.is_none();
        if !self.end && self.ahead.is_none() && alone_on_the_way {
            let plan = self.plan();
            return Some(self.ask(Request::Read(plan)));
        }
        if self.end && self.wire.is_none() {
            self.step = self.due.pop_front().map_or(Step::Close, Step::Due);
            return self.next(now);
        }
        None
    }

    fn plan(&self) -> Plan {
        let (until, max_ops) = match self.region {
            Some(region) => (region.end.min(self.until), (region.left / 2).max(1)),
            None => (self.until, self.rules.batch_ops.clamp(1, SERVER_MAX_OPS)),
        };
        Plan {
            after: self.place.cursor,
            until,
            max_ops,
            max_bytes: self.uplink.bytes.min(self.rules.batch_bytes),
            pick: Pick::First,
            alone: self.suspects.clone(),
            above: Some(self.place.above),
        }
    }

    fn stored(&mut self, asked: &Request, answer: Answer, now: Duration) {
        match answer {
            Answer::Begun(snapshot) => self.begun(snapshot),
            Answer::DeviceReady(device) => {
                self.device = device;
                self.step = Step::Stream;
            }
            Answer::Rows(_) if std::mem::take(&mut self.stale_read) => {}
            Answer::Rows(rows) => self.rows(rows, now),
            Answer::AccountChanged => self.end(None, Next::Now),
            Answer::Reserved(block) => self.assign(block),
            Answer::Assigned(block) => {
                if block.is_some() {
                    self.rest(now);
                }
                self.assign(block);
            }
            Answer::Closed(counts) => self.closed(counts),
            Answer::Settled(settled) => self.settled(asked, settled, now),
            Answer::Done => {}
        }
    }

    fn assign(&mut self, block: Option<Block>) {
        if let Some(block) = block {
            self.chores.push_front(Request::Assign(block));
        }
    }

    fn begun(&mut self, snapshot: Snapshot) {
        if self.memory.file != snapshot.file {
            self.memory = Memory { file: snapshot.file, ..Memory::default() };
        }
        if let Some(reason) = gate::shut(&snapshot) {
            self.step = Step::Finish(Box::new(Outcome::skipped(reason)));
            return;
        }
        self.until = snapshot.newest.unwrap_or(0);
        self.due = snapshot.due.into();
        self.settle_all_first();
        self.step = match (snapshot.newest, snapshot.device) {
            (None, _) => Step::Close,
            (Some(_), None) => Step::Device,
            (Some(_), Some(device)) => {
                self.device = device;
                Step::Stream
            }
        };
    }

    fn rows(&mut self, rows: Rows, now: Duration) {
        let sick = !rows.sick.is_empty();
        if sick && matches!(self.step, Step::Due(_)) {
            // It is in quarantine already, and since when is to be kept.
            self.chores.extend(rows.sick.into_iter().map(Request::StillRefused));
        } else if sick {
            self.chores.push_back(Request::Quarantine(rows.sick));
        }
        match self.step {
            // A row that cannot be sent proves nothing; once it is in quarantine, the same look finds the next one.
            Step::Suspect(_) if sick && rows.batch.ops.is_empty() => return,
            Step::Suspect(_) => return self.rows_for_suspect(rows.batch, now),
            Step::Due(_) if rows.batch.ops.is_empty() => return self.next_due(),
            Step::Due(_) => {
                self.ahead = Some((rows.batch, self.place));
                return;
            }
            _ => {}
        }
        self.stays |= rows.stays;
        let resume = self.place;
        self.place.cursor = self.place.cursor.max(rows.cursor);
        if self.region.is_some() {
            // The region's end is not the pass's.
            if rows.end && rows.batch.ops.is_empty() {
                self.region = None;
            }
        } else {
            self.end = rows.end;
        }
        if let Some(last) = rows.batch.ops.last() {
            self.place.above = last.stamp;
            self.ahead = Some((rows.batch, resume));
        }
        if let Some(from) = rows.disorder {
            self.mend(from);
        }
    }

    /// Stamps in the queue itself do not rise: fresh ones from there on, before they are sent.
    fn mend(&mut self, from: i64) {
        self.mends += 1;
        if self.mends > MENDS_MAX {
            self.fail(
                ErrorKind::Clock,
                "the queue's stamps keep falling: something else rewrites them",
                Next::LocalBackOff,
            );
        } else {
            // Above what was read before it: that may have left the queue by now, and the clock may lie below it.
            let (clock, floor) = (Clock::Lamport, self.place.above);
            self.chores.push_back(Request::Reserve(Reserve { clock, from, alone: false, floor, step: 0, words: None }));
        }
    }

    /// Forgets what was read ahead and reads again from `place`.
    pub(super) fn rewind(&mut self, place: Place) {
        self.ahead = None;
        self.place = place;
        self.end = false;
        // What is being read at this moment was decided before.
        self.stale_read = matches!(self.asked, Some(Request::Read(_)));
    }

    /// Sends the batch that was read for a step of its own.
    pub(super) fn take_ahead(&mut self) -> Option<Action> {
        let (batch, resume) = self.ahead.take()?;
        Some(self.send(batch, resume))
    }

    pub(super) fn hold_ahead(&mut self, batch: Batch) {
        self.ahead = Some((batch, self.place));
    }

    /// On to the next quarantined op whose try is due.
    pub(super) fn next_due(&mut self) {
        self.step = self.due.pop_front().map_or(Step::Close, Step::Due);
    }

    /// The op is refused, with proof: on with what is behind it.
    pub(super) fn quarantine(&mut self, op: &Op, words: String) {
        let refusal = Refusal { id: op.id, operation_id: op.operation_id.clone(), words };
        self.chores.push_back(Request::Quarantine(vec![refusal]));
        self.stays = true;
        self.pass_over(op.id, 1);
    }

    /// Rows up to `id` are dealt with; `count` of the region's are.
    pub(super) fn pass_over(&mut self, id: i64, count: usize) {
        self.place.cursor = self.place.cursor.max(id);
        self.region = self.region.and_then(|region| {
            let left = region.left.saturating_sub(count);
            (left > 0 && id < region.end).then_some(Region { left, ..region })
        });
        self.step = Step::Stream;
    }
}

/// A plan for one row; `after` and `until` are the caller's to narrow.
pub(super) fn single(rules: &Rules, pick: Pick) -> Plan {
    let max_bytes = rules.batch_bytes;
    Plan { after: 0, until: i64::MAX, max_ops: 1, max_bytes, pick, alone: Vec::new(), above: None }
}
