//! What is counted of calls: those that come, over gRPC, and those that go, to the endpoints.

use super::{
    Metrics, duration_buckets,
    exemplar::{TracedHistogram, observe_with_trace},
    gauge_value,
    labels::{Endpoint, EndpointState, Failover, Grpc, Rpc},
};
use crate::registration::TraceId;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// Calls in and out.
pub(super) struct CallMetrics {
    rpc_requests: Family<Rpc, Histogram>,
    rpc_endpoint_state: Family<EndpointState, Gauge>,
    rpc_endpoint_head: Family<Endpoint, Gauge>,
    rpc_failovers: Family<Failover, Counter>,
    grpc_requests: Family<Grpc, TracedHistogram>,
}

impl CallMetrics {
    pub(super) fn new(r: &mut Registry) -> Self {
        let calls = Self {
            rpc_requests: Family::new_with_constructor(|| Histogram::new(duration_buckets())),
            rpc_endpoint_state: Family::default(),
            rpc_endpoint_head: Family::default(),
            rpc_failovers: Family::default(),
            grpc_requests: Family::new_with_constructor(|| TracedHistogram::new(duration_buckets())),
        };
        r.register_with_unit(
            "rpc_request_duration",
            "JSON-RPC calls by endpoint, method and outcome",
            Unit::Seconds,
            calls.rpc_requests.clone(),
        );
        r.register(
            "rpc_endpoint_state",
            "1 for the state an endpoint is in, 0 for the others",
            calls.rpc_endpoint_state.clone(),
        );
        r.register(
            "rpc_endpoint_head",
            "Number of the newest block an endpoint shows",
            calls.rpc_endpoint_head.clone(),
        );
        r.register(
            "rpc_failovers",
            "Calls that moved on from one endpoint to the next, by why",
            calls.rpc_failovers.clone(),
        );
        r.register_with_unit(
            "grpc_request_duration",
            "gRPC calls by method and code",
            Unit::Seconds,
            calls.grpc_requests.clone(),
        );
        calls
    }
}

impl Metrics {
    /// A JSON-RPC call.
    pub fn observe_rpc_request(&self, endpoint: &str, method: &'static str, outcome: &'static str, took: Duration) {
        let labels = Rpc { endpoint: endpoint.to_owned(), method, outcome };
        self.calls.rpc_requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// An endpoint is in this one of all states.
    pub fn set_rpc_endpoint_state<const N: usize>(&self, endpoint: &str, state: &'static str, all: [&'static str; N]) {
        for one in all {
            let labels = EndpointState { endpoint: endpoint.to_owned(), state: one };
            self.calls.rpc_endpoint_state.get_or_create(&labels).set(i64::from(one == state));
        }
    }

    /// The newest block an endpoint shows.
    pub fn set_rpc_endpoint_head(&self, endpoint: &str, number: u64) {
        let label = Endpoint { endpoint: endpoint.to_owned() };
        self.calls.rpc_endpoint_head.get_or_create(&label).set(gauge_value(number));
    }

    /// A call moved on from one endpoint to the next.
    pub fn inc_rpc_failovers(&self, from: &str, to: &str, reason: &'static str) {
        let labels = Failover { from: from.to_owned(), to: to.to_owned(), reason };
        self.calls.rpc_failovers.get_or_create(&labels).inc();
    }

    /// A gRPC call. Its trace is named if it is kept, or may be.
    pub fn observe_grpc_request(
        &self,
        method: &'static str,
        code: &'static str,
        took: Duration,
        trace: Option<TraceId>,
    ) {
        observe_with_trace(&self.calls.grpc_requests.get_or_create(&Grpc { method, code }), took, trace);
    }
}
