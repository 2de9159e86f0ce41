//! What is counted of registrations, transactions and signers.

use super::{
    Metrics,
    exemplar::{TracedCounter, TracedHistogram, count, observe},
    labels::{Cause, Outcome, Result, Signer, Stage, State},
    seconds, wei, whole,
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
const OUTCOMES: [&str; 5] = ["accepted", "repeated", "confirmed", "found", "failed"];
/// What can become of a transaction.
const RESULTS: [&str; 10] =
    ["sent", "rebroadcast", "split", "filled", "included", "confirmed", "released", "pruned", "recognised", "foreign"];

/// Registrations, transactions, signers.
pub(super) struct Work {
    registrations: Family<Outcome, Counter>,
    stage_duration: Family<Stage, TracedHistogram>,
    in_flight: Family<State, Gauge>,
    queue_oldest: QueueOldest,
    timeouts: Family<Cause, TracedCounter>,
    transactions: Family<Result, Counter>,
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

impl Work {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let work = Self {
            registrations: Family::default(),
            stage_duration: Family::new_with_constructor(|| TracedHistogram::new(seconds())),
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
        work.begin_at_zero();
        work.register(registry);
        work
    }

    fn begin_at_zero(&self) {
        for outcome in OUTCOMES {
            drop(self.registrations.get_or_create(&Outcome { outcome }));
        }
        for (_, cause) in registration::Cause::CODES {
            drop(self.timeouts.get_or_create(&Cause { cause }));
        }
        for result in RESULTS {
            drop(self.transactions.get_or_create(&Result { result }));
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
        r.register_with_unit("fee_spent", "Fees paid by our transactions", wei(), self.fee_spent.clone());
        r.register_with_unit(
            "daily_spend",
            "Fees paid today (UTC) and what the transactions that wait for a block may cost, as last reckoned; 0 without a budget",
            wei(),
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
            wei(),
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
    pub(in crate::telemetry) fn registrations(&self, outcome: &'static str, count: u64) {
        self.work.registrations.get_or_create(&Outcome { outcome }).inc_by(count);
    }

    /// How long a stage of a transaction took. It carries many registrations, so that no trace is behind it.
    pub(in crate::telemetry) fn stage(&self, stage: &'static str, took: Duration) {
        observe(&self.work.stage_duration.get_or_create(&Stage { stage }), took, None);
    }

    /// How long a registration took from being accepted to being confirmed. Its trace is named if it is kept, or may be.
    pub(in crate::telemetry) fn total(&self, took: Duration, trace: Option<TraceId>) {
        observe(&self.work.stage_duration.get_or_create(&Stage { stage: "total" }), took, trace);
    }

    /// What became of a transaction.
    pub(in crate::telemetry) fn transaction(&self, result: &'static str) {
        self.transactions(result, 1);
    }

    /// What became of some transactions.
    pub(in crate::telemetry) fn transactions(&self, result: &'static str, count: u64) {
        self.work.transactions.get_or_create(&Result { result }).inc_by(count);
    }

    pub(in crate::telemetry) fn signed(&self, batch_size: usize) {
        self.work.batch_size.observe(batch_size as f64);
    }

    pub(in crate::telemetry) fn spent(&self, gas_used: u64, fee_wei: u128) {
        self.work.gas_used.inc_by(gas_used);
        self.work.fee_spent.inc_by(fee_wei as f64);
    }

    /// What is spent of the day's budget, or may be.
    pub fn daily_spend(&self, wei: u128) {
        self.work.daily_spend.set(wei as f64);
    }

    /// A transaction's offer was raised.
    pub(in crate::telemetry) fn fee_bump(&self) {
        self.work.fee_bumps.inc();
    }

    /// A transaction was not confirmed in time. The trace is that of one of its registrations.
    pub(in crate::telemetry) fn timeout(&self, cause: &'static str, trace: Option<TraceId>) {
        count(&self.work.timeouts.get_or_create(&Cause { cause }), trace);
    }

    pub(in crate::telemetry) fn reorg(&self) {
        self.work.reorgs.inc();
    }

    /// How many registrations are in this state.
    pub fn in_flight(&self, state: &'static str, registrations: usize) {
        self.work.in_flight.get_or_create(&State { state }).set(whole(registrations));
    }

    /// When the oldest registration that is queued was accepted; `None` when none is.
    pub fn queue_oldest(&self, accepted: Option<Timestamp>) {
        self.work.queue_oldest.0.store(accepted.map_or(NOTHING_QUEUED, Timestamp::micros), Ordering::Relaxed);
    }

    /// What a signer holds.
    pub fn signer_balance(&self, signer: Address, wei: U256) {
        self.work.signer_balance.get_or_create(&signed_by(signer)).set(f64::from(wei));
    }

    /// How many transactions of a signer are signed and in no block that is known.
    pub fn signer_nonce_lag(&self, signer: Address, transactions: usize) {
        self.work.signer_nonce_lag.get_or_create(&signed_by(signer)).set(whole(transactions));
    }

    /// Whether the database can be used.
    pub(in crate::telemetry) fn store_up(&self, up: bool) {
        self.work.store_up.set(i64::from(up));
    }

    /// Whether this replica acts for the signer.
    pub fn signer_leased(&self, signer: Address, leased: bool) {
        self.work.signer_leased.get_or_create(&signed_by(signer)).set(i64::from(leased));
    }
}

fn signed_by(signer: Address) -> Signer {
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
