//! What the daemon's parts share: the app's directory, the profiles that are served, and what clients may ask for.
//!
//! What must always hold: no borrow is held across an await; a profile that leaves `app.db` is stopped and joined, one
//! that comes back is served anew.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Instant, SystemTime};

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinHandle};

use super::home::Home;
use super::serve::{Known, serve};
use super::served::Served;
use crate::app::registry::Profile;
use crate::cli::outcome::ProfileLabel;
use crate::config::{self, Config, Environment, Flags};
use crate::exit::Exit;
use crate::metrics::Trigger;
use crate::op::{OperationId, Outcome, Reason};
use crate::record::Discarded;
use crate::status::{ProfileStatus, State, Status, timestamp};
use crate::survey::{self, Listed};
use crate::trigger::signature::Signature;
use crate::trigger::slot::Wake;
use crate::trigger::watch::Watched;
use crate::worker::engine::Engine;

/// The shared parts.
pub struct Agent {
    engine: RefCell<Rc<Engine>>,
    flags: Flags,
    env: Environment,
    home: RefCell<Home>,
    profiles: RefCell<BTreeMap<i64, Tenant>>,
    /// Profiles that were sent away and may still wait for what is on the wire. Whoever comes under the same number
    /// waits for them; nobody else does.
    leaving: RefCell<BTreeMap<i64, JoinHandle<()>>>,
    /// Rings when somebody comes who waits for one of them instead.
    taken: Notify,
    /// Rings when how things stand may have changed.
    pub news: Rc<Notify>,
    began: Instant,
    /// Why the profiles could not be listed, if they could not.
    trouble: RefCell<Option<String>>,
    /// `app.db` as it was when the profiles were last listed.
    registry: Known,
}

struct Tenant {
    served: Rc<Served>,
    task: JoinHandle<()>,
}

impl Agent {
    /// Serving nothing yet.
    ///
    /// # Errors
    /// For people, and how to end with it.
    pub fn new(config: &Config, flags: Flags, env: Environment) -> Result<Self, (String, Exit)> {
        let engine = RefCell::new(Rc::new(Engine::new(config, &env)?));
        let home = RefCell::new(Home::find(config, &env));
        Ok(Self {
            engine,
            flags,
            env,
            home,
            profiles: RefCell::default(),
            leaving: RefCell::default(),
            taken: Notify::new(),
            news: Rc::default(),
            began: Instant::now(),
            trouble: RefCell::default(),
            registry: Known::default(),
        })
    }

    /// Begins to serve. A directory that is not there yet is waited for; one that another agent serves is not.
    ///
    /// # Errors
    /// For people, and how to end with it.
    pub async fn enter(&self) -> Result<(), (String, Exit)> {
        if let Home::Taken(error) = &*self.home.borrow() {
            return Err((error.to_string(), error.exit()));
        }
        if let Some(problem) = self.home.borrow().problem() {
            tracing::info!("{problem}; waiting for it");
        }
        self.refresh().await;
        Ok(())
    }

    /// Stops every profile, and waits for what is on the wire.
    pub async fn leave(&self) {
        loop {
            // Also who came meanwhile, and has his predecessor along.
            self.dismiss_all();
            tokio::select! {
                () = self.all_left() => return,
                () = self.taken.notified() => {}
            }
        }
    }

    /// They stay in the list until they are gone: who waits here may be given up (a reload, by SIGTERM), and the next one has
    /// to wait for them too.
    fn all_left(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            let mut leaving = self.leaving.borrow_mut();
            while let Some(mut first) = leaving.first_entry() {
                let result = ready!(Pin::new(first.get_mut()).poll(cx));
                note_end(first.remove_entry().0, result);
            }
            Poll::Ready(())
        })
    }

    fn dismiss_all(&self) {
        let tenants = std::mem::take(&mut *self.profiles.borrow_mut());
        self.dismiss(tenants.into_values());
    }

    /// Stops these, and waits for nobody: a server that takes its time with one must not keep the others.
    fn dismiss(&self, tenants: impl Iterator<Item = Tenant>) {
        let mut leaving = self.leaving.borrow_mut();
        leaving.retain(|_, task| !task.is_finished());
        for tenant in tenants {
            tenant.served.stop();
            // Nobody is there under this number: who came after it took it along.
            leaving.insert(tenant.served.profile.id, tenant.task);
        }
    }

    /// What is in force.
    pub fn engine(&self) -> Rc<Engine> {
        Rc::clone(&self.engine.borrow())
    }

    /// Who is served now.
    pub fn served(&self) -> Vec<Rc<Served>> {
        self.profiles.borrow().values().map(|tenant| Rc::clone(&tenant.served)).collect()
    }

    /// The profile with this number.
    pub fn find(&self, profile: i64) -> Option<Rc<Served>> {
        self.profiles.borrow().get(&profile).map(|tenant| Rc::clone(&tenant.served))
    }

    /// Looks which profiles there are: new ones are served, those that are gone are stopped.
    pub async fn refresh(&self) {
        self.look_around().await;
        // Who is gone tells nothing any more, nor does what is wrong with all of them.
        self.news.notify_one();
    }

    async fn look_around(&self) {
        let was_good = self.home.borrow().is_good();
        if !was_good {
            let engine = self.engine();
            let home = Home::find(&engine.config, &self.env);
            let gone = home.directory().is_none() || self.home.borrow().directory() != home.directory();
            let returned = home.directory().is_some();
            self.home.replace(home);
            if gone || returned {
                // Files of a directory that was removed are not served from one that took its place.
                self.dismiss_all();
            }
        }
        let Some(directory) = self.home.borrow().directory().map(Path::to_owned) else { return };
        let before = Signature::of(&directory, None);
        match self.engine().profiles(directory.clone()).await {
            Ok(profiles) => {
                // Our own opening and closing shows in the files too; somebody else's commit meanwhile must not be
                // taken for it.
                let after = Signature::of(&directory, None);
                let known = if after.is_quiet_since(&before) { after } else { before };
                // What is being committed at this moment may not be readable yet: look again.
                self.trouble.replace(None);
                self.registry.replace(Some(known).filter(|known| !known.is_fresh(SystemTime::now())));
                self.settle_in(&directory, profiles);
            }
            // Nobody is sent away because a file could not be read for a moment.
            Err(error) => {
                let words = Some(error.message);
                if *self.trouble.borrow() != words {
                    tracing::warn!("{}", words.as_deref().unwrap_or_default());
                }
                self.trouble.replace(words);
                self.registry.replace(None);
            }
        }
    }

    fn settle_in(&self, directory: &Path, profiles: Vec<Profile>) {
        let gone: Vec<Tenant> = {
            let mut served = self.profiles.borrow_mut();
            let stays = |tenant: &Tenant| {
                !tenant.task.is_finished()
                    && profiles.iter().any(|p| p.id == tenant.served.profile.id && p.path == tenant.served.profile.path)
            };
            let ids: Vec<i64> = served.iter().filter(|(_, tenant)| !stays(tenant)).map(|(id, _)| *id).collect();
            ids.into_iter().filter_map(|id| served.remove(&id)).collect()
        };
        self.dismiss(gone.into_iter());
        let engine = self.engine();
        let mut served = self.profiles.borrow_mut();
        for profile in profiles {
            served.entry(profile.id).or_insert_with(|| {
                let predecessor = self.leaving.borrow_mut().remove(&profile.id);
                if predecessor.is_some() {
                    self.taken.notify_one();
                }
                let newcomer = Rc::new(Served::new(profile, Rc::clone(&self.news)));
                let (hirer, directory, profile) = (Rc::clone(&engine), directory.to_owned(), newcomer.profile.clone());
                let hire = move || hirer.worker(&directory, profile.clone());
                let life = serve(Rc::clone(&newcomer), Rc::clone(&engine), Rc::clone(&self.registry), hire);
                let life = succeed(newcomer.profile.id, predecessor, life);
                Tenant { served: newcomer, task: tokio::task::spawn_local(life) }
            });
        }
    }

    /// Directories the file watch belongs on.
    pub fn directories(&self) -> Vec<Watched> {
        let home = self.home.borrow();
        let mut directories: Vec<Watched> =
            home.surroundings().into_iter().map(|directory| Watched { directory, writes: false }).collect();
        if let Some(directory) = home.directory() {
            directories.push(Watched { directory: directory.to_owned(), writes: true });
            directories.push(Watched { directory: directory.join("profiles"), writes: false });
        }
        let parents = self.served();
        let parents = parents.iter().filter_map(|served| Some(served.profile.path.as_ref()?.parent()?.to_owned()));
        directories.extend(parents.map(|directory| Watched { directory, writes: true }));
        directories
    }

    /// Something was written to the log in `directory`.
    pub fn wake_directory(&self, directory: &Path) {
        for served in self.served() {
            if served.profile.path.as_deref().and_then(Path::parent) == Some(directory) {
                served.wake(Wake::Commit);
            }
        }
    }

    /// Wakes everybody.
    pub fn wake_all(&self, wake: Wake) {
        self.served().iter().for_each(|served| {
            served.wake(wake);
        });
    }

    /// Wakes everybody, whatever `stat` says.
    pub fn wake_all_in_doubt(&self, wake: Wake) {
        self.served().iter().for_each(|served| {
            served.wake_in_doubt(wake);
        });
    }

    /// Whether `app.db` changed since the profiles were listed.
    pub fn is_registry_new(&self) -> bool {
        let home = self.home.borrow();
        let now = home.directory().map(|directory| Signature::of(directory, None));
        !home.is_good() || *self.registry.borrow() != now
    }

    /// The timer: looks with `stat`; `woke` from sleep, and every hour (`due`), it looks into the files.
    pub async fn tick(&self, woke: bool, due: bool) {
        let engine = self.engine();
        engine.servers.drop_idle();
        if engine.keeper.is_unwritten() {
            // There may be room on the disk by now.
            let keeper = engine.keeper.clone();
            engine.database.call(move || keeper.change(|_| ())).await;
        }
        if due || woke || self.is_registry_new() {
            self.refresh().await;
        }
        for served in self.served() {
            match (woke, due) {
                (true, _) => served.wake_in_doubt(Wake::Ask),
                (false, true) => served.wake_in_doubt(Wake::Commit),
                (false, false) => served.wake(Wake::Commit),
            };
        }
    }

    /// Reads the configuration again; what it says about what cannot change while running.
    ///
    /// # Errors
    /// The configuration is wrong and stays as it was: for people.
    pub async fn reload(&self) -> Result<String, String> {
        let loaded = config::load(&self.flags, &self.env).map_err(|error| error.to_string())?;
        let old = self.engine();
        let fixed = [
            ("state_dir", loaded.config.state_dir != old.config.state_dir),
            ("control.socket", loaded.config.control.socket != old.config.control.socket),
            ("log", loaded.config.log != old.config.log),
        ];
        let fixed: Vec<&str> = fixed.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect();
        let (keeper, database, tidings) = (old.keeper.clone(), old.database.clone(), Rc::clone(&old.tidings));
        let engine =
            Engine::with(&loaded.config, &self.env, keeper, database, tidings).map_err(|(message, _)| message)?;
        let totals: BTreeMap<i64, u64> =
            self.served().iter().map(|served| (served.profile.id, served.standing.borrow().sent_total)).collect();
        self.dismiss_all();
        if loaded.config.data_dir != old.config.data_dir {
            // The old one is let go before the new one is looked for, and not before the last pass over it is over.
            self.leave().await;
            self.home.replace(Home::Nowhere(crate::app::directory::NotFound { looked_at: Vec::new() }));
        }
        self.engine.replace(Rc::new(engine));
        self.refresh().await;
        for served in self.served() {
            served.standing.borrow_mut().sent_total = totals.get(&served.profile.id).copied().unwrap_or(0);
        }
        self.wake_all(Wake::Ask);
        tracing::info!("the configuration was read again");
        Ok(if fixed.is_empty() {
            "reloaded".to_owned()
        } else {
            format!("reloaded; restart the agent for a change of {}", fixed.join(", "))
        })
    }

    /// `drain now`: a pass that begins after this call, for one profile or for all.
    pub async fn drain(&self, profile: Option<i64>) -> Vec<(ProfileLabel, Outcome)> {
        self.engine().tidings.woke(Trigger::Asked);
        if self.problem().is_some() {
            // Whoever asks has perhaps just mended it.
            self.refresh().await;
        }
        let wanted = match profile {
            Some(profile) => self.find(profile).into_iter().collect(),
            None => self.served(),
        };
        let tickets: Vec<(Rc<Served>, u64)> = wanted
            .into_iter()
            .map(|served| {
                let ticket = served.wake_in_doubt(Wake::Ask);
                (served, ticket)
            })
            .collect();
        let mut outcomes = Vec::with_capacity(tickets.len());
        for (served, ticket) in tickets {
            let outcome = served.outcome(ticket).await.unwrap_or_else(|| Outcome::skipped(Reason::Unavailable));
            let label = ProfileLabel { profile: served.profile.id, name: served.profile.name.clone() };
            outcomes.push((label, outcome));
        }
        outcomes
    }

    /// `pause` and `resume`.
    pub async fn set_paused(&self, paused: bool) {
        let engine = self.engine();
        let keeper = engine.keeper.clone();
        engine.database.call(move || keeper.change(|record| record.paused = paused)).await;
        self.news.notify_one();
        self.served().iter().for_each(|served| {
            served.wake_in_doubt(Wake::Ask);
        });
    }

    /// `status`. Counts afresh, from the files.
    pub async fn status(&self) -> Status {
        let engine = self.engine();
        let record = engine.keeper.look(Clone::clone);
        let directory = self.home.borrow().directory().map(Path::to_owned);
        let mut profiles = Vec::new();
        for served in self.served() {
            let Some(directory) = directory.clone() else { break };
            let (profile, url) = (served.profile.clone(), engine.config.server.url.clone());
            let record = record.clone();
            let look = engine.database.call(move || survey::status(&directory, &profile, url, &record));
            if let Some(status) = look.await {
                profiles.push(stand(status, &served, &engine));
            }
        }
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: Some(std::process::id()),
            uptime_s: Some(self.began.elapsed().as_secs()),
            paused: record.paused,
            problem: self.problem(),
            profiles,
        }
    }

    /// What is wrong with all profiles at once.
    pub(super) fn problem(&self) -> Option<String> {
        let waiting = self.home.borrow().problem().map(|problem| format!("{problem}; waiting for it"));
        waiting.or_else(|| self.trouble.borrow().clone())
    }

    /// `queue list`.
    pub async fn list(&self) -> Result<Vec<Listed>, String> {
        let engine = self.engine();
        let Some(directory) = self.home.borrow().directory().map(Path::to_owned) else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for served in self.served() {
            let record = engine.keeper.look(Clone::clone);
            let (directory, profile) = (directory.clone(), served.profile.clone());
            let url = engine.config.server.url.clone();
            let listed = engine.database.call(move || survey::list(&directory, &profile, url, &record)).await;
            match listed {
                Some(Ok(listed)) => all.extend(listed),
                // The others' are listed all the same.
                Some(Err(error)) => tracing::warn!("{}", error.message),
                None => return Err("the database thread failed".to_owned()),
            }
        }
        Ok(all)
    }

    /// `queue retry`: how many ops were let go; `None` where the one that was named is neither quarantined nor held.
    pub async fn retry(&self, operation_id: Option<OperationId>) -> Option<usize> {
        let engine = self.engine();
        if let Some(operation_id) = &operation_id {
            let text = operation_id.to_string();
            if !self.list().await.ok()?.iter().any(|op| op.operation_id == text) {
                return None;
            }
        }
        let keeper = engine.keeper.clone();
        let changed = engine.database.call(move || keeper.change(|record| record.retry(operation_id.as_ref()))).await;
        self.served().iter().for_each(|served| {
            served.wake_in_doubt(Wake::Ask);
        });
        changed
    }

    /// `queue discard`: what was discarded; `None` where no such op is quarantined or held.
    pub async fn discard(&self, operation_id: &OperationId) -> Result<Option<Discarded>, String> {
        let engine = self.engine();
        let Some(directory) = self.home.borrow().directory().map(Path::to_owned) else { return Ok(None) };
        for served in self.served() {
            let mut store = crate::worker::store::Store::new(
                directory.clone(),
                served.profile.clone(),
                engine.config.server.url.clone(),
                engine.keeper.clone(),
                crate::clock::now_ms,
            );
            let operation_id = operation_id.clone();
            match engine.database.call(move || store.discard(&operation_id)).await {
                Some(Ok(None)) => {}
                Some(Ok(Some(note))) => return Ok(Some(note)),
                Some(Err(error)) => return Err(error.message),
                None => return Err("the database thread failed".to_owned()),
            }
        }
        Ok(None)
    }
}

/// What the files say, and what the daemon knows besides.
fn stand(mut status: ProfileStatus, served: &Served, engine: &Engine) -> ProfileStatus {
    let standing = served.standing.borrow();
    // A gate that is shut, and what is held, is known from the files at once; trouble is known from the last pass.
    let busy = matches!(standing.state, State::Draining | State::BackingOff | State::Unauthorized | State::Unavailable);
    if busy && matches!(status.state, State::Idle | State::Held) {
        status.state = standing.state;
    }
    status.sent_total = standing.sent_total;
    status.last_success = standing.last_success.map(timestamp);
    status.last_error = status.last_error.or_else(|| standing.last_error.clone());
    status.next_attempt_in_s = standing.next_attempt.map(|at| at.saturating_sub(engine.now()).as_secs() + 1);
    status.server = status.server.or_else(|| standing.server.clone());
    status
}

/// Serves, when whoever was served under the same number has left.
async fn succeed(profile: i64, predecessor: Option<JoinHandle<()>>, life: impl Future<Output = ()>) {
    if let Some(task) = predecessor {
        joined(profile, task).await;
    }
    life.await;
}

async fn joined(profile: i64, task: JoinHandle<()>) {
    note_end(profile, task.await);
}

fn note_end(profile: i64, result: Result<(), JoinError>) {
    if result.is_err_and(|error| error.is_panic()) {
        tracing::error!("serving profile {profile} panicked: this is a bug");
    }
}
