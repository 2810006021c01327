//! What every command that drains is made of, from the configuration.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::connections::Connections;
use super::servers::Servers;
use super::store::Store;
use super::thread::DatabaseThread;
use crate::app::registry::{self, Profile};
use crate::buffer::Buffers;
use crate::clock;
use crate::config::{Config, Environment};
use crate::drain::Rules;
use crate::drain::action::StoreError;
use crate::drain::backoff::Waits;
use crate::exit::Exit;
use crate::push::{Proxies, Settings};
use crate::record::Keeper;
use crate::state::StateFile;
use crate::surroundings::{Surroundings, System};
use crate::tidings::{Teller, Tidings};

/// An idle connection is dropped after this: proxies drop theirs after 60 to 90 s, and ours should go first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Shared by all profiles.
pub struct Engine {
    /// What is in force.
    pub config: Config,
    /// Our own state.
    pub keeper: Arc<Keeper>,
    /// Where files are touched.
    pub database: DatabaseThread,
    /// Connections and back-off.
    pub servers: Servers,
    /// `retry.initial` and `retry.max`.
    pub waits: Waits,
    /// Memory for bodies and answers.
    pub buffers: Buffers,
    /// Clocks, waiting, randomness.
    pub surroundings: Rc<dyn Surroundings>,
    /// Where is told what happens.
    pub tidings: Rc<Tidings>,
}

/// How servers are reached, from the configuration.
///
/// # Errors
/// `server.proxy` is none. For people.
pub fn settings(config: &Config, env: &Environment) -> Result<Settings, String> {
    let text = |name: &str| env.get(name).and_then(|value| value.to_str()).map(str::to_owned);
    let proxy = match &config.server.proxy {
        Some(url) => Proxies::fixed(url)?,
        None => Proxies::from_env(text),
    };
    Ok(Settings {
        connect_timeout: config.server.connect_timeout,
        request_timeout: config.server.request_timeout,
        idle_timeout: IDLE_TIMEOUT,
        ca_file: config.server.ca_file.clone(),
        proxy,
        require_tls: config.server.require_tls,
        buffers: Buffers::default(),
    })
}

impl Engine {
    /// Everything, from the configuration; nothing is connected or opened yet but our own state.
    ///
    /// # Errors
    /// For people, and how to end with it.
    pub fn new(config: &Config, env: &Environment) -> Result<Self, (String, Exit)> {
        let (file, record) = StateFile::open(&config.state_dir).map_err(|error| (error.to_string(), error.exit()))?;
        let keeper = Arc::new(Keeper::new(Some(file), record));
        Self::with(config, env, keeper, DatabaseThread::default(), Rc::default())
    }

    /// The same with what is there already (a reload).
    ///
    /// # Errors
    /// For people, and how to end with it.
    pub fn with(
        config: &Config,
        env: &Environment,
        keeper: Arc<Keeper>,
        database: DatabaseThread,
        tidings: Rc<Tidings>,
    ) -> Result<Self, (String, Exit)> {
        let settings = settings(config, env).map_err(|message| (message, Exit::Config))?;
        let buffers = settings.buffers.clone();
        let waits = Waits { initial: config.retry.initial, max: config.retry.max };
        let servers = Servers::new(Rc::new(Connections::new(settings)), waits, Arc::clone(&keeper));
        let surroundings = Rc::new(System::default());
        Ok(Self { config: config.clone(), keeper, database, servers, waits, buffers, surroundings, tidings })
    }

    /// What drains `profile` in the app's `directory`.
    pub fn worker(&self, directory: &Path, profile: Profile) -> Worker {
        let (url, teller) = (self.config.server.url.clone(), Teller::new(profile.id, Rc::clone(&self.tidings)));
        let store = Store::new(directory.to_owned(), profile, url, Arc::clone(&self.keeper), clock::now_ms)
            .with_buffers(self.buffers.clone());
        let rules = Rules {
            batch_ops: self.config.drain.batch_ops,
            batch_bytes: self.config.drain.batch_bytes,
            isolate_every: self.config.retry.max,
        };
        Worker::new(store, rules).with_teller(teller)
    }

    /// The profiles in the app's `directory`.
    pub fn profiles(&self, directory: PathBuf) -> impl Future<Output = Result<Vec<Profile>, StoreError>> + 'static {
        let listed = self.database.call(move || {
            let app = registry::open(&directory)?;
            app.read(|connection| registry::profiles(connection, &directory))
        });
        async move { listed.await.unwrap_or_else(|| Ok(Vec::new())) }
    }

    /// Monotonic time.
    pub fn now(&self) -> Duration {
        self.surroundings.now()
    }
}
