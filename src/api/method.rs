//! The methods of the server by path, and requests that are no calls.

use super::{
    access::Needs,
    front::error_body,
    limits::{MAX_BATCH_REQUEST_BYTES, MAX_REFLECTION_REQUEST_BYTES, MAX_REQUEST_BYTES},
};
use crate::{
    auth::Scope,
    registration::{ErrorReason, GrpcCode},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use tonic::body::Body;

/// How many messages a call has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MethodKind {
    Unary,
    /// As [`Self::Unary`], with a request of many documents.
    Batch,
    /// One request, and a stream with a slot of its own.
    Watch,
    /// One request, and a stream without an end.
    HealthWatch,
    /// Two streams without an end.
    Reflection,
    Unknown,
}

/// A method, and what its caller needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct MethodInfo {
    /// The label in metrics and spans, from a fixed list, so that labels are bounded whatever path a client requests.
    pub(super) label: &'static str,
    pub(super) kind: MethodKind,
    pub(super) needs: Needs,
}

const METHODS: [(&str, MethodKind, Needs); 13] = [
    ("/registrar.v1.RegistrarService/RegisterDocument", MethodKind::Unary, Needs::Scope(Scope::Register)),
    ("/registrar.v1.RegistrarService/RegisterDocuments", MethodKind::Batch, Needs::Scope(Scope::Register)),
    ("/registrar.v1.RegistrarService/GetRegistration", MethodKind::Unary, Needs::Scope(Scope::Read)),
    ("/registrar.v1.RegistrarService/ListRegistrations", MethodKind::Unary, Needs::Scope(Scope::Read)),
    ("/registrar.v1.RegistrarService/WatchRegistration", MethodKind::Watch, Needs::Scope(Scope::Read)),
    ("/registrar.v1.RegistrarService/DiagnoseRegistration", MethodKind::Unary, Needs::Scope(Scope::Read)),
    ("/registrar.v1.RegistrarService/VerifyDocument", MethodKind::Unary, Needs::Scope(Scope::Verify)),
    ("/registrar.v1.RegistrarService/GetServiceInfo", MethodKind::Unary, Needs::Caller),
    ("/registrar.v1.RegistrarService/WatchChanges", MethodKind::Watch, Needs::Scope(Scope::Read)),
    ("/registrar.v1.RegistrarService/ListChanges", MethodKind::Unary, Needs::Scope(Scope::Read)),
    ("/registrar.v1.RegistrarService/GetCertificate", MethodKind::Unary, Needs::Scope(Scope::Read)),
    ("/grpc.health.v1.Health/Check", MethodKind::Unary, Needs::Nothing),
    ("/grpc.health.v1.Health/Watch", MethodKind::HealthWatch, Needs::Nothing),
];
const REFLECTION_METHODS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

impl MethodKind {
    /// Of a request message, also when it is decompressed.
    pub(super) fn max_request_bytes(self) -> usize {
        match self {
            Self::Unary | Self::Watch | Self::HealthWatch | Self::Unknown => MAX_REQUEST_BYTES,
            Self::Batch => MAX_BATCH_REQUEST_BYTES,
            Self::Reflection => MAX_REFLECTION_REQUEST_BYTES,
        }
    }
}

pub(super) fn classify(path: &str) -> MethodInfo {
    if let Some((label, kind, needs)) = METHODS.into_iter().find(|(known, ..)| *known == path) {
        return MethodInfo { label, kind, needs };
    }
    let is_reflection = REFLECTION_METHODS.contains(&path);
    let kind = if is_reflection { MethodKind::Reflection } else { MethodKind::Unknown };
    MethodInfo { label: "other", kind, needs: Needs::Caller }
}

/// Why a request is no call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NoCall {
    status: StatusCode,
    code: GrpcCode,
    message: &'static str,
}

/// What every call of a method with one answer may be sent as.
const UNARY_TYPES: &str = "use one of these content types: application/json or application/proto (Connect), \
                           application/grpc-web, or application/grpc over HTTP/2";
const STREAM_TYPES: &str = "the method answers with a stream; use one of these content types: \
                            application/connect+json or application/connect+proto (Connect), application/grpc-web, \
                            or application/grpc over HTTP/2";
const REFLECTION_TYPES: &str = "use content type application/grpc over HTTP/2";

/// Why a request is not a call; `None` if it may be one. An unknown method is answered as gRPC says.
pub(super) fn refuse<B>(request: &Request<B>, kind: MethodKind) -> Option<NoCall> {
    use MethodKind::{Batch, HealthWatch, Reflection, Unary, Unknown, Watch};
    let headers = request.headers();
    // The code that a Connect client derives from these statuses.
    let invalid = |status, message| Some(NoCall { status, code: GrpcCode::Unknown, message });
    match (request.method(), kind) {
        // The front answers it for the origins that may call.
        (&Method::OPTIONS, _) if headers.contains_key(header::ORIGIN) => Some(NoCall {
            status: StatusCode::FORBIDDEN,
            code: GrpcCode::PermissionDenied,
            message: "the origin of this page may not call; the operator lists it in REGISTRAR_CORS_ORIGINS",
        }),
        (&Method::POST, _) if is_grpc(headers) => {
            let needs_http2 = "gRPC needs HTTP/2; over HTTP/1.1 use Connect (content type application/json or \
                               application/proto) or gRPC-Web";
            if request.version() == Version::HTTP_2 {
                None
            } else {
                invalid(StatusCode::HTTP_VERSION_NOT_SUPPORTED, needs_http2)
            }
        }
        (_, Unknown) => Some(NoCall {
            status: StatusCode::NOT_FOUND,
            code: GrpcCode::Unimplemented,
            message: "there is no such method; a method is called by POST to /registrar.v1.RegistrarService/METHOD",
        }),
        (&Method::POST, Unary | Batch) => invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, UNARY_TYPES),
        (&Method::POST, Watch | HealthWatch) => invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, STREAM_TYPES),
        (&Method::POST, Reflection) => invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, REFLECTION_TYPES),
        (_, Unary | Batch | Watch | HealthWatch | Reflection) => invalid(StatusCode::METHOD_NOT_ALLOWED, "use POST"),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    ["application/grpc", "application/grpc+proto"].iter().any(|grpc| essence.eq_ignore_ascii_case(grpc))
}

impl NoCall {
    /// As a Connect error, which is readable by itself too.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::new(http_body_util::Full::new(error_body(self.code, self.message))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let mut insert = |name, value| headers.insert(name, HeaderValue::from_static(value));
        insert(header::CONTENT_TYPE, "application/json");
        if self.code == GrpcCode::Unknown {
            insert(HeaderName::from_static("x-error-reason"), ErrorReason::MalformedRequest.code());
        }
        match self.status {
            StatusCode::METHOD_NOT_ALLOWED => insert(header::ALLOW, "POST"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => insert(
                HeaderName::from_static("accept-post"),
                "application/json, application/proto, application/connect+json, application/connect+proto, \
                 application/grpc, application/grpc-web",
            ),
            _ => None,
        };
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::FILE_DESCRIPTOR_SET;

    const GET_INFO: &str = "/registrar.v1.RegistrarService/GetServiceInfo";

    #[test]
    fn every_method_of_the_proto_has_the_scope_that_its_caller_needs() {
        let pool = prost_reflect::DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
        let service = pool.get_service_by_name("registrar.v1.RegistrarService").unwrap();
        let paths: Vec<_> =
            service.methods().map(|method| format!("/{}/{}", service.full_name(), method.name())).collect();
        let listed = METHODS.iter().filter(|(path, ..)| path.starts_with("/registrar.v1."));
        assert_eq!(listed.map(|(path, ..)| (*path).to_owned()).collect::<Vec<_>>(), paths);
        for (method, needs) in [
            ("RegisterDocument", Needs::Scope(Scope::Register)),
            ("RegisterDocuments", Needs::Scope(Scope::Register)),
            ("GetRegistration", Needs::Scope(Scope::Read)),
            ("ListRegistrations", Needs::Scope(Scope::Read)),
            ("WatchRegistration", Needs::Scope(Scope::Read)),
            ("DiagnoseRegistration", Needs::Scope(Scope::Read)),
            ("VerifyDocument", Needs::Scope(Scope::Verify)),
            ("GetServiceInfo", Needs::Caller),
            ("WatchChanges", Needs::Scope(Scope::Read)),
            ("ListChanges", Needs::Scope(Scope::Read)),
            ("GetCertificate", Needs::Scope(Scope::Read)),
        ] {
            assert_eq!(classify(&format!("/registrar.v1.RegistrarService/{method}")).needs, needs, "{method}");
        }
        assert_eq!(classify(REFLECTION_METHODS[0]).needs, Needs::Caller);
    }

    #[test]
    fn what_is_no_call_is_refused_as_http_says() {
        let status = |method: &str, path: &str, content_type: &str, version| {
            let mut request = Request::builder().method(method).uri(path).version(version);
            if !content_type.is_empty() {
                request = request.header("content-type", content_type);
            }
            refuse(&request.body(()).unwrap(), classify(path).kind).map(|refused| refused.status.as_u16())
        };
        for (method, path, content_type, expected) in [
            ("POST", GET_INFO, "application/grpc", None),
            ("POST", GET_INFO, "application/grpc+proto", None),
            ("POST", GET_INFO, "Application/gRPC; charset=utf-8", None),
            ("POST", "/unknown.Service/Method", "application/grpc", None),
            ("GET", GET_INFO, "application/grpc", Some(405)),
            ("PUT", GET_INFO, "", Some(405)),
            ("POST", GET_INFO, "text/plain", Some(415)),
            ("POST", GET_INFO, "application/json", Some(415)),
            ("POST", GET_INFO, "application/grpc+json", Some(415)),
            ("POST", GET_INFO, "application/grpc-web", Some(415)),
            ("POST", GET_INFO, "", Some(415)),
            ("GET", "/", "", Some(404)),
            ("POST", "/unknown", "text/plain", Some(404)),
        ] {
            assert_eq!(status(method, path, content_type, Version::HTTP_2), expected, "{method} {path} {content_type}");
        }
        assert_eq!(status("POST", GET_INFO, "application/grpc", Version::HTTP_11), Some(505));
    }
}
