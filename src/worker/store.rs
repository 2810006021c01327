//! Requests of a pass, performed on the database thread for one profile.
//!
//! What must always hold: what a batch travels under (token, device, profile) is what stood in the files when its rows
//! were read; nothing is kept open beyond what [`Store::close`] closes.

mod inquiry;
mod quarantine;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::Connection;

use super::{Files, Perform};
use crate::app::account::{SignedIn, is_local, signed_in};
use crate::app::registry::{self, Canonical, Profile};
use crate::buffer::Buffers;
use crate::drain::action::{
    Answer, Counts, Plan, Request, Reserve, Settled, Settlement, Snapshot, StoreError, StoreErrorKind,
};
use crate::drain::admission::Admit;
use crate::drain::guard::{Owner, Sight};
use crate::halt::{self, Place};
use crate::op::OperationId;
use crate::queue::Pace;
use crate::queue::columns::{self, Columns};
use crate::queue::database::{Database, Durability};
use crate::queue::read::Sender;
use crate::queue::settle::Terms;
use crate::queue::{census, mark, read, settle, stamp};
use crate::record::Keeper;
use crate::seal;
use crate::token::Token;
use crate::trigger::signature::Signature;

pub use self::inquiry::Survey;

/// Where ops go, under which token, as which device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Base URL.
    pub url: String,
    /// Bearer token.
    pub token: Token,
    /// Device id; empty until there is one.
    pub device: String,
}

/// One profile's files.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    profile: Profile,
    /// `server.url` of the configuration, instead of the app's.
    url: Option<String>,
    keeper: Arc<Keeper>,
    /// Wall clock, ms since the epoch.
    clock: fn() -> i64,
    /// Where bodies are written.
    buffers: Buffers,
    app: Option<Database>,
    data: Option<Database>,
    session: Option<Session>,
    /// `data_version` of both files when the last pass began.
    versions: Option<(i64, i64)>,
    /// Opened to be looked at, and not to be written to.
    looking: bool,
    /// What is open is not to be used for another pass.
    broken: bool,
    /// What was learnt of the file that was open last.
    pace: Pace,
}

/// What a pass began with.
#[derive(Debug)]
struct Session {
    columns: Columns,
    signed_in: SignedIn,
    url: String,
    device: Option<String>,
    canonical_id: Option<String>,
    admit: Admit,
    /// The newest row when the account was looked at.
    newest: i64,
}

impl Store {
    /// For `profile` in the app's `directory`. Nothing is opened yet.
    pub fn new(
        directory: PathBuf,
        profile: Profile,
        url: Option<String>,
        keeper: Arc<Keeper>,
        clock: fn() -> i64,
    ) -> Self {
        Self {
            directory,
            profile,
            url,
            keeper,
            clock,
            buffers: Buffers::default(),
            app: None,
            data: None,
            session: None,
            versions: None,
            looking: false,
            broken: false,
            pace: Pace::default(),
        }
    }

    /// To look at files only, which leaves no trace in them.
    #[must_use]
    pub fn looking(self) -> Self {
        Self { looking: true, ..self }
    }

    /// With bodies written into memory that others use as well.
    #[must_use]
    pub fn with_buffers(self, buffers: Buffers) -> Self {
        Self { buffers, ..self }
    }
}

impl Perform for Store {
    fn perform(&mut self, request: Request) -> Result<Answer, StoreError> {
        let done = self.attempt(request);
        self.broken |= done.as_ref().is_err_and(|error| error.kind == StoreErrorKind::Broken);
        done
    }

    fn way(&self) -> Option<Way> {
        self.session.as_ref().map(|session| Way {
            url: session.url.clone(),
            token: session.signed_in.token.clone(),
            device: session.device.clone().unwrap_or_default(),
        })
    }
}

impl Files for Store {
    /// News, too, where nothing is open that could tell. Own commits do not count (contract, section 5).
    fn is_news(&self) -> bool {
        let Some((app, data, versions)) = self.app.as_ref().zip(self.data.as_ref()).zip(self.versions).map(flat) else {
            return true;
        };
        app.check().is_err()
            || data.check().is_err()
            || app.version().ok() != Some(versions.0)
            || data.version().ok() != Some(versions.1)
    }

    /// The signature is of the files as nobody's commit is missed in them: an event that finds them so is our own
    /// closing's.
    fn close(&mut self) -> Option<Signature> {
        let before = self.signature();
        if before.is_fresh(SystemTime::now()) || self.is_news() {
            return None;
        }
        self.session = None;
        self.versions = None;
        self.pace = self.data.take().map_or(self.pace, |data| data.pace());
        self.app = None;
        self.buffers.release();
        let after = self.signature();
        // A log that is still there is another program's, and closing ours did not touch it.
        after.is_quiet_since(&before).then_some(after)
    }

    fn signature(&self) -> Signature {
        Signature::of(&self.directory, self.profile.path.as_deref())
    }

    /// Read afresh, without a pass. What was committed until now counts
    /// as seen, so that the files can be closed: the caller owes it a pass.
    fn look_for_way(&mut self) -> Option<(String, Token)> {
        self.open().ok()?;
        let (app, data) = (self.app.as_ref()?, self.data.as_ref()?);
        self.versions = Some((app.version().ok()?, data.version().ok()?));
        let url = self.url.clone().or(app.read(registry::server_url).ok()?)?;
        let signed_in = data.read(signed_in).ok()??;
        Some((url, signed_in.token))
    }

    fn registry(&self) -> Signature {
        Signature::of(&self.directory, None)
    }
}

impl Store {
    fn attempt(&mut self, request: Request) -> Result<Answer, StoreError> {
        match request {
            Request::Begin => self.begin().map(Answer::Begun),
            Request::EnsureDevice => self.ensure_device().map(Answer::DeviceReady),
            Request::Read(plan) => self.read(&plan),
            Request::Settle(settlement) => self.settle(&settlement).map(Answer::Settled),
            Request::Mark { ids, words } => {
                mark::mark(self.data()?, &ids, &words, (self.clock)()).map(|()| Answer::Done)
            }
            Request::Reserve(reserve) => self.reserve(&reserve),
            Request::Assign(block) => {
                let left = stamp::assign(self.data()?, &block)?;
                halt::here(Place::AssignAfter);
                Ok(Answer::Assigned(left))
            }
            Request::Quarantine(refusals) => self.quarantine(&refusals).map(|()| Answer::Done),
            Request::StillRefused(refusal) => {
                self.still_refused(refusal);
                Ok(Answer::Done)
            }
            Request::Release(operation_id) => {
                self.keeper.change(|record| record.forget(&operation_id));
                if let Some(session) = &mut self.session {
                    session.admit.quarantined.remove(&operation_id);
                }
                Ok(Answer::Done)
            }
            Request::Close => self.census().map(Answer::Closed),
        }
    }

    fn begin(&mut self) -> Result<Snapshot, StoreError> {
        self.session = None;
        self.open()?;
        let (app, data) = (opened(self.app.as_ref())?, opened(self.data.as_ref())?);
        // Before anything is read: what is committed from here on makes them differ.
        self.versions = Some((app.version()?, data.version()?));
        let (url, device, canonical) = app.read(|connection| {
            Ok((
                registry::server_url(connection)?,
                registry::device_id(connection)?,
                registry::canonical(connection, self.profile.id)?,
            ))
        })?;
        let url = self.url.clone().or(url);
        let canonical_missing = canonical == Canonical::Missing;
        let canonical_id = if let Canonical::Id(id) = canonical { Some(id) } else { None };
        let (columns, local_mode, signed_in, newest) = data.read(|connection| {
            let columns = columns::look(connection)?;
            let newest = if columns.is_some() { census::newest(connection)? } else { None };
            Ok((columns, is_local(connection)?, signed_in(connection)?, newest))
        })?;
        let mut snapshot = Snapshot {
            paused: self.keeper.look(|record| record.paused),
            queue: columns.is_some(),
            url: url.is_some(),
            token: signed_in.is_some(),
            local_mode,
            canonical_missing,
            device: device.clone(),
            newest,
            due: Vec::new(),
            file: data.file().digest(),
        };
        if let (Some(columns), Some(url), Some(signed_in)) = (columns, url, signed_in) {
            let newest = newest.unwrap_or(0);
            let admit = self.admit(data, &signed_in, newest, canonical_id.as_deref())?;
            snapshot.due = self.due(data, &url, &admit)?;
            self.session = Some(Session { columns, signed_in, url, device, canonical_id, admit, newest });
        }
        Ok(snapshot)
    }

    /// Opens what is not open, and again what stands for another file by now.
    fn open(&mut self) -> Result<(), StoreError> {
        // A connection that was opened when its file could not be written stays one for reading, and one whose log broke
        // under it stays broken, for as long as it is open.
        if std::mem::take(&mut self.broken) {
            (self.app, self.data) = (None, None);
        }
        if self.app.as_ref().is_none_or(|app| app.check().is_err()) {
            self.app = None;
            let path = self.directory.join(registry::FILE);
            self.app = Some(self.open_one(&path, Durability::Full)?);
        }
        if self.data.as_ref().is_none_or(|data| data.check().is_err()) {
            self.data = None;
            let path = self.profile.path.as_deref().ok_or_else(|| {
                failed(format!("profile {}: its data_dir is no path within WaveFlow's directory", self.profile.id))
            })?;
            let data = self.open_one(path, Durability::Normal)?;
            data.learn(|pace| *pace = self.pace);
            self.data = Some(data);
        }
        Ok(())
    }

    fn open_one(&self, path: &std::path::Path, durability: Durability) -> Result<Database, StoreError> {
        if self.looking { Database::open_to_look(path) } else { Database::open(path, durability) }
    }

    /// Which rows take part; writes a change of account down before anything is sent under it. `newest` is the newest row
    /// at the moment the account was read: those behind it may be the next one's already.
    fn admit(
        &self,
        data: &Database,
        signed_in: &SignedIn,
        newest: i64,
        canonical_id: Option<&str>,
    ) -> Result<Admit, StoreError> {
        let (path, file) = (data.path().display().to_string(), data.file().key());
        let credential = &signed_in.credential;
        let known = self.keeper.look(|record| record.ledger(&path, &file, canonical_id));
        let mut ledger = known.clone().within(data.read(census::highest)?);
        if ledger != known || ledger.is_news(credential) {
            let mut sight = Sight::default();
            data.read(|connection| {
                census::look(connection, |id, created_at| {
                    if id <= newest {
                        ledger.look(credential, &mut sight, id, created_at);
                    }
                })
            })?;
            ledger = ledger.after(credential, &sight);
            self.keeper.change(|record| record.set_ledger(&path, &file, canonical_id, ledger.clone()));
        }
        let (quarantined, released) = self.keeper.look(|record| {
            let quarantined =
                record.quarantined_in(&path).map(|(operation_id, entry)| (operation_id, entry.row)).collect();
            (quarantined, record.released.iter().map(|key| OperationId::new(key)).collect())
        });
        Ok(Admit { credential: credential.clone(), ledger, quarantined, released })
    }

    fn ensure_device(&mut self) -> Result<String, StoreError> {
        let device = registry::ensure_device_id(opened(self.app.as_ref())?, (self.clock)())?
            .ok_or_else(|| failed("app.db: no device id could be made".to_owned()))?;
        halt::here(Place::DeviceAfter);
        if let Some(session) = &mut self.session {
            session.device = Some(device.clone());
        }
        Ok(device)
    }

    fn read(&self, plan: &Plan) -> Result<Answer, StoreError> {
        let session = self.session()?;
        let paused = self.keeper.look(|record| record.paused);
        let admit = |id, operation_id: &OperationId, created_at| session.admit.admission(id, operation_id, created_at);
        let sender = Sender {
            device: session.device.as_deref().unwrap_or_default(),
            canonical_id: session.canonical_id.as_deref(),
            admit: &admit,
        };
        let rows = self.data()?.read(|connection| {
            // The token and the rows of one moment: a token pasted in mid-pass never carries the other account's rows,
            // and nothing more goes out once the user wants it to stay.
            if paused || is_local(connection)? || signed_in(connection)?.as_ref() != Some(&session.signed_in) {
                return Ok(Answer::AccountChanged);
            }
            let rows = read::read(connection, session.columns, plan, &sender, self.buffers.take())?;
            seal::panic_if_asked("database", &session.signed_in.token, &rows.batch.body);
            Ok(Answer::Rows(rows))
        })?;
        halt::here(Place::RowsRead);
        Ok(rows)
    }

    fn settle(&mut self, settlement: &Settlement) -> Result<Settled, StoreError> {
        halt::here(Place::SettleBefore);
        let session = self.session.as_ref();
        let released = session.map(|session| &session.admit.released).filter(|released| !released.is_empty());
        // What a person let go has gone: else the list fills up, and nothing can be let go any more.
        let mut gone = Vec::new();
        let mut note = |operation_id: &OperationId| {
            if released.is_some_and(|released| released.contains(operation_id)) {
                gone.push(operation_id.clone());
            }
        };
        let terms = match released {
            Some(_) => Terms { version: None, gone: Some(&mut note) },
            None => Terms { version: self.versions.map(|(_, data)| data), gone: None },
        };
        let settled = settle::settle(self.data()?, settlement, terms)?;
        halt::here(Place::SettleAfter);
        if let (false, Some(session)) = (gone.is_empty(), &mut self.session) {
            session.admit.released.retain(|operation_id| !gone.contains(operation_id));
            self.keeper.change(|record| gone.iter().for_each(|operation_id| record.forget(operation_id)));
        }
        Ok(settled)
    }

    fn reserve(&self, reserve: &Reserve) -> Result<Answer, StoreError> {
        let columns = self.session()?.columns;
        let reserved = stamp::reserve(self.data()?, reserve, columns, (self.clock)())?;
        halt::here(Place::ReserveAfter);
        Ok(Answer::Reserved(reserved))
    }

    /// Counts what is left, and writes down whose it is where something stays behind.
    fn census(&self) -> Result<Counts, StoreError> {
        let session = self.session()?;
        let admit = &session.admit;
        let data = self.data()?;
        let credential = &admit.credential;
        let mut counts = Counts::default();
        let mut sight = Sight::default();
        data.read(|connection| {
            // Somebody else may have signed in meanwhile; what was queued since then is not this account's.
            let same = signed_in(connection)?.as_ref() == Some(&session.signed_in);
            let seen = if same { i64::MAX } else { session.newest };
            let quarantined = rows_of(connection, admit.quarantined.iter().map(|(id, row)| (id, *row)))?;
            let released = rows_of(connection, admit.released.iter().map(|id| (id, i64::MIN)))?;
            census::look(connection, |id, created_at| {
                if id <= seen {
                    admit.ledger.look(credential, &mut sight, id, created_at);
                }
                if quarantined.contains(&id) {
                    counts.quarantined += 1;
                } else if admit.ledger.owner(credential, id, created_at) == Owner::Present || released.contains(&id) {
                    counts.remaining += 1;
                    counts.oldest = Some(counts.oldest.map_or(created_at, |oldest| oldest.min(created_at)));
                } else {
                    counts.held += 1;
                }
            })
        })?;
        let ledger = admit.ledger.after(credential, &sight);
        if ledger != admit.ledger {
            let (path, file) = (data.path().display().to_string(), data.file().key());
            let canonical_id = session.canonical_id.as_deref();
            self.keeper.change(|record| record.set_ledger(&path, &file, canonical_id, ledger));
        }
        Ok(counts)
    }

    fn data(&self) -> Result<&Database, StoreError> {
        opened(self.data.as_ref())
    }

    fn session(&self) -> Result<&Session, StoreError> {
        self.session.as_ref().ok_or_else(|| failed("nothing is open".to_owned()))
    }
}

fn flat<A, B, C>(((a, b), c): ((A, B), C)) -> (A, B, C) {
    (a, b, c)
}

/// The rows these ops are in by now, looked for first where they were.
fn rows_of<'a>(
    connection: &Connection,
    ids: impl Iterator<Item = (&'a OperationId, i64)>,
) -> Result<HashSet<i64>, StoreError> {
    let mut rows = HashSet::new();
    for (operation_id, row) in ids {
        rows.extend(census::find(connection, row, operation_id)?.map(|label| label.id));
    }
    Ok(rows)
}

fn opened(database: Option<&Database>) -> Result<&Database, StoreError> {
    database.ok_or_else(|| failed("nothing is open".to_owned()))
}

fn failed(message: String) -> StoreError {
    StoreError { kind: StoreErrorKind::Failed, message }
}
