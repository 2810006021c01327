//! Whose is a row? The queue does not say, so the agent remembers, for each database, which account it saw last and up
//! to which `id` rows were waiting under which account. Pure.
//!
//! What must always hold: a row once seen under an account keeps that owner until it is gone; a row not seen before is
//! the present account's only if it is not older than what proves the account was signed in when it was queued; a row
//! of another or of an unknown owner is not sent.
//!
//! The account is written down when it changes, before anything is sent under it, together with the rows that are then
//! seen: a crash in mid-pass forgets neither. Rows are written down when they stay behind at the end of a pass. An
//! emptied queue has no owner, but the account last seen stays known: else a token pasted over another one would look
//! as old as the first.

use serde::{Deserialize, Serialize};

/// Spans kept for one database; beyond it the oldest become one span of unknown owner, which holds and loses nothing.
const SPANS_MAX: usize = 64;

/// Issuer and subject of a token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Account {
    /// `iss`; empty where the token has none.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
}

/// What the app's credential row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `None`: the token is no JWT, and the guard stays out of it.
    pub account: Option<Account>,
    /// When the row was made, ms.
    pub created_at: i64,
    /// When its token was last changed, ms.
    pub updated_at: i64,
}

/// Whose a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The account that is signed in.
    Present,
    /// Another one that is known.
    Other,
    /// Nobody can tell.
    Unknown,
}

/// Rows above the previous span's end and up to `up_to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Highest `id`.
    pub up_to: i64,
    /// `None`: unknown.
    pub owner: Option<Account>,
}

/// What is remembered for one database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The account that was signed in last.
    pub account: Option<Account>,
    /// When the credential row seen last was made, ms; `None` where nobody wrote it down yet.
    #[serde(default)]
    pub created_at: Option<i64>,
    /// Rising by `up_to`.
    pub spans: Vec<Span>,
}

/// What a look at the waiting rows showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sight {
    lowest: Option<i64>,
    newest: Option<i64>,
    /// The newest row that may be somebody else's.
    unknown: Option<i64>,
}

impl Ledger {
    /// Whose the row `id`, queued at `created_at` (ms), is while `credential` is signed in.
    pub fn owner(&self, credential: &Credential, id: i64, created_at: i64) -> Owner {
        let Some(present) = &credential.account else { return Owner::Present };
        match self.spans.iter().find(|span| id <= span.up_to) {
            Some(Span { owner: Some(owner), .. }) if owner == present => Owner::Present,
            Some(Span { owner: Some(_), .. }) => Owner::Other,
            None if created_at >= self.since(credential) => Owner::Present,
            Some(Span { owner: None, .. }) | None => Owner::Unknown,
        }
    }

    /// The ledger for a file in which no `id` above `highest` was ever used. Where one was seen above it, an older state of
    /// the file was put back and its ids are given anew: what was seen of them is about other rows.
    #[must_use]
    pub fn within(self, highest: i64) -> Self {
        let rewound = self.spans.last().is_some_and(|span| span.up_to > highest);
        Self { spans: if rewound { Vec::new() } else { self.spans }, ..self }
    }

    /// Whether the account or its credential row is another one than was seen last: then [`Ledger::seen`] is due before anything is sent.
    pub fn is_news(&self, credential: &Credential) -> bool {
        credential.account.is_some() && (self.account != credential.account || self.is_new_row(credential))
    }

    /// The ledger after these rows (`id`, `created_at`; in any order) were seen waiting under `credential`.
    #[must_use]
    pub fn seen(&self, credential: &Credential, rows: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut sight = Sight::default();
        for (id, created_at) in rows {
            self.look(credential, &mut sight, id, created_at);
        }
        self.after(credential, &sight)
    }

    /// Takes one row into `sight`, for [`Ledger::after`]: a queue of a million rows is looked at, never collected.
    pub fn look(&self, credential: &Credential, sight: &mut Sight, id: i64, created_at: i64) {
        let known = self.spans.last().map_or(0, |span| span.up_to);
        sight.lowest = Some(sight.lowest.map_or(id, |lowest| lowest.min(id)));
        sight.newest = sight.newest.max(Some(id));
        if id > known && created_at < self.since(credential) {
            sight.unknown = sight.unknown.max(Some(id));
        }
    }

    /// The ledger after the rows in `sight` were seen waiting under `credential`.
    #[must_use]
    pub fn after(&self, credential: &Credential, sight: &Sight) -> Self {
        let Some(present) = &credential.account else { return self.clone() };
        let Sight { lowest, newest, unknown } = *sight;
        let known = self.spans.last().map_or(0, |span| span.up_to);
        let mut spans = self.spans.clone();
        if let Some(up_to) = unknown {
            spans.push(Span { up_to, owner: None });
        }
        if let Some(up_to) = newest.filter(|id| *id > unknown.unwrap_or(known)) {
            spans.push(Span { up_to, owner: Some(present.clone()) });
        }
        // Spans whose rows are all gone say nothing any more.
        spans.retain(|span| lowest.is_some_and(|lowest| span.up_to >= lowest));
        merge(&mut spans);
        Self { account: credential.account.clone(), created_at: Some(credential.created_at), spans }
    }

    /// Whether the credential row is another one than was seen last.
    fn is_new_row(&self, credential: &Credential) -> bool {
        self.created_at.is_some_and(|seen| seen != credential.created_at)
    }

    /// From when on a row not seen before is the present account's.
    fn since(&self, credential: &Credential) -> i64 {
        // A token is no older than its row: where it says so a clock was set back, and the later time holds more.
        let changed = credential.updated_at.max(credential.created_at);
        match &self.account {
            Some(last) if Some(last) != credential.account.as_ref() => changed,
            // Somebody signed in unseen, and who it was is not known from the token that is there now.
            Some(_) if self.is_new_row(credential) => changed,
            _ => credential.created_at,
        }
    }
}

/// Neighbours of one owner become one span.
fn merge(spans: &mut Vec<Span>) {
    spans.dedup_by(|later, earlier| {
        let same = later.owner == earlier.owner;
        if same {
            earlier.up_to = later.up_to;
        }
        same
    });
    if spans.len() > SPANS_MAX {
        let many = spans.len() - SPANS_MAX;
        spans.drain(..many);
        if let Some(first) = spans.first_mut() {
            first.owner = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(subject: &str) -> Account {
        Account { issuer: "https://server".into(), subject: subject.into() }
    }

    fn credential(subject: &str, created_at: i64, updated_at: i64) -> Credential {
        Credential { account: Some(account(subject)), created_at, updated_at }
    }

    #[test]
    fn rows_seen_under_an_account_keep_it_while_another_is_signed_in() {
        let alice = credential("alice", 10, 10);
        let bob = credential("bob", 50, 50);
        let ledger = Ledger::default().seen(&alice, [(1, 20), (2, 30)]);
        assert_eq!(ledger.owner(&bob, 2, 30), Owner::Other);
        assert_eq!(ledger.owner(&bob, 3, 40), Owner::Unknown, "queued after alice was seen, before bob came");
        assert_eq!(ledger.owner(&bob, 4, 60), Owner::Present);
        let ledger = ledger.seen(&bob, [(1, 20), (2, 30), (3, 40), (4, 60)]);
        let back = credential("alice", 70, 70);
        assert_eq!(ledger.owner(&back, 1, 20), Owner::Present);
        assert_eq!(ledger.owner(&back, 3, 40), Owner::Unknown);
        assert_eq!(ledger.owner(&back, 4, 60), Owner::Other);
    }

    #[test]
    fn a_token_pasted_over_another_one_dates_from_its_change() {
        let alice = credential("alice", 10, 10);
        let ledger = Ledger::default().seen(&alice, []);
        let pasted = credential("bob", 10, 50);
        assert_eq!(ledger.owner(&pasted, 1, 40), Owner::Unknown);
        assert_eq!(ledger.owner(&pasted, 2, 50), Owner::Present);
        // Written down at once, so that bob's being known later does not make the row his.
        let ledger = ledger.seen(&pasted, [(1, 40)]);
        assert_eq!(ledger.owner(&pasted, 1, 40), Owner::Unknown);
    }

    #[test]
    fn a_refreshed_token_of_the_same_account_changes_nothing() {
        let ledger = Ledger::default().seen(&credential("alice", 10, 10), [(1, 20)]);
        let refreshed = credential("alice", 10, 90);
        assert!(!ledger.is_news(&refreshed));
        assert_eq!(ledger.owner(&refreshed, 1, 20), Owner::Present);
        assert_eq!(ledger.owner(&refreshed, 2, 30), Owner::Present);
    }

    #[test]
    fn who_signed_in_unseen_is_not_known_from_a_token_pasted_over_his() {
        let alice = credential("alice", 10, 10);
        let ledger = Ledger::default().seen(&alice, []);
        // Bob signed in at 30 and queued; alice's token was pasted over his at 50.
        let back = credential("alice", 30, 50);
        assert!(ledger.is_news(&back));
        assert_eq!(ledger.owner(&back, 1, 40), Owner::Unknown);
        let ledger = ledger.seen(&back, [(1, 40)]);
        assert_eq!(ledger.owner(&back, 1, 40), Owner::Unknown);
        assert_eq!(ledger.owner(&back, 2, 50), Owner::Present);
        // Alice herself, signed out and in again: her row and her token are of one age.
        let again = credential("alice", 60, 60);
        assert_eq!(ledger.owner(&again, 3, 61), Owner::Present);
        // A clock that was set back proves nothing: neither for her on another row, nor for somebody else.
        assert_eq!(ledger.owner(&credential("alice", 1000, 500), 3, 700), Owner::Unknown);
        assert_eq!(ledger.owner(&credential("bob", 1000, 500), 3, 700), Owner::Unknown);
        // What an earlier build wrote down says nothing of the row.
        let old = Ledger { created_at: None, ..Ledger::default().seen(&alice, []) };
        assert!(!old.is_news(&back));
    }

    #[test]
    fn rows_older_than_the_first_credential_the_agent_sees_are_held() {
        let ledger = Ledger::default();
        assert_eq!(ledger.owner(&credential("bob", 50, 50), 1, 49), Owner::Unknown);
        assert_eq!(ledger.owner(&credential("bob", 50, 50), 2, 50), Owner::Present);
    }

    #[test]
    fn a_token_that_is_no_jwt_is_used_without_the_guard() {
        let ledger = Ledger::default().seen(&credential("alice", 10, 10), [(1, 20)]);
        let opaque = Credential { account: None, created_at: 99, updated_at: 99 };
        assert_eq!(ledger.owner(&opaque, 1, 20), Owner::Present);
        assert_eq!(ledger.seen(&opaque, [(1, 20)]), ledger);
        assert!(!ledger.is_news(&opaque));
    }

    #[test]
    fn an_emptied_queue_has_no_owner_and_the_account_stays_known() {
        let alice = credential("alice", 10, 10);
        let ledger = Ledger::default().seen(&alice, [(1, 20)]).seen(&alice, []);
        assert_eq!(ledger, Ledger { account: Some(account("alice")), created_at: Some(10), spans: vec![] });
    }

    #[test]
    fn what_was_seen_in_a_file_that_was_rewound_is_about_other_rows() {
        let ledger = Ledger::default().seen(&credential("bob", 10, 10), [(7, 20), (8, 20)]);
        assert_eq!(ledger.clone().within(8), ledger);
        let ledger = ledger.within(7);
        // Alice's, from the time before.
        let alice = credential("alice", 5, 5);
        assert!(ledger.is_news(&alice));
        assert_eq!(ledger.owner(&alice, 3, 6), Owner::Present);
        assert_eq!(ledger.seen(&alice, [(3, 6)]).owner(&credential("bob", 30, 30), 3, 6), Owner::Other);
    }

    #[test]
    fn spans_are_bounded_and_never_turn_a_held_row_loose() {
        let mut ledger = Ledger::default();
        let mut rows = Vec::new();
        for i in 1..=200 {
            rows.push((i, i * 10));
            ledger =
                ledger.seen(&credential(if i % 2 == 0 { "alice" } else { "bob" }, 0, i * 10), rows.iter().copied());
        }
        assert!(ledger.spans.len() <= SPANS_MAX);
        let alice = credential("alice", 0, 5000);
        assert!((1..=200).filter(|i| i % 2 == 1).all(|i| ledger.owner(&alice, i, i * 10) != Owner::Present));
    }
}
