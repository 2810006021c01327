//! The reference server: both versions, over plain TCP or TLS, with a plan of what goes wrong.
//!
//! ```text
//!   Server ─ accepts ─▶ connection ─ head ─▶ faults ─ body ─▶ faults ─▶ model ─▶ faults ─▶ answer, half, or none
//!      │                                                                  │
//!      └── stats, stored, wait_for ◀──────────────────────────────────────┘
//! ```
//!
//! What must always hold: it listens on loopback only; dropping a [`Server`] closes every socket and ends every thread
//! it started; the model decides under one lock, so batches are stored one after the other.

mod apply;
mod certs;
mod connection;
mod faults;
mod model;
mod stats;
mod wire;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{Domain, SockRef, Socket, Type};

use crate::Result;
use crate::sync::Shared;

pub use certs::{Authority, Leaf, TlsVersion};
pub use faults::{Fault, Reply, Seen};
pub use model::{Answer, MAX_BODY_BYTES, MAX_OPS, Model, PUSH_PATH, Request, StoredOp, Version};
pub use stats::{Exchange, Stats};
pub use wire::Hlc;

/// The most connections at once; one more is closed at once. An agent has one for each profile.
const MAX_CONNECTIONS: usize = 64;

/// What the threads of a server share.
struct State {
    model: Model,
    plan: faults::Plan,
    stats: Stats,
    /// How often [`Server::release`] was called.
    releases: u64,
    /// No connection is wanted any more.
    down: bool,
    sockets: HashMap<u64, TcpStream>,
}

/// How a server is to be; see [`Server::builder`].
pub struct Builder {
    version: Version,
    prefix: String,
    leaf: Option<Leaf>,
    tls_only: Option<TlsVersion>,
    listen: SocketAddr,
}

impl Builder {
    /// Behind a path prefix: `/music`.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Over TLS, with this certificate.
    #[must_use]
    pub fn tls(mut self, leaf: Leaf) -> Self {
        self.leaf = Some(leaf);
        self
    }

    /// In this version of TLS and no other.
    #[must_use]
    pub fn tls_only(mut self, version: TlsVersion) -> Self {
        self.tls_only = Some(version);
        self
    }

    /// On this address instead of a free port of 127.0.0.1.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Server> {
        let authority = self.leaf.map(|_| Authority::new()).transpose()?;
        let tls = match (&authority, self.leaf) {
            (Some(authority), Some(leaf)) => Some(authority.server_config(leaf, self.tls_only)?),
            _ => None,
        };
        let listener = TcpListener::bind(self.listen)?;
        let address = listener.local_addr()?;
        let state = State {
            model: Model::new(self.version).with_prefix(&self.prefix),
            plan: faults::Plan::default(),
            stats: Stats::default(),
            releases: 0,
            down: false,
            sockets: HashMap::new(),
        };
        let server = Server {
            state: Arc::new(Shared::new(state)),
            address,
            prefix: self.prefix,
            ca_pem: authority.map(|authority| authority.pem().to_owned()),
            tls,
            acceptor: Mutex::new(None),
            kept: Mutex::new(None),
        };
        server.accept_from(listener)?;
        Ok(server)
    }
}

/// A running reference server.
pub struct Server {
    state: Arc<Shared<State>>,
    address: SocketAddr,
    prefix: String,
    ca_pem: Option<String>,
    tls: Option<Arc<ServerConfig>>,
    acceptor: Mutex<Option<(TcpListener, JoinHandle<()>)>>,
    /// Has the port while the server is down: else another server, or a client's end of a connection, gets it.
    kept: Mutex<Option<Socket>>,
}

impl Server {
    /// A server over plain http, without a prefix.
    pub fn start(version: Version) -> Result<Self> {
        Self::builder(version).start()
    }

    /// A server that is not like that.
    pub fn builder(version: Version) -> Builder {
        Builder { version, prefix: String::new(), leaf: None, tls_only: None, listen: (Ipv4Addr::LOCALHOST, 0).into() }
    }

    /// Its base URL, prefix included.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address, self.prefix)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of its authority, where it speaks TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Everything stored so far, in the order of storing.
    pub fn stored(&self) -> Vec<StoredOp> {
        self.state.lock().model.stored().to_vec()
    }

    /// The ops stored after the first `n`.
    pub fn stored_after(&self, n: usize) -> Vec<StoredOp> {
        self.state.lock().model.stored().get(n..).unwrap_or_default().to_vec()
    }

    /// Changes the model, for example with [`Model::take_stamps`].
    pub fn model<R>(&self, change: impl FnOnce(&mut Model) -> R) -> R {
        self.state.change(|state| change(&mut state.model))
    }

    /// The counters as they are now.
    pub fn stats(&self) -> Stats {
        self.state.lock().stats.clone()
    }

    /// Waits until the counters are as wanted, at most `limit`; whether they were.
    pub fn wait_for(&self, mut condition: impl FnMut(&Stats) -> bool, limit: Duration) -> bool {
        self.state.wait(limit, |state| condition(&state.stats))
    }

    /// The next request meets this fault.
    pub fn next(&self, fault: Fault) {
        self.next_n(1, fault);
    }

    /// The next `n` requests meet this fault.
    pub fn next_n(&self, n: u32, fault: Fault) {
        if n > 0 {
            self.state.change(|state| state.plan.add(fault, Some(n), Box::new(|_| true)));
        }
    }

    /// Every request meets this fault until [`Self::clear_faults`].
    pub fn always(&self, fault: Fault) {
        self.state.change(|state| state.plan.add(fault, None, Box::new(|_| true)));
    }

    /// Requests that match meet this fault: so many times, or until [`Self::clear_faults`].
    pub fn when(&self, times: Option<u32>, fault: Fault, matches: impl Fn(&Seen) -> bool + Send + 'static) {
        if times != Some(0) {
            self.state.change(|state| state.plan.add(fault, times, Box::new(matches)));
        }
    }

    /// Asks `script` about every request that no earlier rule decided, once its body was read.
    pub fn script(&self, script: impl FnMut(&Seen) -> Option<Fault> + Send + 'static) {
        self.state.change(|state| state.plan.script(Box::new(script)));
    }

    /// Ends every fault that has not begun.
    pub fn clear_faults(&self) {
        self.state.change(|state| state.plan.clear());
    }

    /// The next request is stored, and not answered before [`Self::release`].
    pub fn hold_after_store(&self) {
        self.next(Fault::HoldAfterStore);
    }

    /// Waits until a request is held or kept in silence; whether one was.
    pub fn wait_until_held(&self, limit: Duration) -> bool {
        self.wait_for(|stats| stats.held > 0, limit)
    }

    /// Lets every request go that is held or kept in silence now.
    pub fn release(&self) {
        self.state.change(|state| state.releases += 1);
    }

    /// Stops listening and cuts every connection. What was stored stays.
    pub fn go_down(&self) {
        let acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((listener, acceptor)) = acceptor else { return };
        self.state.change(|state| {
            state.down = true;
            for socket in state.sockets.values() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
        // Not by closing it: a program that is being started beside us has a copy of it until its `exec`, and the port
        // would be listened on for as long.
        let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
        // The acceptor looks at `down` after each connection; this one is for that, where it does not wake it.
        drop(TcpStream::connect(self.address));
        let _ = acceptor.join();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = keep(self.address).ok();
    }

    /// Listens again, on the same port, after [`Self::go_down`].
    pub fn come_back(&self) -> Result<()> {
        let listener = TcpListener::bind(self.address)?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.state.change(|state| state.down = false);
        self.accept_from(listener)
    }

    fn accept_from(&self, listener: TcpListener) -> Result<()> {
        let (state, tls) = (Arc::clone(&self.state), self.tls.clone());
        let ours = listener.try_clone()?;
        let acceptor = thread::spawn(move || accept(&listener, tls.as_ref(), &state));
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = Some((ours, acceptor));
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.go_down();
    }
}

/// Has the address without listening on it: who connects is refused.
fn keep(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // As the listener that comes back has it, so that the two can share the address.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn accept(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>, state: &Arc<Shared<State>>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for number in 0.. {
        let socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(_) => break,
        };
        threads.retain(|thread| !thread.is_finished());
        let Ok(handle) = socket.try_clone() else { continue };
        // In one step, so that a server that goes down finds every socket there is.
        let down = state.change(|state| {
            state.stats.connections += u64::from(!state.down);
            state.sockets.insert(number, handle);
            state.down
        });
        if down {
            break;
        }
        if threads.len() >= MAX_CONNECTIONS {
            state.change(|state| state.sockets.remove(&number));
            continue;
        }
        let (tls, shared) = (tls.cloned(), Arc::clone(state));
        threads.push(thread::spawn(move || {
            if let Ok(connection) = connection::Connection::new(socket, tls, Arc::clone(&shared)) {
                connection.serve();
            }
            shared.change(|state| state.sockets.remove(&number));
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
    state.change(|state| state.sockets.clear());
}

#[cfg(test)]
mod replay;
#[cfg(test)]
mod tests;
