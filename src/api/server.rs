//! The gRPC server and its limits.

use super::{
    Settings, health,
    layer::CallLayer,
    proto::{FILE_DESCRIPTOR_SET, registrar_service_server::RegistrarServiceServer},
    service::GrpcService,
};
use crate::pipeline::Registrar;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};

/// A valid request has a few hundred bytes. Up to this limit an invalid one is answered with its invalid fields.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// Concurrent calls on one connection.
const MAX_STREAMS: u32 = 1024;
/// A client that does not answer a ping for this long is disconnected, and its wait slots become free.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Of the gRPC server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Of the listener or of a connection.
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// Of the compiled-in descriptors.
    #[error("failed to set up gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves until `stop`. Then new calls are rejected, and waiting ones are answered.
///
/// # Errors
/// When the listener or a connection fails for good.
pub async fn serve(
    listener: TcpListener,
    registrar: Registrar,
    settings: Settings,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    health::publish_health(&reporter, &registrar).await;
    let service = GrpcService::new(registrar.clone(), settings, stop.clone());
    let service = RegistrarServiceServer::new(service)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that clients without the proto can display error details.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let server = Server::builder()
        .layer(CallLayer)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_INTERVAL))
        .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(service);
    // A response is small and the last of its call: waiting to fill a packet costs 40 ms with a client that delays
    // its ACKs.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = server.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let (served, ()) = tokio::join!(serving, health::publish_health_until_stopped(reporter, registrar, stop));
    Ok(served?)
}
