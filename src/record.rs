//! What the agent itself remembers between runs: [`Record`], kept by [`Keeper`] in one small file.
//!
//! What must always hold: without the file, or where it cannot be written, the agent still drains (what it knows then
//! lives as long as the process); no payload and no token is in it; every list has an end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::alert::concern::Concern;
use crate::drain::guard::Ledger;
use crate::op::OperationId;
use crate::state::StateFile;

/// Ops kept in quarantine at the most: as many as the state file surely holds. An app that makes more broken ops than
/// this needs a person.
pub const QUARANTINE_MAX: usize = 4_000;
/// Databases remembered; the least recently added are forgotten first, which holds rows and loses none.
const LEDGERS_MAX: usize = 512;
/// Servers whose working size is remembered.
const UPLINKS_MAX: usize = 16;
/// Discarded ops noted.
const DISCARDED_MAX: usize = 1_000;
/// Quarantined ops are tried again this often, in ms: what a proxy did for an hour must not need a person.
pub const TRY_AGAIN_MS: i64 = 86_400_000;

/// The state file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// `pause` is in force.
    pub paused: bool,
    /// By operation id.
    pub quarantine: BTreeMap<String, Quarantined>,
    /// Held ops that a person let go.
    pub released: BTreeSet<String>,
    /// Whose rows are whose, by the database's path.
    pub books: BTreeMap<String, Book>,
    /// Body size that works, in bytes, by the server's URL.
    pub uplinks: BTreeMap<String, usize>,
    /// Ops a person discarded, oldest first.
    pub discarded: Vec<Discarded>,
    /// What a person is told of who never looks.
    pub concern: Concern,
}

/// An op that a server refused, with proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its database.
    pub database: String,
    /// Its row.
    pub row: i64,
    /// Kind of thing.
    pub entity: String,
    /// `None` for the whole of it.
    pub field: Option<String>,
    /// When the app queued it, ms.
    pub queued_at: i64,
    /// The server's words.
    pub words: String,
    /// When, ms.
    pub since: i64,
    /// When it was tried last, ms.
    pub tried_at: i64,
    /// By which server.
    pub server: String,
}

/// A ledger, and the database it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// Which file it was.
    pub file: String,
    /// Which profile it was, where that was known.
    pub canonical_id: Option<String>,
    /// Whose rows.
    pub ledger: Ledger,
}

/// A note about an op that a person discarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// Which op.
    pub operation_id: String,
    /// Kind of thing.
    pub entity: String,
    /// `None` for the whole of it.
    pub field: Option<String>,
    /// When the app queued it, ms.
    pub queued_at: i64,
    /// Why it could not be sent.
    pub reason: String,
    /// When it was discarded, ms.
    pub at: i64,
}

impl Record {
    /// Whether there is something in it that a person decided, or has yet to decide about.
    pub fn holds_decisions(&self) -> bool {
        self.paused || !(self.quarantine.is_empty() && self.released.is_empty() && self.discarded.is_empty())
    }

    /// The ledger of the database at `path`, if it is still the same file and the same profile.
    pub fn ledger(&self, path: &str, file: &str, canonical_id: Option<&str>) -> Ledger {
        let same = |book: &&Book| {
            let other_profile = canonical_id.zip(book.canonical_id.as_deref()).is_some_and(|(a, b)| a != b);
            book.file == file && !other_profile
        };
        self.books.get(path).filter(same).map_or_else(Ledger::default, |book| book.ledger.clone())
    }

    /// Remembers it.
    pub fn set_ledger(&mut self, path: &str, file: &str, canonical_id: Option<&str>, ledger: Ledger) {
        if self.books.len() >= LEDGERS_MAX && !self.books.contains_key(path) {
            self.books.pop_first();
        }
        let book = Book { file: file.to_owned(), canonical_id: canonical_id.map(str::to_owned), ledger };
        self.books.insert(path.to_owned(), book);
    }

    /// Puts an op into quarantine; `false` where it is full.
    pub fn quarantine(&mut self, operation_id: &OperationId, entry: Quarantined) -> bool {
        let key = operation_id.to_string();
        let room = self.quarantine.len() < QUARANTINE_MAX || self.quarantine.contains_key(&key);
        if room {
            self.released.remove(&key);
            self.quarantine.insert(key, entry);
        }
        room
    }

    /// A quarantined op was tried again at `now` (ms) by `server`, and refused again.
    pub fn still_refused(&mut self, operation_id: &OperationId, words: String, server: String, now: i64) {
        if let Some(entry) = self.quarantine.get_mut(&operation_id.to_string()) {
            (entry.tried_at, entry.words, entry.server) = (now, words, server);
        }
    }

    /// Quarantined ops of the database at `path`.
    pub fn quarantined_in(&self, path: &str) -> impl Iterator<Item = (OperationId, &Quarantined)> {
        self.quarantine
            .iter()
            .filter(move |(_, entry)| entry.database == path)
            .map(|(key, entry)| (OperationId::new(key), entry))
    }

    /// An op is not quarantined or held any more: accepted, gone, or discarded.
    pub fn forget(&mut self, operation_id: &OperationId) {
        let key = operation_id.to_string();
        self.quarantine.remove(&key);
        self.released.remove(&key);
    }

    /// `queue retry`: the op takes part again, in its place. `None`: every quarantined one. Says how many were let go.
    /// What is not quarantined is taken to be held; an id that is in no queue harms nothing.
    pub fn retry(&mut self, operation_id: Option<&OperationId>) -> usize {
        let Some(operation_id) = operation_id else {
            let count = self.quarantine.len();
            self.quarantine.clear();
            return count;
        };
        let key = operation_id.to_string();
        if self.quarantine.remove(&key).is_some() || self.released.contains(&key) {
            return 1;
        }
        if self.released.len() >= QUARANTINE_MAX {
            return 0;
        }
        self.released.insert(key);
        1
    }

    /// Notes that a person discarded an op.
    pub fn note_discarded(&mut self, note: Discarded) {
        if self.discarded.len() >= DISCARDED_MAX {
            self.discarded.remove(0);
        }
        self.discarded.push(note);
    }

    /// Remembers the body size that works for the server at `url`.
    pub fn set_uplink(&mut self, url: &str, bytes: usize) {
        if self.uplinks.len() >= UPLINKS_MAX && !self.uplinks.contains_key(url) {
            self.uplinks.pop_first();
        }
        self.uplinks.insert(url.to_owned(), bytes);
    }
}

impl Quarantined {
    /// Whether its daily try is due, or the server is another one.
    pub fn is_due(&self, now: i64, server: &str) -> bool {
        // A clock set back must not put it off for years.
        !(self.tried_at..self.tried_at.saturating_add(TRY_AGAIN_MS)).contains(&now) || self.server != server
    }
}

/// The record, shared by all that change it, and the file behind it.
#[derive(Debug)]
pub struct Keeper {
    record: Mutex<Record>,
    file: Option<StateFile<Record>>,
    /// The file does not say what the record says.
    unwritten: AtomicBool,
}

impl Keeper {
    /// Keeps `record` in `file`; `None` keeps it in memory alone.
    pub fn new(file: Option<StateFile<Record>>, record: Record) -> Self {
        Self { record: Mutex::new(record), file, unwritten: AtomicBool::new(false) }
    }

    /// Looks at the record.
    pub fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the record and writes it down if that changed anything. A file that cannot be written is a warning: the
    /// change holds for as long as this process lives. Blocks on the disk.
    pub fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        let mut record = self.lock();
        let done = change(&mut record);
        if let Some(file) = &self.file {
            let saved = file.save(&record);
            self.unwritten.store(saved.is_err(), Ordering::Relaxed);
            if let Err(error) = saved {
                tracing::warn!("{error}; what the agent remembers is lost when it ends");
            }
        }
        done
    }

    /// Whether the last change could not be written down, so that [`Keeper::change`] is worth another try.
    pub fn is_unwritten(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // A panic while holding it leaves a whole record: every change is a few assignments.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tried_at: i64, server: &str) -> Quarantined {
        Quarantined {
            database: "/d".into(),
            row: 1,
            entity: "playlist".into(),
            field: None,
            queued_at: 0,
            words: "no".into(),
            since: tried_at,
            tried_at,
            server: server.into(),
        }
    }

    #[test]
    fn a_quarantined_op_is_tried_daily_and_at_another_server() {
        let entry = entry(1_000, "http://a");
        assert!(!entry.is_due(1_000 + TRY_AGAIN_MS - 1, "http://a"));
        assert!(entry.is_due(1_000 + TRY_AGAIN_MS, "http://a"));
        assert!(entry.is_due(1_001, "http://b"));
        assert!(entry.is_due(999, "http://a"), "the clock was set back");
    }

    #[test]
    fn a_ledger_counts_for_its_file_and_profile_only() {
        let mut record = Record::default();
        let ledger = Ledger {
            account: None,
            created_at: None,
            spans: vec![crate::drain::guard::Span { up_to: 3, owner: None }],
        };
        record.set_ledger("/d", "1.2.3", Some("uuid"), ledger.clone());
        assert_eq!(record.ledger("/d", "1.2.3", Some("uuid")), ledger);
        assert_eq!(record.ledger("/d", "1.2.3", None), ledger);
        assert_eq!(record.ledger("/d", "1.2.3", Some("other")), Ledger::default());
        assert_eq!(record.ledger("/d", "9.9.9", Some("uuid")), Ledger::default());
    }

    #[test]
    fn retry_lets_go_of_a_quarantined_or_a_held_op() {
        let mut record = Record::default();
        let (a, b) = (OperationId::new("a"), OperationId::new("b"));
        assert!(record.quarantine(&a, entry(0, "s")));
        assert_eq!(record.retry(Some(&a)), 1);
        assert!(record.quarantine.is_empty() && record.released.is_empty());
        record.retry(Some(&b));
        assert!(record.released.contains("b"));
        assert!(record.quarantine(&b, entry(0, "s")));
        assert!(record.released.is_empty(), "refused after all");
        assert_eq!(record.retry(None), 1);
    }

    #[test]
    fn every_list_has_an_end() {
        let mut record = Record::default();
        for i in 0..QUARANTINE_MAX {
            assert!(record.quarantine(&OperationId::new(&i.to_string()), entry(0, "s")));
        }
        assert!(!record.quarantine(&OperationId::new("one more"), entry(0, "s")));
        for i in 0..2_000 {
            record.set_ledger(&i.to_string(), "f", None, Ledger::default());
            record.set_uplink(&i.to_string(), 1);
        }
        assert_eq!((record.books.len(), record.uplinks.len()), (LEDGERS_MAX, UPLINKS_MAX));
    }
}
