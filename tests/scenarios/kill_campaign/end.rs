//! The end of a life: the killing stops, everything arrives that can, and all of it is looked at.

use std::collections::HashSet;

use uuid::Uuid;

use super::app::ops;
use super::life::Life;
use crate::common::daemon::{Daemon, SOON, holds_within};

impl Life {
    /// All is well again: everything arrives that can.
    pub(super) fn end(&mut self) {
        for at in 0..self.profiles.len() {
            self.app_enqueues(at, &ops(1));
        }
        let mut daemon = Daemon::start(&self.stage);
        let is_over = holds_within(SOON, || self.waiting() == self.sick && self.quarantined() == self.sick);
        let (waiting, quarantined) = (self.waiting(), self.quarantined());
        assert!(
            is_over,
            "{} rows wait, {} are in quarantine, {} belong there",
            waiting.len(),
            quarantined.len(),
            self.sick.len()
        );
        daemon.stop();
        self.open.clear();
        self.judge();
    }

    /// Ids in the two queues.
    fn waiting(&self) -> HashSet<Uuid> {
        let rows = self.profiles.iter().flat_map(|profile| profile.pending().unwrap());
        rows.map(|row| Uuid::try_parse(&row.operation_id).unwrap()).collect()
    }

    fn quarantined(&self) -> HashSet<Uuid> {
        self.stage.quarantined().iter().map(|id| Uuid::try_parse(id).unwrap()).collect()
    }

    fn judge(&mut self) {
        let committed = self.profiles.each_ref().map(|profile| {
            let db = profile.open().unwrap();
            let check: String = db.connection().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(check, "ok");
            let ids = db.entities().unwrap();
            ids.iter().map(|id| Uuid::try_parse(id).unwrap()).collect::<Vec<_>>()
        });
        self.tally.judge(&self.server, &committed, &self.sick);
        let stored = self.server.stored();
        for (profile, ops) in self.profiles.iter().zip(&committed) {
            let ops: HashSet<&Uuid> = ops.iter().collect();
            let rows = stored.iter().filter(|row| ops.contains(&row.operation_id));
            let (highest, clock) = (rows.map(|row| row.lamport_ts).max().unwrap(), profile.clock().unwrap().unwrap());
            assert!(highest <= clock && clock < 1 << 31, "the clock says {clock}, the highest stamp is {highest}");
            // The last one to close takes them away.
            for leftover in ["data.db-wal", "data.db-shm"] {
                assert!(!profile.path.join(leftover).exists(), "{leftover} is left behind");
            }
        }
        let devices: HashSet<_> = stored.iter().map(|row| &row.device_id).collect();
        assert_eq!(devices.len(), 1, "{devices:?}");
        assert!(!self.stage.state_path().with_file_name("state.json.unreadable-1").exists(), "half a state file");
    }
}
