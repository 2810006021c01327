//! What the agent, the app and the servers share: the files, the servers, the wall clock, and the books about it all.
//!
//! What must always hold: it is locked for one thing at a time, never across two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use uuid::Uuid;
use waveflow_sync_agent::drain::verdict::{Verdict, judge};
use waveflow_sync_agent::op::{ErrorKind, OperationId, Reply};

use super::agenda::{MS, Micros};
use super::disk::{Disk, ProfileDir};
use super::oracle::Oracle;
use super::server::{Sent, Server};

/// Every action, answer, gate and state of the agent's: what a run has to come by.
const PLACES: [&str; 52] = [
    "action: assign",
    "action: begin",
    "action: close",
    "action: make the device id",
    "action: mark",
    "action: quarantine",
    "action: read",
    "action: release",
    "action: reserve",
    "action: send",
    "action: send an empty batch",
    "action: settle",
    "action: still refused",
    "files: broken",
    "files: closed",
    "files: failed",
    "files: gone",
    "files: no stamps left",
    "gate: all open",
    "gate: local mode",
    "gate: no queue",
    "gate: not configured",
    "gate: paused",
    "gate: profile not ready",
    "gate: signed out",
    "state: backing off",
    "state: draining",
    "state: held",
    "state: idle",
    "state: local",
    "state: not configured",
    "state: paused",
    "state: profile not ready",
    "state: signed out",
    "state: unauthorized",
    "state: unavailable",
    "told: nothing remains",
    "verdict: accepted",
    "verdict: broken",
    "verdict: later",
    "verdict: later, at a named time",
    "verdict: not the server",
    "verdict: not the server, lasting",
    "verdict: pair taken",
    "verdict: refused",
    "verdict: slow",
    "verdict: stamp taken",
    "verdict: stamp taken, maximum unbelievable",
    "verdict: strange conflict",
    "verdict: too large",
    "verdict: unauthorized",
    "act: kill",
];

/// When lives begin, in ms since the epoch.
const EPOCH_MS: i64 = 1_750_000_000_000;

/// Everything but the agent.
pub struct World {
    /// Microseconds since the life began.
    pub now: Micros,
    /// How far the wall clock is off, in ms.
    pub off: i64,
    /// The files.
    pub disk: Disk,
    /// The two servers an address can lead to.
    pub servers: [Server; 2],
    /// What must hold.
    pub oracle: Oracle,
    /// What happened how often.
    pub seen: BTreeMap<&'static str, u64>,
    /// Decides everything that happens.
    pub rng: Rng,
    /// A request of the agent's does as much as it may at once, as a real one nearly always does.
    pub whole: bool,
    /// The agent dies after so many more writes of the job it is at.
    pub writes_left: Option<u32>,
    /// What happened, for `--trace`.
    pub trace: Option<Vec<String>>,
    /// Ops made.
    pub made: u64,
    /// Profiles over which a pass is under way.
    pub passing: BTreeSet<usize>,
    /// Those among them whose file was rewound under it.
    pub rewound: BTreeSet<usize>,
    /// When the last pass over each profile began.
    pub begun: BTreeMap<usize, Micros>,
}

/// The world, for the agent's hands and for the rest.
pub type Shared = Arc<Mutex<World>>;

/// Locks it.
pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// With `profiles` profiles that have no file yet.
    pub fn new(rng: Rng, profiles: usize, trace: bool) -> Self {
        let empty = ProfileDir { listed: false, file: None, canonical_id: None, backups: Vec::new() };
        Self {
            now: 0,
            off: 0,
            disk: Disk { profiles: vec![empty; profiles], ..Disk::new() },
            servers: [Server::default(), Server::default()],
            oracle: Oracle::default(),
            seen: PLACES.iter().map(|place| (*place, 0)).collect(),
            rng,
            whole: false,
            writes_left: None,
            trace: trace.then(Vec::new),
            made: 0,
            passing: BTreeSet::new(),
            rewound: BTreeSet::new(),
            begun: BTreeMap::new(),
        }
    }

    /// The wall clock, in ms since the epoch.
    pub fn wall(&self) -> i64 {
        EPOCH_MS.saturating_add(self.off).saturating_add(i64::try_from(self.now / MS).unwrap_or(i64::MAX))
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Writes something down, where somebody reads it.
    pub fn tell(&mut self, words: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} s  {}", std::time::Duration::from_micros(now).as_secs_f64(), words()));
        }
    }

    /// True in `percent` of a hundred times.
    pub fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(0..100) < percent
    }

    /// An operation id no op had.
    pub fn operation_id(&mut self) -> Uuid {
        self.made += 1;
        uuid::Builder::from_u128(u128::from(self.made) << 64 | u128::from(self.made))
            .with_version(uuid::Version::Random)
            .into_uuid()
    }

    /// A server answers a request of the agent's.
    pub fn deliver(&mut self, server: usize, sender: &Sender, ops: &[Sent]) -> Reply {
        let mut stored = Vec::new();
        let reply = self.servers[server].answer(sender.user, sender.serial, &sender.device, ops, &mut stored);
        let device = OperationId::new(&sender.device).uuid().unwrap_or_default();
        for op in &stored {
            self.oracle.stored(server, op, sender.user, device, &self.disk);
        }
        self.tell(|| format!("server {server} stores {} of {} ops of user {}", stored.len(), ops.len(), sender.user));
        reply
    }

    /// Counts what the agent is answered.
    pub fn count_reply(&mut self, reply: &Reply, device: &str) {
        let name = match judge(reply.clone(), device) {
            Verdict::Accepted(_) => "verdict: accepted",
            Verdict::Regression { stored_max: Some(_), .. } => "verdict: stamp taken",
            Verdict::Regression { stored_max: None, .. } => "verdict: stamp taken, maximum unbelievable",
            Verdict::PairRegression { .. } => "verdict: pair taken",
            Verdict::Refused { too_large: false, .. } => "verdict: refused",
            Verdict::Refused { too_large: true, .. } => "verdict: too large",
            Verdict::Broken(_) => "verdict: broken",
            Verdict::Unauthorized(_) => "verdict: unauthorized",
            Verdict::Slow(..) => "verdict: slow",
            Verdict::Later { retry_after: Some(_), .. } => "verdict: later, at a named time",
            Verdict::Later { kind: ErrorKind::NotTheServer, .. } => "verdict: strange conflict",
            Verdict::Later { .. } => "verdict: later",
            Verdict::NotTheServer { lasting: false, .. } => "verdict: not the server",
            Verdict::NotTheServer { lasting: true, .. } => "verdict: not the server, lasting",
        };
        self.count(name);
    }
}

/// Who a request says it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// Whose token.
    pub user: usize,
    /// Which of that user's.
    pub serial: u64,
    /// `device_id`.
    pub device: String,
}
