//! What is counted of registrations, transactions and signers.

use super::{
    Metrics, duration_buckets,
    exemplar::{TracedCounter, TracedHistogram, inc_with_trace, observe_with_trace},
    gauge_value,
    labels::{RegistrationOutcome, Signer, Stage, State, TimeoutCause, TransactionResult},
    wei_unit,
};
use crate::registration::{self, Timestamp, TraceId};
use alloy::primitives::{Address, U256};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// What can become of a registration.
const REGISTRATION_OUTCOMES: [&str; 5] = ["accepted", "repeated", "confirmed", "found", "failed"];
/// What can become of a transaction.
const TRANSACTION_RESULTS: [&str; 10] =
    ["sent", "rebroadcast", "split", "filled", "included", "confirmed", "released", "pruned", "recognised", "foreign"];

/// Registrations, transactions, signers.
pub(super) struct PipelineMetrics {
    registrations: Family<RegistrationOutcome, Counter>,
    stage_duration: Family<Stage, TracedHistogram>,
    in_flight: Family<State, Gauge>,
    queue_oldest: QueueOldest,
    timeouts: Family<TimeoutCause, TracedCounter>,
    transactions: Family<TransactionResult, Counter>,
    batch_size: Histogram,
    gas_used: Counter,
    fee_spent: Counter<f64, AtomicU64>,
    daily_spend: Gauge<f64, AtomicU64>,
    fee_bumps: Counter,
    reorgs: Counter,
    signer_balance: Family<Signer, Gauge<f64, AtomicU64>>,
    signer_nonce_lag: Family<Signer, Gauge>,
    signer_leased: Family<Signer, Gauge>,
    store_up: Gauge,
}

impl PipelineMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let work = Self {
            registrations: Family::default(),
            stage_duration: Family::new_with_constructor(|| TracedHistogram::new(duration_buckets())),
            in_flight: Family::default(),
            queue_oldest: QueueOldest::default(),
            timeouts: Family::default(),
            transactions: Family::default(),
            // From 1 to 1,024 documents.
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            gas_used: Counter::default(),
            fee_spent: Counter::default(),
            daily_spend: Gauge::default(),
            fee_bumps: Counter::default(),
            reorgs: Counter::default(),
            signer_balance: Family::default(),
            signer_nonce_lag: Family::default(),
            signer_leased: Family::default(),
            store_up: Gauge::default(),
        };
        work.init_series();
        work.register(registry);
        work
    }

    fn init_series(&self) {
        for outcome in REGISTRATION_OUTCOMES {
            drop(self.registrations.get_or_create(&RegistrationOutcome { outcome }));
        }
        for (_, cause) in registration::Cause::CODES {
            drop(self.timeouts.get_or_create(&TimeoutCause { cause }));
        }
        for result in TRANSACTION_RESULTS {
            drop(self.transactions.get_or_create(&TransactionResult { result }));
        }
    }

    fn register(&self, r: &mut Registry) {
        r.register("registrations", "Registrations by what became of them", self.registrations.clone());
        r.register_with_unit(
            "stage_duration",
            "Time a transaction (prepare, send, wait) or a registration (total) spends in a stage",
            Unit::Seconds,
            self.stage_duration.clone(),
        );
        r.register("in_flight", "Registrations neither confirmed nor failed, by state", self.in_flight.clone());
        r.register_collector(Box::new(self.queue_oldest.clone()));
        r.register(
            "confirmation_timeouts",
            "Transactions whose confirmation clock ran out, by cause",
            self.timeouts.clone(),
        );
        r.register("transactions", "Transactions by what became of them", self.transactions.clone());
        r.register("batch_size", "Registrations per transaction", self.batch_size.clone());
        r.register("gas_used", "Gas used by our transactions", self.gas_used.clone());
        r.register_with_unit("fee_spent", "Fees paid by our transactions", wei_unit(), self.fee_spent.clone());
        r.register_with_unit(
            "daily_spend",
            "Fees paid today (UTC) and what the transactions that wait for a block may cost, as last reckoned; 0 without a budget",
            wei_unit(),
            self.daily_spend.clone(),
        );
        r.register(
            "fee_bumps",
            "Transactions signed again at the same nonce with a higher offer",
            self.fee_bumps.clone(),
        );
        r.register("reorgs", "Included transactions whose block stopped being canonical", self.reorgs.clone());
        r.register_with_unit(
            "signer_balance",
            "What a signer held when it was last asked: at the start, before each transaction, every five minutes",
            wei_unit(),
            self.signer_balance.clone(),
        );
        r.register(
            "signer_nonce_lag",
            "Transactions of a signer that are signed and in no block: how far the chain's nonce is behind ours",
            self.signer_nonce_lag.clone(),
        );
        r.register(
            "signer_leased",
            "Whether this replica acts for the signer: 1 for one replica at a time, 0 for the others",
            self.signer_leased.clone(),
        );
        r.register(
            "store_up",
            "Whether the database can be used: 1, or 0 as long as nothing can be accepted",
            self.store_up.clone(),
        );
    }
}

impl Metrics {
    /// What became of some registrations.
    pub(in crate::telemetry) fn add_registrations(&self, outcome: &'static str, count: u64) {
        self.pipeline.registrations.get_or_create(&RegistrationOutcome { outcome }).inc_by(count);
    }

    /// How long a stage of a transaction took. It carries many registrations, so that no trace is behind it.
    pub(in crate::telemetry) fn observe_stage(&self, stage: &'static str, took: Duration) {
        observe_with_trace(&self.pipeline.stage_duration.get_or_create(&Stage { stage }), took, None);
    }

    /// How long a registration took from being accepted to being confirmed. Its trace is named if it is kept, or may be.
    pub(in crate::telemetry) fn observe_registration_total(&self, took: Duration, trace: Option<TraceId>) {
        observe_with_trace(&self.pipeline.stage_duration.get_or_create(&Stage { stage: "total" }), took, trace);
    }

    /// What became of a transaction.
    pub(in crate::telemetry) fn inc_transactions(&self, result: &'static str) {
        self.add_transactions(result, 1);
    }

    /// What became of some transactions.
    pub(in crate::telemetry) fn add_transactions(&self, result: &'static str, count: u64) {
        self.pipeline.transactions.get_or_create(&TransactionResult { result }).inc_by(count);
    }

    pub(in crate::telemetry) fn observe_batch_size(&self, batch_size: usize) {
        self.pipeline.batch_size.observe(batch_size as f64);
    }

    pub(in crate::telemetry) fn add_fees_spent(&self, gas_used: u64, fee_wei: u128) {
        self.pipeline.gas_used.inc_by(gas_used);
        self.pipeline.fee_spent.inc_by(fee_wei as f64);
    }

    /// What is spent of the day's budget, or may be.
    pub fn set_daily_spend(&self, wei: u128) {
        self.pipeline.daily_spend.set(wei as f64);
    }

    /// A transaction's offer was raised.
    pub(in crate::telemetry) fn inc_fee_bumps(&self) {
        self.pipeline.fee_bumps.inc();
    }

    /// A transaction was not confirmed in time. The trace is that of one of its registrations.
    pub(in crate::telemetry) fn inc_confirmation_timeouts(&self, cause: &'static str, trace: Option<TraceId>) {
        inc_with_trace(&self.pipeline.timeouts.get_or_create(&TimeoutCause { cause }), trace);
    }

    pub(in crate::telemetry) fn inc_reorgs(&self) {
        self.pipeline.reorgs.inc();
    }

    /// How many registrations are in this state.
    pub fn set_in_flight(&self, state: &'static str, registrations: usize) {
        self.pipeline.in_flight.get_or_create(&State { state }).set(gauge_value(registrations));
    }

    /// When the oldest registration that is queued was accepted; `None` when none is.
    pub fn set_queue_oldest(&self, accepted: Option<Timestamp>) {
        self.pipeline.queue_oldest.0.store(accepted.map_or(NOTHING_QUEUED, Timestamp::micros), Ordering::Relaxed);
    }

    /// What a signer holds.
    pub fn set_signer_balance(&self, signer: Address, wei: U256) {
        self.pipeline.signer_balance.get_or_create(&signer_label(signer)).set(f64::from(wei));
    }

    /// How many transactions of a signer are signed and in no block that is known.
    pub fn set_signer_nonce_lag(&self, signer: Address, transactions: usize) {
        self.pipeline.signer_nonce_lag.get_or_create(&signer_label(signer)).set(gauge_value(transactions));
    }

    /// Whether the database can be used.
    pub(in crate::telemetry) fn set_store_up(&self, up: bool) {
        self.pipeline.store_up.set(i64::from(up));
    }

    /// Whether this replica acts for the signer.
    pub fn set_signer_leased(&self, signer: Address, leased: bool) {
        self.pipeline.signer_leased.get_or_create(&signer_label(signer)).set(i64::from(leased));
    }
}

fn signer_label(signer: Address) -> Signer {
    Signer { signer: signer.to_string() }
}

/// Before every time at which something may have been accepted.
const NOTHING_QUEUED: i64 = 0;

/// The age of what has been queued longest. It is reckoned when the page is asked for, from when that was accepted: so it goes on
/// growing when nobody can look into the store, which is when it matters.
#[derive(Clone, Debug, Default)]
struct QueueOldest(Arc<AtomicI64>);

impl Collector for QueueOldest {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let accepted = self.0.load(Ordering::Relaxed);
        let age = match accepted {
            NOTHING_QUEUED => Duration::ZERO,
            _ => Timestamp::from(SystemTime::now()).since(Timestamp::from_micros(accepted)),
        };
        let gauge = ConstGauge::new(age.as_secs_f64());
        let help = "Time since the oldest registration that is queued was accepted; 0 when none is.";
        gauge.encode(encoder.encode_descriptor("queue_oldest", help, Some(&Unit::Seconds), gauge.metric_type())?)
    }
}
