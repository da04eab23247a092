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
    task::{Context, Poll, Waker, ready},
};

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
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

/// A body that gives a frame when all that it gave but the last has left.
pub(super) struct Paced<B> {
    body: B,
    sent: Sent,
    /// What the connection has to have written before the next frame is given.
    enough: u64,
    /// What it will have written when all that was given has left, at least: what frames the frames is not counted.
    given: u64,
}

impl<B> Paced<B> {
    pub(super) fn new(body: B, sent: Sent) -> Self {
        Self { body, enough: sent.bytes(), given: sent.bytes(), sent }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        ready!(self.sent.poll(self.enough, cx));
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.enough = self.given.max(self.sent.bytes());
            self.given = self.enough + frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
