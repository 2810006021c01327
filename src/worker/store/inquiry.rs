//! What a person asks of a profile's files, beside any pass: how it stands, what is held, to delete an op.

use super::Store;
use crate::drain::action::{Counts, Snapshot, StoreError};
use crate::drain::admission::Admission;
use crate::drain::gate;
use crate::drain::guard::Owner;
use crate::op::OperationId;
use crate::queue::{census, settle};
use crate::record::Discarded;

/// What a look at the files shows.
#[derive(Debug)]
pub struct Survey {
    /// What the gates go by.
    pub snapshot: Snapshot,
    /// Where ops would go; `None` without a queue, an address or a token.
    pub server: Option<String>,
    /// What waits.
    pub counts: Counts,
    /// Whether the token names an account; `None` where a gate is shut.
    pub guarded: Option<bool>,
}

impl Store {
    /// What a person wants to know, without a pass.
    pub fn survey(&mut self) -> Result<Survey, StoreError> {
        let snapshot = self.begin()?;
        let counts = if self.session.is_some() {
            self.census()?
        } else if snapshot.queue {
            let mut counts = Counts::default();
            self.data()?.read(|connection| {
                census::look(connection, |_, created_at| {
                    counts.remaining += 1;
                    counts.oldest = Some(counts.oldest.map_or(created_at, |oldest| oldest.min(created_at)));
                })
            })?;
            counts
        } else {
            Counts::default()
        };
        let server = self.session.as_ref().map(|session| session.url.clone());
        let open = self.session.as_ref().filter(|_| gate::shut(&snapshot).is_none());
        let guarded = open.map(|session| session.admit.credential.account.is_some());
        Ok(Survey { snapshot, server, counts, guarded })
    }

    /// Up to `limit` rows that are held, oldest first; nothing where nobody is signed in.
    pub fn held(&mut self, limit: usize) -> Result<Vec<(OperationId, census::Label)>, StoreError> {
        self.begin()?;
        let Some(session) = &self.session else { return Ok(Vec::new()) };
        let mut ids = Vec::new();
        self.data()?.read(|connection| {
            census::look(connection, |id, created_at| {
                let owner = session.admit.ledger.owner(&session.admit.credential, id, created_at);
                if owner != Owner::Present && ids.len() < limit {
                    ids.push(id);
                }
            })?;
            let mut held = Vec::new();
            for id in ids {
                if let Some((operation_id, label)) = census::row(connection, id)?
                    && session.admit.admission(id, &operation_id, label.created_at) == Admission::Held
                {
                    held.push((operation_id, label));
                }
            }
            Ok(held)
        })
    }

    /// Deletes the row of an op that is quarantined or held, and notes that; `None` where it is neither.
    pub fn discard(&mut self, operation_id: &OperationId) -> Result<Option<Discarded>, StoreError> {
        self.begin()?;
        let Some(session) = &self.session else { return Ok(None) };
        let data = self.data()?;
        let key = operation_id.to_string();
        let entry = self.keeper.look(|record| record.quarantine.get(&key).cloned());
        let row = entry.as_ref().map_or(i64::MIN, |entry| entry.row);
        let Some(label) = data.read(|connection| census::find(connection, row, operation_id))? else { return Ok(None) };
        let reason = match session.admit.admission(label.id, operation_id, label.created_at) {
            Admission::Waiting => return Ok(None),
            Admission::Held => "held: queued under another or an unknown account".to_owned(),
            Admission::Quarantined => entry.map_or_else(String::new, |entry| format!("quarantined: {}", entry.words)),
        };
        let note = Discarded {
            operation_id: key,
            entity: label.entity,
            field: label.field,
            queued_at: label.created_at,
            reason,
            at: (self.clock)(),
        };
        // The note first: a row that is gone without one would be a riddle.
        self.keeper.change(|record| record.note_discarded(note.clone()));
        settle::discard(data, label.id)?;
        self.keeper.change(|record| record.forget(operation_id));
        Ok(Some(note))
    }
}
