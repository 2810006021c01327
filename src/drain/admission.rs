//! Which rows of a queue take part in a pass. Pure.
//!
//! What must always hold: whose a row is comes before everything else; an op that a person let go is let go whatever
//! its owner.

use std::collections::{HashMap, HashSet};

use super::guard::{Credential, Ledger, Owner};
use crate::op::OperationId;

/// Whether a row takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is waiting.
    Waiting,
    /// A server refused it.
    Quarantined,
    /// It is another account's, or nobody knows whose.
    Held,
}

/// What decides it, as it was when the pass began.
#[derive(Debug)]
pub struct Admit {
    /// Who is signed in.
    pub credential: Credential,
    /// Whose rows are whose.
    pub ledger: Ledger,
    /// With the row it was found in: an id that is no text is found no other way.
    pub quarantined: HashMap<OperationId, i64>,
    /// Held ops that a person let go.
    pub released: HashSet<OperationId>,
}

impl Admit {
    /// For the row `id`, queued at `created_at` (ms).
    pub fn admission(&self, id: i64, operation_id: &OperationId, created_at: i64) -> Admission {
        let owner = self.ledger.owner(&self.credential, id, created_at);
        // First of all whose it is: a quarantined op's daily try is not to travel under another account's token either.
        if owner != Owner::Present && !self.released.contains(operation_id) {
            Admission::Held
        } else if self.quarantined.contains_key(operation_id) {
            Admission::Quarantined
        } else {
            Admission::Waiting
        }
    }
}
