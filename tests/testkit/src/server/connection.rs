//! One connection: requests are read, decided by the plan and the model, and answered, or not.
//!
//! What must always hold: while the server lets a client wait it notices within milliseconds that the client went, that
//! it was released, or that it has to stop; no thread outlives its server.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde::Deserialize;
use socket2::SockRef;

use super::State;
use super::faults::{Fault, Reply, Seen, Stage};
use super::model::{Answer, MAX_BODY_BYTES};
use crate::http::{self, Head};
use crate::sync::Shared;
use crate::{time, token};

/// How often a waiting connection looks whether its client is still there.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is left of a body after an early answer is read up to here to keep the connection; more closes it.
const DRAIN_BYTES: usize = 256 * 1024;

/// How long a connection that is being closed after an early answer still takes what the client sends, so that a reset
/// does not overtake the answer.
const LINGER: Duration = Duration::from_secs(2);

/// How much of an endless answer is sent at most: a client that takes it all has no limit.
const ENDLESS_BYTES: usize = 256 * 1024 * 1024;

/// What the kernel keeps of a body that is read slowly; it makes more of it as it likes.
const SLOW_BUFFER_BYTES: usize = 4 * 1024;

/// One piece of an endless answer.
const PIECE_BYTES: usize = 16 * 1024;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// What is written in the end.
enum Act {
    Cut,
    Send(Reply),
    SendAndClose(Reply),
    Half { reply: Reply, stall: bool },
    Trickle { reply: Reply, every: Duration },
    EndlessBody,
    EndlessHeaders,
}

/// Whether the connection can be used again.
#[derive(PartialEq, Eq)]
enum Then {
    Next,
    Close,
}

/// Why waiting ended.
#[derive(PartialEq, Eq)]
enum Waited {
    Over,
    Gone,
}

pub(super) struct Connection {
    wire: BufReader<Box<dyn Stream>>,
    raw: TcpStream,
    tls: bool,
    state: Arc<Shared<State>>,
}

impl Connection {
    pub(super) fn new(
        raw: TcpStream,
        tls: Option<Arc<ServerConfig>>,
        state: Arc<Shared<State>>,
    ) -> crate::Result<Self> {
        raw.set_nodelay(true)?;
        let plain = raw.try_clone()?;
        let encrypted = tls.is_some();
        let stream: Box<dyn Stream> = match tls {
            Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config)?, plain)),
            None => Box::new(plain),
        };
        Ok(Self { wire: BufReader::new(stream), raw, tls: encrypted, state })
    }

    /// Serves requests until one side has had enough. Errors are the client's: it went, or does not trust us.
    pub(super) fn serve(mut self) {
        if self.pick(Stage::Accept, &Seen::default()) != Fault::CutAtAccept {
            while let Ok(Some(head)) = Head::read(&mut self.wire) {
                if !matches!(self.exchange(&head), Ok(Then::Next)) {
                    break;
                }
            }
        }
        let _ = self.raw.shutdown(Shutdown::Both);
    }

    fn pick(&self, stage: Stage, seen: &Seen) -> Fault {
        self.state.lock().plan.pick(stage, seen)
    }

    fn exchange(&mut self, head: &Head) -> io::Result<Then> {
        let length = head.content_length()?.unwrap_or(0);
        let mut seen = look(head, length);
        self.state.change(|state| state.stats.requests += 1);
        let early = self.refuse_early(head, &seen, length);
        let mut pace = None;
        let act = match self.pick(Stage::Head, &seen) {
            Fault::ReadSlowly(bytes) => {
                pace = Some(bytes);
                None
            }
            Fault::CutBeforeBody => Some(Act::Cut),
            Fault::CutMidRequest => {
                http::read_body(&mut self.wire, length.min(MAX_BODY_BYTES) / 2)?;
                Some(Act::Cut)
            }
            Fault::AnswerEarly(reply) | Fault::RefuseOver { reply, .. } => Some(Act::Send(reply)),
            _ => None,
        };
        let (act, stored, unread) = match act {
            Some(act) => {
                self.state.change(|state| state.stats.enter(&seen));
                (act, 0, length)
            }
            None => self.read_and_decide(head, &mut seen, early, length, pace)?,
        };
        self.record(seen, &act, stored);
        let then = self.perform(act, unread)?;
        Ok(if head.closes() { Then::Close } else { then })
    }

    /// What is done with a request that gets past its head, how many ops it stored, and how much of it is unread.
    fn read_and_decide(
        &mut self,
        head: &Head,
        seen: &mut Seen,
        early: Option<Answer>,
        length: usize,
        pace: Option<usize>,
    ) -> io::Result<(Act, usize, usize)> {
        let mut body = Vec::new();
        if early.is_none() {
            if head.header("expect").is_some() {
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            body = match pace {
                Some(pace) => self.read_slowly(length, pace)?,
                None => http::read_body(&mut self.wire, length)?,
            };
            look_inside(seen, &body);
        }
        let unread = length - body.len();
        self.state.change(|state| state.stats.enter(seen));
        let (act, stored) = self.decide(seen, early, &body);
        Ok((act, stored, unread))
    }

    /// Reads a body at `pace` bytes a second. The kernel takes next to nothing beforehand, so that the client notices.
    fn read_slowly(&mut self, length: usize, pace: usize) -> io::Result<Vec<u8>> {
        SockRef::from(&self.raw).set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
        let (mut body, mut read, began) = (vec![0; length], 0, Instant::now());
        for piece in body.chunks_mut((pace / 100).max(1)) {
            self.wire.read_exact(piece)?;
            read += piece.len() as u64;
            let due = began + Duration::from_micros(read * 1_000_000 / pace.max(1) as u64);
            if self.wait_until(Some(due), |_| false) == Waited::Gone {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(body)
    }

    fn refuse_early(&self, head: &Head, seen: &Seen, length: usize) -> Option<Answer> {
        if head.header("transfer-encoding").is_some() {
            return Some(Answer::text(411, "this server wants a Content-Length"));
        }
        let state = self.state.lock();
        let content_type = head.header("content-type");
        state.model.refuse_early(&seen.method, &seen.path, content_type, seen.user.as_deref(), Some(length))
    }

    /// Settles what is stored and what is answered; may wait.
    fn decide(&self, seen: &Seen, early: Option<Answer>, body: &[u8]) -> (Act, usize) {
        let fault = self.pick(Stage::Whole, seen);
        let waited = match &fault {
            Fault::Answer(reply) | Fault::AnswerEarly(reply) => return (Act::Send(reply.clone()), 0),
            Fault::RefuseOver { bytes, reply } if seen.body_bytes > *bytes => return (Act::Send(reply.clone()), 0),
            Fault::CutBeforeStoring | Fault::CutBeforeBody | Fault::CutMidRequest | Fault::CutAtAccept => {
                return (Act::Cut, 0);
            }
            Fault::Silence => {
                self.hold();
                return (Act::Cut, 0);
            }
            Fault::DelayBefore(time) => self.delay(*time),
            Fault::HoldBeforeStore => self.hold(),
            _ => Waited::Over,
        };
        if waited == Waited::Gone {
            return (Act::Cut, 0);
        }
        let answer = match early {
            Some(answer) => answer,
            None => self.store(seen, body),
        };
        let stored = answer.stored.len();
        (self.after_storing(fault, answer), stored)
    }

    fn store(&self, seen: &Seen, body: &[u8]) -> Answer {
        self.state.change(|state| {
            let answer = state.model.push(seen.user.as_deref().unwrap_or_default(), body, time::now_ms());
            state.stats.stored += answer.stored.len();
            answer
        })
    }

    fn after_storing(&self, fault: Fault, answer: Answer) -> Act {
        let waited = match &fault {
            Fault::DelayAfter(time) => self.delay(*time),
            Fault::HoldAfterStore => self.hold(),
            _ => Waited::Over,
        };
        let reply = as_reply(answer);
        match fault {
            _ if waited == Waited::Gone => Act::Cut,
            Fault::CutAfterStoring => Act::Cut,
            Fault::AnswerAfterStoring(other) => Act::Send(other),
            Fault::CutMidReply => Act::Half { reply, stall: false },
            Fault::StallMidReply => Act::Half { reply, stall: true },
            Fault::CloseAfterReply => Act::SendAndClose(reply),
            Fault::EndlessBody => Act::EndlessBody,
            Fault::EndlessHeaders => Act::EndlessHeaders,
            Fault::ManyHeaders(count) => Act::Send(reply.many_headers(count)),
            Fault::Trickle(every) => Act::Trickle { reply, every },
            _ => Act::Send(reply),
        }
    }

    /// Waits for a release, counted as held.
    fn hold(&self) -> Waited {
        // In one step: a release that comes after somebody saw the count must not be missed.
        let released_before = self.state.change(|state| {
            state.stats.held += 1;
            state.releases
        });
        let waited = self.wait_until(None, |state| state.releases != released_before);
        self.state.change(|state| state.stats.held -= 1);
        waited
    }

    fn delay(&self, time: Duration) -> Waited {
        self.wait_until(Some(Instant::now() + time), |_| false)
    }

    /// Waits for a moment or a condition, whichever comes first.
    fn wait_until(&self, deadline: Option<Instant>, condition: impl Fn(&State) -> bool) -> Waited {
        loop {
            let left = deadline.map_or(LOOK_EVERY, |deadline| deadline.saturating_duration_since(Instant::now()));
            let over = self.state.wait(left.min(LOOK_EVERY), |state| state.down || condition(state));
            if self.state.lock().down || self.client_is_gone() {
                return Waited::Gone;
            }
            if over || left.is_zero() {
                return Waited::Over;
            }
        }
    }

    /// Whether the client closed. Over TLS its farewell is data; a client that waits for an answer sends nothing else.
    fn client_is_gone(&self) -> bool {
        let mut byte = [0];
        let _ = self.raw.set_nonblocking(true);
        let peeked = self.raw.peek(&mut byte);
        let _ = self.raw.set_nonblocking(false);
        match peeked {
            Ok(0) => true,
            Ok(_) => self.tls,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    fn record(&self, seen: Seen, act: &Act, stored: usize) {
        let status = match act {
            Act::Cut => None,
            Act::Send(reply) | Act::SendAndClose(reply) | Act::Half { reply, .. } | Act::Trickle { reply, .. } => {
                Some(reply.status)
            }
            Act::EndlessBody | Act::EndlessHeaders => Some(200),
        };
        self.state.change(|state| state.stats.leave(seen, status, stored));
    }

    fn perform(&mut self, act: Act, unread: usize) -> io::Result<Then> {
        match act {
            Act::Cut => Ok(Then::Close),
            Act::Send(reply) => {
                self.write(&reply.to_bytes())?;
                self.finish_reading(unread)
            }
            Act::SendAndClose(reply) => self.write(&reply.to_bytes()).map(|()| Then::Close),
            Act::Half { reply, stall } => {
                let whole = reply.to_bytes();
                let (first, rest) = whole.split_at(whole.len() - reply.body.len().div_ceil(2));
                self.write(first)?;
                if stall && self.hold() == Waited::Over {
                    self.write(rest)?;
                    return Ok(Then::Next);
                }
                Ok(Then::Close)
            }
            Act::Trickle { reply, every } => {
                for byte in reply.to_bytes() {
                    self.write(&[byte])?;
                    if self.delay(every) == Waited::Gone {
                        return Ok(Then::Close);
                    }
                }
                Ok(Then::Next)
            }
            Act::EndlessBody => self.endless(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
                &[format!("{PIECE_BYTES:x}\r\n").as_bytes(), &[b' '; PIECE_BYTES], b"\r\n"].concat(),
            ),
            Act::EndlessHeaders => self.endless(b"HTTP/1.1 200 OK\r\n", &b"X-More: and more\r\n".repeat(100)),
        }
    }

    fn endless(&mut self, start: &[u8], piece: &[u8]) -> io::Result<Then> {
        self.write(start)?;
        for _ in 0..ENDLESS_BYTES / piece.len() {
            self.write(piece)?;
        }
        Ok(Then::Close)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.wire.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// After an early answer: a short rest of a body is read so that the connection can stay; before a long one it is
    /// closed, gently.
    fn finish_reading(&mut self, unread: usize) -> io::Result<Then> {
        if unread <= DRAIN_BYTES {
            http::read_body(&mut self.wire, unread)?;
            return Ok(Then::Next);
        }
        self.raw.shutdown(Shutdown::Write)?;
        self.raw.set_read_timeout(Some(LINGER))?;
        let mut piece = vec![0; PIECE_BYTES];
        let deadline = Instant::now() + LINGER;
        while Instant::now() < deadline && self.wire.read(&mut piece)? > 0 {}
        Ok(Then::Close)
    }
}

fn as_reply(answer: Answer) -> Reply {
    let mut reply = Reply::new(answer.status);
    if answer.status == 405 {
        reply = reply.header("Allow", "POST");
    }
    match answer.content_type {
        Some(content_type) => reply.body(content_type, answer.body),
        None => reply,
    }
}

fn look(head: &Head, length: usize) -> Seen {
    let bearer = head.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    Seen {
        method: head.word(0).to_owned(),
        path: head.word(1).to_owned(),
        user: bearer.and_then(|token| token::user_of(token, time::now_s())),
        user_agent: head.header("user-agent").map(str::to_owned),
        body_bytes: length,
        ..Seen::default()
    }
}

/// A batch, read with indulgence: for the counters, not for the answer.
#[derive(Deserialize)]
struct Glance {
    device_id: Option<String>,
    ops: Vec<GlanceOp>,
}

#[derive(Deserialize)]
struct GlanceOp {
    operation_id: Option<String>,
    profile_canonical_id: Option<String>,
}

fn look_inside(seen: &mut Seen, body: &[u8]) {
    let Ok(glance) = serde_json::from_slice::<Glance>(body) else { return };
    seen.device_id = glance.device_id;
    seen.profile = glance.ops.first().and_then(|op| op.profile_canonical_id.clone());
    seen.operation_ids = glance.ops.into_iter().map(|op| op.operation_id.unwrap_or_default()).collect();
}
