//! A gRPC status as a Connect error.

use super::{
    methods::Method,
    wire::{ConnectError, ErrorDetail},
};
use crate::registration::GrpcCode;
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

pub(super) fn connect_error(status: &Status, method: &Method) -> ConnectError {
    let details = pb::Status::decode(status.details()).map(|status| status.details).unwrap_or_default();
    let pool = method.input.parent_pool();
    let details = details.into_iter().map(|detail| error_detail(detail, pool)).collect();
    ConnectError { code: status.code(), message: status.message().to_owned(), details }
}

fn error_detail(detail: Any, pool: &DescriptorPool) -> ErrorDetail {
    let name = detail.type_url.rsplit('/').next().unwrap_or_default().to_owned();
    let descriptor = pool.get_message_by_name(&name);
    let message = descriptor.and_then(|descriptor| DynamicMessage::decode(descriptor, &*detail.value).ok());
    let debug = message.and_then(|message| serde_json::to_value(&message).ok());
    ErrorDetail { type_name: name, value: detail.value, debug }
}

/// An answer that cannot be translated.
pub(super) fn internal_error(problem: &str) -> ConnectError {
    tracing::error!(problem, "failed to translate an answer");
    ConnectError::new(Code::Internal, "internal error; the answer could not be written")
}

/// The JSON of an error without details.
pub(in crate::api) fn error_body(code: GrpcCode, message: &str) -> Bytes {
    ConnectError::new(Code::from_i32(code.number()), message).to_json()
}
