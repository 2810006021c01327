//! A worker in this process, over the real files and the real server, that can be ended at any of its requests.
//!
//! What must always hold: ending it is as abrupt as a kill can be without leaving the process: the database thread
//! unwinds with whatever transaction is open, what is on the wire is dropped, and nothing is told to anybody.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use testkit::data_dir::Profile;
use tokio::sync::watch;
use waveflow_sync_agent::app::registry;
use waveflow_sync_agent::buffer::Buffers;
use waveflow_sync_agent::config::{Config, Environment, Flags, Platform};
use waveflow_sync_agent::drain::Rules;
use waveflow_sync_agent::drain::action::{Answer, Request, StoreError};
use waveflow_sync_agent::drain::backoff::Waits;
use waveflow_sync_agent::op::{Outcome, Reason};
use waveflow_sync_agent::push::{Proxies, Settings};
use waveflow_sync_agent::record::Keeper;
use waveflow_sync_agent::state::StateFile;
use waveflow_sync_agent::surroundings::System;
use waveflow_sync_agent::worker::connections::Connections;
use waveflow_sync_agent::worker::engine::Engine;
use waveflow_sync_agent::worker::servers::Servers;
use waveflow_sync_agent::worker::store::{Store, Way};
use waveflow_sync_agent::worker::thread::DatabaseThread;
use waveflow_sync_agent::worker::{Perform, Worker};

/// Passes that a drain may take at the most before it counts as jammed.
const PASSES_MAX: usize = 12;

/// Where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nowhere.
    Never,
    /// Instead of request number n, from 0.
    Before(usize),
    /// When request number n is performed, and before anybody knows.
    After(usize),
    /// When the transaction number n, from 0, that assigns fresh stamps is committed.
    AfterAssigning(usize),
}

/// The real store, with an end.
struct Mortal {
    store: Store,
    end: End,
    requests: Arc<AtomicUsize>,
    assigned: Arc<AtomicUsize>,
}

impl Perform for Mortal {
    fn perform(&mut self, request: Request) -> Result<Answer, StoreError> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if self.end == End::Before(number) {
            // Not a panic: nothing is printed, and nothing catches it but the end of the thread.
            std::panic::resume_unwind(Box::new("killed"));
        }
        let assigns = matches!(request, Request::Assign(_));
        let result = self.store.perform(request);
        let assigned = assigns.then(|| self.assigned.fetch_add(1, Ordering::Relaxed));
        if self.end == End::After(number) || assigned.is_some_and(|n| self.end == End::AfterAssigning(n)) {
            std::panic::resume_unwind(Box::new("killed"));
        }
        result
    }

    fn way(&self) -> Option<Way> {
        self.store.way()
    }
}

/// What came of a drain in this process.
pub(crate) struct Drained {
    /// How many requests the store got.
    pub(crate) requests: usize,
    /// How many of them assigned fresh stamps.
    pub(crate) assigned: usize,
    /// Of the last pass.
    pub(crate) outcome: Outcome,
}

/// Drains `profile` pass after pass, without waiting between them, until nothing remains or it was ended.
pub(crate) fn drain(profile: &Profile, state_dir: &Path, batch_ops: usize, end: End) -> Drained {
    let (file, record) = StateFile::open(state_dir).unwrap();
    let keeper = Arc::new(Keeper::new(Some(file), record));
    let directory = profile.data_dir().path().to_owned();
    let app = registry::open(&directory).unwrap();
    let profiles = app.read(|connection| registry::profiles(connection, &directory)).unwrap();
    let registered = profiles.into_iter().find(|registered| registered.id == profile.id).unwrap();
    drop(app);
    let (requests, assigned) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let store = Store::new(directory, registered, None, Arc::clone(&keeper), testkit::time::now_ms);
    let store = Mortal { store, end, requests: Arc::clone(&requests), assigned: Arc::clone(&assigned) };
    let isolate_every = Duration::from_secs(300);
    let mut worker = Worker::new(store, Rules { batch_ops, batch_bytes: 1 << 20, isolate_every });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let waits = Waits { initial: Duration::from_millis(1), max: Duration::from_millis(2) };
    let engine = Engine {
        config: config(state_dir),
        servers: servers(Arc::clone(&keeper), waits),
        keeper,
        database: DatabaseThread::default(),
        waits,
        buffers: Buffers::default(),
        surroundings: Rc::new(System::default()),
        tidings: Rc::default(),
    };
    for _ in 0..PASSES_MAX {
        let (_stop, stopped) = watch::channel(false);
        let outcome = runtime.block_on(worker.drain(&engine, stopped));
        let ended = outcome.skipped == Some(Reason::Unavailable);
        if ended || outcome.remaining == 0 {
            let [requests, assigned] = [requests, assigned].map(|count| count.load(Ordering::Relaxed));
            return Drained { requests, assigned, outcome };
        }
    }
    panic!("jammed: {PASSES_MAX} passes, and ops remain");
}

/// The defaults, in an environment without anything.
fn config(home: &Path) -> Config {
    let env = Environment::new(Platform::CURRENT, home, [("HOME", home.to_str().unwrap())]);
    waveflow_sync_agent::config::load(&Flags::default(), &env).unwrap().config
}

fn servers(keeper: Arc<Keeper>, waits: Waits) -> Servers {
    let settings = Settings {
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(50),
        ca_file: None,
        proxy: Proxies::from_env(|_| None),
        require_tls: false,
        buffers: Buffers::default(),
    };
    Servers::new(Rc::new(Connections::new(settings)), waits, keeper)
}
