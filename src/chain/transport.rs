//! JSON-RPC over HTTP. alloy's own transport drops the HTTP status and `Retry-After` when the body of a 429 or 5xx is a
//! JSON-RPC error, accepts answers of any size and to any request, and its spans contain the URL with the API key.

use super::json_rpc::{self, Answer, ErrorObject, Unreadable};
use crate::telemetry::propagation;
use alloy::{
    rpc::json_rpc::{ErrorPayload, Id, RequestPacket, Response, ResponsePacket, ResponsePayload},
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use parking_lot::Mutex;
use reqwest::{Client, header, redirect};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use tower::Service;
use url::Url;

/// In bytes, decompressed. The receipt of the largest batch (616 documents) has about 1 MB, the logs of 10,000 blocks
/// may be of ten such batches; a range with more is read in halves.
const MAX_BODY_BY_METHOD: [(&str, usize); 7] = [
    ("eth_getLogs", 16 << 20),
    ("eth_getTransactionReceipt", 4 << 20),
    // A block's transaction hashes, 69 bytes each.
    ("eth_getBlockByNumber", 2 << 20),
    ("eth_getTransactionByHash", 1 << 20),
    ("eth_call", 1 << 20),
    ("eth_getCode", 256 << 10),
    // Two proofs of at most 65 nodes, of 532 bytes each.
    ("eth_getProof", 256 << 10),
];
/// Of nonces, balances, fees, and errors.
const MAX_BODY: usize = 64 << 10;
/// Building a client reads the root certificates.
const MIN_RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// The HTTP client of one endpoint, which keeps its connections open.
#[derive(Debug)]
pub(super) struct Connections {
    client: Mutex<(Client, Option<Instant>)>,
    settings: ConnectionSettings,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionSettings {
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) max_idle: usize,
    /// Honours `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    pub(super) use_proxy: bool,
}

impl ConnectionSettings {
    fn connect(self) -> Result<Client, reqwest::Error> {
        let builder = Client::builder()
            .timeout(self.timeout)
            .connect_timeout(self.connect_timeout)
            .pool_max_idle_per_host(self.max_idle)
            .tcp_nodelay(true)
            // Both would show the URL and a signed transaction to another host.
            .redirect(redirect::Policy::none())
            .referer(false);
        if self.use_proxy { builder } else { builder.no_proxy() }.build()
    }
}

impl Connections {
    pub(super) fn new(settings: ConnectionSettings) -> Result<Self, reqwest::Error> {
        Ok(Self { client: Mutex::new((settings.connect()?, None)), settings })
    }

    /// Later requests use new connections, at most once a second.
    pub(super) fn renew(&self) {
        let mut current = self.client.lock();
        if current.1.is_some_and(|renewed| renewed.elapsed() < MIN_RECONNECT_INTERVAL) {
            return;
        }
        if let Ok(client) = self.settings.connect() {
            *current = (client, Some(Instant::now()));
        }
    }

    fn client(&self) -> Client {
        self.client.lock().0.clone()
    }
}

#[derive(Clone)]
pub(super) struct HttpTransport {
    connections: Arc<Connections>,
    url: Url,
}

/// The gateway's answer: an HTTP status that is not a success, or an error without an id.
#[derive(Debug, thiserror::Error)]
#[error("error of the gateway")]
pub(super) struct GatewayError {
    /// `None` for a success.
    pub(super) status: Option<u16>,
    /// RFC 9110, section 10.2.3: seconds or a date.
    pub(super) retry_after: Option<Duration>,
    pub(super) payload: Option<ErrorPayload>,
    /// The error names the request by its id.
    pub(super) addressed: bool,
}

/// No answer to the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("malformed")]
    Malformed,
    #[error("to another request")]
    Foreign,
    #[error("too large")]
    TooLarge,
    #[error("redirect")]
    Redirect,
}

impl HttpTransport {
    pub(super) fn new(connections: Arc<Connections>, url: Url) -> Self {
        Self { connections, url }
    }

    async fn post(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let Some((method, id)) = single_request(&request) else {
            return Err(TransportErrorKind::custom(NoAnswer::Malformed));
        };
        let trace = propagation::headers_for(self.url.host_str().unwrap_or_default());
        let client = self.connections.client();
        let post = client.post(self.url).json(&request).headers(request.headers()).headers(trace);
        // reqwest's error messages contain the URL.
        let lost = |error: reqwest::Error| TransportErrorKind::custom(error.without_url());
        let response = post.send().await.map_err(lost)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(TransportErrorKind::custom(NoAnswer::Redirect));
        }
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| parse_retry_after(value, SystemTime::now()));
        let limit = if status.is_success() { max_body(method) } else { MAX_BODY };
        let body = read_body(response, limit).await.map_err(|error| match error {
            BodyError::TooLarge => TransportErrorKind::custom(NoAnswer::TooLarge),
            BodyError::Lost(error) => lost(error),
        })?;
        let failed = |error: Option<ErrorObject>, addressed| {
            let status = (!status.is_success()).then_some(status.as_u16());
            let payload = error.map(error_payload);
            Err(TransportErrorKind::custom(GatewayError { status, retry_after, payload, addressed }))
        };
        match json_rpc::read(&body, id) {
            Ok(Answer::Result(result)) if status.is_success() => Ok(answer(id, ResponsePayload::Success(result))),
            Ok(Answer::Error(error)) if status.is_success() => {
                Ok(answer(id, ResponsePayload::Failure(error_payload(error))))
            }
            Ok(Answer::Error(error)) => failed(Some(error), true),
            Ok(Answer::Unaddressed(error)) => failed(Some(error), false),
            Ok(Answer::Result(_)) => failed(None, false),
            Err(Unreadable::ForeignId) => {
                self.connections.renew();
                if status.is_success() {
                    return Err(TransportErrorKind::custom(NoAnswer::Foreign));
                }
                failed(None, false)
            }
            Err(_) if !status.is_success() => failed(None, false),
            Err(Unreadable::NotJson | Unreadable::TooDeep | Unreadable::NoAnswer) => {
                Err(TransportErrorKind::custom(NoAnswer::Malformed))
            }
        }
    }
}

/// The service sends no batches.
fn single_request(request: &RequestPacket) -> Option<(&str, u64)> {
    let request = request.as_single()?;
    let Id::Number(id) = request.id() else { return None };
    Some((request.method(), *id))
}

fn answer(id: u64, payload: ResponsePayload) -> ResponsePacket {
    ResponsePacket::Single(Response { id: Id::Number(id), payload })
}

fn error_payload(ErrorObject { code, message, data }: ErrorObject) -> ErrorPayload {
    ErrorPayload { code, message: message.into(), data }
}

fn max_body(method: &str) -> usize {
    MAX_BODY_BY_METHOD.iter().find(|(known, _)| *known == method).map_or(MAX_BODY, |(_, limit)| *limit)
}

/// No body within the limit.
pub(super) enum BodyError {
    TooLarge,
    Lost(reqwest::Error),
}

/// At most `limit` bytes, decompressed.
pub(super) async fn read_body(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let announced = response.content_length().unwrap_or_default();
    if announced > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Lost)? {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

impl Service<RequestPacket> for HttpTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().post(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Fri, 20 Nov 2026 10:00:00 GMT").unwrap();
        let seconds = |value| parse_retry_after(value, now).map(|delay| delay.as_secs());
        for (value, expected) in [
            ("3", Some(3)),
            (" 120 ", Some(120)),
            ("Fri, 20 Nov 2026 10:00:30 GMT", Some(30)),
            ("Fri, 20 Nov 2026 09:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(seconds(value), expected, "{value}");
        }
    }

    #[test]
    fn only_the_answers_that_may_be_large_have_a_large_limit() {
        let limits = ["eth_getLogs", "eth_getTransactionReceipt", "eth_getTransactionCount", "eth_chainId"];
        assert_eq!(limits.map(max_body), [16 << 20, 4 << 20, MAX_BODY, MAX_BODY]);
    }
}
