//! Connections to servers, for [`super::servers`].
//!
//! What must always hold: a connection serves one request at a time and is kept for the next; it is used for its own
//! server's address alone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;

use crate::halt::{self, Place};
use crate::op::{FailedKind, Reply};
use crate::push::{Client, Settings, Target};
use crate::seal;
use crate::token::Token;

/// Idle connections kept for one server: profiles rarely drain at the same moment.
const IDLE_MAX: usize = 2;

/// A request under way.
pub type Exchange = Pin<Box<dyn Future<Output = Reply>>>;

/// What carries a body to a server and brings back its answer. [`Connections`], and in simulations a made-up network.
pub trait Wire {
    /// Sends `body` to the server at `url`.
    fn push(&self, url: &str, token: Token, body: Bytes) -> Exchange;
    /// Connections that were idle for too long, or that the server closed, are closed here too.
    fn drop_idle(&self) {}
}

/// HTTP connections.
pub struct Connections {
    settings: Settings,
    known: Rc<RefCell<HashMap<String, Known>>>,
}

#[derive(Default)]
struct Known {
    idle: Vec<Client>,
    warned: bool,
}

impl Connections {
    /// None yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, known: Rc::default() }
    }

    fn client(&self, url: &str) -> Result<Client, String> {
        let mut known = self.known.borrow_mut();
        let known = known.entry(url.to_owned()).or_default();
        if let Some(client) = known.idle.pop() {
            return Ok(client);
        }
        let client = Client::new(Target::parse(url)?, self.settings.clone())?;
        if !std::mem::replace(&mut known.warned, true)
            && let Some(warning) = client.plain_warning()
        {
            tracing::warn!("{warning}");
        }
        Ok(client)
    }
}

impl Wire for Connections {
    fn push(&self, url: &str, token: Token, body: Bytes) -> Exchange {
        let client = self.client(url);
        let (known, url) = (Rc::clone(&self.known), url.to_owned());
        Box::pin(async move {
            let mut client = match client {
                Ok(client) => client,
                Err(words) => return Reply::Failed { kind: FailedKind::Refused, words },
            };
            seal::panic_if_asked("reactor", &token, &body);
            halt::here(Place::SendBefore);
            let reply = client.push(&token, body).await;
            halt::here(Place::SendAfter);
            let mut known = known.borrow_mut();
            let idle = &mut known.entry(url).or_default().idle;
            if idle.len() < IDLE_MAX {
                idle.push(client);
            }
            reply
        })
    }

    fn drop_idle(&self) {
        for known in self.known.borrow_mut().values_mut() {
            known.idle.iter_mut().for_each(Client::drop_idle);
        }
    }
}
