//! One RPC endpoint: its client, its timeouts, and one span and one metric sample per call.

use super::{CallError, EndpointFault, EndpointUrl, transport::HttpTransport};
use crate::telemetry::{metrics, redact::Redactor, spans};
use alloy::{
    primitives::{B256, Bytes},
    rpc::{
        client::RpcClient,
        json_rpc::{RpcRecv, RpcSend},
    },
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::Instrument;

const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// A node may simulate the transaction before it answers.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_CONNECTIONS: usize = 16;

#[derive(Debug, thiserror::Error)]
#[error("failed to initialize the HTTP client")]
pub struct SetupError(#[source] reqwest::Error);

#[derive(Clone)]
pub struct Endpoint {
    name: Arc<str>,
    /// Removes parts of this endpoint's URL from node messages, independent of the global redactor.
    redactor: Arc<Redactor>,
    client: RpcClient,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Endpoint {
    /// Does not connect. Proxies of the environment are not used, because the URLs contain keys.
    pub fn new(url: &EndpointUrl) -> Result<Self, SetupError> {
        let http = reqwest::Client::builder()
            .timeout(SEND_TIMEOUT)
            .connect_timeout(READ_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .map_err(|error| SetupError(error.without_url()))?;
        let client = RpcClient::new(HttpTransport::new(http, url.expose_url().clone()), url.is_loopback());
        Ok(Self { name: url.name().into(), redactor: Redactor::new(url.secrets()).into(), client })
    }

    #[cfg(test)]
    pub(super) fn simulated(name: &str, node: super::simulated::Node) -> Self {
        Self { name: name.into(), redactor: Redactor::new([""; 0]).into(), client: RpcClient::new(node, true) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `attempt` counts from 1 over the endpoints that receive the same request.
    pub async fn read<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
        attempt: u32,
    ) -> Result<R, CallError> {
        self.call(method, params, attempt, READ_TIMEOUT).await
    }

    /// After a timeout the node may have the transaction all the same.
    pub async fn broadcast(&self, raw: &Bytes, attempt: u32) -> Result<(), CallError> {
        let hash: Result<B256, _> = self.call("eth_sendRawTransaction", (raw.clone(),), attempt, SEND_TIMEOUT).await;
        hash.map(drop)
    }

    async fn call<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
        attempt: u32,
        timeout: Duration,
    ) -> Result<R, CallError> {
        let begun = Instant::now();
        let span = spans::client(method, &self.name, attempt);
        let request = self.client.request(method, params);
        let answer = async { tokio::time::timeout(timeout, request).await }.instrument(span.clone()).await;
        let result = match answer {
            Ok(answer) => {
                answer.map_err(|error| CallError::from_transport_error(&self.name, &self.redactor, method, &error))
            }
            Err(_) => Err(CallError::unavailable(&self.name, method, EndpointFault::Timeout)),
        };
        let outcome = result.as_ref().map_or_else(CallError::outcome_label, |_| "ok");
        match &result {
            Ok(_) => {}
            Err(CallError::Rejected { code, .. }) => drop(span.record("rpc.response.status_code", *code)),
            Err(CallError::Unavailable { .. } | CallError::NoEndpoint { .. }) => {
                span.record("otel.status_code", "error");
                span.record("outcome", outcome);
            }
        }
        metrics().observe_rpc_request(&self.name, method, outcome, begun.elapsed());
        result
    }
}
