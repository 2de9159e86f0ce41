//! Which protocol a request speaks.

use super::{
    codec::{Codec, ConnectForm},
    methods::{Answers, Methods},
};
use http::{HeaderValue, Method, Request, Version, header, request::Parts};
use tonic::body::Body;

#[derive(Clone, Debug)]
pub(super) enum Protocol {
    Grpc,
    GrpcWeb {
        /// Base64, for browsers that cannot read bytes.
        is_text: bool,
    },
    Connect(ConnectForm),
    /// No protocol of these, or none that its method can be called with.
    None,
}

impl Protocol {
    pub(super) fn of(request: &Parts, methods: &Methods) -> Self {
        let Some(content_type) = request.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
            return Self::None;
        };
        // Media types are compared without regard to case (RFC 9110, section 8.3.1).
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let connect = |codec, answers| {
            let method = methods.find(request.uri.path()).filter(|method| method.answers == answers);
            method.map_or(Self::None, |method| Self::Connect(ConnectForm { codec, method: method.clone() }))
        };
        match essence.as_str() {
            "application/grpc" | "application/grpc+proto" => Self::Grpc,
            _ if request.method != Method::POST => Self::None,
            "application/grpc-web" | "application/grpc-web+proto" => Self::GrpcWeb { is_text: false },
            "application/grpc-web-text" | "application/grpc-web-text+proto" => Self::GrpcWeb { is_text: true },
            "application/json" => connect(Codec::Json, Answers::One),
            "application/proto" => connect(Codec::Binary, Answers::One),
            "application/connect+json" => connect(Codec::Json, Answers::Stream),
            "application/connect+proto" => connect(Codec::Binary, Answers::Stream),
            _ => Self::None,
        }
    }
}

/// Into the one form that the library recognizes.
pub(super) fn prepare_grpc_web(request: &mut Request<Body>, is_text: bool) {
    let content_type = if is_text { "application/grpc-web-text+proto" } else { "application/grpc-web+proto" };
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // The form that the call layer expects, whatever carried the request here.
    *request.version_mut() = Version::HTTP_2;
}
