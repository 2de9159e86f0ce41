//! Prometheus metrics: one documented structure, units in the names, label values from short lists.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::{sync::LazyLock, time::Duration};

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    registrations: Family<Outcome, Counter>,
    stage_duration: Family<Stage, Histogram>,
    in_flight: Family<StateLabel, Gauge>,
    timeouts: Family<CauseLabel, Counter>,
    transactions: Family<ResultLabel, Counter>,
    batch_size: Histogram,
    gas_used: Counter,
    fee_spent: Counter<f64, std::sync::atomic::AtomicU64>,
    reorgs: Counter,
    rpc_requests: Family<RpcLabels, Histogram>,
    rpc_endpoint_state: Family<EndpointStateLabels, Gauge>,
    rpc_endpoint_head: Family<EndpointLabel, Gauge>,
    rpc_failovers: Family<FailoverLabels, Counter>,
    grpc_requests: Family<GrpcLabels, Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Stage {
    stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RpcLabels {
    endpoint: String,
    method: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndpointStateLabels {
    endpoint: String,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FailoverLabels {
    from: String,
    to: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GrpcLabels {
    method: &'static str,
    code: &'static str,
}

/// The process's metrics.
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

impl Metrics {
    fn new() -> Self {
        // From 1 ms, doubling, to 33 s; from 1 to 1,024 documents.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let mut metrics = Self {
            registry: Registry::with_prefix("registrar"),
            registrations: Family::default(),
            stage_duration: Family::new_with_constructor(seconds),
            in_flight: Family::default(),
            timeouts: Family::default(),
            transactions: Family::default(),
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            gas_used: Counter::default(),
            fee_spent: Counter::default(),
            reorgs: Counter::default(),
            rpc_requests: Family::new_with_constructor(seconds),
            rpc_endpoint_state: Family::default(),
            rpc_endpoint_head: Family::default(),
            rpc_failovers: Family::default(),
            grpc_requests: Family::new_with_constructor(seconds),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("registrations", "Registrations by what became of them", self.registrations.clone());
        r.register(
            "stage_duration_seconds",
            "Time a transaction or registration spends in a stage: prepare, send, wait, total",
            self.stage_duration.clone(),
        );
        r.register("in_flight", "Registrations neither confirmed nor failed, by state", self.in_flight.clone());
        r.register(
            "confirmation_timeouts",
            "Transactions whose confirmation clock ran out, by cause",
            self.timeouts.clone(),
        );
        r.register("transactions", "Transactions by what became of them", self.transactions.clone());
        r.register("batch_size", "Registrations per transaction", self.batch_size.clone());
        r.register("gas_used", "Gas used by our transactions", self.gas_used.clone());
        r.register("fee_spent_wei", "Fees paid by our transactions, in wei", self.fee_spent.clone());
        r.register("reorgs", "Included transactions whose block stopped being canonical", self.reorgs.clone());
        r.register(
            "rpc_request_duration_seconds",
            "JSON-RPC calls by endpoint, method and outcome",
            self.rpc_requests.clone(),
        );
        r.register(
            "rpc_endpoint_state",
            "1 for the state an endpoint is in, 0 for the others",
            self.rpc_endpoint_state.clone(),
        );
        r.register("rpc_endpoint_head", "Number of the newest block an endpoint shows", self.rpc_endpoint_head.clone());
        r.register(
            "rpc_failovers",
            "Calls that moved on from one endpoint to the next, by why",
            self.rpc_failovers.clone(),
        );
        r.register("grpc_request_duration_seconds", "gRPC calls by method and code", self.grpc_requests.clone());
    }

    /// The metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// When they cannot be written, which a `String` never causes.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map(|()| text)
    }

    /// What became of some registrations.
    pub(super) fn registrations(&self, outcome: &'static str, count: u64) {
        self.registrations.get_or_create(&Outcome { outcome }).inc_by(count);
    }

    /// How long a stage took.
    pub(super) fn stage(&self, stage: &'static str, took: Duration) {
        self.stage_duration.get_or_create(&Stage { stage }).observe(took.as_secs_f64());
    }

    /// What became of a transaction.
    pub(super) fn transaction(&self, result: &'static str) {
        self.transactions.get_or_create(&ResultLabel { result }).inc();
    }

    pub(super) fn signed(&self, batch_size: usize) {
        self.batch_size.observe(batch_size as f64);
    }

    pub(super) fn spent(&self, gas_used: u64, fee_wei: u128) {
        self.gas_used.inc_by(gas_used);
        self.fee_spent.inc_by(fee_wei as f64);
    }

    pub(super) fn timeout(&self, cause: &'static str) {
        self.timeouts.get_or_create(&CauseLabel { cause }).inc();
    }

    pub(super) fn reorg(&self) {
        self.reorgs.inc();
    }

    /// How many registrations are in this state.
    pub fn in_flight(&self, state: &'static str, registrations: usize) {
        self.in_flight.get_or_create(&StateLabel { state }).set(i64::try_from(registrations).unwrap_or(i64::MAX));
    }

    /// A JSON-RPC call.
    pub fn rpc_request(&self, endpoint: &str, method: &'static str, outcome: &'static str, took: Duration) {
        let labels = RpcLabels { endpoint: endpoint.to_owned(), method, outcome };
        self.rpc_requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// An endpoint is in this one of all states.
    pub fn rpc_endpoint_state<const N: usize>(&self, endpoint: &str, state: &'static str, all: [&'static str; N]) {
        for one in all {
            let labels = EndpointStateLabels { endpoint: endpoint.to_owned(), state: one };
            self.rpc_endpoint_state.get_or_create(&labels).set(i64::from(one == state));
        }
    }

    /// The newest block an endpoint shows.
    pub fn rpc_endpoint_head(&self, endpoint: &str, number: u64) {
        let label = EndpointLabel { endpoint: endpoint.to_owned() };
        self.rpc_endpoint_head.get_or_create(&label).set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// A call moved on from one endpoint to the next.
    pub fn rpc_failover(&self, from: &str, to: &str, reason: &'static str) {
        let labels = FailoverLabels { from: from.to_owned(), to: to.to_owned(), reason };
        self.rpc_failovers.get_or_create(&labels).inc();
    }

    /// A gRPC call.
    pub fn grpc_request(&self, method: &'static str, code: &'static str, took: Duration) {
        self.grpc_requests.get_or_create(&GrpcLabels { method, code }).observe(took.as_secs_f64());
    }

    /// What was decided about some spans.
    pub fn telemetry_trace(&self, _decision: &'static str) {}
    /// What became of exported items.
    pub fn telemetry_export(&self, _target: &'static str, _outcome: &'static str, _count: u64) {}
    /// Spans lost to a budget.
    pub fn telemetry_dropped(&self, _budget: &'static str, _spans: u64) {}
    /// The configured share.
    pub fn telemetry_sample_rate(&self, _configured: f64) {}
    /// Time spent.
    pub fn telemetry_processing(&self, _took: Duration) {}
    /// What waits.
    pub fn telemetry_queue_depth(&self, _queue: &'static str, _depth: usize) {}
    /// What is buffered.
    pub fn telemetry_buffered_bytes(&self, _bytes: usize) {}
}
