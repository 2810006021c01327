//! A man in the middle: he listens where a server or a proxy should be, keeps every byte that reaches him, and gives
//! himself for somebody else.
//!
//! What must always hold: what he heard is kept before it is acted upon, as it came and as he could decrypt it; he
//! listens on loopback only; dropping him closes every socket and ends every thread.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Result;
use crate::http::Head;
use crate::server::{Authority, Leaf, Reply};
use crate::sync::Shared;

/// The most clients at once; one more is closed at once.
const MAX_CLIENTS: usize = 32;

/// The most that is kept of what he heard; a test that says more has gone wrong.
const MAX_HEARD_BYTES: usize = 4 * 1024 * 1024;

/// What he gives himself for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disguise {
    /// A server that answers this in the clear, whatever it is asked.
    Plain(Reply),
    /// A server over TLS, with this certificate of his own authority.
    Tls(Leaf),
    /// A proxy that grants every `CONNECT`, and is himself who then speaks TLS.
    Proxy(Leaf),
}

#[derive(Default)]
struct State {
    /// As it came.
    raw: Vec<u8>,
    /// What TLS did not hide.
    decrypted: Vec<u8>,
    connections: usize,
    down: bool,
    sockets: HashMap<u64, TcpStream>,
}

/// The man in the middle, at work.
pub struct Interceptor {
    address: SocketAddr,
    disguise: Disguise,
    ca_pem: String,
    state: Arc<Shared<State>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Interceptor {
    /// Begins on a free port of 127.0.0.1.
    pub fn start(disguise: Disguise) -> Result<Self> {
        let authority = Authority::new()?;
        let leaf = match &disguise {
            Disguise::Plain(_) => Leaf::Good,
            Disguise::Tls(leaf) | Disguise::Proxy(leaf) => *leaf,
        };
        let tls = authority.server_config(leaf, None)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(Shared::new(State::default()));
        let (shared, his) = (Arc::clone(&state), disguise.clone());
        let acceptor = Some(thread::spawn(move || accept(&listener, &his, &tls, &shared)));
        Ok(Self { address, disguise, ca_pem: authority.pem().to_owned(), state, acceptor })
    }

    /// His address as a URL of what he gives himself for, but for [`Disguise::Plain`]: that is `https` too, because he
    /// waits where TLS is expected.
    pub fn url(&self) -> String {
        let scheme = if matches!(self.disguise, Disguise::Proxy(_)) { "http" } else { "https" };
        format!("{scheme}://{}", self.address)
    }

    /// Where he listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of his authority.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.state.lock().connections
    }

    /// Every byte that reached him.
    pub fn heard(&self) -> Vec<u8> {
        self.state.lock().raw.clone()
    }

    /// What he could decrypt of it.
    pub fn decrypted(&self) -> Vec<u8> {
        self.state.lock().decrypted.clone()
    }
}

impl Drop for Interceptor {
    fn drop(&mut self) {
        self.state.change(|state| {
            state.down = true;
            for socket in state.sockets.values() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Keeps what is read through it.
struct Ear {
    socket: TcpStream,
    state: Arc<Shared<State>>,
}

impl Read for Ear {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(into)?;
        self.state.change(|state| keep(&mut state.raw, &into[..count]));
        Ok(count)
    }
}

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

fn keep(heard: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAX_HEARD_BYTES.saturating_sub(heard.len());
    heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

fn accept(listener: &TcpListener, disguise: &Disguise, tls: &Arc<ServerConfig>, state: &Arc<Shared<State>>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for number in 0.. {
        let Ok((socket, _)) = listener.accept() else { break };
        let Ok(handle) = socket.try_clone() else { continue };
        let down = state.change(|state| {
            state.connections += usize::from(!state.down);
            state.sockets.insert(number, handle);
            state.down
        });
        if down {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        if threads.len() >= MAX_CLIENTS {
            state.change(|state| state.sockets.remove(&number));
            continue;
        }
        let (disguise, tls, shared) = (disguise.clone(), Arc::clone(tls), Arc::clone(state));
        threads.push(thread::spawn(move || {
            // A client that does not believe him goes; that is what the tests are about.
            let _ = intercept(&socket, &disguise, tls, &shared);
            shared.change(|state| state.sockets.remove(&number));
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn intercept(
    socket: &TcpStream,
    disguise: &Disguise,
    tls: Arc<ServerConfig>,
    state: &Arc<Shared<State>>,
) -> crate::Result<()> {
    socket.set_nodelay(true)?;
    let mut ear = Ear { socket: socket.try_clone()?, state: Arc::clone(state) };
    if let Disguise::Plain(reply) = disguise {
        // Something was said: a hello, or a request.
        let mut some = [0; 4096];
        if ear.read(&mut some)? > 0 {
            ear.write_all(&reply.to_bytes())?;
            // What is still said belongs to what he heard.
            socket.shutdown(Shutdown::Write)?;
            io::copy(&mut ear, &mut io::sink())?;
        }
        return Ok(());
    }
    if matches!(disguise, Disguise::Proxy(_)) {
        // Byte by byte: what follows the head is for TLS.
        if Head::read(&mut BufReader::with_capacity(1, &mut ear))?.is_none() {
            return Ok(());
        }
        ear.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    }
    let mut secret = StreamOwned::new(ServerConnection::new(tls)?, ear);
    let mut some = [0; 4096];
    loop {
        let count = secret.read(&mut some)?;
        if count == 0 {
            return Ok(());
        }
        state.change(|state| keep(&mut state.decrypted, &some[..count]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{PUSH_PATH, Server, Version};

    #[test]
    fn what_reaches_him_is_kept_and_he_ends_although_somebody_still_talks() {
        let interceptor = Interceptor::start(Disguise::Plain(Reply::proxy(502))).unwrap();
        let mut stream = TcpStream::connect(interceptor.address()).unwrap();
        stream.write_all(b"first").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        stream.write_all(b", then").unwrap();
        assert!(interceptor.state.wait(std::time::Duration::from_secs(10), |state| state.raw == b"first, then"));
        assert_eq!((interceptor.connections(), interceptor.decrypted().len()), (1, 0));
        drop(interceptor);
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }

    #[test]
    fn as_a_proxy_he_grants_a_tunnel_and_does_not_connect_it() {
        let server = Server::start(Version::Later).unwrap();
        let interceptor = Interceptor::start(Disguise::Proxy(Leaf::Good)).unwrap();
        let mut stream = TcpStream::connect(interceptor.address()).unwrap();
        let hello = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", server.address());
        stream.write_all(hello.as_bytes()).unwrap();
        let head = Head::read(&mut BufReader::new(&stream)).unwrap().unwrap();
        assert_eq!(head.word(1), "200");
        stream.write_all(format!("POST {PUSH_PATH} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        // What is no TLS ends it.
        let _ = stream.read_to_end(&mut Vec::new());
        assert_eq!(server.stats().connections, 0);
        assert!(interceptor.heard().starts_with(hello.as_bytes()) && interceptor.heard().len() > hello.len());
    }
}
