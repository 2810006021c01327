//! The process as a daemon, from its start to the signal that ends it: also while the agent cannot serve.
//!
//! What must always hold: with a socket that somebody else listens on for us, no trouble ends the process (a waiting
//! client would have it started again, for ever): each client is told of it, and it is tried again; without one the
//! process ends and says why. After the first SIGTERM nothing new is begun, and [`GRACE`] is the most it takes.

use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};

use super::agent::Agent;
use super::{Daemon, at};
use crate::alert::desktop::Bus;
use crate::config::{self, Config, Environment, Flags};
use crate::control::door;
use crate::control::reception::{Reception, Reload, Trouble};
use crate::exit::Exit;
use crate::service::manager::Manager;
use crate::trigger::signals::Signals;

/// How long what is on the wire may take after the first signal to stop: the service manager's patience is longer.
pub const GRACE: Duration = Duration::from_millis(4500);
/// What is in the way may go away by itself, such as another agent; a wrong configuration does not.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// What the daemon is started with.
pub struct Start {
    /// What is in force, or why nothing is.
    pub config: Result<Config, Trouble>,
    /// As it was read with, to be read again.
    pub flags: Flags,
    /// As it was read in.
    pub env: Environment,
    /// The control socket, where the service manager listens on it.
    pub inherited: Option<UnixListener>,
}

/// Runs until a signal ends it.
///
/// # Errors
/// For people, and how to end with it.
pub fn run(start: Start) -> Result<Exit, Trouble> {
    let internal = |what: &str, error: &dyn std::fmt::Display| (format!("{what}: {error}"), Exit::TryLater);
    // Whatever we make is the owner's alone; the app's databases keep their own modes (SQLite sees to that).
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| internal("cannot start", &error))?;
    let tasks = LocalSet::new();
    let exit = tasks.block_on(&runtime, async {
        let signals = |error| internal("signals", &error);
        let (stops, reloads) = (Signals::stops().map_err(signals)?, Signals::reloads().map_err(signals)?);
        let Start { config, flags, env, inherited } = start;
        House::new(flags, env, inherited, reloads)?.live(config, stops).await
    });
    drop(tasks);
    // A lookup that hangs in the resolver must not keep us.
    runtime.shutdown_background();
    exit
}

struct House {
    flags: Flags,
    env: Environment,
    manager: Manager,
    reloads: Signals,
    asked: mpsc::Receiver<Reload>,
    reception: Rc<Reception>,
    listener: Option<door::Listener>,
    /// The socket is the service manager's.
    is_activated: bool,
    door: Option<JoinHandle<()>>,
    /// The last trouble, which is not said again.
    said: Option<String>,
}

impl House {
    fn new(flags: Flags, env: Environment, inherited: Option<UnixListener>, reloads: Signals) -> Result<Self, Trouble> {
        let (reception, asked) = Reception::new();
        let listener = inherited.map(door::Listener::inherit).transpose()?;
        let is_activated = listener.is_some();
        let manager = Manager::of(&env);
        Ok(Self { flags, env, manager, reloads, asked, reception, listener, is_activated, door: None, said: None })
    }

    async fn live(mut self, config: Result<Config, Trouble>, mut stops: Signals) -> Result<Exit, Trouble> {
        let mut agent = None;
        // Whatever is under way, a reload that waits for a server for one: the signal is heard.
        let ended = tokio::select! {
            trouble = self.serve(config, &mut agent) => Err(trouble),
            () = stops.next() => Ok(Exit::Done),
        };
        if ended.is_ok() {
            tracing::info!("stopping");
        }
        self.manager.stopping();
        self.door.iter().for_each(JoinHandle::abort);
        self.listener.iter().for_each(door::Listener::remove);
        if let Some(agent) = agent {
            tokio::select! {
                () = agent.leave() => {}
                () = tokio::time::sleep(GRACE) => {
                    tracing::warn!("what is on the wire takes too long; it will be sent again");
                }
                () = stops.next() => {}
            }
        }
        ended
    }

    /// For ever, or until a trouble that is to end the process. `serving` is who has to leave before it ends.
    async fn serve(&mut self, config: Result<Config, Trouble>, serving: &mut Option<Rc<Agent>>) -> Trouble {
        let mut tried = self.begin(config, serving).await;
        let agent = loop {
            match tried {
                Ok(agent) => break agent,
                Err(trouble) if !self.is_activated => return trouble,
                Err(trouble) => tried = self.stand_in(trouble, serving).await,
            }
        };
        self.reception.answers(Ok(Rc::clone(&agent)));
        self.open();
        let socket = self.listener.iter().map(|listener| listener.path().display().to_string()).collect::<String>();
        let (version, profiles) = (env!("CARGO_PKG_VERSION"), agent.served().len());
        tracing::info!("waveflow-sync-agent {version} serves {profiles} profile(s); socket {socket}");
        let bus = Bus::of(&self.env);
        match Daemon::new(agent, &self.manager, &mut self.reloads, &mut self.asked, bus).run().await {}
    }

    /// Tries to serve.
    async fn begin(
        &mut self,
        config: Result<Config, Trouble>,
        serving: &mut Option<Rc<Agent>>,
    ) -> Result<Rc<Agent>, Trouble> {
        let config = config?;
        match &self.listener {
            None => self.listener = Some(door::Listener::bind(&config.control.socket)?),
            Some(listener) if self.is_activated && listener.path() != config.control.socket => tracing::warn!(
                "the service manager listens on {}, and the configuration names {}: commands will not find it there",
                listener.path().display(),
                config.control.socket.display()
            ),
            Some(_) => {}
        }
        let agent = Rc::new(Agent::new(&config, self.flags.clone(), self.env.clone())?);
        // From here on there is something to leave.
        *serving = Some(Rc::clone(&agent));
        agent.enter().await.inspect_err(|_| *serving = None)?;
        Ok(agent)
    }

    /// Lets clients in, if they are not let in yet.
    fn open(&mut self) {
        let socket = self.listener.as_mut().and_then(door::Listener::take);
        if let Some(socket) = socket {
            self.door = Some(tokio::task::spawn_local(door::serve(socket, Rc::clone(&self.reception))));
        }
    }

    /// Has clients told of the trouble until there is a reason to try again; how that went.
    async fn stand_in(&mut self, trouble: Trouble, serving: &mut Option<Rc<Agent>>) -> Result<Rc<Agent>, Trouble> {
        let message = trouble.0.clone();
        if self.said.as_ref() != Some(&message) {
            tracing::error!("{message}");
        }
        let again = (trouble.1 != Exit::Config).then(|| tokio::time::Instant::now() + TRY_AGAIN);
        self.reception.answers(Err(trouble));
        self.open();
        self.manager.ready(&format!("not serving: {}", message.replace(char::is_control, " ")));
        self.said = Some(message);
        let answer = self.reason_to_try(again).await;
        let loaded = config::load(&self.flags, &self.env);
        let config = loaded.map(|loaded| loaded.config).map_err(|error| (error.to_string(), Exit::Config));
        let tried = self.begin(config, serving).await;
        if let Some(answer) = answer {
            let _ = answer.send(tried.as_ref().map(|_| "serving".to_owned()).map_err(Trouble::clone));
        }
        tried
    }

    /// Waits for one, showing that we live; a client who asked for it waits for an answer.
    async fn reason_to_try(&mut self, again: Option<tokio::time::Instant>) -> Option<Reload> {
        loop {
            // At once: the time to try again may come before the time for a sign, over and over.
            self.manager.alive();
            let sign = self.manager.sign_every().map(|every| tokio::time::Instant::now() + every);
            tokio::select! {
                () = self.reloads.next() => return None,
                Some(answer) = self.asked.recv() => return Some(answer),
                () = at(again) => return None,
                () = at(sign) => {}
            }
        }
    }
}
