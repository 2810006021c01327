//! As much HTTP/1.1 as the kit needs, by hand: a head, a body of a known length, one request and its answer.
//!
//! What must always hold: nothing here grows with what the peer sends: heads and bodies have limits. Chunked bodies are
//! not understood, because neither the agent nor the made-up app sends any.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Error, Result};

/// The largest head that is read.
const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// The largest body [`Client`] reads: well above the largest answer, which is about as large as a request.
const MAX_REPLY_BYTES: usize = 16 * 1024 * 1024;

/// A first line and headers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    first: String,
    headers: Vec<(String, String)>,
}

fn malformed(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

impl Head {
    /// Reads one; `None` where the peer closed before its first byte.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut limited = from.take(MAX_HEAD_BYTES);
        let mut head = Self::default();
        loop {
            let mut line = Vec::new();
            if limited.read_until(b'\n', &mut line)? == 0 && head.first.is_empty() {
                return Ok(None);
            }
            if line.last() != Some(&b'\n') {
                return Err(malformed("the head is cut short or too long"));
            }
            let line = String::from_utf8(line).map_err(|_| malformed("the head is not text"))?;
            let line = line.trim_end_matches(['\r', '\n']);
            if head.first.is_empty() {
                line.clone_into(&mut head.first);
            } else if line.is_empty() {
                return Ok(Some(head));
            } else {
                let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header without a colon"))?;
                head.headers.push((name.to_owned(), value.trim().to_owned()));
            }
        }
    }

    /// A word of the first line: method, target, version; or version, status.
    pub(crate) fn word(&self, n: usize) -> &str {
        self.first.split(' ').nth(n).unwrap_or_default()
    }

    /// The first header of that name, in whatever case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The headers a proxy passes on: all but those about the connection.
    pub(crate) fn forwarded(&self) -> Vec<(String, String)> {
        let about_the_connection =
            |name: &str| name.eq_ignore_ascii_case("connection") || name.to_ascii_lowercase().starts_with("proxy-");
        self.headers.iter().filter(|(name, _)| !about_the_connection(name)).cloned().collect()
    }

    /// `Content-Length`; `None` where there is none.
    pub(crate) fn content_length(&self) -> io::Result<Option<usize>> {
        let text = self.header("content-length");
        text.map(|text| text.parse().map_err(|_| malformed("a length that is no number"))).transpose()
    }

    /// Whether the peer wants the connection closed after this.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads a body of a known length.
pub(crate) fn read_body(from: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(body)
}

/// Writes a first line, headers and a body in one go.
pub(crate) fn message(first: &str, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{first}\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A blocking client over plain http, with one connection that it keeps.
pub struct Client {
    host: String,
    prefix: String,
    timeout: Duration,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client for `http://host:port[/prefix]`; it connects when it has something to say. `timeout` bounds each read
    /// and write.
    pub fn new(url: &str, timeout: Duration) -> Result<Self> {
        let rest = url.trim().trim_end_matches('/').strip_prefix("http://");
        let rest = rest.ok_or_else(|| Error::other("the kit's client speaks plain http only"))?;
        let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Ok(Self { host: host.to_owned(), prefix: prefix.to_owned(), timeout, connection: None })
    }

    /// Posts a push: `path` after the prefix, the token if there is one, and JSON.
    pub fn push(&mut self, path: &str, token: Option<&str>, body: &[u8]) -> Result<Received> {
        self.request("POST", path, token, Some("application/json"), body)
    }

    /// Sends a request and reads the whole answer.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Received> {
        let mut headers =
            vec![("Host".to_owned(), self.host.clone()), ("Content-Length".to_owned(), body.len().to_string())];
        headers.extend(token.map(|token| ("Authorization".to_owned(), format!("Bearer {token}"))));
        headers.extend(content_type.map(|kind| ("Content-Type".to_owned(), kind.to_owned())));
        let first = format!("{method} {}{path} HTTP/1.1", self.prefix);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        // An answer that came early counts even if sending broke off.
        let sent = connection.get_mut().write_all(&message(&first, &headers, body));
        let (received, keep) = match receive(&mut connection) {
            Ok(received) => received,
            Err(error) => return Err(sent.err().map_or(error, Error::from)),
        };
        self.connection = keep.then_some(connection);
        Ok(received)
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

fn receive(from: &mut BufReader<TcpStream>) -> Result<(Received, bool)> {
    let head = Head::read(from)?.ok_or_else(|| Error::other("the connection was closed before an answer"))?;
    let status = head.word(1).parse().map_err(|_| Error::other("the answer is not HTTP"))?;
    let length = head.content_length()?;
    let body = match length {
        Some(length) if length > MAX_REPLY_BYTES => return Err(Error::other("the answer is too long")),
        Some(length) => read_body(from, length)?,
        None => {
            let mut body = Vec::new();
            if from.take(MAX_REPLY_BYTES as u64).read_to_end(&mut body)? == MAX_REPLY_BYTES {
                return Err(Error::other("the answer is too long"));
            }
            body
        }
    };
    let text = |name| head.header(name).map(str::to_owned);
    let received = Received {
        status,
        content_type: text("content-type"),
        retry_after: text("retry-after"),
        location: text("location"),
        body,
    };
    Ok((received, length.is_some() && !head.closes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> io::Result<Option<Head>> {
        Head::read(&mut text.as_bytes())
    }

    #[test]
    fn a_head_is_read_up_to_its_empty_line() {
        let mut bytes = "POST /x HTTP/1.1\r\nContent-length: 3\r\nConnection: Close\r\n\r\nabcd".as_bytes();
        let head = Head::read(&mut bytes).unwrap().unwrap();
        assert_eq!((head.word(0), head.word(1), head.word(7)), ("POST", "/x", ""));
        assert_eq!((head.content_length().unwrap(), head.closes()), (Some(3), true));
        assert_eq!(read_body(&mut bytes, 3).unwrap(), b"abc");
    }

    #[test]
    fn a_head_that_is_none_is_an_error_and_an_end_is_not() {
        assert!(head("").unwrap().is_none());
        for bad in ["POST /x HTTP/1.1\r\nHost", "POST /x HTTP/1.1\r\nHost\r\n\r\n", "POST /x HTTP/1.1\r\n"] {
            assert!(head(bad).is_err(), "{bad}");
        }
        assert!(head(&format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70_000))).is_err());
    }
}
