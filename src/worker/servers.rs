//! Servers, and what is known about each: back-off and the body size that works. Shared by all profiles.
//!
//! What must always hold: what is known about a server belongs to its address; where a server failed last, one profile
//! tries for all.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::connections::{Exchange, Wire};
use crate::drain::backoff::{BackOff, Waits};
use crate::drain::memory::Uplink;
use crate::op::Next;
use crate::record::Keeper;
use crate::token::Token;

/// Every server in use.
pub struct Servers {
    wire: Rc<dyn Wire>,
    waits: Waits,
    keeper: Arc<Keeper>,
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    known: RefCell<HashMap<String, Known>>,
    noted: Notify,
}

#[derive(Default)]
struct Known {
    uplink: Option<Uplink>,
    back_off: BackOff,
    /// The number of the probe by which a profile is trying whether the server is back.
    probing: Option<u64>,
    probes: u64,
    /// It accepted something since it failed last.
    answers: bool,
}

/// The permission to try a server. While it is there and the server has not answered as one that works, nobody else may
/// try one that failed last; however it goes, it ends with this.
#[must_use]
pub struct Probe {
    shared: Rc<Shared>,
    url: String,
    number: u64,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probe").field(&self.number).finish()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(known) = self.shared.known.borrow_mut().get_mut(&self.url) {
            known.probing.take_if(|number| *number == self.number);
        }
        self.shared.noted.notify_waiters();
    }
}

impl Servers {
    /// None yet; they are reached over `wire`.
    pub fn new(wire: Rc<dyn Wire>, waits: Waits, keeper: Arc<Keeper>) -> Self {
        Self { wire, waits, keeper, shared: Rc::default() }
    }

    /// Sends `body` to the server at `url`.
    pub fn push(&self, url: &str, token: Token, body: Bytes) -> Exchange {
        self.wire.push(url, token, body)
    }

    /// The body size that works for `url`; `most` where nothing is known.
    pub fn uplink(&self, url: &str, most: usize) -> Uplink {
        let known = self.shared.known.borrow().get(url).and_then(|known| known.uplink.clone());
        known.unwrap_or_else(|| {
            let remembered = self.keeper.look(|record| record.uplinks.get(url).copied());
            Uplink::new(remembered.unwrap_or(most).min(most))
        })
    }

    /// Keeps what a pass learnt about the way to `url`, where `most` is what would be sent at the most. The body size to
    /// write down, where it is another than the state file has.
    pub fn remember(&self, url: &str, uplink: Uplink, most: usize) -> Option<usize> {
        let bytes = uplink.bytes;
        self.shared.known.borrow_mut().entry(url.to_owned()).or_default().uplink = Some(uplink);
        let written = self.keeper.look(|record| record.uplinks.get(url).copied());
        (bytes != written.unwrap_or(most)).then_some(bytes)
    }

    /// Takes note of how a pass over `url` ended; `random` decides the jitter.
    pub fn note(&self, url: &str, next: Next, now: Duration, random: u64) {
        let mut known = self.shared.known.borrow_mut();
        let known = known.entry(url.to_owned()).or_default();
        known.answers = false;
        known.back_off.note(next, self.waits, now, random);
    }

    /// How long to leave the server at `url` alone.
    pub fn wait(&self, url: &str, now: Duration) -> Option<Duration> {
        self.shared.known.borrow().get(url).and_then(|known| known.back_off.wait(now))
    }

    /// How long the server at `url` asked to be left alone.
    pub fn named_wait(&self, url: &str, now: Duration) -> Option<Duration> {
        self.shared.known.borrow().get(url).and_then(|known| known.back_off.named_wait(now))
    }

    /// Ends the wait for the server at `url`, unless it named the time itself; says whether the way is free.
    pub fn cut(&self, url: &str, now: Duration) -> bool {
        self.shared.known.borrow_mut().get_mut(url).is_none_or(|known| known.back_off.cut(now))
    }

    /// Whether a profile may try the server at `url` now: where it failed last, one tries for all, for as long as it has
    /// the probe. Who may not waits for [`Servers::noted`].
    pub fn may_try(&self, url: &str) -> Option<Probe> {
        let mut known = self.shared.known.borrow_mut();
        let known = known.entry(url.to_owned()).or_default();
        let failed = known.back_off.failures() > 0 && !known.answers;
        if failed && known.probing.is_some() {
            return None;
        }
        known.probes += 1;
        let number = known.probes;
        known.probing = failed.then_some(number);
        Some(Probe { shared: Rc::clone(&self.shared), url: url.to_owned(), number })
    }

    /// The server at `url` accepted something: nobody has to wait for who tried. Whether its failures are over shows when a
    /// pass ends well.
    pub fn works(&self, url: &str) {
        if let Some(known) = self.shared.known.borrow_mut().get_mut(url)
            && known.probing.take().is_some()
        {
            known.answers = true;
            self.shared.noted.notify_waiters();
        }
    }

    /// Whether the server at `url` failed last.
    pub fn is_failing(&self, url: &str) -> bool {
        self.shared.known.borrow().get(url).is_some_and(|known| known.back_off.failures() > 0)
    }

    /// Returns when a try is over.
    pub async fn noted(&self) {
        self.shared.noted.notified().await;
    }

    /// Connections that were idle for too long, or that the server closed, are closed here too.
    pub fn drop_idle(&self) {
        self.wire.drop_idle();
    }
}
