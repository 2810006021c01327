//! Everybody on the stage: the app, the agent, the server, and what was seen of them so far.
//!
//! What must always hold: an op's delay runs from the app's record of its commit to the moment the server's counter
//! moved, both on the machine's wall clock; what the agent says goes to the audience and into no number.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use testkit::data_dir::{DataDir, Generation, Profile};
use testkit::server::{Server, StoredOp, Version};
use testkit::{Error, Result, token};
use uuid::Uuid;

use crate::agent::{self, Agent};
use crate::app::{RunningApp, Told, now_us};
use crate::stage::Stage;
use crate::tally::{self, Tally};

/// It takes half a minute; a demo that takes this long has gone wrong.
pub(super) const LIMIT: Duration = Duration::from_secs(90);
/// How long to wait for the app's next word before looking at everybody else.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the watcher sleeps at most: it has to notice that the demo is over.
const WATCHER_WAKES: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct World {
    pub(super) stage: Stage,
    pub(super) server: Arc<Server>,
    pub(super) profile: Profile,
    pub(super) agent: Agent,
    app: RunningApp,
    watcher: Watcher,
    /// What the app committed, in that order: its own record.
    committed: Vec<Uuid>,
    committed_at: HashMap<Uuid, u64>,
    /// Of these, the ones no server takes.
    poisoned: Vec<Uuid>,
    stored: HashSet<Uuid>,
    /// Microseconds from commit to stored, of the ops that arrived in this act.
    pub(super) delays: Vec<u64>,
    /// The app's slowest transaction of a scan, in microseconds.
    pub(super) slowest: u64,
    /// Orders the app has not carried out yet.
    open_orders: usize,
    shown: usize,
    answers_shown: usize,
    deadline: Instant,
    interrupted: Arc<AtomicBool>,
}

impl World {
    /// A signed-in user with a profile, the app open, the agent not running yet.
    pub(super) fn new(home: &Path, began: Instant) -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // At a flag and not at once, so that processes and directory are cleared away.
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let server = Arc::new(Server::start(Version::Later)?);
        let dir = DataDir::new(agent::app_directory(home), Generation::Three)?;
        dir.set_server_url(Some(&server.url()))?;
        let profile = dir.add_profile("Zoë")?;
        dir.set_active(&profile)?;
        profile.sign_in(&token::for_user("zoë"))?;
        Ok(Self {
            stage: Stage::new(),
            watcher: Watcher::start(Arc::clone(&server)),
            server,
            agent: Agent::new(home)?,
            app: RunningApp::start(dir.path())?,
            profile,
            committed: Vec::new(),
            committed_at: HashMap::new(),
            poisoned: Vec::new(),
            stored: HashSet::new(),
            delays: Vec::new(),
            slowest: 0,
            open_orders: 0,
            shown: 0,
            answers_shown: 0,
            deadline: began + LIMIT,
            interrupted,
        })
    }

    /// Has the app do something, without waiting for it.
    pub(super) fn order(&mut self, line: &str) -> Result<()> {
        self.open_orders += 1;
        self.app.order(line)
    }

    /// Has the app do something, and waits until it has.
    pub(super) fn app_does(&mut self, line: &str) -> Result<()> {
        self.order(line)?;
        self.until("the app", |world| Ok(world.open_orders == 0))
    }

    /// Waits until every op is where it belongs: stored and off the queue, or known to be poisoned.
    pub(super) fn delivered(&mut self) -> Result<()> {
        self.until("the delivery", |world| {
            let wanted = world.committed.len() - world.poisoned.len();
            if world.open_orders > 0 || world.stored.len() < wanted {
                return Ok(false);
            }
            let queue = world.profile.pending()?;
            Ok(queue.len() == world.poisoned.len() && queue.iter().all(tally::is_quarantined))
        })?;
        // So that what it logs of this is shown with this.
        self.until("the agent's pass", |world| Ok(world.agent.socket_says("status")?.contains(r#""state":"idle""#)))
    }

    /// Shows what happens until `condition` holds.
    pub(super) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        loop {
            self.look()?;
            if condition(self)? {
                return Ok(());
            }
            if Instant::now() > self.deadline {
                return Err(Error::other(format!("this takes more than {} s: {what}", LIMIT.as_secs())));
            }
        }
    }

    fn look(&mut self) -> Result<()> {
        let told = self.app.told(LOOK_EVERY);
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Error::other("interrupted"));
        }
        for told in told? {
            match told {
                Told::Op(id, at) => {
                    self.committed.push(id);
                    self.committed_at.insert(id, at);
                }
                Told::Poison(id) => self.poisoned.push(id),
                Told::Slowest(time) => self.slowest = time,
                Told::Done => self.open_orders -= 1,
            }
        }
        self.show_arrivals()
    }

    fn show_arrivals(&mut self) -> Result<()> {
        let mut arrived = Vec::new();
        for (op, at) in self.watcher.after(self.shown) {
            // The agent was faster than the app's word about it, which is on its way.
            let Some(committed) = self.committed_at.get(&op.operation_id) else { break };
            let delay = at.saturating_sub(*committed);
            self.delays.push(delay);
            self.stored.insert(op.operation_id);
            arrived.push((op, delay));
        }
        self.shown += arrived.len();
        self.stage.arrivals(&arrived)
    }

    /// Rows that wait to be sent.
    pub(super) fn waiting(&self) -> Result<usize> {
        Ok(self.profile.pending()?.iter().filter(|row| !tally::is_quarantined(row)).count())
    }

    /// A command of the agent's, and what it says.
    pub(super) fn command(&mut self, arguments: &[&str]) -> Result<()> {
        self.stage.command(&format!("waveflow-sync-agent {}", arguments.join(" ")))?;
        let ended = self.agent.ask(arguments)?;
        self.stage.said(&ended.said, ended.code)
    }

    /// A line on the socket, and the answer.
    pub(super) fn on_the_socket(&mut self, line: &str) -> Result<()> {
        self.stage.command(&format!("echo {line} | nc -N -U \"$XDG_RUNTIME_DIR/waveflow/sync-agent.sock\""))?;
        let answer = self.agent.socket_says(line)?;
        self.stage.said(&answer, 0)
    }

    /// Waits until the last pass has failed and the next one waits.
    pub(super) fn backing_off(&mut self) -> Result<()> {
        self.until("the agent's noticing", |world| {
            Ok(world.agent.socket_says("status")?.contains(r#""state":"backing_off""#))
        })
    }

    /// The next act; what was left to show of the last one comes first.
    pub(super) fn act(&mut self, name: &str, sentence: &str) -> Result<()> {
        self.close_act()?;
        self.stage.act(name, sentence)
    }

    /// What the server answered and the agent logged in this act.
    pub(super) fn close_act(&mut self) -> Result<()> {
        self.stage.close_arrivals()?;
        let stats = self.server.stats();
        self.stage.answers(stats.exchanges.get(self.answers_shown..).unwrap_or_default())?;
        self.answers_shown = stats.exchanges.len();
        self.delays.clear();
        let news = self.agent.news()?;
        self.stage.log(&news)
    }

    /// How it came out.
    pub(super) fn tally(&self) -> Result<Tally> {
        Ok(Tally::new(&self.committed, &self.server.stored(), &self.profile.pending()?, &self.poisoned))
    }
}

type Arrivals = Arc<Mutex<Vec<(StoredOp, u64)>>>;

/// Notes when ops are stored; ends with this value.
struct Watcher {
    arrivals: Arrivals,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    fn start(server: Arc<Server>) -> Self {
        let (arrivals, over) = (Arrivals::default(), Arc::new(AtomicBool::new(false)));
        let (noted, stop) = (Arc::clone(&arrivals), Arc::clone(&over));
        let thread = thread::spawn(move || {
            let mut seen = 0;
            while !stop.load(Ordering::Relaxed) {
                if server.wait_for(|stats| stats.stored > seen, WATCHER_WAKES) {
                    let at = now_us();
                    let new = server.stored_after(seen);
                    seen += new.len();
                    let new = new.into_iter().map(|op| (op, at));
                    noted.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
                }
            }
        });
        Self { arrivals, over, thread: Some(thread) }
    }

    fn after(&self, seen: usize) -> Vec<(StoredOp, u64)> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).get(seen..).unwrap_or_default().to_vec()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
