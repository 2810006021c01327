//! The server's base URL, as the user typed it, taken apart.
//!
//! What must always hold: a [`Target`] that exists can be connected to and written into a request line as it is, and
//! printing it shows no secret (URLs with a password in them are refused, and not quoted in the refusal).

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv6Addr};

use hyper::Uri;

/// Where a batch goes, below the base URL.
const ENDPOINT: &str = "/api/v1/sync/ops";

const NO_SCHEME: &str =
    "the server URL must begin with http:// or https://; it is the app's setting, unless `server.url` is set";

/// Longer than any URL a person types; keeps request lines and messages short.
const MAX_URL: usize = 2048;

/// A server: scheme, host, port and what stands before `/api`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    tls: bool,
    /// Lower case, without brackets.
    host: String,
    port: u16,
    /// Empty, or begins with a slash and ends without one.
    prefix: String,
}

impl Target {
    /// Reads a base URL: blanks around it and slashes behind it do not count.
    ///
    /// # Errors
    /// What is wrong with it, for the person who typed it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > MAX_URL {
            return Err(format!("the server URL is longer than {MAX_URL} bytes"));
        }
        let (scheme, rest) = text.split_once("://").ok_or(NO_SCHEME.to_owned())?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(NO_SCHEME.to_owned()),
        };
        if rest.contains('?') {
            return Err("the server URL must not have a query (?…)".to_owned());
        }
        if rest.contains('#') {
            return Err("the server URL must not have a fragment (#…)".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let default = if tls { 443 } else { 80 };
        let (host, port) = host_and_port(authority, default).map_err(|problem| format!("the server URL {problem}"))?;
        let target = Self { tls, host, port, prefix: encode(path.trim_end_matches('/')) };
        match target.origin_form().parse::<Uri>() {
            Ok(_) => Ok(target),
            Err(_) => Err("the server URL has a path that cannot be sent".to_owned()),
        }
    }

    /// The host without brackets, lower case: for connecting and for certificates.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the way there is not encrypted.
    pub fn is_plain(&self) -> bool {
        !self.tls
    }

    /// Whether the host is this machine: 127.0.0.0/8, `::1`, `localhost`.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Host, and port where it is not the scheme's: for the `Host` header and for messages.
    pub fn authority(&self) -> String {
        let default = if self.tls { 443 } else { 80 };
        if self.port == default { bracketed(&self.host) } else { self.host_port() }
    }

    /// Host and port, always both: for CONNECT.
    pub fn host_port(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }

    /// The request target of a direct request.
    pub fn origin_form(&self) -> String {
        format!("{}{ENDPOINT}", self.prefix)
    }

    /// The request target of a request to a proxy.
    pub fn absolute_form(&self) -> String {
        format!("{self}{ENDPOINT}")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

/// Whether `host`, without brackets, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
}

/// `host[:port]` taken apart, the host in lower case and without brackets. The error continues a sentence, and quotes
/// nothing: there may be a password in it.
pub(super) fn host_and_port(authority: &str, default: u16) -> Result<(String, u16), String> {
    if authority.contains('@') {
        return Err("must not hold a user name or password".to_owned());
    }
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (ip, port) = rest.split_once(']').ok_or("has no ] behind its IPv6 address")?;
        let ip = ip.parse::<Ipv6Addr>().map_err(|_| "has something else than an IPv6 address in its [ ]")?;
        let port = if port.is_empty() { port } else { port.strip_prefix(':').ok_or("has no : behind its ]")? };
        (ip.to_string(), port)
    } else {
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        if port.contains(':') {
            return Err("needs [ ] around its IPv6 address".to_owned());
        }
        (host.to_ascii_lowercase(), port)
    };
    if host.is_empty() {
        return Err("has no host".to_owned());
    }
    if !host.is_ascii() {
        return Err("has a host with letters beyond ASCII: write it in its xn-- form".to_owned());
    }
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b)) {
        return Err("has a host with characters no host name has".to_owned());
    }
    match port {
        "" => Ok((host, default)),
        _ if !port.bytes().all(|b| b.is_ascii_digit()) => Err("has a port that is not a number".to_owned()),
        _ => match port.parse() {
            Ok(0) | Err(_) => Err("has a port outside 1..65535".to_owned()),
            Ok(port) => Ok((host, port)),
        },
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// What a path may not hold as it is becomes `%XX`; escapes that are there stay.
fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_understood() {
        for (text, shown, host, port, path) in [
            ("https://host", "https://host", "host", 443, "/api/v1/sync/ops"),
            (" HTTP://Host.Example//\n", "http://host.example", "host.example", 80, "/api/v1/sync/ops"),
            ("https://host:1/prefix/", "https://host:1/prefix", "host", 1, "/prefix/api/v1/sync/ops"),
            ("https://host:443/a/b", "https://host/a/b", "host", 443, "/a/b/api/v1/sync/ops"),
            ("http://host:443", "http://host:443", "host", 443, "/api/v1/sync/ops"),
            ("http://[::1]:8080/x//", "http://[::1]:8080/x", "::1", 8080, "/x/api/v1/sync/ops"),
            ("https://[2001:DB8::1]", "https://[2001:db8::1]", "2001:db8::1", 443, "/api/v1/sync/ops"),
            ("https://host:/", "https://host", "host", 443, "/api/v1/sync/ops"),
            (
                "https://host/Música x%20",
                "https://host/M%C3%BAsica%20x%20",
                "host",
                443,
                "/M%C3%BAsica%20x%20/api/v1/sync/ops",
            ),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.to_string(), shown);
            assert_eq!((target.host(), target.port(), target.origin_form().as_str()), (host, port, path), "{text}");
            assert_eq!(Target::parse(shown).unwrap(), target);
            assert_eq!(target.absolute_form(), format!("{shown}/api/v1/sync/ops"));
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_without_quoting_it() {
        for (text, why) in [
            ("", "must begin with"),
            ("host:8080", "must begin with"),
            ("ftp://secret", "must begin with"),
            ("https://", "no host"),
            ("https:///secret", "no host"),
            ("https://user:secret@host/", "password"),
            ("https://secret@host/", "password"),
            ("https://host/?secret=1", "query"),
            ("https://host/#secret", "fragment"),
            ("https://host:0", "port"),
            ("https://host:65536", "port"),
            ("https://host:+1", "port"),
            ("https://::1", "[ ]"),
            ("https://[::1", "]"),
            ("https://[secret]", "IPv6"),
            ("https://[::1]secret", ":"),
            ("https://sec ret", "characters"),
            ("https://sec\rret", "characters"),
            ("https://sécret", "xn--"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{text}: {error}");
        }
        let long = format!("https://host/{}", "x".repeat(MAX_URL));
        assert!(Target::parse(&long).unwrap_err().contains("longer"));
    }

    #[test]
    fn this_machine_is_known_by_all_its_names() {
        for url in [
            "http://localhost",
            "http://LOCALHOST.:1",
            "http://127.0.0.1",
            "http://127.9.9.9",
            "http://[::1]",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(Target::parse(url).unwrap().is_loopback(), "{url}");
        }
        for url in ["http://localhost.example", "http://10.0.0.1", "http://[::2]", "http://127.0.0.1.example"] {
            assert!(!Target::parse(url).unwrap().is_loopback(), "{url}");
        }
    }
}
