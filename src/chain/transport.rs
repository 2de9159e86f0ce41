//! JSON-RPC over HTTP. alloy's own transport drops the HTTP status and `Retry-After` when the body of a 429 or 5xx is a
//! JSON-RPC error, and its spans contain the URL with the API key; this one keeps the status and hides the URL.

use crate::telemetry::propagation;
use alloy::{
    rpc::json_rpc::{ErrorPayload, RequestPacket, ResponsePacket},
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use reqwest::{Client, Response, StatusCode, header};
use std::{
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use tower::Service;
use url::Url;

/// A receipt with the events of the largest batch has about 1 MB.
const MAX_BODY_BYTES: usize = 16 << 20;

#[derive(Clone)]
pub(super) struct HttpTransport {
    client: Client,
    url: Url,
}

/// A response whose HTTP status is not a success.
#[derive(Debug, thiserror::Error)]
#[error("HTTP status {status}")]
pub(super) struct HttpError {
    pub(super) status: u16,
    /// RFC 9110, section 10.2.3: seconds or a date.
    pub(super) retry_after: Option<Duration>,
    pub(super) payload: Option<ErrorPayload>,
}

/// Not JSON-RPC, or longer than [`MAX_BODY_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error("malformed response")]
pub(super) struct MalformedResponse;

impl HttpTransport {
    pub(super) fn new(client: Client, url: Url) -> Self {
        Self { client, url }
    }

    async fn post(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        // reqwest's error messages contain the URL.
        let lost = |error: reqwest::Error| TransportErrorKind::custom(error.without_url());
        let trace = propagation::headers_for(self.url.host_str().unwrap_or_default());
        let request = self.client.post(self.url).json(&request).headers(request.headers()).headers(trace);
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| parse_retry_after(value, SystemTime::now()));
        let body = body(response).await?;
        let packet = serde_json::from_slice::<ResponsePacket>(&body);
        if status.is_success() {
            return packet.map_err(|_| TransportErrorKind::custom(MalformedResponse));
        }
        Err(http_error(status, retry_after, packet.ok()))
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, TransportError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| TransportErrorKind::custom(error.without_url()))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(TransportErrorKind::custom(MalformedResponse));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn http_error(status: StatusCode, retry_after: Option<Duration>, packet: Option<ResponsePacket>) -> TransportError {
    let payload = packet.and_then(|packet| packet.as_error().cloned());
    TransportErrorKind::custom(HttpError { status: status.as_u16(), retry_after, payload })
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
}
