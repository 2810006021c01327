//! What the pass asks for and what it is told: [`Action`] out, [`Event`] in. Data only.
//!
//! What must always hold: at most one [`Request`] and one request to the server are under way at a time, so that every
//! [`Event`] belongs to the one that is; a [`Request`] is one transaction at the most, so that "killed between two
//! requests" and "killed between two writes" are the same thing.

use super::run::Run;
use crate::op::{Batch, OperationId, Outcome, Reply};

/// Something to perform.
#[derive(Debug)]
pub enum Action {
    /// On the database thread.
    Store(Request),
    /// A batch to the server. [`Event::Replied`] follows.
    Send(Batch),
    /// `{"ops":[]}` to the server: only a waveflow-server answers it with `{"accepted":[]}`.
    SendEmpty,
    /// The pass is over.
    Finish(Outcome),
}

/// Something for the database thread; each is answered by the [`Answer`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Open the profile, look at everything the gates need, write down a change of account.
    Begin,
    /// Create the device id if there is none.
    EnsureDevice,
    /// Read rows, together with the token they will travel under.
    Read(Plan),
    /// Delete rows the server has accepted, as many as one short transaction holds.
    Settle(Settlement),
    /// Write an attempt and its failure into the rows' bookkeeping columns.
    Mark {
        /// Rows.
        ids: Vec<i64>,
        /// Becomes `last_error`.
        words: String,
    },
    /// Raise a clock, so that the block of fresh stamps below it is ours.
    Reserve(Reserve),
    /// Give stamps of a reserved block to rows, last row first, as many as one short transaction holds.
    Assign(Block),
    /// Write refused ops into the state file, then a copy of the words into their rows.
    Quarantine(Vec<Refusal>),
    /// A quarantined op was tried again and refused again: note when.
    StillRefused(Refusal),
    /// A quarantined op was accepted, or its row is gone.
    Release(OperationId),
    /// Count what is left and write down whose it is.
    Close,
}

/// Which rows to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Rows with a higher `id`.
    pub after: i64,
    /// Rows up to this `id`.
    pub until: i64,
    /// At most so many.
    pub max_ops: usize,
    /// At most so long a body; the first row is taken whatever its length.
    pub max_bytes: usize,
    /// Which of them.
    pub pick: Pick,
    /// Rows that travel alone although they look healthy.
    pub alone: Vec<i64>,
    /// The batch ends before a row whose stamp is not above this and above the row before it. `None`: any stamp.
    pub above: Option<i64>,
}

/// Which of the admitted rows to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The first ones.
    First,
    /// The one behind so many others.
    Nth(usize),
    /// The last one.
    Newest,
    /// The row itself, although it is quarantined.
    Quarantined,
}

/// What a read found.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The rows and the request they make.
    pub batch: Batch,
    /// Rows that cannot be put into a request at all.
    pub sick: Vec<Refusal>,
    /// The first row whose stamp does not rise, where that ended the batch.
    pub disorder: Option<i64>,
    /// The highest `id` that was looked at and needs no second look.
    pub cursor: i64,
    /// No row is left up to `until`.
    pub end: bool,
    /// A row up to `cursor` is in neither: it is held, quarantined, or passed over.
    pub stays: bool,
}

/// Rows the server has accepted, to be taken off the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// In the order of the queue.
    pub runs: Vec<Run>,
    /// As far as the pass knows little else is left in the queue, so that these may go all at once. Whoever does it proves
    /// it first.
    pub whole: bool,
    /// Some other row is known to be left.
    pub stays: bool,
}

/// What became of a [`Settlement`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// What one short transaction did not hold, in order.
    pub left: Vec<Run>,
    /// Rows of runs between whose ends lay others than those that were accepted; these were left as they are, and are in
    /// `left` no more.
    pub strange: usize,
    /// For [`Settlement::whole`]: it is not so.
    pub crowded: bool,
    /// Nobody else had the file open: nobody waits for the lock, and nobody sees what is still in the queue.
    pub alone: bool,
}

/// An op that was refused, and by which words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Row.
    pub id: i64,
    /// Op.
    pub operation_id: OperationId,
    /// The server's words, or ours.
    pub words: String,
}

/// Which clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// `sync.lamport_local_max` and `lamport_ts`.
    Lamport,
    /// `sync.hlc.*` and `hlc_wall`, `hlc_logical`.
    Hybrid,
}

/// Room to reserve above a clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// Which clock.
    pub clock: Clock,
    /// First row that needs a fresh stamp; all behind it get one too, lest it overtake them.
    pub from: i64,
    /// This row alone (a quarantined op that is tried again).
    pub alone: bool,
    /// The block lies above this (and above the local clock and every stamp in the queue).
    pub floor: i64,
    /// And by so much more.
    pub step: i64,
    /// `last_error` of the first row; `None` where no server spoke.
    pub words: Option<String>,
}

/// Fresh stamps for the rows `from..=last`, `top` being the last row's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Which clock.
    pub clock: Clock,
    /// First row.
    pub from: i64,
    /// Last row that still has to get one.
    pub last: i64,
    /// The last row's stamp, or its logical counter.
    pub top: i64,
    /// The wall of a hybrid pair; 0 for Lamport stamps.
    pub wall: i64,
}

/// What the database thread found or did.
#[derive(Debug)]
pub enum Answer {
    /// For [`Request::Begin`].
    Begun(Snapshot),
    /// For [`Request::EnsureDevice`].
    DeviceReady(String),
    /// For [`Request::Read`].
    Rows(Rows),
    /// For [`Request::Read`]: the token is another one than at the pass's start.
    AccountChanged,
    /// For [`Request::Reserve`]; `None` where no row is left to stamp.
    Reserved(Option<Block>),
    /// For [`Request::Assign`]: what is left to do.
    Assigned(Option<Block>),
    /// For [`Request::Settle`].
    Settled(Settled),
    /// For [`Request::Close`].
    Closed(Counts),
    /// For every other request.
    Done,
}

/// What the gates look at.
#[expect(clippy::struct_excessive_bools, reason = "each is a gate of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// `pause` is in force.
    pub paused: bool,
    /// The queue table is there.
    pub queue: bool,
    /// There is a server URL.
    pub url: bool,
    /// There is a token.
    pub token: bool,
    /// `sync.mode` is `local`.
    pub local_mode: bool,
    /// The `canonical_id` column is there and NULL.
    pub canonical_missing: bool,
    /// The device id, where there is one.
    pub device: Option<String>,
    /// The highest `id` in the queue; `None` where it is empty.
    pub newest: Option<i64>,
    /// Quarantined rows whose daily try is due.
    pub due: Vec<i64>,
    /// Which file this is; acknowledgements of another one are worth nothing.
    pub file: u64,
}

/// What is left when a pass ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rows waiting to be sent.
    pub remaining: u64,
    /// Rows a server refused.
    pub quarantined: u64,
    /// Rows of another or an unknown account.
    pub held: u64,
    /// When the oldest row that waits to be sent was queued, ms.
    pub oldest: Option<i64>,
}

/// Why the database thread could not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// What the pass does about it.
    pub kind: StoreErrorKind,
    /// For people: what failed, on which file.
    pub message: String,
}

/// What the pass does about a failure of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Another file stands in the place of the one that was opened, or of its log, or none: nothing known of the old one
    /// is worth anything.
    Gone,
    /// No stamp is left below 2^31.
    ClockExhausted,
    /// What is open may be of no use any more: it was opened for reading alone, it is damaged, or its log is; whatever
    /// `SQLite` says but busy, locked and full. It is opened again for the next pass. What was acknowledged stays known.
    Broken,
    /// Anything else: busy, full. What was acknowledged stays known.
    Failed,
}

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// The database thread is done.
    Stored(Result<Answer, StoreError>),
    /// The server answered, or did not.
    Replied(Reply),
    /// The server that is now known asked to be left alone, and these are the words for it: nothing is sent.
    NotYet(String),
    /// Nothing but time.
    Tick,
    /// Shut down: begin nothing new.
    Stop,
}
