//! What of an answer has left: a long body asks before it gives more.
//!
//! hyper takes all that a body gives when answers to pipelined requests are to leave together, and holds it until the
//! client takes it. So a body that has no end in sight counts what it gave against what the connection has written, and
//! waits when too much lies between.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that a connection has written, and who waits for more of them. Among the extensions of each request.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<Inner>);

#[derive(Default)]
struct Inner {
    bytes: AtomicU64,
    waits: Mutex<Option<Waker>>,
}

impl Sent {
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Acquire)
    }

    /// Ready when at least so many bytes are written.
    pub(super) fn poll(&self, bytes: u64, cx: &Context<'_>) -> Poll<()> {
        if self.bytes() >= bytes {
            return Poll::Ready(());
        }
        *self.0.waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        // Once more, since the last of them may have been written before anybody knew that we wait.
        if self.bytes() >= bytes { Poll::Ready(()) } else { Poll::Pending }
    }

    fn add(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(n)) = written {
            self.0.bytes.fetch_add(*n as u64, Ordering::AcqRel);
            if let Some(waits) = self.0.waits.lock().unwrap_or_else(PoisonError::into_inner).take() {
                waits.wake();
            }
        }
    }
}

/// A connection that counts what it writes.
pub(super) struct Counted<S> {
    pub(super) stream: S,
    pub(super) sent: Sent,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.sent.add(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.sent.add(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
