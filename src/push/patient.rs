//! A stream that lets an answer be read although sending broke off.
//!
//! A server may answer (401, 413) before it has read the request, and close. The client's next write then fails, and an
//! HTTP implementation gives up, with the answer unread in the kernel's buffer. This one swallows what cannot be
//! written, and leaves it to the reading side to say what there is: the answer, or the end.
//!
//! What must always hold: what was swallowed is remembered, so that a connection it happened on is not used again and
//! the failure is told as one of sending.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Wire;

/// How far an exchange came. Shared between the stream, which the HTTP connection owns, and the client.
#[derive(Default)]
pub(super) struct Progress {
    broken: AtomicBool,
    unsent: AtomicBool,
    answered: AtomicBool,
}

impl Progress {
    /// A new exchange begins on the same connection.
    pub(super) fn begin(&self) {
        self.answered.store(false, Ordering::Relaxed);
        self.unsent.store(true, Ordering::Relaxed);
    }

    /// Writing failed: the peer has closed, whatever it still says.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Not all of the request has left.
    pub(super) fn is_sending(&self) -> bool {
        self.is_broken() || self.unsent.load(Ordering::Relaxed)
    }

    /// At least a byte of the answer came.
    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }
}

/// See the module.
pub(super) struct Patient {
    inner: Box<dyn Wire>,
    progress: Arc<Progress>,
}

impl Patient {
    pub(super) fn new(inner: Box<dyn Wire>, progress: Arc<Progress>) -> Self {
        Self { inner, progress }
    }

    /// The inner stream, for as long as it can be written to.
    fn writable(&mut self) -> Option<Pin<&mut Box<dyn Wire>>> {
        if self.progress.is_broken() {
            return None;
        }
        self.progress.unsent.store(true, Ordering::Relaxed);
        Some(Pin::new(&mut self.inner))
    }

    /// An outcome of writing, with `done` in the place of an error.
    fn swallow<T>(&self, outcome: io::Result<T>, done: T) -> io::Result<T> {
        outcome.or_else(|_| {
            self.progress.broken.store(true, Ordering::Relaxed);
            Ok(done)
        })
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.progress.answered.store(true, Ordering::Relaxed);
        }
        Poll::Ready(outcome)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.writable() {
            None => Poll::Ready(Ok(bytes.len())),
            Some(inner) => {
                let outcome = ready!(inner.poll_write(cx, bytes));
                Poll::Ready(self.swallow(outcome, bytes.len()))
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        match self.writable() {
            None => Poll::Ready(Ok(len)),
            Some(inner) => {
                let outcome = ready!(inner.poll_write_vectored(cx, slices));
                Poll::Ready(self.swallow(outcome, len))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.is_broken() {
            return Poll::Ready(Ok(()));
        }
        // The HTTP connection flushes when it has nothing more to write.
        let outcome = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        self.progress.unsent.store(false, Ordering::Relaxed);
        Poll::Ready(self.swallow(outcome, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.is_broken() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
