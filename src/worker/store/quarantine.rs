//! Ops that a server refused: into the state file first, then a copy of the words into their rows; and out again.

use super::{Store, failed, opened};
use crate::drain::action::{Refusal, StoreError};
use crate::drain::admission::{Admission, Admit};
use crate::halt::{self, Place};
use crate::op::OperationId;
use crate::queue::{Database, census, mark};
use crate::record::{QUARANTINE_MAX, Quarantined};

/// Quarantined ops tried again in one pass; the others' turn comes with the next ones. Each is a request of its own, and
/// a new URL makes all of them due at once.
pub(super) const DUE_MAX: usize = 32;

impl Store {
    /// Rows of quarantined ops whose daily try is due, [`DUE_MAX`] at the most; not those of another account. What has
    /// no row any more is forgotten.
    pub(super) fn due(&self, data: &Database, url: &str, admit: &Admit) -> Result<Vec<i64>, StoreError> {
        if admit.quarantined.is_empty() {
            return Ok(Vec::new());
        }
        let path = data.path().display().to_string();
        let entries: Vec<(OperationId, i64, bool)> = self.keeper.look(|record| {
            let now = (self.clock)();
            record.quarantined_in(&path).map(|(id, entry)| (id, entry.row, entry.is_due(now, url))).collect()
        });
        let mut due = Vec::new();
        let mut gone = Vec::new();
        data.read(|connection| {
            for (operation_id, row, is_due) in entries {
                match census::find(connection, row, &operation_id)? {
                    Some(label) => {
                        let admission = admit.admission(label.id, &operation_id, label.created_at);
                        if is_due && due.len() < DUE_MAX && admission == Admission::Quarantined {
                            due.push(label.id);
                        }
                    }
                    None => gone.push(operation_id),
                }
            }
            Ok(())
        })?;
        if !gone.is_empty() {
            self.keeper.change(|record| gone.iter().for_each(|operation_id| record.forget(operation_id)));
        }
        Ok(due)
    }

    pub(super) fn quarantine(&mut self, refusals: &[Refusal]) -> Result<(), StoreError> {
        let now = (self.clock)();
        let server = self.session()?.url.clone();
        let data = opened(self.data.as_ref())?;
        let database = data.path().display().to_string();
        let mut entries = Vec::new();
        // Where the ops are by now: another one may stand in a refusal's row.
        let mut found = Vec::new();
        data.read(|connection| {
            for refusal in refusals {
                let label = census::find(connection, refusal.id, &refusal.operation_id)?;
                let Some(label) = label else { continue };
                found.push(Refusal { id: label.id, ..refusal.clone() });
                entries.push((
                    refusal.operation_id.clone(),
                    Quarantined {
                        database: database.clone(),
                        row: label.id,
                        entity: label.entity,
                        field: label.field,
                        queued_at: label.created_at,
                        words: refusal.words.clone(),
                        since: now,
                        tried_at: now,
                        server: server.clone(),
                    },
                ));
            }
            Ok(())
        })?;
        let ids: Vec<(OperationId, i64)> =
            entries.iter().map(|(operation_id, entry)| (operation_id.clone(), entry.row)).collect();
        let fits = self
            .keeper
            .change(|record| entries.into_iter().all(|(operation_id, entry)| record.quarantine(&operation_id, entry)));
        if !fits {
            return Err(failed(format!(
                "{QUARANTINE_MAX} ops are in quarantine, which is all it holds; look at them with `queue list`"
            )));
        }
        for refusal in &found {
            tracing::warn!(operation_id = %refusal.operation_id, "quarantined: {}", refusal.words);
        }
        if let Some(session) = &mut self.session {
            session.admit.quarantined.extend(ids);
        }
        halt::here(Place::QuarantineNoted);
        // A copy for the app's diagnostics; the state file is what counts.
        if !found.is_empty()
            && let Err(error) = mark::mark_quarantined(opened(self.data.as_ref())?, &found, now)
        {
            tracing::warn!("{}", error.message);
        }
        Ok(())
    }

    pub(super) fn still_refused(&self, refusal: Refusal) {
        let now = (self.clock)();
        let server = self.session.as_ref().map(|session| session.url.clone());
        let Refusal { operation_id, words, .. } = refusal;
        self.keeper.change(|record| record.still_refused(&operation_id, words, server.unwrap_or_default(), now));
    }
}
