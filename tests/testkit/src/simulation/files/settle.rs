//! Accepted rows leave the made-up queue.
//!
//! What must always hold: what goes is what the agent's `queue::settle` would delete; a run is looked at with the agent's
//! own [`Digest`].

use waveflow_sync_agent::drain::action::{Settled, Settlement, StoreError};
use waveflow_sync_agent::drain::run::{Digest, Run};
use waveflow_sync_agent::op::OperationId;
use waveflow_sync_agent::queue::settle::CLEAR_LEAST;

use super::{MadeUpFiles, crash, failed, touch};
use crate::simulation::disk::DataFile;
use crate::simulation::world::World;

/// Rows that one short transaction settles at the most; a real one goes by the clock.
const SETTLED_AT_ONCE: usize = 16;

/// Rows, with what they hold.
type Found = Vec<(i64, OperationId)>;

impl MadeUpFiles {
    pub(super) fn settle(&mut self, world: &mut World, settlement: &Settlement) -> Result<Settled, StoreError> {
        let most = if world.whole { usize::MAX } else { world.rng.usize(1..=SETTLED_AT_ONCE) };
        // Beside the real files there is always the app.
        let alone = !world.whole && world.rng.bool();
        let unwritten = self.versions.is_some() && self.versions == self.versions_of(&world.disk);
        let file = self.data(world, true)?;
        let last = settlement.runs.iter().map(|run| run.last).max().unwrap_or(0);
        let is_ours = |id: &i64| settlement.runs.iter().any(|run| (run.first..=run.last).contains(id));
        // Nobody would look.
        let unknown = file.rows.range(..=last).map(|(id, _)| *id).find(|id| !is_ours(id));
        if let (true, true, false, Some(id)) = (unwritten, settlement.whole, settlement.stays, unknown) {
            world.oracle.breach(|| format!("row {id} of profile {} stays, and nothing is said to stay", self.profile));
            return Err(failed("a breach"));
        }
        let rows: usize = settlement.runs.iter().map(|run| run.rows).sum();
        let released = self.session.as_ref().is_some_and(|session| !session.admit.released.is_empty());
        let may_clear = settlement.whole && rows >= CLEAR_LEAST && !released;
        let own = |run: &Run| matches!(look(file, run), Some((true, _)));
        let sorted = settlement.runs.is_sorted_by(|one, next| one.last < next.first);
        let is_proved = may_clear && sorted && settlement.runs.iter().all(own);
        let most = if is_proved { usize::MAX } else { most };
        let crowded = may_clear && !is_proved;
        let mut settled = Settled { crowded, alone: alone && rows >= CLEAR_LEAST, ..Settled::default() };
        let mut gone = delete(file, &settlement.runs, most, &mut settled);
        touch(world, self.profile);
        world.count(if is_proved { "files: emptied at once" } else { "files: settled row by row" });
        if settled.strange > 0 {
            world.count("files: others in the place of accepted rows");
            world.oracle.look_again(self.profile);
        }
        for (id, operation_id) in &gone {
            let uuid = operation_id.uuid().unwrap_or_default();
            world.oracle.settled(self.profile, *id, uuid);
            world.oracle.acked.remove(&(self.profile, uuid));
        }
        for run in settlement.runs.iter().filter(|run| settled.left.iter().all(|left| left.last != run.last)) {
            world.oracle.dealt_with(self.profile, run.first, run.last);
        }
        crash(world)?;
        if let Some(session) = &mut self.session {
            gone.retain(|(_, operation_id)| session.admit.released.remove(operation_id));
            if !gone.is_empty() {
                self.keeper.change(|record| gone.iter().for_each(|(_, operation_id)| record.forget(operation_id)));
            }
        }
        Ok(settled)
    }
}

/// The rows between the ends of `run`, and whether they are its own; `None` where there are none.
fn look(file: &DataFile, run: &Run) -> Option<(bool, Found)> {
    let mut digest = Digest::default();
    let mut found = Vec::new();
    for (id, row) in file.rows.range(run.first..=run.last) {
        let operation_id = OperationId::Canonical(row.operation_id);
        digest.add(*id, &operation_id);
        found.push((*id, operation_id));
    }
    (!found.is_empty()).then(|| (run.is_of(&digest), found))
}

/// Takes out at most so many rows, and says which.
fn delete(file: &mut DataFile, runs: &[Run], most: usize, settled: &mut Settled) -> Found {
    let mut gone = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let Some((own, found)) = look(file, run) else { continue };
        if !own {
            settled.strange += run.rows;
            continue;
        }
        for (done, (id, operation_id)) in found.iter().enumerate() {
            file.rows.remove(id);
            gone.push((*id, operation_id.clone()));
            if gone.len() >= most {
                let rest = found[done + 1..].iter().map(|(id, operation_id)| (*id, operation_id));
                settled.left.extend(Run::of(rest, run.bytes));
                settled.left.extend_from_slice(&runs[at + 1..]);
                return gone;
            }
        }
    }
    gone
}
