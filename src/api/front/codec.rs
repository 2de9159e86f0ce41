//! How messages are written: protobuf, in its binary or its JSON form (<https://protobuf.dev/programming-guides/json/>).

use super::methods::{Answers, Method};
use bytes::Bytes;
use http::HeaderValue;
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Codec {
    Binary,
    Json,
}

impl Codec {
    /// Of Connect.
    pub(super) fn content_type(self, answers: Answers) -> &'static str {
        match (self, answers) {
            (Self::Binary, Answers::One) => "application/proto",
            (Self::Json, Answers::One) => "application/json",
            (Self::Binary, Answers::Stream) => "application/connect+proto",
            (Self::Json, Answers::Stream) => "application/connect+json",
        }
    }

    /// To the binary form.
    ///
    /// # Errors
    /// What is wrong with the text, if it is one.
    pub(super) fn decode(self, message: Bytes, descriptor: &MessageDescriptor) -> Result<Bytes, String> {
        match self {
            Self::Binary => Ok(message),
            Self::Json => json_to_binary(&message, descriptor).map(Bytes::from),
        }
    }

    /// From the binary form.
    ///
    /// # Errors
    /// When the message is not of this type.
    pub(super) fn encode(self, message: Bytes, descriptor: &MessageDescriptor) -> Result<Bytes, String> {
        match self {
            Self::Binary => Ok(message),
            Self::Json => {
                let message = DynamicMessage::decode(descriptor.clone(), message).map_err(|error| error.to_string())?;
                serde_json::to_vec(&message).map(Bytes::from).map_err(|error| error.to_string())
            }
        }
    }
}

/// The method that is called, and how its messages are written.
#[derive(Clone, Debug)]
pub(super) struct ConnectForm {
    pub(super) codec: Codec,
    pub(super) method: Arc<Method>,
}

impl ConnectForm {
    pub(super) fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(self.codec.content_type(self.method.answers))
    }
}

/// Unknown fields and enum values are errors: a misspelled one must not become its default.
fn json_to_binary(text: &[u8], descriptor: &MessageDescriptor) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Err("its body is empty; a request without fields is {}".to_owned());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(descriptor.clone(), &mut deserializer, &options);
    let message = message.and_then(|message| deserializer.end().map(|()| message));
    message.map(|message| message.encode_to_vec()).map_err(|error| format!("its JSON is invalid: {error}"))
}
