//! An HTTP/1.1 connection, driven by whoever waits for an answer on it.
//!
//! What must always hold: memory for an answer is bounded by the request it answers, and what was begun on a connection
//! that broke is never continued on it.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::DATE;
use hyper::http::response::Parts;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

use super::connect::{Trouble, Wire};
use super::patient::{Patient, Progress};
use super::reply::{self, Answer};
use super::tls;
use super::words::Secrets;
use crate::buffer::Buffer;
use crate::clock;
use crate::op::{FailedKind, Reply};

/// Lines of an answer's head. The server sends five; reverse proxies add a dozen.
const MAX_HEADERS: usize = 100;

/// Bytes of an answer's head: twice what common proxies allow.
const MAX_HEAD: usize = 32 * 1024;

/// What hyper may buffer of what it reads.
const MAX_BUFFER: usize = 64 * 1024;

/// The most bytes of a body that is read in answer to a request of `request` bytes.
///
/// Rows come back whole, about as large as they were sent. An op has 110 bytes at least, and its row gains at most 400
/// (id, device, time, `profile_canonical_id`, `hlc`): times 5. Its payload was read and written again: a number of four
/// bytes (`1e15`) may come back with eighteen. Whatever the mixture, times 8 is above it. The constant is for answers
/// that do not grow with the request: sentences, conflicts, and pages, of which the title is wanted.
const fn answer_limit(request: usize) -> usize {
    64 * 1024 + 8 * request
}

/// An exchange that came to nothing.
pub(super) struct Lost {
    pub(super) trouble: Trouble,
    /// No byte of an answer was seen, and there would have been time for one: worth another connection if this one was
    /// not fresh.
    pub(super) again: bool,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection.
pub(super) struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None`: it has ended.
    driver: Option<Driver>,
    progress: Arc<Progress>,
    /// For messages.
    host: String,
    /// When the last exchange ended, on both clocks: the first stands still while the machine sleeps, the second can be
    /// set.
    idle_since: (Instant, SystemTime),
    /// The last answer was read to its end.
    clean: bool,
    /// What time it was at the server and here when an answer came.
    clocks: Option<Clocks>,
}

/// What time it was when an answer came, by its `Date`, and by our wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// The server's. Whole seconds.
    pub theirs: SystemTime,
    /// This machine's.
    pub ours: SystemTime,
}

impl Clocks {
    fn of(head: &Parts) -> Option<Self> {
        let date = head.headers.get(DATE)?.to_str().ok()?;
        Some(Self { theirs: httpdate::parse_http_date(date).ok()?, ours: clock::now() })
    }
}

impl Link {
    /// Begins HTTP on a connected stream. `host` is for messages.
    pub(super) async fn new(stream: Box<dyn Wire>, host: String) -> Result<Self, Trouble> {
        let progress = Arc::new(Progress::default());
        let io = TokioIo::new(Patient::new(stream, Arc::clone(&progress)));
        let mut builder = http1::Builder::new();
        builder.max_headers(MAX_HEADERS).max_buf_size(MAX_BUFFER).max_header_size(MAX_HEAD);
        match builder.handshake(io).await {
            Ok((sender, connection)) => Ok(Self {
                sender,
                driver: Some(Box::pin(connection)),
                progress,
                host,
                idle_since: (Instant::now(), clock::now()),
                clean: false,
                clocks: None,
            }),
            Err(error) => Err(Trouble { kind: FailedKind::Network, words: format!("{host}: {error}") }),
        }
    }

    /// Whether it was idle for longer than `limit`, or cannot tell.
    pub(super) fn is_stale(&self, limit: Duration) -> bool {
        let (steady, wall) = self.idle_since;
        // One that was set back cannot tell.
        steady.elapsed() > limit || clock::now().duration_since(wall).map_or(true, |idle| idle > limit)
    }

    /// Whether another request may be sent: not stale, and not known to be closed.
    pub(super) async fn is_usable(&mut self, limit: Duration) -> bool {
        if self.is_stale(limit) {
            return false;
        }
        let driver = &mut self.driver;
        // One look, without waiting, lets the connection notice what happened meanwhile.
        poll_fn(|cx| {
            let _ = advance(driver, cx);
            Poll::Ready(())
        })
        .await;
        self.driver.is_some() && self.sender.is_ready()
    }

    /// What time it was when the last answer came.
    pub(super) fn clocks(&self) -> Option<Clocks> {
        self.clocks
    }

    /// The connection, if another request may follow on it.
    pub(super) fn into_kept(mut self) -> Option<Self> {
        self.idle_since = (Instant::now(), clock::now());
        (self.clean && self.driver.is_some() && !self.progress.is_sending()).then_some(self)
    }

    /// Sends a request and reads the answer, within `limit`, into `buffer`.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        secrets: &Secrets<'_>,
        limit: Duration,
        buffer: Buffer,
    ) -> Result<Reply, Lost> {
        self.progress.begin();
        self.clean = false;
        let Self { sender, driver, progress, host, clean, clocks, .. } = self;
        let work = async {
            let response = sender.send_request(request).await.map_err(|error| explain(&error, progress, host))?;
            let (head, body) = response.into_parts();
            *clocks = Clocks::of(&head);
            let response = Response::from_parts(head, body);
            read(response, buffer, secrets, progress, host, clean).await
        };
        let mut work = std::pin::pin!(work);
        let driven = poll_fn(|cx| {
            // The connection first: what it reads and writes is what the work waits for.
            let _ = advance(driver, cx);
            work.as_mut().poll(cx)
        });
        match timeout(limit, driven).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(trouble)) => Err(Lost { trouble, again: !progress.is_answered() }),
            Err(_) => {
                let words = format!("{host}: no answer within {limit:?}");
                Err(Lost { trouble: Trouble { kind: FailedKind::Timeout, words }, again: false })
            }
        }
    }
}

/// Lets the connection work; forgets it when it has ended. How it ended is told to whoever waits for an answer.
fn advance(driver: &mut Option<Driver>, cx: &mut std::task::Context<'_>) -> Poll<()> {
    if let Some(running) = driver
        && running.as_mut().poll(cx).is_pending()
    {
        return Poll::Pending;
    }
    *driver = None;
    Poll::Ready(())
}

/// Reads an answer's body, as far as it is of use. `clean` becomes true where that was all of it.
async fn read(
    response: Response<Incoming>,
    mut bytes: Buffer,
    secrets: &Secrets<'_>,
    progress: &Progress,
    host: &str,
    clean: &mut bool,
) -> Result<Reply, Trouble> {
    let (head, mut body) = response.into_parts();
    let limit = answer_limit(secrets.request.len());
    let whole = loop {
        match body.frame().await {
            None => break true,
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if data.len() > limit - bytes.len() {
                    break false;
                }
                bytes.extend_from_slice(&data);
            }
            // Of these the status is all that counts, and the server closed because it would not read the request.
            Some(Err(_)) if progress.is_broken() && !reply::needs_body(head.status) => break false,
            Some(Err(error)) => return Err(explain(&error, progress, host)),
        }
    };
    *clean = whole;
    let is_page = bytes.trim_ascii_start().starts_with(b"<");
    if !whole && reply::needs_body(head.status) && !is_page {
        return Err(Trouble {
            kind: FailedKind::NotHttp,
            words: format!("{host}: an answer of more than {limit} bytes"),
        });
    }
    let answer = Answer { status: head.status, headers: &head.headers, body: &bytes, whole, now: clock::now() };
    Ok(reply::read(&answer, secrets))
}

/// What an error of the HTTP connection means.
fn explain(error: &hyper::Error, progress: &Progress, host: &str) -> Trouble {
    if let Some(cause) = tls::find(error) {
        return Trouble { kind: FailedKind::Tls, words: tls::explain(cause, host) };
    }
    let garbled = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData));
    let (kind, words) = if error.is_parse() || garbled {
        (FailedKind::NotHttp, "the answer is not HTTP, or its head is too long")
    } else if progress.is_answered() {
        (FailedKind::Network, "connection lost in the middle of the answer")
    } else if progress.is_sending() {
        (FailedKind::Sending, "connection lost while the request was being sent")
    } else {
        (FailedKind::Network, "connection lost before the answer")
    };
    Trouble { kind, words: format!("{host}: {words}") }
}
