//! The queue on real files, as an app of each generation makes them.

mod read;
mod settle;
mod stamp;
mod write;

use testkit::data_dir::{AppDb, DataDir, Generation, RawOp};
use testkit::ops::NewOp;

use super::columns::{self, Columns};
use super::database::{Database, Durability};
use super::read::{self as reading, Sender};
use crate::drain::action::{Pick, Plan, Rows};
use crate::drain::admission::Admission;
use crate::op::OperationId;

/// A profile, the app that has it open, and our connection to it.
struct Place {
    _directory: tempfile::TempDir,
    app: AppDb,
    database: Database,
    columns: Columns,
}

impl Place {
    fn new(generation: Generation) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(directory.path().join("waveflow"), generation).unwrap();
        let profile = data_dir.add_profile("Zoë").unwrap();
        let app = profile.open().unwrap();
        let database = Database::open(&profile.db_path(), Durability::Normal).unwrap();
        let columns = database.read(columns::look).unwrap().unwrap();
        Self { _directory: directory, app, database, columns }
    }

    /// With `count` ops of the app's, stamps and ids from 1.
    fn with(generation: Generation, count: u64) -> Self {
        let mut place = Self::new(generation);
        place.app.enqueue(&NewOp::renames(count)).unwrap();
        place
    }

    fn raw(&self, row: &RawOp) -> i64 {
        self.app.insert_raw(row).unwrap()
    }

    fn read(&self, plan: &Plan) -> Rows {
        self.read_as(plan, &|_, _, _| Admission::Waiting)
    }

    fn read_as(&self, plan: &Plan, admit: &dyn Fn(i64, &OperationId, i64) -> Admission) -> Rows {
        let sender = Sender { device: "dev", canonical_id: None, admit };
        self.database.read(|connection| reading::read(connection, self.columns, plan, &sender, Vec::new())).unwrap()
    }

    /// Changes with every commit of anybody but the app's connection.
    fn version(&self) -> i64 {
        self.app.connection().query_row("PRAGMA data_version", [], |row| row.get(0)).unwrap()
    }

    fn stamps(&self) -> Vec<i64> {
        self.app.pending().unwrap().iter().map(|row| row.stamp).collect()
    }
}

/// Everything, from the start.
fn plan() -> Plan {
    Plan {
        after: 0,
        until: i64::MAX,
        max_ops: 1000,
        max_bytes: 1 << 20,
        pick: Pick::First,
        alone: vec![],
        above: Some(0),
    }
}

fn ids(rows: &Rows) -> Vec<i64> {
    rows.batch.ops.iter().map(|op| op.id).collect()
}

fn op() -> NewOp {
    NewOp::new("playlist", "7", "set").field("name")
}
