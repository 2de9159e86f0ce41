//! The body of an answer: its call lasts as long, and what the client has not taken counts until it has.

use super::connection::{CallInProgress, Unsent};
use crate::pipeline::Place;
use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// An extension of a response: the place is held until the client has taken its last byte.
#[derive(Clone, Debug)]
pub(in crate::api) struct HeldUntilSent {
    _place: Arc<Place>,
}

impl HeldUntilSent {
    pub(in crate::api) fn new(place: Place) -> Self {
        Self { _place: Arc::new(place) }
    }
}

pub(super) struct Answer<B> {
    body: B,
    call: CallInProgress,
    held: Option<HeldUntilSent>,
}

pub(super) fn track_answer<B>(mut response: Response<B>, call: CallInProgress) -> Response<Answer<B>> {
    let held = response.extensions_mut().remove::<HeldUntilSent>();
    response.map(|body| Answer { body, call, held })
}

/// Dropped by the HTTP library when it is written to the socket, or when the stream ends before.
struct Part {
    data: Bytes,
    _unsent: Unsent,
    _held: Option<HeldUntilSent>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let part = |data: Bytes| {
            Bytes::from_owner(Part { data, _unsent: self.call.begin_sending(), _held: self.held.clone() })
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
