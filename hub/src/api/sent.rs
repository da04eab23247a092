//! How answers leave.
//!
//! **Together**, when their requests came together: a program that sends many readings over one connection costs one write
//! a batch and not one an item. hyper has a switch for that, which holds every answer for as long as it has read anything
//! it has not yet taken for a request. So an empty line after a body would keep the answer back until the client gives up,
//! and what cannot be read at all would get none. Here they are held until hyper wants to read more and there is nothing,
//! and no longer than [`HELD_FOR`].
//!
//! **At the client's pace**: hyper takes what a body gives into its buffers, however much the client takes. So a body that
//! has no end in sight counts what it gave against what the connection has written, and waits when too much lies between.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use axum::body::Bytes;
use bytes::{Buf, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::{Instant, Sleep, sleep},
};

/// Bytes of answers that wait for one another: some fifty short ones.
const HELD: usize = 16 * 1024;
/// How long they do while hyper still has something it has read: it may be what can only be answered after a commit or a
/// few, or nothing that will ever be a request.
const HELD_FOR: Duration = Duration::from_millis(250);

/// After the last answer, what still comes is thrown away for so long, and so much of it. A connection that is closed before
/// its client has sent all is reset, and the client may then never see the answer.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 1024 * 1024);

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

/// A connection that counts what it writes, and writes answers to requests that came together at once.
pub(super) struct Counted<S> {
    stream: S,
    sent: Sent,
    held: BytesMut,
    /// Whether something was read and nothing more was wanted since: another request may be in it.
    more: bool,
    /// What is held leaves when this ends. It goes on when nothing is held, and may so end early for what comes next: one
    /// timer in [`HELD_FOR`] costs less than one an answer.
    late: Option<Pin<Box<Sleep>>>,
    /// Whether that was looked at since something is held.
    waits: bool,
    /// Until when a client that was told all may go on, and what it sent meanwhile.
    linger: Option<(Pin<Box<Sleep>>, usize)>,
    /// Whether the hub stops, and waits for nobody.
    stop: watch::Receiver<bool>,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, sent: Sent, stop: watch::Receiver<bool>) -> Self {
        Self { stream, sent, held: BytesMut::new(), more: false, late: None, waits: false, linger: None, stop }
    }
}

impl<S: AsyncWrite + Unpin> Counted<S> {
    /// Writes what is held.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waits = false;
        while !self.held.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.held);
            self.sent.add(&written);
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.held.advance(n),
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.more = buf.filled().len() > before;
        // No request is left, so no answer comes by itself that could go with these.
        if !self.more && !self.held.is_empty() {
            let _ = self.poll_leave(cx)?;
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() <= HELD {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_leave(cx))?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.sent.add(&written);
        written
    }

    /// So hyper hands over a long answer as it lies, and holds no second one of its own.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let size: usize = bytes.iter().map(|slice| slice.len()).sum();
        if self.held.len() + size <= HELD {
            bytes.iter().for_each(|slice| self.held.extend_from_slice(slice));
            return Poll::Ready(Ok(size));
        }
        ready!(self.poll_leave(cx))?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.sent.add(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.more && !self.held.is_empty() {
            let Self { late, waits, .. } = &mut *self;
            let late = late.get_or_insert_with(|| Box::pin(sleep(HELD_FOR)));
            if !*waits && late.is_elapsed() {
                late.as_mut().reset(Instant::now() + HELD_FOR);
            }
            *waits = true;
            if late.as_mut().poll(cx).is_pending() {
                return Poll::Ready(Ok(()));
            }
            // What was waited for did not come, or goes on: until more is read, nothing waits for it any more.
            self.more = false;
        }
        self.poll_leave(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(self.poll_leave(cx))?;
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            if *self.stop.borrow() {
                return Poll::Ready(Ok(()));
            }
        }
        let Self { stream, linger, .. } = &mut *self;
        let (until, thrown) = linger.get_or_insert_with(|| (Box::pin(sleep(LINGER.0)), 0));
        loop {
            let mut bytes = [0; 4096];
            let mut part = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(cx, &mut part) {
                Poll::Pending => return until.as_mut().poll(cx).map(Ok),
                Poll::Ready(Ok(())) if !part.filled().is_empty() && *thrown < LINGER.1 => {
                    *thrown += part.filled().len()
                }
                // It has said all, or too much.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
        }
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
