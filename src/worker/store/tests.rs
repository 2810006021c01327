//! Whose rows take part, on real files: what a pass asks, one request after the other.

use testkit::data_dir::{DataDir, Generation, Profile as AppProfile, RawOp};
use testkit::ops::NewOp;
use testkit::token;

use super::quarantine::DUE_MAX;
use super::*;
use crate::drain::action::Pick;
use crate::drain::action::Refusal;
use crate::drain::run::Run;
use crate::record::Record;

const URL: &str = "http://127.0.0.1:9/";

struct Place {
    _directory: tempfile::TempDir,
    dir: DataDir,
    app: AppProfile,
    keeper: Arc<Keeper>,
    store: Store,
}

fn now() -> i64 {
    testkit::time::now_ms()
}

impl Place {
    /// Alice signed in a while ago and queued `count` ops since.
    fn with(count: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let dir = DataDir::new(directory.path().join("waveflow"), Generation::One).unwrap();
        dir.set_server_url(Some(URL)).unwrap();
        dir.set_device_id(Some("dev")).unwrap();
        let app = dir.add_profile("Zoë").unwrap();
        app.open().unwrap().sign_in_at(&token::for_user("alice"), now() - 60_000).unwrap();
        app.enqueue(&NewOp::renames(count)).unwrap();
        let profile = Profile { id: app.id, name: "Zoë".into(), path: Some(app.db_path()) };
        let keeper = Arc::new(Keeper::new(None, Record::default()));
        let store = Store::new(dir.path().to_owned(), profile, None, Arc::clone(&keeper), now);
        Self { _directory: directory, dir, app, keeper, store }
    }

    fn begin(&mut self) -> Snapshot {
        match self.store.perform(Request::Begin).unwrap() {
            Answer::Begun(snapshot) => snapshot,
            other => panic!("{other:?}"),
        }
    }

    /// `None`: not under this account any more.
    fn read(&mut self, pick: Pick) -> Option<Vec<i64>> {
        let plan =
            Plan { after: 0, until: i64::MAX, max_ops: 100, max_bytes: 1 << 20, pick, alone: vec![], above: None };
        match self.store.perform(Request::Read(plan)).unwrap() {
            Answer::Rows(rows) => Some(rows.batch.ops.iter().map(|op| op.id).collect()),
            Answer::AccountChanged => None,
            other => panic!("{other:?}"),
        }
    }

    fn close(&mut self) -> (u64, u64, u64) {
        match self.store.perform(Request::Close).unwrap() {
            Answer::Closed(counts) => (counts.remaining, counts.quarantined, counts.held),
            other => panic!("{other:?}"),
        }
    }

    fn operation_id(&self, id: i64) -> OperationId {
        let pending = self.app.pending().unwrap();
        OperationId::new(&pending.iter().find(|row| row.id == id).unwrap().operation_id)
    }

    fn quarantine(&mut self, id: i64) {
        let refusal = Refusal { id, operation_id: self.operation_id(id), words: "no".into() };
        self.store.perform(Request::Quarantine(vec![refusal])).unwrap();
    }

    /// The daily try is due.
    fn age(&self) {
        self.keeper.change(|record| record.quarantine.values_mut().for_each(|entry| entry.tried_at = 0));
    }

    /// Bob's token over Alice's, from `at` on.
    fn paste(&self, at: i64) {
        self.app.open().unwrap().paste_token_at(&token::for_user("bob"), at).unwrap();
    }
}

#[test]
fn a_quarantined_op_of_another_account_is_not_tried_under_this_one() {
    let mut place = Place::with(3);
    place.begin();
    place.quarantine(2);
    assert_eq!(place.close(), (2, 1, 0));
    place.age();
    assert_eq!(place.begin().due, [2]);
    assert_eq!(place.read(Pick::Quarantined).unwrap(), [2]);
    place.close();
    place.paste(now() + 1_000);
    place.age();
    assert_eq!(place.begin().due, [0_i64; 0]);
    assert_eq!(place.read(Pick::Quarantined).unwrap(), [0_i64; 0]);
    assert_eq!(place.read(Pick::First).unwrap(), [0_i64; 0]);
    assert_eq!(place.close(), (0, 1, 2));
}

#[test]
fn what_the_next_account_queues_before_the_pass_is_closed_is_its_own() {
    let mut place = Place::with(3);
    place.begin();
    assert_eq!(place.read(Pick::First).unwrap(), [1, 2, 3]);
    place.paste(now());
    place.app.enqueue(&NewOp::renames(2)).unwrap();
    assert_eq!(place.read(Pick::First), None, "bob's token is not alice's");
    place.close();
    place.begin();
    assert_eq!(place.read(Pick::First).unwrap(), [4, 5], "bob's, and not alice's");
    assert_eq!(place.close(), (2, 0, 3));
    // She comes back.
    place.app.open().unwrap().paste_token_at(&token::for_user("alice"), now() + 5_000).unwrap();
    place.begin();
    assert_eq!(place.read(Pick::First).unwrap(), [1, 2, 3]);
}

#[test]
fn a_held_op_that_was_let_go_is_forgotten_once_it_has_gone() {
    let mut place = Place::with(2);
    place.app.open().unwrap().sign_in_at(&token::for_user("bob"), now() + 1_000).unwrap();
    place.begin();
    assert_eq!(place.close(), (0, 0, 2));
    let operation_id = place.operation_id(1);
    assert_eq!(place.keeper.change(|record| record.retry(Some(&operation_id))), 1);
    place.begin();
    assert_eq!(place.read(Pick::First).unwrap(), [1]);
    let runs = Run::of([(1, &operation_id)], 1).into_iter().collect();
    place.store.perform(Request::Settle(Settlement { runs, whole: true, stays: false })).unwrap();
    assert_eq!(place.close(), (0, 0, 1));
    assert!(place.keeper.look(|record| record.released.is_empty()));
}

#[test]
fn a_quarantined_row_whose_id_is_no_text_is_counted_as_what_it_is() {
    let mut place = Place::with(1);
    let blob = rusqlite::types::Value::Blob(vec![1, 2, 3]);
    let id = place.app.insert_raw(&RawOp::new(&NewOp::rename(9), 9).with("operation_id", blob)).unwrap();
    place.begin();
    let operation_id = OperationId::new("x'010203'");
    place.store.perform(Request::Quarantine(vec![Refusal { id, operation_id, words: "no".into() }])).unwrap();
    assert_eq!(place.read(Pick::First).unwrap(), [1]);
    assert_eq!(place.close(), (1, 1, 0));
}

#[test]
fn nothing_more_goes_out_once_the_user_keeps_everything_local() {
    let mut place = Place::with(2);
    place.begin();
    assert_eq!(place.read(Pick::First).unwrap(), [1, 2]);
    place.app.set_mode("local").unwrap();
    assert_eq!(place.read(Pick::First), None);
    assert!(place.begin().local_mode);
}

#[test]
fn a_new_url_does_not_try_the_whole_quarantine_at_once() {
    let count = DUE_MAX as u64 + 8;
    let mut place = Place::with(count);
    place.begin();
    for id in 1..=i64::try_from(count).unwrap() {
        place.quarantine(id);
    }
    assert_eq!(place.begin().due, [0_i64; 0]);
    place.dir.set_server_url(Some("http://127.0.0.1:10/")).unwrap();
    let due = place.begin().due;
    assert_eq!(due.len(), DUE_MAX);
    for id in due {
        let refusal = Refusal { id, operation_id: place.operation_id(id), words: "no".into() };
        place.store.perform(Request::StillRefused(refusal)).unwrap();
    }
    assert_eq!(place.begin().due.len(), 8, "the others' turn");
}

#[test]
fn another_file_in_the_profiles_place_is_noticed_before_anything_is_read_or_written() {
    let mut place = Place::with(2);
    let before = place.begin();
    place.app.replace_by_empty().unwrap();
    let runs = Run::of([(1, &OperationId::new("x"))], 1).into_iter().collect();
    for request in [Request::Settle(Settlement { runs, whole: false, stays: false }), Request::Close] {
        assert_eq!(place.store.perform(request).unwrap_err().kind, StoreErrorKind::Gone);
    }
    assert_ne!(place.begin().file, before.file);
}
