//! The way to the server: name, TCP, a proxy's tunnel, TLS.
//!
//! What must always hold: a proxy sees nothing but `CONNECT` of what goes to an `https` server, and all of it ends with
//! the one time-out its caller sets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::USER_AGENT;
use super::proxy::Proxy;
use super::target::Target;
use super::tls::Tls;
use super::words::{self, Secrets};
use crate::op::{FailedKind, Reply};

/// Addresses tried for one name. More would only make each one's share of the time useless.
const MAX_ADDRESSES: usize = 8;

/// A proxy's answer to CONNECT has a status line and a few headers.
const MAX_CONNECT_ANSWER: usize = 8 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: FailedKind,
    /// One short line, with the host and without secrets.
    pub(super) words: String,
}

impl Trouble {
    fn network(words: String) -> Self {
        Self { kind: FailedKind::Network, words }
    }
}

impl From<Trouble> for Reply {
    fn from(trouble: Trouble) -> Self {
        Self::Failed { kind: trouble.kind, words: trouble.words }
    }
}

/// A stream in both directions, encrypted or not.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Connects within `limit`, all steps together.
pub(super) async fn connect(
    target: &Target,
    proxy: Option<&Proxy>,
    tls: Option<&Tls>,
    limit: Duration,
) -> Result<Box<dyn Wire>, Trouble> {
    let way = async {
        let Some(proxy) = proxy else {
            let tcp = dial(target.host(), target.port(), &target.authority(), limit).await?;
            return encrypt(tcp, tls).await;
        };
        let mut tcp = dial(proxy.host(), proxy.port(), &format!("proxy {proxy}"), limit).await?;
        if tls.is_some() {
            tunnel(&mut tcp, proxy, &target.host_port()).await?;
        }
        encrypt(tcp, tls).await
    };
    match timeout(limit, way).await {
        Ok(connected) => connected,
        Err(_) => Err(too_slow(&target.authority(), limit)),
    }
}

async fn encrypt(tcp: TcpStream, tls: Option<&Tls>) -> Result<Box<dyn Wire>, Trouble> {
    Ok(match tls {
        Some(tls) => Box::new(tls.handshake(tcp).await?),
        None => Box::new(tcp),
    })
}

pub(super) fn too_slow(whom: &str, limit: Duration) -> Trouble {
    Trouble { kind: FailedKind::Unreachable, words: format!("{whom}: no connection within {limit:?}") }
}

/// Tries the addresses of `host` in the system's order. Each has its share of the time, so that a dead one (IPv6 that
/// leads nowhere) leaves some for the next.
async fn dial(host: &str, port: u16, whom: &str, limit: Duration) -> Result<TcpStream, Trouble> {
    let deadline = Instant::now() + limit;
    let addresses = resolve(host, port, whom).await?;
    reach(addresses, whom, deadline, limit).await
}

/// The addresses of a name.
pub(super) async fn resolve(host: &str, port: u16, whom: &str) -> Result<Vec<SocketAddr>, Trouble> {
    match lookup_host((host, port)).await {
        Ok(found) => Ok(found.take(MAX_ADDRESSES).collect()),
        Err(error) => Err(Trouble::network(format!("{whom}: name not found ({})", reason(&error)))),
    }
}

/// A connection to one of these addresses; `limit` is for the words.
pub(super) async fn reach(
    addresses: Vec<SocketAddr>,
    whom: &str,
    deadline: Instant,
    limit: Duration,
) -> Result<TcpStream, Trouble> {
    let mut last = Trouble::network(format!("{whom}: the name has no address"));
    let mut left = u32::try_from(addresses.len()).unwrap_or(1);
    for address in addresses {
        let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        last = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                // Small requests must not wait for the acknowledgement of others. Without it they are only slower.
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Ok(Err(error)) => Trouble::network(format!("{whom}: {}", reason(&error))),
            Err(_) => too_slow(whom, limit),
        };
    }
    Err(last)
}

/// Has the proxy connect to `whither`.
pub(super) async fn tunnel(tcp: &mut TcpStream, proxy: &Proxy, whither: &str) -> Result<(), Trouble> {
    let lost = |error: io::Error| Trouble::network(format!("proxy {proxy}: {}", reason(&error)));
    let mut request =
        format!("CONNECT {whither} HTTP/1.1\r\nHost: {whither}\r\nUser-Agent: {USER_AGENT}\r\n").into_bytes();
    if let Some(value) = proxy.authorization() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    tcp.write_all(&request).await.map_err(lost)?;
    let mut answer = Vec::with_capacity(1024);
    let end = loop {
        if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if answer.len() >= MAX_CONNECT_ANSWER {
            return Err(Trouble::network(format!(
                "proxy {proxy}: the answer is longer than {MAX_CONNECT_ANSWER} bytes"
            )));
        }
        let room = u64::try_from(MAX_CONNECT_ANSWER - answer.len()).unwrap_or(0);
        if (&mut *tcp).take(room).read_buf(&mut answer).await.map_err(lost)? == 0 {
            return Err(Trouble::network(format!("proxy {proxy}: closed the connection")));
        }
    };
    let granted = granted(&answer).map_err(|why| Trouble::network(format!("proxy {proxy} {why}")))?;
    if granted && end == answer.len() {
        return Ok(());
    }
    Err(Trouble::network(format!("proxy {proxy} says more than was asked")))
}

/// Whether the answer to CONNECT is a yes; else what it is, to follow the proxy's name.
fn granted(answer: &[u8]) -> Result<bool, String> {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let (version, status) = line.split_once(' ').unwrap_or_default();
    let code = status.split(' ').next().unwrap_or_default();
    if !version.starts_with("HTTP/1.") || code.len() != 3 || !code.bytes().all(|b| b.is_ascii_digit()) {
        return Err("does not answer in HTTP".to_owned());
    }
    if code.starts_with('2') {
        return Ok(true);
    }
    Err(format!("refused: {}", words::sentence(status, &Secrets { token: "", request: b"" })))
}

/// An I/O error for people: without the number, and where it says nothing, what it means.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_owned()
        }
    }
}
