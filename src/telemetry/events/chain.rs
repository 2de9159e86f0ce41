use super::timeout::{format_endpoint, join_list};
use crate::{
    registration::diagnosis::EndpointSnapshot,
    telemetry::{
        sentry::Report,
        targets::{RECOVERED_TARGET, REPORT_TARGET},
        timeout_report::rpc_context,
    },
};
use serde_json::json;
use std::time::Duration;
use tracing::{debug, error, info, warn};

#[derive(Clone, Copy, Debug)]
pub(crate) struct EndpointUnhealthy<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) state: &'static str,
    pub(crate) reason: &'static str,
    /// The last one.
    pub(crate) error: &'a str,
    /// The newest block it reported.
    pub(crate) block_number: Option<u64>,
    /// Behind the other endpoints.
    pub(crate) lag: Option<Duration>,
    /// The average.
    pub(crate) latency: Option<Duration>,
    pub(crate) consecutive_failures: u32,
}

/// Once per change of state.
pub(crate) fn endpoint_unhealthy(event: &EndpointUnhealthy<'_>) {
    let millis = |duration: Option<Duration>| duration.map(|duration| duration.as_millis() as u64);
    let rpc = [
        ("endpoint", json!(event.endpoint)),
        ("error", json!(event.error)),
        ("state", json!(event.state)),
        ("reason", json!(event.reason)),
        ("blockNumber", json!(event.block_number)),
        ("lag", json!(event.lag.map(|lag| lag.as_secs_f64()))),
        ("latencyMs", json!(millis(event.latency))),
        ("consecutiveFailures", json!(event.consecutive_failures)),
    ];
    let report = Report::default().context("rpc", rpc).tag("endpoint", event.endpoint).tag("state", event.state);
    report.fingerprint(&["RPC endpoint unhealthy", event.endpoint]).emit(|| {
        warn!(
            target: REPORT_TARGET,
            endpoint = event.endpoint,
            state = event.state,
            reason = event.reason,
            error = event.error,
            block_number = event.block_number,
            lag_ms = millis(event.lag),
            latency_ms = millis(event.latency),
            consecutive_failures = event.consecutive_failures,
            "RPC endpoint {} unhealthy",
            event.endpoint
        );
    });
}

pub(crate) fn endpoint_healthy(endpoint: &str, from: &'static str) {
    info!(target: RECOVERED_TARGET, endpoint, from, "RPC endpoint {endpoint} healthy");
}

/// Decisions that need two endpoints are made without this one from now on.
pub(crate) fn endpoint_silent(endpoint: &str) {
    Report::default().tag("endpoint", endpoint).fingerprint(&["RPC endpoint silent", endpoint]).emit(|| {
        warn!(
            target: REPORT_TARGET,
            endpoint,
            "RPC endpoint {endpoint} does not answer questions about blocks; confirmations rest on the other endpoints"
        );
    });
}

pub(crate) fn endpoint_answers_again(endpoint: &str) {
    info!(target: RECOVERED_TARGET, endpoint, "RPC endpoint {endpoint} answers questions about blocks again");
}

/// Another endpoint becomes the primary; `back` if it is a preferred one.
pub(crate) fn failover(from: &str, to: &str, reason: &'static str, back: bool) {
    if back {
        info!(from, to, reason, "RPC failover");
    } else {
        warn!(from, to, reason, "RPC failover");
    }
}

pub(crate) fn all_endpoints_unavailable(endpoints: &[EndpointSnapshot]) {
    let rpc = rpc_context(endpoints);
    let rpc = rpc.into_iter().map(|(name, endpoint)| (name, json!(endpoint)));
    Report::default().context("rpc", rpc).fingerprint(&["All RPC endpoints unavailable"]).emit(|| {
        let count = endpoints.len();
        let states = join_list(endpoints.iter().map(format_endpoint));
        error!(endpoints = count, states, "All RPC endpoints unavailable");
    });
}

pub(crate) fn endpoints_available_again(endpoint: &str) {
    info!(target: RECOVERED_TARGET, endpoint, "RPC endpoints available again");
}

/// A development chain (`local`) mines on demand, so that a stalled head is normal.
pub(crate) fn chain_stalled(block_number: u64, duration: Duration, local: bool) {
    let seconds = duration.as_secs();
    if local {
        info!(block_number, seconds, "no new block; expected on a local chain that mines on demand");
    } else {
        Report::default().fingerprint(&["chain stalled"]).emit(|| {
            warn!(target: REPORT_TARGET, block_number, seconds, "chain stalled");
        });
    }
}

pub(crate) fn chain_resumed(block_number: u64, duration: Duration, local: bool) {
    let seconds = duration.as_secs();
    if local {
        debug!(block_number, seconds, "chain resumed");
    } else {
        info!(target: RECOVERED_TARGET, block_number, seconds, "chain resumed");
    }
}

/// Once per tag. Registrations do not reach a finality that no endpoint offers.
pub(crate) fn finality_tag_refused(tag: &str, error: &str) {
    warn!(tag, error, "block tag `{tag}` not available");
}

pub(crate) fn proofs_not_offered(endpoint: &str, error: &str) {
    info!(endpoint, error, "endpoint does not offer proofs; certificates are made with others");
}

pub(crate) fn head_regressed(from_block: u64, to_block: u64) {
    warn!(from_block, to_block, "chain head regressed");
}

/// A node suggests a priority fee that is far above what blocks paid. In wei per gas.
pub(crate) fn priority_fee_suggestion_ignored(suggested: u128, offered: u128) {
    warn!(
        suggested = %suggested,
        offered = %offered,
        "a node suggests a priority fee far above what recent blocks paid; the lower one is offered"
    );
}
