//! The body of a request, as the client sends it.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// Of a request that is answered before it is read. More than that, and the connection is closed.
const MAX_DISCARDED_BYTES: usize = 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Ends only where the client ends it. When the client is gone, the HTTP library drops the call, and only that counts
/// as cancelled: an error of a body is always one of its content.
pub(super) struct ClientBody {
    body: Option<Incoming>,
    unread: Option<oneshot::Sender<Incoming>>,
}

/// What was not read when the request was answered.
pub(super) struct UnreadBody(oneshot::Receiver<Incoming>);

impl ClientBody {
    pub(super) fn new(body: Incoming) -> (Self, UnreadBody) {
        let (sender, receiver) = oneshot::channel();
        (Self { body: Some(body), unread: Some(sender) }, UnreadBody(receiver))
    }
}

impl UnreadBody {
    /// Over HTTP/1.1, a client may still be sending: if the connection is closed with bytes unread, the kernel resets
    /// it, and the client loses the answer.
    pub(super) async fn discard(mut self) {
        let Ok(mut body) = self.0.try_recv() else { return };
        let deadline = Instant::now() + DISCARD_TIMEOUT;
        let mut left = MAX_DISCARDED_BYTES;
        while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(body) = &mut self.body else { return Poll::Pending };
        match ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            None => Poll::Ready(None),
            Some(Err(_)) => {
                self.body = None;
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let (Some(body), Some(unread)) = (self.body.take(), self.unread.take())
            && !body.is_end_stream()
        {
            // Over HTTP/2 it is dropped: the client is asked to stop.
            let _ = unread.send(body);
        }
    }
}
