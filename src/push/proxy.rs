//! Which proxy a request goes through. Pure: the environment is handed in.
//!
//! What must always hold: a loopback host never goes through a proxy from the environment, and a proxy's password is in
//! no message and in no `Debug`.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use zeroize::Zeroizing;

use super::target::{Target, host_and_port, is_loopback};

/// A plain-HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port]`; the scheme may be left out.
    ///
    /// # Errors
    /// What is wrong with it; its user name and password are not quoted.
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err("only http:// proxies are supported (no https:// and no socks)".to_owned());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (host, port) = host_and_port(address, 80).map_err(|problem| format!("the proxy URL {problem}"))?;
        Ok(Self { host, port, authorization: user.map(basic).transpose()? })
    }

    /// Host name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// For `Proxy-Authorization`; marked sensitive.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Whether it runs on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// `user:password`, percent-encoded, as a `Basic` credential.
fn basic(user: &str) -> Result<HeaderValue, String> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain = Zeroizing::new(decode(name));
    plain.push(b':');
    plain.extend_from_slice(&Zeroizing::new(decode(password)));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(plain.as_slice())))
        .map_err(|_| "the proxy URL has a user name that cannot be sent".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Undoes `%XX`; what is no escape stays as it is.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 1);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    out
}

/// What the user has set about proxies.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// For `http` servers. An error waits here until somebody would use the proxy: a socks proxy meant for other
    /// programs must not stop an agent that never needs it.
    http: Option<Result<Proxy, String>>,
    https: Option<Result<Proxy, String>>,
    bypass: Vec<Bypass>,
    from_environment: bool,
}

impl Proxies {
    /// No proxy for anything.
    pub fn none() -> Self {
        Self::default()
    }

    /// This proxy for everything, `NO_PROXY` or not.
    ///
    /// # Errors
    /// The URL is not that of a plain-HTTP proxy.
    pub fn fixed(url: &str) -> Result<Self, String> {
        let proxy = Proxy::parse(url)?;
        Ok(Self { http: Some(Ok(proxy.clone())), https: Some(Ok(proxy)), ..Self::default() })
    }

    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case; lower case wins. A variable that
    /// cannot be used is an error only once a server needs it ([`Proxies::pick`]).
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let read = |names: &[&str]| {
            let (name, url) = names.iter().find_map(|name| get(name).map(|url| (*name, url)))?;
            Some(Proxy::parse(&url).map_err(|problem| format!("{name}: {problem}")))
        };
        // Under CGI, HTTP_PROXY is what a client sent as its `Proxy` header.
        let cgi = get("REQUEST_METHOD").is_some();
        let http_proxy = if cgi { "http_proxy" } else { "HTTP_PROXY" };
        let no_proxy = get("no_proxy").or_else(|| get("NO_PROXY")).unwrap_or_default();
        Self {
            http: read(&["http_proxy", http_proxy, "all_proxy", "ALL_PROXY"]),
            https: read(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            bypass: no_proxy.split([',', ' ', '\t']).filter_map(Bypass::parse).collect(),
            from_environment: true,
        }
    }

    /// The proxy for `target`; `None`: straight.
    ///
    /// # Errors
    /// The variable that names the proxy cannot be used.
    pub fn pick(&self, target: &Target) -> Result<Option<&Proxy>, String> {
        let direct = self.from_environment
            && (target.is_loopback() || self.bypass.iter().any(|rule| rule.covers(target.host(), target.port())));
        let proxy = if target.is_plain() { &self.http } else { &self.https };
        match proxy {
            Some(Ok(proxy)) if !direct => Ok(Some(proxy)),
            Some(Err(problem)) if !direct => Err(problem.clone()),
            _ => Ok(None),
        }
    }
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bypass {
    who: Who,
    /// `None`: any.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Everybody,
    /// Lower case, no dot at either end: the host itself and all below it.
    Domain(String),
    /// Addresses whose first bits are these.
    Network(IpAddr, u32),
}

impl Bypass {
    /// `None`: nothing there, or nothing that can be understood. The proxy is used then, as other programs do.
    fn parse(entry: &str) -> Option<Self> {
        if let Some(who) = network(entry.trim_start_matches('[').trim_end_matches(']')) {
            return Some(Self { who, port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let who = match network(host) {
            Some(who) => who,
            None if host == "*" => Who::Everybody,
            None => {
                let domain = host.strip_prefix('*').unwrap_or(host).trim_matches('.').to_ascii_lowercase();
                if domain.is_empty() {
                    return None;
                }
                Who::Domain(domain)
            }
        };
        Some(Self { who, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        match &self.who {
            Who::Everybody => true,
            Who::Domain(domain) => {
                let host = host.trim_end_matches('.');
                host == domain || host.strip_suffix(domain.as_str()).is_some_and(|above| above.ends_with('.'))
            }
            Who::Network(network, bits) => {
                host.parse().is_ok_and(|ip: IpAddr| prefix(ip.to_canonical(), *bits) == prefix(*network, *bits))
            }
        }
    }
}

/// `IP` or `IP/BITS`.
fn network(text: &str) -> Option<Who> {
    let (ip, bits) = match text.split_once('/') {
        Some((ip, bits)) => (ip, Some(bits.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let ip: IpAddr = ip.parse().ok()?;
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(width);
    (bits <= width).then_some(Who::Network(ip, bits))
}

/// The family, and the first `bits` of an address.
fn prefix(ip: IpAddr, bits: u32) -> (bool, u128) {
    let (number, width) = match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    (ip.is_ipv4(), number.checked_shr(width - bits.min(width)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Proxies {
        Proxies::from_env(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn picked(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.pick(&Target::parse(url).unwrap()).unwrap().map(ToString::to_string)
    }

    #[test]
    fn each_scheme_has_its_variable() {
        let proxies = from(&[("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "p"), ("ALL_PROXY", "http://all:3")]);
        assert_eq!(picked(&proxies, "https://a").as_deref(), Some("s:1"));
        assert_eq!(picked(&proxies, "http://a").as_deref(), Some("p:80"));
        assert_eq!(picked(&from(&[("all_proxy", "http://[::2]:3/")]), "http://a").as_deref(), Some("[::2]:3"));
        let both = from(&[("https_proxy", "http://lower:1"), ("HTTPS_PROXY", "http://upper:1")]);
        assert_eq!(picked(&both, "https://a").as_deref(), Some("lower:1"));
        assert_eq!(picked(&from(&[("HTTPS_PROXY", " ")]), "https://a"), None);
        assert_eq!(picked(&from(&[("HTTP_PROXY", "http://p")]), "https://a"), None);
        assert_eq!(picked(&Proxies::none(), "https://a"), None);
    }

    #[test]
    fn under_cgi_the_client_does_not_choose_the_proxy() {
        let vars = [("HTTP_PROXY", "http://evil:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(picked(&from(&vars), "http://a"), None);
        assert_eq!(picked(&from(&vars[..1]), "http://a").as_deref(), Some("evil:1"));
    }

    #[test]
    fn no_proxy_is_read_as_others_read_it() {
        let list = "internal.example, .dotted.example,*.star.example 10.1.2.3,192.168.0.0/16,fd00::/8,port.example:8443,\
                    [2001:db8::1]:444,::5";
        let proxies = from(&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", list)]);
        for url in [
            "https://internal.example",
            "https://a.INTERNAL.example.",
            "https://dotted.example",
            "https://a.b.dotted.example",
            "https://x.star.example",
            "https://10.1.2.3:99",
            "https://192.168.255.1",
            "https://[fd12::1]",
            "https://port.example:8443",
            "https://[2001:db8::1]:444",
            "https://[::5]:7",
        ] {
            assert_eq!(picked(&proxies, url), None, "{url}");
        }
        for url in [
            "https://notinternal.example",
            "https://internal.example.org",
            "https://10.1.2.4",
            "https://192.169.0.1",
            "https://[fe00::1]",
            "https://port.example",
            "https://[2001:db8::1]",
        ] {
            assert_eq!(picked(&proxies, url).as_deref(), Some("p:1"), "{url}");
        }
        for all in ["*", "0.0.0.0/0", "a, *"] {
            assert_eq!(picked(&from(&[("ALL_PROXY", "http://p"), ("no_proxy", all)]), "http://9.9.9.9"), None, "{all}");
        }
        let v6 = from(&[("ALL_PROXY", "http://p"), ("no_proxy", "::/0,10.0.0.0/33,/,:,.")]);
        assert!(picked(&v6, "http://10.0.0.1").is_some());
    }

    #[test]
    fn this_machine_is_reached_straight_unless_a_proxy_is_configured() {
        let environment = from(&[("ALL_PROXY", "http://p")]);
        for url in ["http://localhost:1", "https://127.0.0.1", "https://[::1]"] {
            assert_eq!(picked(&environment, url), None);
            assert!(picked(&Proxies::fixed("http://p").unwrap(), url).is_some());
        }
    }

    #[test]
    fn what_is_no_http_proxy_is_refused_where_it_matters() {
        for url in ["https://secret@p", "socks5://secret@p:1080", "http://secret@", "http://secret@p:x"] {
            let error = Proxies::fixed(url).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        let socks = from(&[("ALL_PROXY", "socks5://p"), ("HTTPS_PROXY", "http://p")]);
        let error = socks.pick(&Target::parse("http://a").unwrap()).unwrap_err();
        assert!(error.starts_with("ALL_PROXY: only http://"), "{error}");
        assert!(picked(&socks, "https://a").is_some());
        assert_eq!(picked(&socks, "http://localhost"), None);
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let proxy = Proxy::parse("http://us%65r:p%40ss%3A%zz@p:3").unwrap();
        let value = proxy.authorization().unwrap();
        assert_eq!(value, &format!("Basic {}", STANDARD.encode("user:p@ss:%zz")));
        assert!(value.is_sensitive());
        assert_eq!(format!("{proxy:?} {proxy}"), "Proxy(p:3) p:3");
    }
}
