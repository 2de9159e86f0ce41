//! HTTP for operators: `/metrics`, `/healthz` and `/health` (liveness), `/readyz` (as gRPC health).

use crate::{pipeline::Registrar, telemetry::metrics};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until `stop`.
///
/// # Errors
/// When the listener fails.
pub async fn serve_admin(listener: TcpListener, registrar: Registrar, stop: CancellationToken) -> std::io::Result<()> {
    let draining = stop.clone();
    let router = Router::new()
        .route("/metrics", get(serve_metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/health", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness))
        .with_state((registrar, draining));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn serve_metrics() -> Response {
    match metrics().encode_openmetrics() {
        Ok(text) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn readiness(State((registrar, stop)): State<(Registrar, CancellationToken)>) -> Response {
    if stop.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response()
    } else if registrar.is_store_usable().await {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the database cannot be used\n").into_response()
    }
}
