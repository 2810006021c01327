//! Who is signed in, whose rows are whose, what is quarantined: the store's part that deals with the agent's memory.

use std::collections::HashSet;

use waveflow_sync_agent::app::account::SignedIn;
use waveflow_sync_agent::drain::action::{Counts, Refusal, StoreError};
use waveflow_sync_agent::drain::admission::{Admission, Admit};
use waveflow_sync_agent::drain::guard::{Account, Credential, Owner, Sight};
use waveflow_sync_agent::op::OperationId;
use waveflow_sync_agent::record::Quarantined;
use waveflow_sync_agent::token::Token;

use super::{MadeUpFiles, crash, failed, find, row_of};
use crate::simulation::disk::DataFile;
use crate::simulation::world::World;

/// Quarantined ops tried again in one pass.
const DUE_MAX: usize = 32;

/// The signed-in user; the token says who it is and which of that user's.
pub(super) fn signed_in(file: &DataFile) -> Option<SignedIn> {
    let login = file.login?;
    let account = Some(Account { issuer: "here".into(), subject: login.user.to_string() });
    let credential = Credential { account, created_at: login.created_at, updated_at: login.updated_at };
    Some(SignedIn { token: Token::new(&format!("{}.{}", login.user, login.serial))?, credential })
}

impl MadeUpFiles {
    pub(super) fn admit(
        &self,
        world: &mut World,
        signed_in: &SignedIn,
        newest: i64,
        canonical_id: Option<&str>,
    ) -> Result<Admit, StoreError> {
        let path = self.path();
        let credential = &signed_in.credential;
        let file = self.data(world, false)?;
        let key = file.inode.to_string();
        let known = self.keeper.look(|record| record.ledger(&path, &key, canonical_id));
        let mut ledger = known.clone().within(file.sequence);
        if ledger != known || ledger.is_news(credential) {
            let mut sight = Sight::default();
            for (id, row) in file.rows.range(..=newest) {
                ledger.look(credential, &mut sight, *id, row.created_at);
            }
            ledger = ledger.after(credential, &sight);
            self.keeper.change(|record| record.set_ledger(&path, &key, canonical_id, ledger.clone()));
            crash(world)?;
        }
        let (quarantined, released) = self.keeper.look(|record| {
            let quarantined = record.quarantined_in(&path).map(|(id, entry)| (id, entry.row)).collect();
            (quarantined, record.released.iter().map(|key| OperationId::new(key)).collect())
        });
        Ok(Admit { credential: credential.clone(), ledger, quarantined, released })
    }

    pub(super) fn due(&self, world: &mut World, url: &str, admit: &Admit) -> Result<Vec<i64>, StoreError> {
        if admit.quarantined.is_empty() {
            return Ok(Vec::new());
        }
        let (path, now) = (self.path(), world.wall());
        let entries: Vec<(OperationId, bool)> = self
            .keeper
            .look(|record| record.quarantined_in(&path).map(|(id, entry)| (id, entry.is_due(now, url))).collect());
        let file = self.data(world, false)?;
        let (mut due, mut gone) = (Vec::new(), Vec::new());
        for (operation_id, is_due) in entries {
            let Some(id) = find(file, &operation_id) else {
                gone.push(operation_id);
                continue;
            };
            let created_at = file.rows.get(&id).map_or(0, |row| row.created_at);
            let admission = admit.admission(id, &operation_id, created_at);
            if is_due && due.len() < DUE_MAX && admission == Admission::Quarantined {
                due.push(id);
            }
        }
        if !gone.is_empty() {
            self.keeper.change(|record| gone.iter().for_each(|operation_id| record.forget(operation_id)));
        }
        Ok(due)
    }

    pub(super) fn quarantine(&mut self, world: &mut World, refusals: &[Refusal]) -> Result<(), StoreError> {
        let (now, server, database) = (world.wall(), self.session()?.url.clone(), self.path());
        let file = self.data(world, false)?;
        let mut entries = Vec::new();
        for refusal in refusals {
            let Some(row) = row_of(file, refusal) else { continue };
            let queued_at = file.rows.get(&row).map_or(0, |row| row.created_at);
            entries.push((
                refusal.operation_id.clone(),
                Quarantined {
                    database: database.clone(),
                    row,
                    entity: String::new(),
                    field: None,
                    queued_at,
                    words: refusal.words.clone(),
                    since: now,
                    tried_at: now,
                    server: server.clone(),
                },
            ));
        }
        let ids: Vec<(OperationId, i64)> = entries.iter().map(|(id, entry)| (id.clone(), entry.row)).collect();
        for (operation_id, _) in &ids {
            world.oracle.quarantined(operation_id.uuid().unwrap_or_default());
        }
        let fits = self
            .keeper
            .change(|record| entries.into_iter().all(|(operation_id, entry)| record.quarantine(&operation_id, entry)));
        if !fits {
            return Err(failed("the quarantine is full"));
        }
        crash(world)?;
        let rows: Vec<i64> = ids.iter().map(|(_, row)| *row).collect();
        if let Some(session) = &mut self.session {
            session.admit.quarantined.extend(ids);
        }
        // A copy; the state file is what counts.
        let words = refusals.first().map_or_else(String::new, |refusal| format!("quarantined: {}", refusal.words));
        let _ = self.mark(world, &rows, &words, false);
        Ok(())
    }

    pub(super) fn still_refused(&self, world: &mut World, refusal: Refusal) {
        let now = world.wall();
        let server = self.session.as_ref().map(|session| session.url.clone());
        let Refusal { operation_id, words, .. } = refusal;
        self.keeper.change(|record| record.still_refused(&operation_id, words, server.unwrap_or_default(), now));
    }

    pub(super) fn census(&self, world: &mut World) -> Result<Counts, StoreError> {
        let session = self.session()?;
        let (admit, credential) = (&session.admit, &session.admit.credential);
        let file = self.data(world, false)?;
        let same = signed_in(file).as_ref() == Some(&session.signed_in);
        let seen = if same { i64::MAX } else { session.newest };
        let quarantined: HashSet<i64> = admit.quarantined.keys().filter_map(|id| find(file, id)).collect();
        let released: HashSet<i64> = admit.released.iter().filter_map(|id| find(file, id)).collect();
        let (mut counts, mut sight) = (Counts::default(), Sight::default());
        for (id, row) in &file.rows {
            if *id <= seen {
                admit.ledger.look(credential, &mut sight, *id, row.created_at);
            }
            if quarantined.contains(id) {
                counts.quarantined += 1;
            } else if admit.ledger.owner(credential, *id, row.created_at) == Owner::Present || released.contains(id) {
                counts.remaining += 1;
                counts.oldest = Some(counts.oldest.map_or(row.created_at, |oldest| oldest.min(row.created_at)));
            } else {
                counts.held += 1;
            }
        }
        let ledger = admit.ledger.after(credential, &sight);
        let key = file.inode.to_string();
        if ledger != admit.ledger {
            let (path, canonical_id) = (self.path(), session.canonical_id.as_deref());
            self.keeper.change(|record| record.set_ledger(&path, &key, canonical_id, ledger));
            crash(world)?;
        }
        Ok(counts)
    }
}
