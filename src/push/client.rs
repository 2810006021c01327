//! One exchange after the other with one server, over one connection that is kept.
//!
//! What must always hold: a request is sent a second time only where a *kept* connection failed before any byte of the
//! answer, and never a third time (the server absorbs repeated operation ids, so the second time is safe). A push ends:
//! connecting has a time-out, and so has the exchange. No task is spawned: the connection is driven by the push, and
//! dropping the push drops the connection.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Method, Request, Uri};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::connect::{Trouble, connect};
use super::link::{Clocks, Link, Lost};
use super::proxy::{Proxies, Proxy};
use super::target::Target;
use super::tls::Tls;
use super::words::Secrets;
use crate::buffer::Buffers;
use crate::op::{FailedKind, Reply};
use crate::token::Token;

/// How to reach a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For name, TCP, proxy and TLS together.
    pub connect_timeout: Duration,
    /// For an exchange, from the first byte sent to the last byte received.
    pub request_timeout: Duration,
    /// A kept connection is not used after it was idle for so long.
    pub idle_timeout: Duration,
    /// PEM, added to the system's roots. Read only for `https`.
    pub ca_file: Option<PathBuf>,
    /// Which proxy.
    pub proxy: Proxies,
    /// Never send the token unencrypted, except to this machine.
    pub require_tls: bool,
    /// Where answers are read into.
    pub buffers: Buffers,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            // The server gives up after 30 s (contract, section 3); its answer should be seen.
            request_timeout: Duration::from_secs(40),
            idle_timeout: Duration::from_secs(90),
            ca_file: None,
            proxy: Proxies::none(),
            require_tls: false,
            buffers: Buffers::default(),
        }
    }
}

/// A server, and the connection to it if there is one.
pub struct Client {
    target: Target,
    settings: Settings,
    proxy: Option<Proxy>,
    tls: Option<Tls>,
    uri: Uri,
    host: HeaderValue,
    kept: Option<Link>,
    clocks: Option<Clocks>,
    warned: AtomicBool,
}

impl Client {
    /// Prepares for `target`; connects to nothing. Reads the root certificates for `https`.
    ///
    /// # Errors
    /// `ca_file` cannot be read or holds no certificate; the variable that names the proxy cannot be used. For people.
    pub fn new(target: Target, settings: Settings) -> Result<Self, String> {
        let proxy = settings.proxy.pick(&target)?.cloned();
        let tls = if target.is_plain() { None } else { Some(Tls::new(target.host(), settings.ca_file.as_deref())?) };
        // Through a tunnel the server is spoken to as if there were none.
        let form = if tls.is_none() && proxy.is_some() { target.absolute_form() } else { target.origin_form() };
        let uri = form.parse().map_err(|_| "the server URL cannot be sent".to_owned())?;
        let host = target.authority().parse().map_err(|_| "the server's name cannot be sent".to_owned())?;
        Ok(Self { target, settings, proxy, tls, uri, host, kept: None, clocks: None, warned: AtomicBool::new(false) })
    }

    /// The server.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What time it was, there and here, when the last whole answer came; `None` where it did not say.
    pub fn clocks(&self) -> Option<Clocks> {
        self.clocks
    }

    /// Sends a body and reads the answer. Takes at most the two time-outs together.
    pub async fn push(&mut self, token: &Token, body: Bytes) -> Reply {
        if self.settings.require_tls && self.is_exposed() {
            let words = format!("{} is not encrypted, and require_tls is set", self.target);
            return Reply::Failed { kind: FailedKind::Refused, words };
        }
        let Some(bearer) = bearer(token) else {
            let words = "the token holds characters that cannot be sent: paste it again".to_owned();
            return Reply::Failed { kind: FailedKind::Refused, words };
        };
        match self.attempt(token, &bearer, &body).await {
            Ok(reply) => reply,
            Err(trouble) => trouble.into(),
        }
    }

    /// On the kept connection, then, if that turns out to be dead, on a fresh one.
    async fn attempt(&mut self, token: &Token, bearer: &HeaderValue, body: &Bytes) -> Result<Reply, Trouble> {
        let secrets = Secrets { token: token.expose(), request: body };
        let started = Instant::now();
        let mut limit = self.settings.request_timeout;
        if let Some(mut link) = self.kept.take()
            && link.is_usable(self.settings.idle_timeout).await
        {
            match link.exchange(self.request(bearer, body), &secrets, limit, self.settings.buffers.take()).await {
                Ok(reply) => return Ok(self.keep(link, reply)),
                Err(Lost { trouble, again: false }) => return Err(trouble),
                Err(Lost { again: true, .. }) => limit = limit.saturating_sub(started.elapsed()),
            }
        }
        let (proxy, tls) = (self.proxy.as_ref(), self.tls.as_ref());
        let stream = connect(&self.target, proxy, tls, self.settings.connect_timeout).await?;
        let mut link = Link::new(stream, self.target.authority()).await?;
        match link.exchange(self.request(bearer, body), &secrets, limit, self.settings.buffers.take()).await {
            Ok(reply) => Ok(self.keep(link, reply)),
            Err(lost) => Err(lost.trouble),
        }
    }

    fn keep(&mut self, link: Link, reply: Reply) -> Reply {
        self.clocks = link.clocks();
        self.kept = link.into_kept();
        reply
    }

    fn request(&self, bearer: &HeaderValue, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
        headers.insert(AUTHORIZATION, bearer.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let (None, Some(value)) = (&self.tls, self.proxy.as_ref().and_then(Proxy::authorization)) {
            headers.insert(PROXY_AUTHORIZATION, value.clone());
        }
        request
    }

    /// Closes the kept connection if it has been idle for too long. A push does this by itself; this is for somebody
    /// with a timer, so that a server that has closed its end is not kept waiting for ours.
    pub fn drop_idle(&mut self) {
        self.kept.take_if(|link| link.is_stale(self.settings.idle_timeout));
    }

    /// The first time, and only if it is so: that the token travels for all to read.
    pub fn plain_warning(&self) -> Option<String> {
        if !self.is_exposed() || self.warned.swap(true, Ordering::Relaxed) {
            return None;
        }
        Some(format!(
            "{} is NOT ENCRYPTED: everybody on the way can read the token and all that is synced. Use https; \
             server.require_tls = true forbids anything else",
            self.target
        ))
    }

    /// Whether the token leaves this machine unencrypted.
    pub fn is_exposed(&self) -> bool {
        let local = self.target.is_loopback() && self.proxy.as_ref().is_none_or(Proxy::is_loopback);
        self.target.is_plain() && !local
    }
}

/// The `Authorization` header; `None` where the token holds what no header can.
fn bearer(token: &Token) -> Option<HeaderValue> {
    // Stricter than what an HTTP library lets pass: beyond ASCII, servers disagree on what the bytes mean.
    if !token.expose().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return None;
    }
    let text = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
