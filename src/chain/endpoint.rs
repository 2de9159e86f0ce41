//! One RPC endpoint: its client, its timeouts, and one span and one measurement for each call.

use super::{CallError, EndpointUrl, Fault};
use crate::telemetry::metrics;
use alloy::{
    primitives::Bytes,
    rpc::{
        client::{ClientBuilder, RpcClient},
        json_rpc::{RpcRecv, RpcSend},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use tracing::Instrument;

/// How long a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a send may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that stay open when nothing is asked.
const IDLE_CONNECTIONS: usize = 16;

/// The HTTP client cannot be set up: the TLS stack is broken.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be set up")]
pub struct SetupError(#[source] reqwest::Error);

/// An endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    name: Arc<str>,
    client: RpcClient,
    answers: Arc<AtomicBool>,
}

impl Endpoint {
    /// A client for the endpoint; nothing is connected yet. The environment's proxies are not used, as the URLs hold keys.
    ///
    /// # Errors
    /// When the TLS stack cannot be set up.
    pub fn new(url: &EndpointUrl) -> Result<Self, SetupError> {
        let http = reqwest::Client::builder()
            .timeout(SEND_TIMEOUT)
            .connect_timeout(READ_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .map_err(|error| SetupError(error.without_url()))?;
        let client = ClientBuilder::default().http_with_client(http, url.expose().clone());
        Ok(Self { name: url.name().into(), client, answers: Arc::new(AtomicBool::new(false)) })
    }

    /// The endpoint's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the last call was answered.
    pub fn is_healthy(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// Reads something.
    ///
    /// # Errors
    /// When the node does not answer within two seconds, or refuses.
    pub async fn read<P: RpcSend, R: RpcRecv>(&self, method: &'static str, params: P) -> Result<R, CallError> {
        self.call(method, params, READ_TIMEOUT).await
    }

    /// Broadcasts signed bytes.
    ///
    /// # Errors
    /// When the node does not answer within five seconds (it may have them all the same), or refuses.
    pub async fn broadcast(&self, raw: &Bytes) -> Result<(), CallError> {
        let hash: Result<alloy::primitives::B256, _> =
            self.call("eth_sendRawTransaction", (raw.clone(),), SEND_TIMEOUT).await;
        hash.map(drop)
    }

    async fn call<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
        timeout: Duration,
    ) -> Result<R, CallError> {
        let begun = Instant::now();
        let span = tracing::debug_span!(
            "rpc.client",
            otel.name = method,
            endpoint = %self.name,
            attempt = 1,
            rpc.response.status_code = tracing::field::Empty
        );
        let request = self.client.request(method, params);
        let answer = async { tokio::time::timeout(timeout, request).await }.instrument(span.clone()).await;
        let result = match answer {
            Ok(answer) => answer.map_err(|error| CallError::of(&self.name, method, &error)),
            Err(_) => {
                let fault = Fault::Timeout;
                Err(CallError::Unavailable { endpoint: self.name.to_string(), method, fault })
            }
        };
        let outcome = result.as_ref().map_or_else(CallError::outcome, |_| "ok");
        if let Err(CallError::Refused { code, .. }) = &result {
            span.record("rpc.response.status_code", *code);
        }
        metrics().rpc_request(&self.name, method, outcome, begun.elapsed());
        self.note(&result);
        result
    }

    /// What the node says about our request never counts against it, nor does a word that there are too many; silence does.
    fn note<R>(&self, result: &Result<R, CallError>) {
        let throttled = matches!(result, Err(CallError::Unavailable { fault: Fault::Throttled { .. }, .. }));
        let answers = throttled || !matches!(result, Err(CallError::Unavailable { .. }));
        let before = self.answers.swap(answers, Ordering::Relaxed);
        match result {
            Err(error) if before && !answers => {
                tracing::warn!(endpoint = %self.name, error = %error, "the endpoint does not answer")
            }
            Ok(_) | Err(_) if answers && !before => tracing::info!(endpoint = %self.name, "the endpoint answers"),
            Ok(_) | Err(_) => {}
        }
    }
}
