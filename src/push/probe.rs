//! The way to a server, one step after the other, for whoever wants to know at which it ends.
//!
//! What must always hold: it is the way a push takes, with the same roots, proxy and time-outs; each step has its own end;
//! nothing is asked of the server beyond TLS, so no token travels.

use std::net::IpAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::client::Settings;
use super::connect::{Trouble, reach, resolve, too_slow, tunnel};
use super::proxy::Proxy;
use super::target::Target;
use super::tls::Tls;

/// A step on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Proxy and roots, before anything is connected to.
    Setup,
    /// The addresses of the server's name, or the proxy's.
    Name,
    /// A connection to one of them.
    Tcp,
    /// Through the proxy.
    Tunnel,
    /// The handshake.
    Tls,
}

/// How far it went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Way {
    /// The proxy that is used, without its password.
    pub proxy: Option<String>,
    /// Addresses of the name; `None` where it is one.
    pub addresses: Option<usize>,
    /// Steps that were taken.
    pub taken: Vec<Step>,
    /// The one that failed, with one short line.
    pub stopped: Option<(Step, String)>,
    /// When the server's certificate ends, in seconds since the epoch.
    pub expires: Option<u64>,
}

/// Goes as far as it can. Takes `limit` for each step at the most. Reads the roots for `https`.
pub async fn probe(target: &Target, settings: &Settings, limit: Duration) -> Way {
    let mut way = Way::default();
    way.stopped = walk(target, settings, limit, &mut way).await.err();
    way
}

async fn walk(target: &Target, settings: &Settings, limit: Duration, way: &mut Way) -> Result<(), (Step, String)> {
    let at = |step| move |words: String| (step, words);
    let proxy = settings.proxy.pick(target).map_err(at(Step::Setup))?;
    way.proxy = proxy.map(Proxy::to_string);
    let ca_file = settings.ca_file.as_deref();
    let tls = if target.is_plain() { None } else { Some(Tls::new(target.host(), ca_file).map_err(at(Step::Setup))?) };
    way.taken.push(Step::Setup);
    let mut tcp = connect(target, proxy, limit, way).await?;
    let Some(tls) = tls else { return Ok(()) };
    if let Some(proxy) = proxy {
        let opened = within(limit, target, tunnel(&mut tcp, proxy, &target.host_port())).await;
        opened.map_err(at(Step::Tunnel))?;
        way.taken.push(Step::Tunnel);
    }
    let stream = within(limit, target, tls.handshake(tcp)).await.map_err(at(Step::Tls))?;
    way.taken.push(Step::Tls);
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    way.expires = leaf.and_then(Tls::expiry);
    Ok(())
}

/// Name and TCP.
async fn connect(
    target: &Target,
    proxy: Option<&Proxy>,
    limit: Duration,
    way: &mut Way,
) -> Result<TcpStream, (Step, String)> {
    let (host, port, whom) = match proxy {
        Some(proxy) => (proxy.host(), proxy.port(), format!("proxy {proxy}")),
        None => (target.host(), target.port(), target.authority()),
    };
    let addresses = match timeout(limit, resolve(host, port, &whom)).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(trouble)) => return Err((Step::Name, trouble.words)),
        Err(_) => return Err((Step::Name, format!("{whom}: the name was not found within {limit:?}"))),
    };
    way.addresses = host.parse::<IpAddr>().is_err().then_some(addresses.len());
    way.taken.push(Step::Name);
    let tcp = within(limit, target, reach(addresses, &whom, Instant::now() + limit, limit)).await;
    let tcp = tcp.map_err(|words| (Step::Tcp, words))?;
    way.taken.push(Step::Tcp);
    Ok(tcp)
}

async fn within<T>(
    limit: Duration,
    target: &Target,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, String> {
    let done = timeout(limit, work).await.unwrap_or_else(|_| Err(too_slow(&target.authority(), limit)));
    done.map_err(|trouble| trouble.words)
}
