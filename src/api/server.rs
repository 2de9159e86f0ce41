//! The server of callers.

use super::{
    Settings,
    connections::{Connections, Http, Transport},
    encode::ProtoEncoder,
    front::{Front, Methods},
    health,
    layer::CallLayer,
    limits::{
        CONNECTION_WINDOW_BYTES, HTTP1_HEADER_TIMEOUT, KEEPALIVE_INTERVAL, MAX_ERROR_RESETS, MAX_HEADER_BYTES,
        MAX_PENDING_RESETS, MAX_REFLECTION_REQUEST_BYTES, MAX_REQUEST_BYTES, MAX_STREAMS, Timeouts, max_connections,
    },
    method::{self, MethodKind},
    proto::{FILE_DESCRIPTOR_SET, registrar_service_server::RegistrarServiceServer},
    service::GrpcService,
};
use crate::{
    auth::{Alpn, Protection},
    pipeline::Registrar,
    telemetry::Port,
};
use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::{
    convert::Infallible,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, codec::CompressionEncoding::Gzip, service::Routes};
use tower::{Layer, Service};

/// A waiting call is answered before its connection is closed.
const AGE_GRACE_AFTER_WAIT: Duration = Duration::from_secs(10);

/// Of the gRPC server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Of the compiled-in descriptors.
    #[error("failed to set up gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Of the compiled-in descriptors.
    #[error("failed to read the descriptors: {0}")]
    Descriptors(#[from] prost_reflect::DescriptorError),
}

/// Serves until `stop`. Then new calls are rejected, and waiting ones are answered.
///
/// # Errors
/// When the compiled-in descriptors are invalid.
pub(crate) async fn serve(
    listener: TcpListener,
    registrar: Registrar,
    protection: Protection,
    settings: Settings,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    health::publish_health(&reporter, &registrar).await;
    let connections = Connections {
        port: Port::Grpc,
        transport: Transport::new(protection.tls, Alpn::Http2AndHttp1),
        http: http(),
        max: max_connections(settings.max_connections, super::open_file_limit()),
        timeouts: Timeouts::new(settings.max_connection_age, settings.max_wait + AGE_GRACE_AFTER_WAIT),
        stop: stop.clone(),
    };
    let (methods, origins) = (Methods::new()?, settings.cors_origins.clone());
    let service = GrpcService::new(registrar.clone(), settings, stop.clone());
    let service = |kind: MethodKind| {
        RegistrarServiceServer::new(service.clone())
            .max_decoding_message_size(kind.max_request_bytes())
            .max_encoding_message_size(usize::MAX)
            .accept_compressed(Gzip)
            .send_compressed(Gzip)
    };
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that clients without the proto can display error details.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let (v1, v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
    let routes = Routes::new(service(MethodKind::Unary))
        .add_service(health_service.accept_compressed(Gzip).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(v1.accept_compressed(Gzip).max_decoding_message_size(MAX_REFLECTION_REQUEST_BYTES))
        .add_service(v1alpha.accept_compressed(Gzip).max_decoding_message_size(MAX_REFLECTION_REQUEST_BYTES))
        .prepare();
    let routes = ByMessageSize { routes, batches: Routes::new(service(MethodKind::Batch)).prepare() };
    let calls = CallLayer::new(protection.authenticator, ProtoEncoder::new(&registrar), stop.clone()).layer(routes);
    let serving = connections.serve(listener, Front::new(calls, methods, origins));
    tokio::join!(serving, health::publish_health_until_stopped(reporter, registrar, stop));
    Ok(())
}

/// A method with larger messages needs a service of its own: the library has one limit for all methods of a service.
#[derive(Clone)]
struct ByMessageSize {
    routes: Routes,
    batches: Routes,
}

impl Service<Request<Body>> for ByMessageSize {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <Routes as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(Service::<Request<Body>>::poll_ready(&mut self.batches, context))?;
        Service::<Request<Body>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match method::classify(request.uri().path()).kind {
            MethodKind::Batch => self.batches.call(request),
            MethodKind::Unary
            | MethodKind::Watch
            | MethodKind::HealthWatch
            | MethodKind::Reflection
            | MethodKind::Unknown => self.routes.call(request),
        }
    }
}

/// HTTP/1.1 is for the Connect protocol and gRPC-Web.
fn http() -> Http {
    let mut http = Http::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP1_HEADER_TIMEOUT)
        // Part by part, so that what the client has not taken counts until it is written.
        .writev(true)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(MAX_REQUEST_BYTES as u32)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_INTERVAL)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS);
    http
}
