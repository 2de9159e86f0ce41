//! One RPC endpoint: its client, its timeouts, and one span and one metric sample per call.

use super::{
    CallError, EndpointFault, EndpointUrl, RejectReason,
    transport::{ConnectionSettings, Connections, HttpTransport},
};
use crate::telemetry::{metrics, redact::Redactor, spans};
use alloy::{
    primitives::{B256, Bytes, keccak256},
    rpc::{
        client::RpcClient,
        json_rpc::{RpcRecv, RpcSend},
    },
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::Instrument;

const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// A node may have to rebuild the state of an older block.
const SLOW_READ_TIMEOUT: Duration = Duration::from_secs(5);
/// A node may simulate the transaction before it answers.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_CONNECTIONS: usize = 16;
const SEND_METHOD: &str = "eth_sendRawTransaction";

#[derive(Debug, thiserror::Error)]
#[error("failed to initialize the HTTP client")]
pub struct SetupError(#[source] reqwest::Error);

#[derive(Clone)]
pub struct Endpoint {
    name: Arc<str>,
    /// Removes parts of this endpoint's URL from node messages, independent of the global redactor.
    redactor: Arc<Redactor>,
    client: RpcClient,
    /// A simulated node has none.
    connections: Option<Arc<Connections>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Endpoint {
    /// Does not connect.
    pub fn new(url: &EndpointUrl) -> Result<Self, SetupError> {
        let settings = ConnectionSettings {
            timeout: SEND_TIMEOUT,
            connect_timeout: READ_TIMEOUT,
            max_idle: IDLE_CONNECTIONS,
            use_proxy: !url.is_loopback(),
        };
        let connections = Connections::new(settings).map_err(|error| SetupError(error.without_url()))?;
        let connections = Arc::new(connections);
        let transport = HttpTransport::new(connections.clone(), url.expose_url().clone());
        Ok(Self {
            name: url.name().into(),
            redactor: Redactor::new(url.secrets()).into(),
            client: RpcClient::new(transport, url.is_loopback()),
            connections: Some(connections),
        })
    }

    #[cfg(test)]
    pub(super) fn simulated(name: &str, node: super::simulated::Node) -> Self {
        let redactor = Redactor::new([""; 0]).into();
        Self { name: name.into(), redactor, client: RpcClient::new(node, true), connections: None }
    }

    /// The next calls do not use the connections of earlier ones.
    pub fn reconnect(&self) {
        if let Some(connections) = &self.connections {
            connections.renew();
        }
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

    /// For what a node may need longer to answer.
    pub async fn read_slowly<P: RpcSend, R: RpcRecv>(&self, method: &'static str, params: P) -> Result<R, CallError> {
        self.call(method, params, 1, SLOW_READ_TIMEOUT).await
    }

    /// After a timeout the node may have the transaction all the same.
    pub async fn broadcast(&self, raw: &Bytes, attempt: u32) -> Result<(), CallError> {
        let hash: B256 = self.call(SEND_METHOD, (raw.clone(),), attempt, SEND_TIMEOUT).await?;
        match hash == keccak256(raw) {
            true => Ok(()),
            // Besu with `sendEmptyHashOnInvalidBlock`, old Parity: accepted by its form, and refused.
            false => Err(CallError::unavailable(&self.name, SEND_METHOD, EndpointFault::OtherTransaction)),
        }
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
            Ok(answer) => answer.or_else(|error| {
                let error = CallError::from_transport_error(&self.name, &self.redactor, method, &error);
                null_instead_of(error)
            }),
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

/// Some nodes have an error where others answer `null`: for a transaction that they do not have, or not indexed yet.
fn null_instead_of<R: RpcRecv>(error: CallError) -> Result<R, CallError> {
    match error.reject_reason() {
        Some(RejectReason::UnknownTransaction) => serde_json::from_str("null").map_err(|_| error),
        _ => Err(error),
    }
}
