//! Connections to servers, and what is known about each: back-off and the body size that works. Shared by all profiles.
//!
//! What must always hold: a connection serves one request at a time and is kept for the next; what is known about a
//! server belongs to its address.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::drain::backoff::{BackOff, Waits};
use crate::drain::memory::Uplink;
use crate::halt::{self, Place};
use crate::op::{FailedKind, Next, Reply};
use crate::push::{Client, Settings, Target};
use crate::record::Keeper;
use crate::seal;
use crate::token::Token;

/// Idle connections kept for one server: profiles rarely drain at the same moment.
const IDLE_MAX: usize = 2;

/// Every server in use.
pub struct Servers {
    settings: Settings,
    waits: Waits,
    keeper: Arc<Keeper>,
    known: Rc<RefCell<HashMap<String, Known>>>,
    noted: Notify,
}

#[derive(Default)]
struct Known {
    idle: Vec<Client>,
    uplink: Option<Uplink>,
    back_off: BackOff,
    /// A profile is trying whether the server is back.
    probing: bool,
    warned: bool,
}

impl Servers {
    /// None yet.
    pub fn new(settings: Settings, waits: Waits, keeper: Arc<Keeper>) -> Self {
        Self { settings, waits, keeper, known: Rc::default(), noted: Notify::new() }
    }

    /// Sends `body` to the server at `url`.
    pub fn push(&self, url: &str, token: Token, body: Bytes) -> impl Future<Output = Reply> + 'static {
        let client = self.client(url);
        let (known, url) = (Rc::clone(&self.known), url.to_owned());
        async move {
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
        }
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

    /// The body size that works for `url`; `most` where nothing is known.
    pub fn uplink(&self, url: &str, most: usize) -> Uplink {
        let known = self.known.borrow().get(url).and_then(|known| known.uplink.clone());
        known.unwrap_or_else(|| {
            let remembered = self.keeper.look(|record| record.uplinks.get(url).copied());
            Uplink::new(remembered.unwrap_or(most).min(most))
        })
    }

    /// Keeps what a pass learnt about the way to `url`, where `most` is what would be sent at the most. The body size to
    /// write down, where it is another than the state file has.
    pub fn remember(&self, url: &str, uplink: Uplink, most: usize) -> Option<usize> {
        let bytes = uplink.bytes;
        self.known.borrow_mut().entry(url.to_owned()).or_default().uplink = Some(uplink);
        let written = self.keeper.look(|record| record.uplinks.get(url).copied());
        (bytes != written.unwrap_or(most)).then_some(bytes)
    }

    /// Takes note of how a pass over `url` ended.
    pub fn note(&self, url: &str, next: Next, now: Duration) {
        let random = fastrand::u64(..);
        let mut known = self.known.borrow_mut();
        let known = known.entry(url.to_owned()).or_default();
        known.back_off.note(next, self.waits, now, random);
    }

    /// How long to leave the server at `url` alone.
    pub fn wait(&self, url: &str, now: Duration) -> Option<Duration> {
        self.known.borrow().get(url).and_then(|known| known.back_off.wait(now))
    }

    /// Ends the wait for the server at `url`, unless it named the time itself; says whether the way is free.
    pub fn cut(&self, url: &str, now: Duration) -> bool {
        self.known.borrow_mut().get_mut(url).is_none_or(|known| known.back_off.cut(now))
    }

    /// Whether a profile may try the server at `url` now: where it failed last, one tries for all. Whoever may says
    /// afterwards that it [`Servers::tried`]; who may not waits for [`Servers::noted`].
    pub fn may_try(&self, url: &str) -> bool {
        let mut known = self.known.borrow_mut();
        let Some(known) = known.get_mut(url) else { return true };
        if known.back_off.failures() == 0 {
            return true;
        }
        !std::mem::replace(&mut known.probing, true)
    }

    /// A try that [`Servers::may_try`] allowed is over, however it went.
    pub fn tried(&self, url: &str) {
        if let Some(known) = self.known.borrow_mut().get_mut(url) {
            known.probing = false;
        }
        self.noted.notify_waiters();
    }

    /// Returns when a try is over.
    pub async fn noted(&self) {
        self.noted.notified().await;
    }

    /// Connections that were idle for too long, or that the server closed, are closed here too.
    pub fn drop_idle(&self) {
        for known in self.known.borrow_mut().values_mut() {
            known.idle.iter_mut().for_each(Client::drop_idle);
        }
    }
}
