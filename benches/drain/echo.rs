//! A server that only echoes: it takes every op, keeps nothing of it, and answers as the real one would.
//!
//! It shares the machine with whoever is measured, so it does as little as can be done: a request is read whole, the
//! ids are found by a search for what stands before them, and the answer is the request's own bytes, row by row, with
//! the columns a server adds. It costs the same for everybody who sends to it.
//!
//! What must always hold: it remembers every id it was sent, in order, and when; it never answers before the request was
//! there; its threads end with the value.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::{Error, Result};

use super::scan::{self, Place};

/// The largest request: what the real server takes, and a head.
const REQUEST_MAX: usize = 2_097_152 + 16_384;
/// Ends a head.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// The head of an answer; the zeros are written over, once the length is known.
const ANSWER_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0000000000\r\n\r\n";
/// The digits of that length.
const LENGTH_DIGITS: usize = 10;
/// What the server adds at the end of a row.
const ROW_TAIL: &[u8] = b",\"created_at\":\"2026-01-01T00:00:00.000000Z\"}";

/// What came in.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Every id, in the order of arrival; as often as it came.
    pub(crate) ids: Vec<u128>,
    /// For each request: when it had been read, and how many ids had come by then.
    pub(crate) requests: Vec<(Instant, usize)>,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    connections: Vec<(TcpStream, JoinHandle<()>)>,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, places: &[Place], at: Instant) {
        let mut state = self.lock();
        state.ledger.ids.extend(places.iter().map(|place| place.id));
        let count = state.ledger.ids.len();
        state.ledger.requests.push((at, count));
        drop(state);
        self.arrived.notify_all();
    }
}

/// The server, listening.
pub(crate) struct Echo {
    port: u16,
    shared: Arc<Shared>,
    accepts: Option<JoinHandle<()>>,
}

impl Echo {
    /// Listens on loopback. Each answer waits for `delay` once its request was read.
    pub(crate) fn start(delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let accepts = thread::spawn(move || accept(&listener, &theirs, delay));
        Ok(Self { port, shared, accepts: Some(accepts) })
    }

    /// What stands in the app's settings.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Takes what came in so far out of the books.
    pub(crate) fn take(&self) -> Ledger {
        std::mem::take(&mut self.shared.lock().ledger)
    }

    /// Waits until so many ids have come in, at most `limit`.
    pub(crate) fn wait_for(&self, ids: usize, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.lock();
        while state.ledger.ids.len() < ids {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::other(format!("{} of {ids} ops came in {limit:?}", state.ledger.ids.len())));
            }
            state = self.shared.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let connections = {
            let mut state = self.shared.lock();
            state.ended = true;
            std::mem::take(&mut state.connections)
        };
        // Wakes the one that waits for clients.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        for (stream, thread) in connections {
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
        if let Some(thread) = self.accepts.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, delay: Duration) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let mut state = shared.lock();
        if state.ended {
            return;
        }
        let Ok(kept) = stream.try_clone() else { continue };
        let theirs = Arc::clone(shared);
        // A client that breaks off is found out by what is missing in the books.
        let thread = thread::spawn(move || drop(serve(stream, &theirs, delay)));
        state.connections.retain(|(_, thread)| !thread.is_finished());
        state.connections.push((kept, thread));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared, delay: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut answer, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = 0;
    while let Some(body) = request(&mut stream, &mut buffer)? {
        let came = Instant::now();
        if !scan::ops(body, &mut places) {
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        shared.note(&places, came);
        echo(body, &places, &mut rows, &mut answer)?;
        let due = (came + delay).saturating_duration_since(Instant::now());
        if !due.is_zero() {
            thread::sleep(due);
        }
        stream.write_all(&answer)?;
    }
    Ok(())
}

/// Reads a request; its body, or `None` where the client has left.
fn request<'a>(stream: &mut TcpStream, buffer: &'a mut Vec<u8>) -> io::Result<Option<&'a [u8]>> {
    let mut filled = 0;
    let (begin, end) = loop {
        if filled == buffer.len() {
            grow(buffer, filled * 2)?;
        }
        match stream.read(&mut buffer[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
        if let Some(begin) = buffer[..filled].windows(HEAD_END.len()).position(|four| four == HEAD_END) {
            let begin = begin + HEAD_END.len();
            break (begin, begin + content_length(&buffer[..begin])?);
        }
    };
    grow(buffer, end)?;
    if filled > end {
        return Err(io::Error::new(ErrorKind::InvalidData, "more than a request was sent"));
    }
    stream.read_exact(&mut buffer[filled..end])?;
    Ok(Some(&buffer[begin..end]))
}

/// Makes room for so many bytes; never less than there is.
fn grow(buffer: &mut Vec<u8>, wanted: usize) -> io::Result<()> {
    if wanted > REQUEST_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "the request is too long"));
    }
    let room = wanted.max(64 * 1024).max(buffer.len());
    buffer.resize(room, 0);
    Ok(())
}

/// `Content-Length` of a head.
pub(crate) fn content_length(head: &[u8]) -> io::Result<usize> {
    let text = std::str::from_utf8(head).unwrap_or_default();
    let value = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    let length = value.and_then(|value| value.parse().ok());
    length.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "a head without a length"))
}

/// Writes the answer: each op as the row the server would have stored.
pub(crate) fn echo(body: &[u8], places: &[Place], rows: &mut u64, answer: &mut Vec<u8>) -> io::Result<()> {
    answer.clear();
    answer.extend_from_slice(ANSWER_HEAD);
    answer.extend_from_slice(b"{\"accepted\":[");
    let device = places.first().and_then(|first| device(&body[..first.op.start])).unwrap_or_default();
    for (number, place) in places.iter().enumerate() {
        *rows += 1;
        let comma = if number == 0 { "" } else { "," };
        write!(answer, "{comma}{{\"id\":{rows},")?;
        // From behind the op's own brace, the quote behind its id included.
        answer.extend_from_slice(&body[place.op.start + 1..place.rest]);
        answer.push(b',');
        answer.extend_from_slice(device);
        answer.extend_from_slice(&body[place.rest..place.op.end - 1]);
        answer.extend_from_slice(ROW_TAIL);
    }
    answer.extend_from_slice(b"]}");
    let length = answer.len() - ANSWER_HEAD.len();
    let digits = ANSWER_HEAD.len() - HEAD_END.len() - LENGTH_DIGITS;
    write!(&mut answer[digits..digits + LENGTH_DIGITS], "{length:0LENGTH_DIGITS$}")
}

/// `"device_id":"…"`, out of what stands before the first op: `{"device_id":"…","ops":[`.
fn device(before: &[u8]) -> Option<&[u8]> {
    before.strip_prefix(b"{")?.strip_suffix(b",\"ops\":[")
}
