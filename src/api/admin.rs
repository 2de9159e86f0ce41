//! HTTP for operators: `/metrics`, `/healthz` and `/health` (liveness), `/readyz` (as gRPC health), and `/ui/`.

use super::{
    access::{Access, Needs},
    connections::{Connection, Connections, Http, Transport},
    limits::{
        ADMIN_CONNECTION_AGE, ADMIN_REQUEST_TIMEOUT, HTTP1_HEADER_TIMEOUT, MAX_ADMIN_HEADER_BYTES, Timeouts,
        max_admin_connections,
    },
    operator_page::{self, Viewers},
    refusal::Refusal,
};
use crate::{
    auth::{Alpn, Authenticator, Protection, Scope},
    pipeline::Registrar,
    telemetry::{self, Port, metrics, propagation},
    ui::{self, Ui},
};
use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, StatusCode, Uri,
        header::{CONTENT_TYPE, HOST, WWW_AUTHENTICATE},
    },
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

/// Of the admin port.
#[derive(Clone, Debug)]
pub(crate) struct AdminSettings {
    /// Host names in the URLs of scrapers and viewers.
    pub(crate) hosts: Vec<String>,
    /// `None` is no operator page.
    pub(crate) ui: Option<ui::Settings>,
}

/// Serves until `stop`. Off loopback, `/metrics` and `/ui/` are for callers with the scope admin.
pub(crate) async fn serve_admin(
    listener: TcpListener,
    registrar: Registrar,
    protection: Protection,
    AdminSettings { hosts, ui }: AdminSettings,
    stop: CancellationToken,
) {
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let is_protected = protection.is_complete();
    let Protection { tls, authenticator: of_callers, .. } = protection;
    let viewers = Viewers::new(is_local, is_protected, of_callers.clone());
    let authenticator = if is_local { Authenticator::off() } else { of_callers.clone() };
    let ui = ui.map(|settings| Ui::new(registrar.clone(), settings, of_callers, stop.clone()));
    let router = Router::new()
        .route("/metrics", get(serve_metrics))
        .layer(from_fn_with_state(authenticator, check_admin))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/health", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness))
        .with_state((registrar, stop.clone()));
    let router = match ui {
        Some(ui) => router.merge(operator_page::routes(ui, viewers)),
        None => router,
    };
    let router = router.layer(from_fn(limit_time)).layer(from_fn_with_state(Arc::<[String]>::from(hosts), check_host));
    let mut http = Http::new(TokioExecutor::new()).http1_only();
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP1_HEADER_TIMEOUT)
        .max_buf_size(MAX_ADMIN_HEADER_BYTES);
    let connections = Connections {
        port: Port::Admin,
        transport: Transport::new(tls, Alpn::Http1),
        http,
        max: max_admin_connections(super::open_file_limit()),
        timeouts: Timeouts::new(ADMIN_CONNECTION_AGE, ADMIN_REQUEST_TIMEOUT),
        stop,
    };
    connections.serve(listener, router).await;
}

async fn limit_time(request: Request, next: Next) -> Response {
    match timeout(ADMIN_REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "not answered in time\n").into_response(),
    }
}

/// A page of another site that resolves its name to this address (DNS rebinding) has that name in `Host`.
async fn check_host(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    match requested_host(request.uri(), request.headers()) {
        Ok(host) if is_host_allowed(host, &hosts) => next.run(request).await,
        Ok(_) => (
            StatusCode::MISDIRECTED_REQUEST,
            "use the address in the URL, or set REGISTRAR_ADMIN_HOSTS to the name in it\n",
        )
            .into_response(),
        Err(text) => (StatusCode::BAD_REQUEST, text).into_response(),
    }
}

async fn check_admin(State(authenticator): State<Authenticator>, request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<Arc<Connection>>().cloned().unwrap_or_else(Connection::new);
    let trace_id = propagation::extract(request.headers()).trace_id;
    let (needs, call) = (Needs::Scope(Scope::Admin), ("/metrics", trace_id));
    let checked = Access::check(&authenticator, request.headers(), &connection, needs, call);
    let decide = async { checked.decide(trace_id) };
    let Err(refusal) = telemetry::with_isolated_hub(decide).await else { return next.run(request).await };
    let code = refusal.reason().code();
    match refusal {
        Refusal::Credentials(_) => {
            let text = format!("{code}: send `authorization: Bearer TOKEN` of a caller with the scope admin\n");
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], text).into_response()
        }
        Refusal::ScopeMissing(_) | Refusal::CaseNotAllowed | Refusal::CasesNotAllowed(_) => {
            (StatusCode::FORBIDDEN, format!("{code}: the caller needs the scope admin\n")).into_response()
        }
        Refusal::RateLimited(_) | Refusal::Limit(_) => {
            (StatusCode::TOO_MANY_REQUESTS, format!("{code}: retry later\n")).into_response()
        }
    }
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

/// As RFC 9112 says: one `Host`, or that of an absolute URL. `None` without one, which HTTP/1.0 allows.
fn requested_host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Option<&'a str>, &'static str> {
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.as_str()));
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => host.to_str().map(Some).map_err(|_| "the Host header cannot be read\n"),
        (Some(_), Some(_)) => Err("there is more than one Host header\n"),
    }
}

/// An IP address cannot be the name of another site.
fn is_host_allowed(host: Option<&str>, hosts: &[String]) -> bool {
    let Some(host) = host else { return true };
    let is_address = host.parse::<SocketAddr>().is_ok()
        || host.parse::<IpAddr>().is_ok()
        || host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')).is_some_and(|v6| v6.parse::<IpAddr>().is_ok());
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.').to_ascii_lowercase();
    is_address
        || name.ends_with(".localhost")
        || is_label(&name)
        || hosts.iter().any(|host| host.eq_ignore_ascii_case(&name))
}

/// A name without a domain, as of a container or a pod, is no site of the public DNS.
fn is_label(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_local_names_and_configured_ones_are_allowed_as_host() {
        let hosts = ["metrics.example".to_owned()];
        for (host, expected) in [
            ("127.0.0.1:9464", true),
            ("10.1.2.3", true),
            ("[::1]:9464", true),
            ("[::1]", true),
            ("localhost", true),
            ("LOCALHOST:9464", true),
            ("registrar.localhost:9464", true),
            ("registrar:9464", true),
            ("metrics.example:9464", true),
            ("METRICS.example", true),
            ("evil.metrics.example", false),
            ("evil.example", false),
            ("evil.example:9464", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("127.0.0.1@evil.example", false),
            ("evil.example.", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(is_host_allowed(Some(host), &hosts), expected, "{host}");
        }
        assert!(is_host_allowed(None, &hosts));
    }
}
