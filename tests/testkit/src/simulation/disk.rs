//! The app's files, made up: what `app.db` and each `data.db` hold, by the rules that `SQLite` and the app's schema have.
//!
//! What must always hold: operation ids and stamps are unique within a queue; an `id` is given once within one file; a
//! file that is replaced has another inode; whoever commits moves the version that others see, and not its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;
use waveflow_sync_agent::op::Pair;

use super::agenda::Micros;

/// What a server makes of an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// It takes it.
    Healthy,
    /// It takes it, and the agent believes that it will not: it travels alone.
    Lone,
    /// 500 for ever.
    Poison,
    /// The same, and the agent knows beforehand.
    Doomed,
    /// 422 for ever.
    Refused,
    /// It cannot be put into a request at all.
    Sick,
}

impl Nature {
    /// Whether it can arrive.
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Healthy | Self::Lone)
    }
}

/// A row of `sync_pending_op`.
#[derive(Debug, Clone)]
pub struct Row {
    /// `operation_id`.
    pub operation_id: Uuid,
    /// `lamport_ts`.
    pub stamp: i64,
    /// `hlc_wall` and `hlc_logical`.
    pub pair: Option<Pair>,
    /// `created_at`, ms.
    pub created_at: i64,
    /// What becomes of it.
    pub nature: Nature,
    /// How long it is in a body.
    pub bytes: usize,
    /// `last_attempt_at` and `last_error`.
    pub marked: Option<(i64, Arc<str>)>,
    /// Since when it stands in this file.
    pub since: Micros,
}

/// The row of `auth_credential`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// Whose token.
    pub user: usize,
    /// Which of that user's.
    pub serial: u64,
    /// ms.
    pub created_at: i64,
    /// ms.
    pub updated_at: i64,
}

/// One `data.db`.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Which file.
    pub inode: u64,
    /// The queue.
    pub rows: BTreeMap<i64, Row>,
    /// `sqlite_sequence`.
    pub sequence: i64,
    /// `sync.lamport_local_max`.
    pub lamport: Option<i64>,
    /// `sync.hlc.last_wall` and `…last_logical`.
    pub hybrid: (Option<i64>, Option<i64>),
    /// `sync.mode` is `local`.
    pub local: bool,
    /// Who is signed in.
    pub login: Option<Login>,
    /// The queue has the columns for pairs.
    pub pairs: bool,
    /// There is a queue.
    pub queue: bool,
    /// Commits by the app, as another connection sees them.
    pub foreign: u64,
    /// Writes to the log, and when the last was (µs of the wall clock).
    pub log: (u64, i64),
    /// Somebody else holds the write lock until then.
    pub locked_until: Micros,
}

impl DataFile {
    /// An empty one.
    pub fn new(inode: u64, pairs: bool) -> Self {
        Self {
            inode,
            rows: BTreeMap::new(),
            sequence: 0,
            lamport: None,
            hybrid: (None, None),
            local: false,
            login: None,
            pairs,
            queue: true,
            foreign: 0,
            log: (0, 0),
            locked_until: 0,
        }
    }

    /// Adds a row as the app does; `None` where its stamp is in use, and the app's action fails.
    pub fn insert(&mut self, row: Row) -> Option<i64> {
        if self.rows.values().any(|other| other.stamp == row.stamp) {
            return None;
        }
        self.sequence += 1;
        self.rows.insert(self.sequence, row);
        Some(self.sequence)
    }

    /// Becomes what `backup` was, in place: another connection sees a commit.
    pub fn restore(&mut self, backup: &Self, now: Micros) {
        let (inode, foreign, log) = (self.inode, self.foreign, self.log);
        *self = Self { inode, foreign, log, ..backup.clone() };
        self.rows.values_mut().for_each(|row| row.since = now);
    }
}

/// One profile.
#[derive(Debug, Clone)]
pub struct ProfileDir {
    /// `app.db` lists it.
    pub listed: bool,
    /// Its `data.db`.
    pub file: Option<DataFile>,
    /// `canonical_id`, where it is filled in.
    pub canonical_id: Option<String>,
    /// What a backup kept, oldest first.
    pub backups: Vec<DataFile>,
}

/// Everything.
#[derive(Debug)]
pub struct Disk {
    /// Which server the app names.
    pub url: Option<usize>,
    /// `sync.device_id`.
    pub device: Option<String>,
    /// The `profile` table has the column `canonical_id`.
    pub canonical_column: bool,
    /// Commits to `app.db`, and writes to its log.
    pub app_commits: u64,
    /// When the last of them was (µs of the wall clock).
    pub app_written: i64,
    /// The profiles.
    pub profiles: Vec<ProfileDir>,
    /// Inodes given out.
    pub inodes: u64,
    /// In a thousand accesses, so many fail.
    pub faulty: u16,
    /// No write gets through.
    pub full: bool,
}

impl Disk {
    /// Without profiles.
    pub fn new() -> Self {
        Self {
            url: None,
            device: None,
            canonical_column: true,
            app_commits: 0,
            app_written: 0,
            profiles: Vec::new(),
            inodes: 0,
            faulty: 0,
            full: false,
        }
    }

    /// A number no file had before.
    pub fn inode(&mut self) -> u64 {
        self.inodes += 1;
        self.inodes
    }

    /// The database of a profile, where it is there.
    pub fn data(&mut self, profile: usize) -> Option<&mut DataFile> {
        self.profiles.get_mut(profile).and_then(|profile| profile.file.as_mut())
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}
