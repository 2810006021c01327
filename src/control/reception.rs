//! Who answers a client: the agent, or, where it cannot serve, the reason why.
//!
//! What must always hold: somebody answers from the moment clients are let in; who came in before the agent could serve
//! is answered by it as soon as it can.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::command::Command;
use super::server::{self, perform};
use crate::daemon::agent::Agent;
use crate::exit::Exit;

/// Why the agent cannot serve, for people, and how a process without a socket to answer on would end with it.
pub type Trouble = (String, Exit);

/// A client wants the configuration to be read again, which the daemon itself does; the answer goes here.
pub type Reload = oneshot::Sender<Result<String, Trouble>>;

/// Clients that wait for a reload; more than there are clients.
const RELOADS: usize = 64;

/// Answers clients.
pub struct Reception {
    answers: RefCell<Result<Rc<Agent>, Trouble>>,
    reloads: mpsc::Sender<Reload>,
}

impl Reception {
    /// Answers that the agent is not there yet; and where the wish for a reload comes out.
    pub fn new() -> (Rc<Self>, mpsc::Receiver<Reload>) {
        let (reloads, asked) = mpsc::channel(RELOADS);
        let answers = RefCell::new(Err(("the agent is starting".to_owned(), Exit::TryLater)));
        (Rc::new(Self { answers, reloads }), asked)
    }

    /// From now on the agent answers, or this trouble.
    pub fn answers(&self, who: Result<Rc<Agent>, Trouble>) {
        *self.answers.borrow_mut() = who;
    }

    /// The agent, if it can serve.
    pub fn agent(&self) -> Option<Rc<Agent>> {
        self.answers.borrow().as_ref().ok().map(Rc::clone)
    }

    /// The answer to a command.
    pub async fn answer(&self, command: Command) -> String {
        if matches!(command, Command::Reload) {
            return self.reload().await;
        }
        let agent = match &*self.answers.borrow() {
            Ok(agent) => Rc::clone(agent),
            Err(trouble) => return told(trouble),
        };
        perform(command, &agent).await
    }

    async fn reload(&self) -> String {
        let (answer, done) = oneshot::channel();
        // Where the daemon is ending, the answer's other end is dropped too.
        let _ = self.reloads.send(answer).await;
        match done.await {
            Ok(Ok(words)) => json!({"reloaded": true, "message": words}).to_string(),
            Ok(Err(trouble)) => told(&trouble),
            Err(_) => server::error("internal", "the agent is ending"),
        }
    }
}

fn told((message, exit): &Trouble) -> String {
    let code = match exit {
        Exit::Config => "wrong_configuration",
        Exit::NotPermitted => "not_permitted",
        _ => "unavailable",
    };
    server::error(code, message)
}
