//! All metrics, with unit, labels and help. The name is prefixed with `registrar_`; counters end in `_total`, and the
//! unit follows the name. A series whose labels are known in advance exists from the start, at 0: an alert on an
//! increase would miss the first event of a series that appears with it.

use super::{
    computed::{QueueOldest, SampleRate},
    exemplar::{TracedCounter, TracedHistogram},
    family::{LabelValue, Labels, label_values, metrics_table},
};
use crate::{
    registration::{Cause, ErrorReason, State},
    telemetry::spans::KeepReason,
};
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::sync::atomic::AtomicU64;

type FloatCounter = Counter<f64, AtomicU64>;
type FloatGauge = Gauge<f64, AtomicU64>;

label_values! {
    RegistrationOutcome {
        Accepted = "accepted",
        Duplicate = "duplicate",
        Confirmed = "confirmed",
        AlreadyOnChain = "already_on_chain",
        Failed = "failed",
    }
    Stage { Prepare = "prepare", Send = "send", Wait = "wait", Total = "total" }
    TransactionResult {
        Sent = "sent",
        Rebroadcast = "rebroadcast",
        Split = "split",
        NonceGapFilled = "nonce_gap_filled",
        Included = "included",
        Confirmed = "confirmed",
        Requeued = "requeued",
        Pruned = "pruned",
        Imported = "imported",
        External = "external",
    }
    Port { Grpc = "grpc", Admin = "admin" }
    /// Why the service ended a connection, or did not take it.
    ConnectionEnd {
        Rejected = "rejected",
        Evicted = "evicted",
        NoCall = "no_call",
        Stalled = "stalled",
        Cancels = "cancels",
        Protocol = "protocol",
        Drained = "drained",
        Handshake = "handshake",
    }
    /// What is read again while the service runs.
    Credentials { Callers = "callers", Certificate = "certificate", ClientCa = "client_ca", Jwks = "jwks" }
    ReloadOutcome { Ok = "ok", Failed = "failed" }
    ExportTarget { Otlp = "otlp", Sentry = "sentry" }
    ExportOutcome { Ok = "ok", Failed = "failed", Dropped = "dropped", RateLimited = "rate_limited" }
    /// Limits on spans in memory: open spans, spans of one segment, the delivery queue.
    Budget { Spans = "spans", Segment = "segment", Delivery = "delivery" }
    /// `Delivery` feeds the other two.
    Queue { Otlp = "otlp", Sentry = "sentry", Delivery = "delivery" }
}

/// What was decided about a trace, or about a part of one that ended by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    Kept(KeepReason),
    Dropped,
    /// The service's own work, such as health checks. It has a rate of its own, so that it does not count in the
    /// actual sample rate.
    Background,
    /// Held in memory, and kept because another part of its trace was.
    Recalled,
}

impl From<Decision> for LabelValue {
    fn from(decision: Decision) -> Self {
        Self::Borrowed(match decision {
            Decision::Kept(reason) => reason.code(),
            Decision::Dropped => "dropped",
            Decision::Background => "background",
            Decision::Recalled => "recalled",
        })
    }
}

impl From<State> for LabelValue {
    fn from(state: State) -> Self {
        Self::Borrowed(state.code())
    }
}

impl From<Cause> for LabelValue {
    fn from(cause: Cause) -> Self {
        Self::Borrowed(cause.code())
    }
}

/// Of callers that are not known.
const UNKNOWN_CALLER_OUTCOMES: [&str; 3] = [
    ErrorReason::CredentialsMissing.code(),
    ErrorReason::CredentialsInvalid.code(),
    ErrorReason::CredentialsExpired.code(),
];

metrics_table! { Table {
    registrations(outcome: RegistrationOutcome = RegistrationOutcome::ALL): Counter, "Registrations by outcome";
    stage_duration(stage: Stage): TracedHistogram, in Unit::Seconds,
        "Time a transaction (prepare, send, wait) or a registration (total) spends in a stage";
    in_flight(state: State): Gauge, "Registrations neither confirmed nor failed, by state";
    queue_oldest: QueueOldest, in Unit::Seconds,
        "Time since the oldest queued registration was accepted; 0 if none is queued";
    confirmation_timeouts(cause: Cause = Cause::CODES.map(|(cause, _)| cause)): TracedCounter,
        "Transactions whose confirmation timeout expired, by cause";
    registrations_delayed(cause: Cause = Cause::CODES.map(|(cause, _)| cause)): Counter,
        "Registrations that no node had a transaction for when their queue timeout expired, by cause";
    transactions(result: TransactionResult = TransactionResult::ALL): Counter, "Transactions by result";
    batch_size: Histogram = Histogram::new(exponential_buckets(1.0, 2.0, 11)), "Registrations per transaction";
    gas_used: Counter, "Gas used by our transactions";
    fee_spent: FloatCounter, in wei(), "Fees paid by our transactions";
    daily_spend: FloatGauge, in wei(),
        "Fees paid today (UTC) plus the worst-case cost of pending transactions, as last calculated; 0 without a budget";
    fee_bumps: Counter, "Transactions replaced at the same nonce with higher fees";
    reorgs: Counter, "Included transactions whose block stopped being canonical";
    signer_balance(signer: String): FloatGauge, in wei(),
        "Balance of a signer at the last check: at start, before each transaction, every five minutes";
    signer_nonce_lag(signer: String): Gauge,
        "Signed transactions of a signer in no known block: the distance between our next nonce and the chain's";
    signer_leased(signer: String): Gauge, "1 on the replica that holds the signer's lease, 0 on the others";
    signer_sign_duration(signer: String, backend: &'static str, outcome: &'static str): TracedHistogram,
        in Unit::Seconds, "Tries of a signer to sign a transaction, by kind of signer and outcome";
    store_up: Gauge, "1 while the database is usable, 0 while nothing can be accepted";
    store_log: Gauge, in Unit::Bytes, "Length of SQLite's write-ahead log; 0 on PostgreSQL";

    rpc_request_duration(endpoint: String, method: &'static str, outcome: &'static str): TracedHistogram,
        in Unit::Seconds, "JSON-RPC calls by endpoint, method and outcome";
    rpc_endpoint_state(endpoint: String, state: &'static str): Gauge,
        "1 for the current state of an endpoint, 0 for the others";
    rpc_endpoint_head(endpoint: String): Gauge, "Number of the newest block an endpoint reports";
    rpc_failovers(from: String, to: String, reason: &'static str): Counter,
        "Calls that moved on from one endpoint to the next, by reason";
    grpc_request_duration(method: &'static str, code: &'static str): TracedHistogram, in Unit::Seconds,
        "gRPC calls by method and code";
    change_readers: Gauge, "Open streams of WatchChanges";
    auth(caller: String = [""], outcome: &'static str = UNKNOWN_CALLER_OUTCOMES): Counter,
        "Calls by caller and by whether they were allowed, or why they were refused; no caller if it is not known";
    connections(port: Port = Port::ALL): Gauge, "Open connections by port";
    connections_closed(port: Port = Port::ALL, reason: ConnectionEnd = ConnectionEnd::ALL): Counter,
        "Connections that the service closed or refused, by reason";
    tls_certificate_expiry: Gauge, in Unit::Seconds,
        "Unix time at which the certificate of the listeners, or one of its chain, expires; 0 without TLS";
    credentials_reload(what: Credentials = Credentials::ALL, outcome: ReloadOutcome = ReloadOutcome::ALL): Counter,
        "Changed files of credentials by whether they could be used; those of before stay in use if not";

    telemetry_traces(decision: Decision = [Decision::Kept(KeepReason::Head), Decision::Dropped]): Counter,
        "Finished traces by why they were kept, or dropped";
    telemetry_export(target: ExportTarget = ExportTarget::ALL, outcome: ExportOutcome = ExportOutcome::ALL): Counter,
        "Exported spans (otlp) and envelopes (sentry) by outcome";
    telemetry_dropped(budget: Budget = Budget::ALL): Counter, "Spans dropped because a limit was reached, by limit";
    telemetry_sample_rate: SampleRate,
        "Share of successful traces that are kept: configured, and actual since the start";
    telemetry_processing: FloatCounter, in Unit::Seconds, "Time spent on sampling decisions and conversion";
    telemetry_queue_depth(queue: Queue = Queue::ALL): Gauge, "Entries waiting for export, by queue";
    log_dropped: Counter,
        "Log lines dropped because standard error was not read in time or cannot be written";
    telemetry_buffered: Gauge, in Unit::Bytes, "Estimated memory of spans not yet exported";
} }

fn wei() -> Unit {
    Unit::Other("wei".to_owned())
}
