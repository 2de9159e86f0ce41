//! The requests of a reflection stream, checked before the library reads them: at one that it cannot read it ends the
//! stream as if all was well.

use super::{
    error::ApiError,
    limits::MAX_REFLECTION_REQUEST_BYTES,
    message::{FRAME_HEADER_BYTES, malformed, message_length},
};
use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::Message;
use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};
use tonic::{Status, body::Body};
use tonic_reflection::pb::v1::ServerReflectionRequest;

/// Ends at the first request that cannot be read.
pub(super) struct ReflectionRequests {
    pub(super) inner: Body,
    pub(super) is_encoded: bool,
    /// Where the stream of the answers finds the error.
    pub(super) problem: Arc<OnceLock<Status>>,
    pub(super) status: Box<dyn Fn(ApiError) -> Status + Send>,
    /// What has been received of the next request.
    pub(super) received: BytesMut,
}

impl ReflectionRequests {
    fn check(&mut self, data: &Bytes) -> Result<(), ApiError> {
        self.received.extend_from_slice(data);
        while let Some(length) = message_length(&self.received, MAX_REFLECTION_REQUEST_BYTES, self.is_encoded)?
            && self.received.len() >= FRAME_HEADER_BYTES + length
        {
            let is_compressed = self.received.get_u8() != 0;
            self.received.advance(FRAME_HEADER_BYTES - 1);
            let message = self.received.split_to(length);
            // The meaning of v1alpha is the same.
            if !is_compressed {
                ServerReflectionRequest::decode(message).map_err(|error| malformed(error.to_string()))?;
            }
        }
        Ok(())
    }
}

impl HttpBody for ReflectionRequests {
    type Data = Bytes;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let checked = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(Ok(()), |data| self.check(data)),
            Some(Err(_)) => Ok(()),
            None if self.received.is_empty() => Ok(()),
            None => Err(malformed("its last message is cut off")),
        };
        Poll::Ready(match checked {
            Ok(()) => frame,
            Err(error) => {
                let status = (self.status)(error);
                self.problem.get_or_init(|| status);
                self.inner = Body::empty();
                self.received.clear();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
