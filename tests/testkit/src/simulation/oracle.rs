//! What must hold, and who notices when it does not.
//!
//! What must always hold here: the first breach is kept, with its words; nothing the agent says is believed, only what
//! the files and the servers hold.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::agenda::{Micros, SECOND};
use super::disk::{Disk, Nature, Row};
use super::server::Sent;

/// Requests within a second that bring nothing forward; more is a loop.
const FUTILE_MAX: u32 = 100;

/// What is known of an op that the app committed.
#[derive(Debug, Clone)]
pub struct Known {
    /// Whose queue.
    pub profile: usize,
    /// Who was signed in when it was queued.
    pub owner: Option<usize>,
    /// What servers make of it.
    pub nature: Nature,
    /// It may come later than the ops behind it: it was held, quarantined, probed, or its place was lost.
    pub late: bool,
    /// Nobody could know whose it is, or a person let it go.
    pub free: bool,
    /// Under which account and device each server has it.
    pub stored: [Option<(usize, Uuid)>; 2],
}

impl Known {
    /// Whether any server has it.
    pub fn is_stored(&self) -> bool {
        self.stored.iter().any(Option::is_some)
    }
}

/// Keeps the books.
#[derive(Default)]
pub struct Oracle {
    /// Every op that was ever committed.
    pub ops: HashMap<Uuid, Known>,
    /// Ops whose acceptance reached the agent, and whose rows are not settled yet; with the row.
    pub acked: HashMap<(usize, Uuid), i64>,
    /// The highest stamp that was stored in its turn, by profile, server and account.
    pub highest: HashMap<(usize, usize, usize), i64>,
    /// Profiles whose clock the app itself broke: its stamps began anew, and nobody knows from where.
    pub unclocked: HashSet<usize>,
    /// Whether whose an op is can be known by the agent in this life.
    pub guarded: bool,
    /// The first breach.
    pub breach: Option<String>,
    /// Ops stored.
    pub arrived: usize,
    futile: (Micros, u32),
}

impl Oracle {
    /// Something does not hold.
    pub fn breach(&mut self, words: impl FnOnce() -> String) {
        if self.breach.is_none() {
            self.breach = Some(words());
        }
    }

    /// A request leaves the agent at `now`.
    pub fn sent(&mut self, ops: &[Sent], now: Micros) {
        if now.saturating_sub(self.futile.0) > SECOND {
            self.futile = (now, 0);
        }
        self.futile.1 += 1;
        if self.futile.1 > FUTILE_MAX {
            self.breach(|| format!("{FUTILE_MAX} requests in a second, and nothing came of them"));
        }
        if !ops.is_sorted_by(|a, b| a.row < b.row && a.stamp < b.stamp) {
            self.breach(|| format!("a batch out of order: {ops:?}"));
        }
        for op in ops {
            if self.acked.contains_key(&(op.profile, op.operation_id)) {
                self.breach(|| format!("row {} of profile {} was accepted, and is sent again", op.row, op.profile));
            }
        }
    }

    /// Rows from `first` to `last` are dealt with, whether they were still there or not.
    pub fn dealt_with(&mut self, profile: usize, first: i64, last: i64) {
        self.acked.retain(|(of, _), row| *of != profile || !(first..=last).contains(row));
    }

    /// The agent found other rows in the place of accepted ones, so it has to send what is left of them again.
    pub fn look_again(&mut self, profile: usize) {
        self.acked.retain(|(of, _), _| *of != profile);
    }

    /// Something went forward.
    pub fn progress(&mut self) {
        self.futile.1 = 0;
    }

    /// A server stored an op that the agent sent under `user`'s token as `device`.
    pub fn stored(&mut self, server: usize, op: &Sent, user: usize, device: Uuid, disk: &Disk) {
        self.progress();
        let Some(known) = self.ops.get_mut(&op.operation_id) else {
            return self.breach(|| format!("an op nobody committed is stored: {op:?}"));
        };
        let (late, free, owner) = (known.late, known.free, known.owner);
        let before = known.stored[server].replace((user, device));
        self.arrived += 1;
        if before.is_some_and(|before| self.guarded || before == (user, device)) && !free {
            self.breach(|| format!("row {} of profile {} is stored twice", op.row, op.profile));
        }
        if self.guarded && !free && owner != Some(user) {
            self.breach(|| format!("row {} of profile {} is {owner:?}'s, and stored as {user}'s", op.row, op.profile));
        }
        if !late {
            self.in_turn((op.profile, server, user), op, disk);
        }
    }

    /// Queue order is stored order, and stamps rise with it.
    fn in_turn(&mut self, place: (usize, usize, usize), op: &Sent, disk: &Disk) {
        let Some(file) = disk.profiles.get(op.profile).and_then(|profile| profile.file.as_ref()) else { return };
        // The row may be gone, or another one, since it was sent.
        let Some((row, at)) = file.rows.range(..=op.row).next_back().filter(|(_, r)| r.operation_id == op.operation_id)
        else {
            return;
        };
        // A copy that was under way for long, and has a stamp the row had before: nobody can call it back.
        let stale = at.stamp != op.stamp || at.since > op.read || self.unclocked.contains(&op.profile);
        let waits = |id: &Uuid| self.ops.get(id).is_some_and(|known| !known.late && !known.is_stored());
        // What stands there since then only (a backup came back) cannot have been sent before.
        let before = |other: &Row| other.since <= op.read && waits(&other.operation_id);
        let overtaken = file.rows.range(..row).find(|(_, other)| before(other)).map(|(id, _)| *id);
        if let Some(other) = overtaken {
            self.breach(|| format!("row {row} of profile {} is stored before row {other}", op.profile));
        }
        if stale {
            return;
        }
        let highest = self.highest.entry(place).or_default();
        let before = std::mem::replace(highest, op.stamp.max(*highest));
        if op.stamp <= before {
            self.breach(|| format!("row {row} has stamp {}, and {before} was stored before it", op.stamp));
        }
    }

    /// The agent takes a row out of the queue.
    pub fn settled(&mut self, profile: usize, id: i64, operation_id: Uuid) {
        self.progress();
        if !self.ops.get(&operation_id).is_some_and(Known::is_stored) {
            self.breach(|| format!("row {id} of profile {profile} left the queue, and no server has it"));
        }
    }

    /// What was known of a queue's stamps counts no more.
    pub fn rewound(&mut self, profile: usize) {
        self.highest.retain(|(of, ..), _| *of != profile);
    }

    /// The agent raises a Lamport clock.
    pub fn raised(&mut self, profile: usize, from: Option<i64>, to: i64) {
        self.progress();
        let valid = |value: i64| (1..1 << 31).contains(&value);
        if from.is_none_or(|from| !valid(from)) {
            self.rewound(profile);
        }
        if !valid(to) || from.is_some_and(|from| valid(from) && to < from) {
            self.breach(|| format!("the clock of profile {profile} went from {from:?} to {to}"));
        }
    }

    /// The agent puts an op into quarantine.
    pub fn quarantined(&mut self, operation_id: Uuid) {
        self.progress();
        let healthy = self.ops.get(&operation_id).is_none_or(|known| known.nature.is_healthy());
        if healthy {
            self.breach(|| format!("{operation_id} is in quarantine, and nothing is wrong with it"));
        }
        self.late(operation_id);
    }

    /// The op's place is lost, through nobody's fault.
    pub fn late(&mut self, operation_id: Uuid) {
        if let Some(known) = self.ops.get_mut(&operation_id) {
            known.late = true;
        }
    }

    /// The agent is gone, or does not know this file any more.
    pub fn forget(&mut self, profile: Option<usize>) {
        match profile {
            Some(profile) => self.acked.retain(|(of, _), _| *of != profile),
            None => self.acked.clear(),
        }
    }
}
