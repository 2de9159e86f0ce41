//! Bounds what one poll of a connection reads, so that a client that sends without a pause does not keep a worker
//! thread: h2 reads, and starts a task for each call, until nothing is left to read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A few hundred small calls. Other tasks run before the next ones are read.
const MAX_BYTES_PER_POLL: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct BoundedRead<I> {
    inner: I,
    left: usize,
}

impl<I> BoundedRead<I> {
    pub(super) fn new(inner: I) -> Self {
        Self { inner, left: MAX_BYTES_PER_POLL }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for BoundedRead<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            self.left = MAX_BYTES_PER_POLL;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(context, buf) else {
            self.left = MAX_BYTES_PER_POLL;
            return Poll::Pending;
        };
        self.left = self.left.saturating_sub(buf.filled().len() - before);
        Poll::Ready(read)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for BoundedRead<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
