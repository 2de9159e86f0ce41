//! The answers of a stream: gRPC frames and trailers as Connect envelopes.

use super::{
    codec::{Codec, ConnectForm},
    error::{connect_error, internal_error},
    wire::{ConnectError, EndOfStream, envelope, next_message},
};
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tonic::{
    Code, Status,
    body::Body,
    metadata::{KeyAndValueRef, MetadataMap},
};

pub(super) struct ConnectStream {
    form: ConnectForm,
    state: State,
}

enum State {
    Open {
        inner: Body,
        /// What has been received of the next frame.
        received: BytesMut,
    },
    /// The last envelope is still to be sent.
    Ending(Bytes),
    Ended,
}

impl ConnectStream {
    pub(super) fn new(inner: Body, form: ConnectForm) -> Self {
        Self { form, state: State::Open { inner, received: BytesMut::new() } }
    }

    /// A stream without a message.
    pub(super) fn ended(status: &Status, form: ConnectForm) -> Self {
        let state = State::Ending(end_of_stream(status, &form));
        Self { form, state }
    }

    /// What is to be sent for a frame of the answer.
    fn translate(&mut self, frame: Option<Result<Frame<Bytes>, Status>>) -> Bytes {
        let State::Open { received, .. } = &mut self.state else { return Bytes::new() };
        let end = match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if self.form.codec == Codec::Binary => return data,
                Ok(data) => {
                    received.extend_from_slice(&data);
                    match messages_in_json(received, &self.form) {
                        Ok(envelopes) => return envelopes,
                        Err(problem) => end_with(Some(&internal_error(&problem)), &MetadataMap::new()),
                    }
                }
                Err(frame) => match frame.trailers_ref().and_then(Status::from_header_map) {
                    Some(status) => end_of_stream(&status, &self.form),
                    None => return Bytes::new(),
                },
            },
            Some(Err(status)) => end_of_stream(&status, &self.form),
            None => end_of_stream(&Status::internal("the stream ended without a status"), &self.form),
        };
        self.state = State::Ending(end);
        Bytes::new()
    }
}

/// # Errors
/// When a message is not of the method's type.
fn messages_in_json(received: &mut BytesMut, form: &ConnectForm) -> Result<Bytes, String> {
    let mut envelopes = BytesMut::new();
    while let Some(message) = next_message(received) {
        let message = Codec::Json.encode(message, &form.method.output)?;
        envelopes.extend_from_slice(&envelope(0, &message));
    }
    Ok(envelopes.freeze())
}

fn end_of_stream(status: &Status, form: &ConnectForm) -> Bytes {
    let error = (status.code() != Code::Ok).then(|| connect_error(status, &form.method));
    end_with(error.as_ref(), status.metadata())
}

fn end_with(error: Option<&ConnectError>, metadata: &MetadataMap) -> Bytes {
    let mut end = EndOfStream { error, metadata: BTreeMap::new() };
    for entry in metadata.iter() {
        if let KeyAndValueRef::Ascii(key, value) = entry
            && let Ok(value) = value.to_str()
        {
            end.metadata.entry(key.as_str()).or_default().push(value);
        }
    }
    end.to_envelope()
}

impl HttpBody for ConnectStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            match &mut self.state {
                State::Open { inner, .. } => {
                    let frame = ready!(Pin::new(inner).poll_frame(context));
                    let data = self.translate(frame);
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                State::Ending(last) => {
                    let last = std::mem::take(last);
                    self.state = State::Ended;
                    return Poll::Ready(Some(Ok(Frame::data(last))));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
