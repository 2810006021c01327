//! A forward proxy as users have them: `CONNECT` for https, absolute form for http. It records what it saw.
//!
//! What must always hold: it connects to loopback only, so that no test can reach the world through it.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::Result;
use crate::http::{self, Head};
use crate::sync::Shared;

/// The most clients at once; one more is closed at once.
const MAX_CLIENTS: usize = 32;

/// What a client asked of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `CONNECT`, or the request's own.
    pub method: String,
    /// `host:port`, or the absolute URL.
    pub target: String,
    /// `Proxy-Authorization`.
    pub proxy_authorization: Option<String>,
    /// Whether an `Authorization` header came past in the clear.
    pub saw_authorization: bool,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    refuse: Option<u16>,
    down: bool,
    sockets: HashMap<u64, TcpStream>,
}

/// A running proxy; it ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Shared<State>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(Shared::new(State::default()));
        let shared = Arc::clone(&state);
        let acceptor = Some(thread::spawn(move || accept(&listener, &shared)));
        Ok(Self { address, state, acceptor })
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().asked.clone()
    }

    /// From now on answers this status (403, 407, 502, …) instead of connecting; `None`: behaves again.
    pub fn refuse_with(&self, status: Option<u16>) {
        self.state.change(|state| state.refuse = status);
    }
}

impl Drop for Proxy {
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

fn accept(listener: &TcpListener, state: &Arc<Shared<State>>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for number in (0..).step_by(2) {
        let Ok((client, _)) = listener.accept() else { break };
        if !remember(state, number, &client) {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        if threads.len() >= MAX_CLIENTS {
            state.change(|state| state.sockets.remove(&number));
            continue;
        }
        let shared = Arc::clone(state);
        threads.push(thread::spawn(move || {
            // Either side may go at any time; that is its business.
            let _ = serve(&shared, number, client);
            shared.change(|state| {
                state.sockets.remove(&number);
                state.sockets.remove(&(number + 1));
            });
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Keeps a socket for the end of the proxy; false where it has come.
fn remember(state: &Shared<State>, number: u64, socket: &TcpStream) -> bool {
    let Ok(handle) = socket.try_clone() else { return false };
    state.change(|state| {
        state.sockets.insert(number, handle);
        !state.down
    })
}

fn serve(state: &Shared<State>, number: u64, client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client.try_clone()?);
    let Some(head) = Head::read(&mut reader)? else { return Ok(()) };
    let refuse = state.change(|state| {
        state.asked.push(Asked {
            method: head.word(0).to_owned(),
            target: head.word(1).to_owned(),
            proxy_authorization: head.header("proxy-authorization").map(str::to_owned),
            saw_authorization: head.header("authorization").is_some(),
        });
        state.refuse
    });
    if let Some(status) = refuse {
        return answer(&client, status);
    }
    let connect = head.word(0) == "CONNECT";
    let Some((host, path)) = destination(&head, connect) else { return answer(&client, 400) };
    let Ok(server) = dial(&host) else { return answer(&client, 502) };
    if !remember(state, number + 1, &server) {
        return Ok(());
    }
    if connect {
        (&client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        // One request on each connection, because the next one may be for another host.
        let mut headers = head.forwarded();
        headers.push(("Connection".to_owned(), "close".to_owned()));
        (&server).write_all(&http::message(&format!("{} {path} HTTP/1.1", head.word(0)), &headers, b""))?;
    }
    tunnel(reader, client, server)
}

fn answer(mut client: &TcpStream, status: u16) -> io::Result<()> {
    let headers = [("Content-Length".to_owned(), "0".to_owned()), ("Connection".to_owned(), "close".to_owned())];
    client.write_all(&http::message(&format!("HTTP/1.1 {status} -"), &headers, b""))
}

/// Host with port, and path.
fn destination(head: &Head, connect: bool) -> Option<(String, String)> {
    let target = head.word(1);
    if connect {
        return Some((target.to_owned(), String::new()));
    }
    let rest = target.strip_prefix("http://")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    Some((host, if path.is_empty() { "/".to_owned() } else { path.to_owned() }))
}

fn dial(host: &str) -> io::Result<TcpStream> {
    let address = host.to_socket_addrs()?.find(|address| address.ip().is_loopback());
    let stream = TcpStream::connect(address.ok_or(io::ErrorKind::PermissionDenied)?)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Copies both ways until both sides have said everything.
fn tunnel(mut from_client: BufReader<TcpStream>, mut client: TcpStream, server: TcpStream) -> io::Result<()> {
    let mut to_server = server.try_clone()?;
    let up = thread::spawn(move || {
        let early = from_client.buffer().to_vec();
        from_client.consume(early.len());
        let _ = to_server.write_all(&early);
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let mut from_server = server;
    let copied = io::copy(&mut from_server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = from_server.shutdown(Shutdown::Both);
    let _ = up.join();
    copied.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{PUSH_PATH, Server, Version};
    use crate::token;

    /// Says something to the proxy and reads the first head that comes back.
    fn say(stream: &TcpStream, text: &str) -> Option<Head> {
        (&mut &*stream).write_all(text.as_bytes()).unwrap();
        Head::read(&mut BufReader::new(stream)).unwrap()
    }

    fn request(target: &str) -> String {
        let (token, body) = (token::for_user("alice"), r#"{"device_id":"d","ops":[]}"#);
        format!(
            "POST {target} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nProxy-Authorization: Basic eDp5\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn it_forwards_what_comes_in_absolute_form() {
        let (proxy, server) = (Proxy::start().unwrap(), Server::start(Version::Later).unwrap());
        let stream = TcpStream::connect(proxy.address).unwrap();
        let target = format!("{}{PUSH_PATH}", server.url());
        assert_eq!(say(&stream, &request(&target)).unwrap().word(1), "200");
        let asked = Asked {
            method: "POST".into(),
            target,
            proxy_authorization: Some("Basic eDp5".into()),
            saw_authorization: true,
        };
        assert_eq!(proxy.asked(), [asked]);
        assert_eq!(server.stats().exchanges[0].request.path, PUSH_PATH);
    }

    #[test]
    fn it_tunnels() {
        let (proxy, server) = (Proxy::start().unwrap(), Server::start(Version::Later).unwrap());
        let stream = TcpStream::connect(proxy.address).unwrap();
        let hello = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", server.address());
        assert_eq!(say(&stream, &hello).unwrap().word(1), "200");
        assert_eq!(say(&stream, &request(PUSH_PATH)).unwrap().word(1), "200");
        assert_eq!(say(&stream, &request(PUSH_PATH)).unwrap().word(1), "200");
        assert!(!proxy.asked()[0].saw_authorization);
        assert_eq!((proxy.asked().len(), server.stats().connections), (1, 1));
    }

    #[test]
    fn it_refuses_when_told_to_and_where_nobody_is() {
        let proxy = Proxy::start().unwrap();
        let ask = |target: &str| {
            let stream = TcpStream::connect(proxy.address).unwrap();
            say(&stream, &format!("CONNECT {target} HTTP/1.1\r\n\r\n")).unwrap().word(1).to_owned()
        };
        assert_eq!(ask("192.0.2.1:443"), "502", "not loopback");
        proxy.refuse_with(Some(407));
        assert_eq!(ask("127.0.0.1:1"), "407");
    }

    #[test]
    fn it_ends_although_a_tunnel_is_open() {
        let (proxy, server) = (Proxy::start().unwrap(), Server::start(Version::Later).unwrap());
        let stream = TcpStream::connect(proxy.address).unwrap();
        assert_eq!(say(&stream, &format!("CONNECT {} HTTP/1.1\r\n\r\n", server.address())).unwrap().word(1), "200");
        drop(proxy);
        assert!(Head::read(&mut BufReader::new(stream)).unwrap_or(None).is_none());
    }
}
