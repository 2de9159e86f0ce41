//! What is told of the endpoints and of the chain as a whole.

use crate::telemetry::{
    sentry::Report,
    targets::{RECOVERED_TARGET, REPORT_TARGET},
};
use serde_json::json;
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// What is told of an endpoint that is not trusted as before.
#[derive(Clone, Copy, Debug)]
pub struct EndpointUnhealthy<'a> {
    /// Its name.
    pub endpoint: &'a str,
    /// How much it is trusted from now on.
    pub state: &'static str,
    /// Why.
    pub reason: &'static str,
    /// The last error.
    pub error: &'a str,
    /// The newest block it showed.
    pub block_number: Option<u64>,
    /// How far it is behind the others.
    pub lag: Option<Duration>,
    /// How long it takes to answer, on average.
    pub latency: Option<Duration>,
    /// Calls in a row that it did not answer.
    pub consecutive_failures: u32,
}

/// An endpoint is trusted less than fully. Once per change of state.
pub fn endpoint_unhealthy(of: &EndpointUnhealthy<'_>) {
    let millis = |duration: Option<Duration>| duration.map(|duration| duration.as_millis() as u64);
    let rpc = [
        ("endpoint", json!(of.endpoint)),
        ("error", json!(of.error)),
        ("state", json!(of.state)),
        ("reason", json!(of.reason)),
        ("blockNumber", json!(of.block_number)),
        ("lag", json!(of.lag.map(|lag| lag.as_secs_f64()))),
        ("latencyMs", json!(millis(of.latency))),
        ("consecutiveFailures", json!(of.consecutive_failures)),
    ];
    let report = Report::default().context("rpc", rpc).tag("endpoint", of.endpoint).tag("state", of.state);
    report.fingerprint(&["RPC endpoint unhealthy", of.endpoint]).emit(|| {
        warn!(
            target: REPORT_TARGET,
            endpoint = of.endpoint,
            state = of.state,
            reason = of.reason,
            error = of.error,
            block_number = of.block_number,
            lag_ms = millis(of.lag),
            latency_ms = millis(of.latency),
            consecutive_failures = of.consecutive_failures,
            "RPC endpoint {} unhealthy",
            of.endpoint
        );
    });
}

/// An endpoint is trusted fully again.
pub fn endpoint_healthy(endpoint: &str, from: &'static str) {
    info!(target: RECOVERED_TARGET, endpoint, from, "RPC endpoint {endpoint} healthy");
}

/// Another endpoint is asked first from now on; `back` to one that is preferred, or away from it.
pub fn failover(from: &str, to: &str, reason: &'static str, back: bool) {
    if back {
        info!(from, to, reason, "RPC failover");
    } else {
        warn!(from, to, reason, "RPC failover");
    }
}

/// Not one endpoint is usable.
pub fn all_endpoints_unavailable(endpoints: usize) {
    Report::default().fingerprint(&["All RPC endpoints unavailable"]).emit(|| {
        error!(endpoints, "All RPC endpoints unavailable");
    });
}

/// One is usable again.
pub fn endpoints_available_again(endpoint: &str) {
    info!(target: RECOVERED_TARGET, endpoint, "RPC endpoints available again");
}

/// No endpoint's head moves. On a chain of development nodes that is nothing special: they mine on demand.
pub fn chain_stalled(block_number: u64, lasting: Duration, local: bool) {
    let seconds = lasting.as_secs();
    if local {
        info!(block_number, seconds, "the chain's head does not move: it mines on demand");
    } else {
        Report::default().fingerprint(&["chain stalled"]).emit(|| {
            warn!(target: REPORT_TARGET, block_number, seconds, "chain stalled");
        });
    }
}

/// It moves again.
pub fn chain_resumed(block_number: u64, lasting: Duration, local: bool) {
    let seconds = lasting.as_secs();
    if local {
        debug!(block_number, seconds, "chain moves again");
    } else {
        info!(target: RECOVERED_TARGET, block_number, seconds, "chain moves again");
    }
}

/// The chain's head is lower than it was: everything that is followed is looked at again.
pub fn head_regressed(from_block: u64, to_block: u64) {
    warn!(from_block, to_block, "the chain's head fell");
}
