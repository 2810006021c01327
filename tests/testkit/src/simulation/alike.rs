//! The made-up files beside the real ones: the same rows, the same requests, and the same has to come of them.
//!
//! What must always hold: both begin with the same rows, clocks and login, and are asked the same at the same wall time;
//! answers and what is then in the tables are compared after every request. It is what makes a simulation without SQL
//! worth its result, and it finds what is wrong with the SQL.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use rusqlite::Connection;
use waveflow_sync_agent::app::registry;
use waveflow_sync_agent::drain::action::{
    Answer, Block, Clock, Pick, Plan, Refusal, Request, Reserve, Settled, Settlement, StoreError, StoreErrorKind,
};
use waveflow_sync_agent::drain::gate;
use waveflow_sync_agent::drain::run::Run;
use waveflow_sync_agent::op::{Op, OperationId, Pair};
use waveflow_sync_agent::record::{Keeper, Record};
use waveflow_sync_agent::worker::Perform;
use waveflow_sync_agent::worker::store::Store;

use super::app;
use super::disk::{DataFile, Login, Nature, Row};
use super::files::{MadeUpFiles, url};
use super::world::{Shared, World, lock};
use crate::data_dir::{DataDir, Generation, Profile};
use crate::{Error, Result, token};

/// Requests and acts of the app's in one comparison.
const STEPS: usize = 16;

thread_local! {
    /// The wall clock of both, in ms.
    static WALL: Cell<i64> = const { Cell::new(0) };
}

fn wall() -> i64 {
    WALL.get()
}

/// The two, side by side.
pub struct Pairing {
    real: Profile,
    app: Connection,
    /// Where the agent finds the profile.
    directory: PathBuf,
}

/// One comparison.
struct Comparison<'a> {
    pairing: &'a Pairing,
    world: Shared,
    real: Store,
    made_up: MadeUpFiles,
    keepers: [Arc<Keeper>; 2],
    rng: Rng,
    block: Option<Block>,
    /// The gates were open when a pass began.
    open: bool,
    /// What was asked, for people.
    told: Vec<String>,
}

impl Pairing {
    /// Real files in `directory`, used for one comparison after the other.
    pub fn new(directory: &Path) -> Result<Self> {
        let dir = DataDir::new(directory, Generation::Three)?;
        dir.set_server_url(Some(&url(0)))?;
        dir.set_device_id(Some("00000000-0000-4000-8000-000000000001"))?;
        let real = dir.add_profile("Zoë")?;
        let app = rusqlite::Connection::open(real.db_path())?;
        Ok(Self { real, app, directory: directory.to_owned() })
    }

    /// What `seed` decides is asked of both.
    ///
    /// # Errors
    /// How they differ.
    pub fn compare(&self, seed: u64) -> Result<()> {
        let mut comparison = Comparison::new(self, seed)?;
        comparison.write_out()?;
        for _ in 0..STEPS {
            comparison.step()?;
        }
        Ok(())
    }
}

impl<'a> Comparison<'a> {
    fn new(pairing: &'a Pairing, seed: u64) -> Result<Self> {
        let mut rng = Rng::with_seed(seed);
        let mut world = World::new(rng.fork(), 1, false);
        world.whole = true;
        world.disk.url = Some(0);
        world.disk.device = Some("00000000-0000-4000-8000-000000000001".to_owned());
        app::toggle_profile(&mut world, 0, true, true);
        WALL.set(world.wall());
        furnish(&mut world, &mut rng);
        let world: Shared = Arc::new(Mutex::new(world));
        let keepers = [(); 2].map(|()| Arc::new(Keeper::new(None, Record::default())));
        let listed = registry::open(&pairing.directory)
            .and_then(|app| app.read(|connection| registry::profiles(connection, &pairing.directory)))
            .map_err(|error| Error::other(error.message))?;
        let profile = listed.into_iter().find(|profile| profile.id == pairing.real.id);
        let profile = profile.ok_or_else(|| Error::other("the profile is gone"))?;
        let real = Store::new(pairing.directory.clone(), profile, None, Arc::clone(&keepers[0]), wall);
        let made_up = MadeUpFiles::new(Arc::clone(&world), Arc::clone(&keepers[1]), 0);
        Ok(Self {
            pairing,
            world,
            real,
            made_up,
            keepers,
            rng,
            block: None,
            open: false,
            told: vec![format!("seed {seed}")],
        })
    }

    fn step(&mut self) -> Result<()> {
        if self.rng.u8(0..5) == 0 {
            let world = &mut *lock(&self.world);
            if let Some(file) = world.disk.data(0) {
                disturb(file, &mut self.rng, wall());
            }
        } else {
            let request = self.request();
            return self.ask(request);
        }
        self.write_out()
    }

    fn ask(&mut self, request: Request) -> Result<()> {
        self.told.push(format!("{request:?}"));
        let begins = request == Request::Begin;
        let (real, made_up) = (self.whole(request.clone()), self.made_up.perform(request));
        if begins && let Ok(Answer::Begun(snapshot)) = &made_up {
            // No pass goes on behind a gate that is shut.
            self.open = gate::shut(snapshot).is_none();
            self.block = None;
            self.told.push(format!("{snapshot:?}"));
        }
        if let Ok(Answer::Reserved(block) | Answer::Assigned(block)) = &made_up {
            self.block.clone_from(block);
        }
        let answers = [shown(&real), shown(&made_up)];
        let tables = [self.real_table()?, self.made_up_table()];
        let records = [0, 1].map(|at: usize| self.keepers[at].look(remembered));
        for (what, [real, made_up]) in [("answer", answers), ("tables", tables), ("memory", records)] {
            if real != made_up {
                let told = self.told.join("\n  ");
                return Err(Error::other(format!("{what} differ\n real: {real}\n made: {made_up}\nafter\n  {told}")));
            }
        }
        Ok(())
    }

    /// A real short transaction goes by the clock, and on a busy machine holds less than all of a few rows.
    fn whole(&mut self, request: Request) -> std::result::Result<Answer, StoreError> {
        let mut answer = self.real.perform(request)?;
        loop {
            answer = match answer {
                Answer::Assigned(Some(block)) => self.real.perform(Request::Assign(block))?,
                Answer::Settled(settled) if !settled.left.is_empty() => {
                    let Settled { left: runs, strange, crowded, alone } = settled;
                    let rest = self.real.perform(Request::Settle(Settlement { runs, whole: false, stays: true }))?;
                    let Answer::Settled(rest) = rest else { return Ok(rest) };
                    Answer::Settled(Settled { strange: strange + rest.strange, crowded, alone, ..rest })
                }
                answer => return Ok(answer),
            };
        }
    }

    fn rows(&self) -> Vec<(i64, OperationId)> {
        let world = &mut *lock(&self.world);
        let rows = world.disk.data(0).map(|file| &file.rows);
        rows.into_iter().flatten().map(|(id, row)| (*id, OperationId::Canonical(row.operation_id))).collect()
    }

    /// Any request; rows are named as they are, and now and then as they are not.
    fn request(&mut self) -> Request {
        let rows = self.rows();
        let wrong = self.rng.u8(0..4) == 0;
        let rng = &mut self.rng;
        let any = |rng: &mut Rng| match rows.len() {
            0 => (7, OperationId::new("00000000-0000-4000-8000-0000000000ff")),
            count => {
                let (id, operation_id) = rows[rng.usize(0..count)].clone();
                let other = rows[rng.usize(0..count)].1.clone();
                (id, if wrong { other } else { operation_id })
            }
        };
        let (id, operation_id) = any(rng);
        let words = || "words".to_owned();
        match rng.u8(0..14) {
            _ if !self.open => Request::Begin,
            0..=2 => Request::Begin,
            3..=6 => Request::Read(plan(rng, id)),
            7 => {
                let runs = runs(rng, &rows, any);
                // A pass knows of what it left behind, and may think so of more.
                let is_in = |id: &i64| runs.iter().any(|run: &Run| (run.first..=run.last).contains(id));
                let stays = rng.bool() || !rows.iter().all(|(id, _)| is_in(id));
                Request::Settle(Settlement { runs, whole: rng.bool(), stays })
            }
            8 => Request::Mark { ids: vec![id, id + 1], words: words() },
            9 => {
                let clock = if rng.bool() { Clock::Lamport } else { Clock::Hybrid };
                let (floor, step) = (rng.i64(0..400), rng.i64(0..3) * 500);
                let words = rng.bool().then(words);
                Request::Reserve(Reserve { clock, from: id, alone: rng.bool(), floor, step, words })
            }
            10..=11 => self.block.take().map_or(Request::Close, Request::Assign),
            12 => Request::Quarantine(vec![Refusal { id, operation_id, words: words() }]),
            13 if wrong => Request::Release(operation_id),
            _ => Request::Close,
        }
    }

    /// What the made-up files hold is written into the real ones.
    fn write_out(&self) -> Result<()> {
        let world = &mut *lock(&self.world);
        let Some(file) = world.disk.data(0) else { return Ok(()) };
        let app = &self.pairing.app;
        app.execute_batch(
            "BEGIN IMMEDIATE; DELETE FROM sync_pending_op; DELETE FROM profile_setting; DELETE FROM auth_credential",
        )?;
        for (id, row) in &file.rows {
            insert(app, *id, row)?;
        }
        app.execute("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'sync_pending_op'", [file.sequence])?;
        let settings = [
            ("sync.lamport_local_max", file.lamport),
            ("sync.hlc.last_wall", file.hybrid.0),
            ("sync.hlc.last_logical", file.hybrid.1),
        ];
        for (key, value) in settings {
            if let Some(value) = value {
                app.execute(
                    "INSERT INTO profile_setting (key, value, value_type, updated_at) VALUES (?1, ?2, 'int', 0)",
                    (key, value.to_string()),
                )?;
            }
        }
        if let Some(login) = file.login {
            let token = token::for_user(&login.user.to_string());
            app.execute(
                "INSERT INTO auth_credential (provider, username, token_encrypted, created_at, updated_at) \
                 VALUES ('waveflow_server', 'zoë', ?1, ?2, ?3)",
                (token.as_bytes(), login.created_at, login.updated_at),
            )?;
        }
        app.execute_batch("COMMIT")?;
        Ok(())
    }

    fn real_table(&self) -> Result<String> {
        let app = &self.pairing.app;
        let mut statement = app.prepare_cached(
            "SELECT id, operation_id, lamport_ts, hlc_wall, hlc_logical, last_error FROM sync_pending_op ORDER BY id",
        )?;
        let rows: Vec<(i64, String, i64, i64, i64, Option<String>)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut settings = app.prepare_cached("SELECT key, value FROM profile_setting ORDER BY key")?;
        let settings: Vec<(String, String)> =
            settings.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        Ok(format!("{rows:?} {settings:?}"))
    }

    fn made_up_table(&self) -> String {
        let world = &mut *lock(&self.world);
        let Some(file) = world.disk.data(0) else { return String::new() };
        let shown = |(id, row): (&i64, &Row)| {
            let pair = row.pair.unwrap_or(Pair { wall: 0, logical: 0 });
            let words = row.marked.as_ref().map(|(_, words)| words.to_string());
            (*id, row.operation_id.to_string(), row.stamp, pair.wall, pair.logical, words)
        };
        let rows: Vec<_> = file.rows.iter().map(shown).collect();
        let keys = [
            ("sync.hlc.last_logical", file.hybrid.1),
            ("sync.hlc.last_wall", file.hybrid.0),
            ("sync.lamport_local_max", file.lamport),
        ];
        let settings: Vec<(String, String)> =
            keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_string()))).collect();
        format!("{rows:?} {settings:?}")
    }
}

fn insert(app: &Connection, id: i64, row: &Row) -> Result<()> {
    let pair = row.pair.unwrap_or(Pair { wall: 0, logical: 0 });
    let payload = match row.nature {
        Nature::Lone | Nature::Doomed => r#"{"value":"\u0000"}"#,
        Nature::Sick => "{",
        Nature::Healthy | Nature::Poison | Nature::Refused => r#"{"value":1}"#,
    };
    let (at, words) = row.marked.as_ref().map_or((None, None), |(at, words)| (Some(*at), Some(words.as_ref())));
    app.prepare_cached(
        "INSERT INTO sync_pending_op (id, operation_id, lamport_ts, entity, entity_id, op, payload, created_at, \
         hlc_wall, hlc_logical, last_attempt_at, last_error) VALUES (?1, ?2, ?3, 'x', '1', 'set', ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute((
        id,
        row.operation_id.to_string(),
        row.stamp,
        payload,
        row.created_at,
        pair.wall,
        pair.logical,
        at,
        words,
    ))?;
    Ok(())
}

/// Some rows, a login, and clocks that may lag behind.
fn furnish(world: &mut World, rng: &mut Rng) {
    let now = world.wall();
    if rng.u8(0..8) > 0 {
        app::sign_in(world, 0, rng.usize(0..2), false);
    }
    app::enqueue(world, 0, rng.usize(0..16), 30);
    let Some(file) = world.disk.data(0) else { return };
    for _ in 0..rng.usize(0..3) {
        disturb(file, rng, now);
    }
}

/// Whatever may happen to a queue between two looks at it.
fn disturb(file: &mut DataFile, rng: &mut Rng, now: i64) {
    let ids: Vec<i64> = file.rows.keys().copied().collect();
    let some = if ids.is_empty() { 0 } else { ids[rng.usize(0..ids.len())] };
    match rng.u8(0..7) {
        0 => drop(file.rows.remove(&some)),
        1 => {
            // Another op under an id that was used: a backup came back.
            if let Some(row) = file.rows.get_mut(&some) {
                row.operation_id =
                    uuid::Builder::from_u128(rng.u128(..)).with_version(uuid::Version::Random).into_uuid();
                row.created_at = now - rng.i64(-500..500);
            }
        }
        2 => file.lamport = [None, Some(0), Some(5), Some(i64::MAX), Some((1 << 31) - 40)][rng.usize(0..5)],
        3 => file.hybrid = [(None, None), (Some(now + 9), Some(3)), (Some(now), None)][rng.usize(0..3)],
        4 => {
            let user = rng.usize(0..2);
            let (created_at, updated_at) = (now - rng.i64(0..900), now - rng.i64(0..500));
            file.login = Some(Login { user, serial: 0, created_at, updated_at });
        }
        5 => {
            // Stamps that fall, as after a rewound clock.
            let taken: BTreeSet<i64> = file.rows.values().map(|row| row.stamp).collect();
            let fresh = rng.i64(1..60);
            if let (false, Some(row)) = (taken.contains(&fresh), file.rows.get_mut(&some)) {
                row.stamp = fresh;
            }
        }
        _ => {
            if let Some(row) = file.rows.get_mut(&some) {
                row.pair = None;
            }
        }
    }
}

/// All rows in some runs, or a part of them, or rows that are not there.
fn runs(rng: &mut Rng, rows: &[(i64, OperationId)], any: impl Fn(&mut Rng) -> (i64, OperationId)) -> Vec<Run> {
    if rng.bool() {
        let one = |(id, operation_id): (i64, OperationId)| Run::of([(id, &operation_id)], 100);
        return (0..rng.usize(0..4)).filter_map(|_| one(any(rng))).collect();
    }
    let from = if rng.bool() { 0 } else { rng.usize(0..=rows.len()) };
    let chunks = rows[from..].chunks(rng.usize(1..9));
    chunks.filter_map(|rows| Run::of(rows.iter().map(|(id, operation_id)| (*id, operation_id)), 100)).collect()
}

fn plan(rng: &mut Rng, id: i64) -> Plan {
    Plan {
        after: rng.i64(0..4) * i64::from(rng.bool()),
        until: if rng.u8(0..4) == 0 { id } else { i64::MAX },
        max_ops: rng.usize(1..8),
        max_bytes: 1 << 20,
        pick: [Pick::First, Pick::First, Pick::Nth(rng.usize(0..3)), Pick::Newest, Pick::Quarantined][rng.usize(0..5)],
        alone: if rng.bool() { vec![id] } else { Vec::new() },
        above: rng.bool().then(|| rng.i64(0..6)),
    }
}

/// An answer, without what must differ: file numbers, words, and how long a body is.
fn shown(answer: &std::result::Result<Answer, StoreError>) -> String {
    match answer {
        Err(StoreError { kind: StoreErrorKind::ClockExhausted, .. }) => "no stamps".to_owned(),
        Err(_) => "an error".to_owned(),
        Ok(Answer::Begun(snapshot)) => {
            let mut snapshot = snapshot.clone();
            snapshot.file = 0;
            snapshot.due.sort_unstable();
            format!("{snapshot:?}")
        }
        Ok(Answer::Rows(rows)) => {
            let sick: Vec<i64> = rows.sick.iter().map(|refusal| refusal.id).collect();
            let ops: Vec<Op> = rows.batch.ops.iter().map(|op| Op { bytes: 0, queued_at: 0, ..op.clone() }).collect();
            format!("{ops:?} {sick:?} {:?} {} {} {}", rows.disorder, rows.cursor, rows.end, rows.stays)
        }
        Ok(other) => format!("{other:?}"),
    }
}

/// What the agent remembers, but for the names of files and accounts' issuers.
fn remembered(record: &Record) -> String {
    let quarantine: Vec<(&String, i64, i64)> =
        record.quarantine.iter().map(|(key, entry)| (key, entry.row, entry.tried_at)).collect();
    let spans = |book: &waveflow_sync_agent::record::Book| -> String {
        let ledger = &book.ledger;
        let spans: Vec<(i64, Option<&str>)> =
            ledger.spans.iter().map(|span| (span.up_to, span.owner.as_ref().map(|owner| &*owner.subject))).collect();
        format!("{:?} {:?} {spans:?}", ledger.account.as_ref().map(|account| &account.subject), ledger.created_at)
    };
    let books: Vec<String> = record.books.values().map(spans).collect();
    format!("{quarantine:?} {:?} {books:?}", record.released)
}
