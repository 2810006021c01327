//! The agent's access to the made-up files: what [`waveflow_sync_agent::worker::store::Store`] does with SQL, done to a
//! [`Disk`].
//!
//! What must always hold: every answer is the one the real store would give for the same rows ([`super::alike`]
//! compares them); who takes part and which stamps are fresh is decided by the agent's own code.

mod account;
pub mod read;
mod settle;
mod stamp;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use uuid::Uuid;
use waveflow_sync_agent::app::account::SignedIn;
use waveflow_sync_agent::drain::action::{Answer, Refusal, Request, Snapshot, StoreError, StoreErrorKind};
use waveflow_sync_agent::drain::admission::Admit;
use waveflow_sync_agent::drain::gate;
use waveflow_sync_agent::op::{OperationId, Reason};
use waveflow_sync_agent::record::Keeper;
use waveflow_sync_agent::token::Token;
use waveflow_sync_agent::trigger::signature::Signature;
use waveflow_sync_agent::worker::store::Way;
use waveflow_sync_agent::worker::{Files, Perform};

use super::disk::{DataFile, Disk};
use super::world::{Shared, World, lock};

/// A row is marked with the same words at most this often, in ms.
const MARK_EVERY_MS: i64 = 60_000;

/// One profile's files, as one agent has them open.
pub struct MadeUpFiles {
    world: Shared,
    keeper: Arc<Keeper>,
    profile: usize,
    /// Own commits to `app.db`.
    own: u64,
    opened: Option<u64>,
    /// The last one that was opened.
    file: Option<u64>,
    versions: Option<(u64, u64)>,
    session: Option<Session>,
}

/// What a pass began with.
struct Session {
    signed_in: SignedIn,
    url: String,
    device: Option<String>,
    canonical_id: Option<String>,
    admit: Admit,
    newest: i64,
}

/// The address that leads to a server.
pub fn url(server: usize) -> String {
    format!("https://server-{server}.example")
}

pub(super) fn failed(message: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Failed, message: message.to_owned() }
}

fn gone(message: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Gone, message: message.to_owned() }
}

impl MadeUpFiles {
    /// Nothing is open yet.
    pub fn new(world: Shared, keeper: Arc<Keeper>, profile: usize) -> Self {
        Self { world, keeper, profile, own: 0, opened: None, file: None, versions: None, session: None }
    }

    fn path(&self) -> String {
        format!("profiles/{}/data.db", self.profile + 1)
    }

    /// The database, if it is still the one that was opened; faults strike here.
    fn data<'w>(&self, world: &'w mut World, writes: bool) -> Result<&'w mut DataFile, StoreError> {
        let (now, faulty, full) = (world.now, world.disk.faulty, world.disk.full);
        let strikes = faulty > 0 && world.rng.u16(0..1000) < faulty;
        let opened = self.opened;
        let Some(file) = world.disk.data(self.profile) else { return Err(gone("data.db: No such file")) };
        if opened.is_none() {
            return Err(failed("nothing is open"));
        }
        if opened != Some(file.inode) {
            return Err(gone("data.db was replaced by another file"));
        }
        if strikes {
            return Err(StoreError { kind: StoreErrorKind::Broken, ..failed("disk I/O error") });
        }
        if writes && full {
            return Err(failed("the disk is full"));
        }
        if writes && file.locked_until > now {
            return Err(failed("data.db is locked by another program"));
        }
        Ok(file)
    }

    fn session(&self) -> Result<&Session, StoreError> {
        self.session.as_ref().ok_or_else(|| failed("nothing is open"))
    }

    fn open(&mut self, world: &mut World) -> Result<(), StoreError> {
        let Some(file) = world.disk.data(self.profile) else {
            self.opened = None;
            return Err(failed("data.db: No such file"));
        };
        let inode = file.inode;
        self.opened = Some(inode);
        if self.file.replace(inode).is_some_and(|before| before != inode) {
            world.oracle.forget(Some(self.profile));
        }
        Ok(())
    }

    fn versions_of(&self, disk: &Disk) -> Option<(u64, u64)> {
        let file = disk.profiles.get(self.profile)?.file.as_ref()?;
        Some((disk.app_commits.wrapping_sub(self.own), file.foreign))
    }

    fn begin(&mut self, world: &mut World) -> Result<Snapshot, StoreError> {
        self.session = None;
        world.begun.insert(self.profile, world.now);
        world.passing.insert(self.profile);
        world.rewound.remove(&self.profile);
        self.open(world)?;
        self.versions = self.versions_of(&world.disk);
        let canonical_id = world.disk.profiles.get(self.profile).and_then(|profile| profile.canonical_id.clone());
        let canonical_missing = world.disk.canonical_column && canonical_id.is_none();
        let canonical_id = canonical_id.filter(|_| world.disk.canonical_column);
        let (url, device) = (world.disk.url.map(url), world.disk.device.clone());
        let file = self.data(world, false)?;
        let signed_in = account::signed_in(file);
        let newest = file.rows.keys().next_back().copied().filter(|_| file.queue);
        let mut snapshot = Snapshot {
            paused: self.keeper.look(|record| record.paused),
            queue: file.queue,
            url: url.is_some(),
            token: signed_in.is_some(),
            local_mode: file.local,
            canonical_missing,
            device: device.clone(),
            newest,
            due: Vec::new(),
            file: file.inode,
        };
        if let (true, Some(url), Some(signed_in)) = (snapshot.queue, url, signed_in) {
            let newest = newest.unwrap_or(0);
            let admit = self.admit(world, &signed_in, newest, canonical_id.as_deref())?;
            snapshot.due = self.due(world, &url, &admit)?;
            self.session = Some(Session { signed_in, url, device, canonical_id, admit, newest });
        }
        Ok(snapshot)
    }

    fn ensure_device(&mut self, world: &mut World) -> Result<String, StoreError> {
        if world.disk.full {
            return Err(failed("the disk is full"));
        }
        if world.disk.device.is_none() {
            let device = world.operation_id().to_string();
            world.disk.device = Some(device);
            world.disk.app_commits += 1;
            self.own += 1;
        }
        let device = world.disk.device.clone().unwrap_or_default();
        if let Some(session) = &mut self.session {
            session.device = Some(device.clone());
        }
        crash(world)?;
        Ok(device)
    }

    fn mark(&self, world: &mut World, ids: &[i64], words: &str, stale_only: bool) -> Result<(), StoreError> {
        let now = world.wall();
        let stale = |file: &DataFile, id: &i64| {
            file.rows.get(id).is_some_and(|row| {
                !stale_only
                    || row
                        .marked
                        .as_ref()
                        .is_none_or(|(at, old)| !(now - MARK_EVERY_MS..=now).contains(at) || old.as_ref() != words)
            })
        };
        let file = self.data(world, false)?;
        if !ids.iter().any(|id| stale(file, id)) {
            return Ok(());
        }
        let file = self.data(world, true)?;
        let words: Arc<str> = words.into();
        for id in ids {
            if stale(file, id)
                && let Some(row) = file.rows.get_mut(id)
            {
                row.marked = Some((now, Arc::clone(&words)));
            }
        }
        touch(world, self.profile);
        crash(world)
    }
}

impl Perform for MadeUpFiles {
    fn perform(&mut self, request: Request) -> Result<Answer, StoreError> {
        let shared = Arc::clone(&self.world);
        let world = &mut *lock(&shared);
        world.count(name(&request));
        let answer = match request {
            Request::Begin => self.begin(world).map(|snapshot| {
                world.count(gate::shut(&snapshot).map_or("gate: all open", reason));
                Answer::Begun(snapshot)
            }),
            Request::EnsureDevice => self.ensure_device(world).map(Answer::DeviceReady),
            Request::Read(plan) => self.read(world, &plan),
            Request::Settle(settlement) => self.settle(world, &settlement).map(Answer::Settled),
            Request::Mark { ids, words } => self.mark(world, &ids, &words, true).map(|()| Answer::Done),
            Request::Reserve(reserve) => self.reserve(world, &reserve).map(Answer::Reserved),
            Request::Assign(block) => self.assign(world, block).map(Answer::Assigned),
            Request::Quarantine(refusals) => self.quarantine(world, &refusals).map(|()| Answer::Done),
            Request::StillRefused(refusal) => {
                self.still_refused(world, refusal);
                Ok(Answer::Done)
            }
            Request::Release(operation_id) => {
                self.keeper.change(|record| record.forget(&operation_id));
                if let Some(session) = &mut self.session {
                    session.admit.quarantined.remove(&operation_id);
                }
                Ok(Answer::Done)
            }
            Request::Close => {
                world.passing.remove(&self.profile);
                world.rewound.remove(&self.profile);
                self.census(world).map(Answer::Closed)
            }
        };
        if let Err(error) = &answer {
            world.count(match error.kind {
                StoreErrorKind::Gone => "files: gone",
                StoreErrorKind::ClockExhausted => "files: no stamps left",
                StoreErrorKind::Broken => "files: broken",
                StoreErrorKind::Failed => "files: failed",
            });
            if error.kind == StoreErrorKind::Gone {
                world.oracle.forget(Some(self.profile));
            }
        }
        let profile = self.profile;
        world.tell(|| format!("files {profile}: {answer:?}"));
        answer
    }

    fn way(&self) -> Option<Way> {
        self.session.as_ref().map(|session| Way {
            url: session.url.clone(),
            token: session.signed_in.token.clone(),
            device: session.device.clone().unwrap_or_default(),
        })
    }
}

impl Files for MadeUpFiles {
    fn is_news(&self) -> bool {
        let world = lock(&self.world);
        let same = world.disk.profiles.get(self.profile).and_then(|profile| profile.file.as_ref());
        let same = same.is_some_and(|file| Some(file.inode) == self.opened);
        !same || self.versions.is_none() || self.versions != self.versions_of(&world.disk)
    }

    fn close(&mut self) -> Option<Signature> {
        let before = self.signature();
        let wall = u64::try_from(lock(&self.world).wall()).unwrap_or(0);
        if before.is_fresh(UNIX_EPOCH + Duration::from_millis(wall)) || self.is_news() {
            return None;
        }
        (self.session, self.versions, self.opened) = (None, None, None);
        lock(&self.world).count("files: closed");
        Some(before)
    }

    fn look_for_way(&mut self) -> Option<(String, Token)> {
        let shared = Arc::clone(&self.world);
        let world = &mut *lock(&shared);
        self.open(world).ok()?;
        self.versions = self.versions_of(&world.disk);
        let address = world.disk.url.map(url)?;
        let file = self.data(world, false).ok()?;
        Some((address, account::signed_in(file)?.token))
    }

    fn signature(&self) -> Signature {
        let world = lock(&self.world);
        let app = registry(&world);
        let file = world.disk.profiles.get(self.profile).and_then(|profile| profile.file.as_ref());
        let log = file.map(|file| (file.inode, file.log.0, i128::from(file.log.1) * 1000));
        Signature { data: file.map(|file| (file.inode, 0, 0)), data_log: log, ..app }
    }

    fn registry(&self) -> Signature {
        registry(&lock(&self.world))
    }
}

fn registry(world: &World) -> Signature {
    let log = Some((0, world.disk.app_commits, i128::from(world.disk.app_written) * 1000));
    Signature { app: Some((0, 0, 0)), app_log: log, data: None, data_log: None }
}

/// Our own commit shows in the log.
fn touch(world: &mut World, profile: usize) {
    let wall = world.wall() * 1000;
    if let Some(file) = world.disk.data(profile) {
        file.log = (file.log.0 + 1, wall);
    }
}

/// One write of the job is done; perhaps it was the last.
pub(super) fn crash(world: &mut World) -> Result<(), StoreError> {
    match &mut world.writes_left {
        None => Ok(()),
        Some(0) => Err(failed("killed")),
        Some(left) => {
            *left -= 1;
            if *left == 0 { Err(failed("killed")) } else { Ok(()) }
        }
    }
}

fn is(uuid: Uuid, operation_id: &OperationId) -> bool {
    *operation_id == OperationId::Canonical(uuid)
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::NotConfigured => "gate: not configured",
        Reason::SignedOut => "gate: signed out",
        Reason::LocalMode => "gate: local mode",
        Reason::ProfileNotReady => "gate: profile not ready",
        Reason::NoQueue => "gate: no queue",
        Reason::Paused => "gate: paused",
        Reason::Held | Reason::Unavailable => "gate: none of the gates",
    }
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Begin => "action: begin",
        Request::EnsureDevice => "action: make the device id",
        Request::Read(_) => "action: read",
        Request::Settle(_) => "action: settle",
        Request::Mark { .. } => "action: mark",
        Request::Reserve(_) => "action: reserve",
        Request::Assign(_) => "action: assign",
        Request::Quarantine(_) => "action: quarantine",
        Request::StillRefused(_) => "action: still refused",
        Request::Release(_) => "action: release",
        Request::Close => "action: close",
    }
}

/// A refusal's row, if it still is the op's.
fn row_of(file: &DataFile, refusal: &Refusal) -> Option<i64> {
    let at = file.rows.get(&refusal.id).filter(|row| is(row.operation_id, &refusal.operation_id));
    at.map(|_| refusal.id).or_else(|| find(file, &refusal.operation_id))
}

fn find(file: &DataFile, operation_id: &OperationId) -> Option<i64> {
    file.rows.iter().find(|(_, row)| is(row.operation_id, operation_id)).map(|(id, _)| *id)
}
