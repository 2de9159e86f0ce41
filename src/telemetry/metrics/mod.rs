//! Prometheus metrics. `table` lists them all; other areas record theirs through the methods below.

mod computed;
mod exemplar;
mod family;
#[cfg(target_os = "linux")]
mod process;
mod readings;
mod recent;
mod table;

pub(crate) use readings::SignerReading;
#[cfg(test)]
pub(crate) use recent::Spend;
pub(crate) use recent::{RecentActivity, RecentCounts, RecentStage, SLOT as RECENT_SLOT};
pub(crate) use table::{
    Budget, ConnectionEnd, Credentials, Decision, ExportOutcome, ExportTarget, Port, Queue, RegistrationOutcome,
    ReloadOutcome, Stage, TransactionResult,
};

use crate::{
    registration::{CallerName, Cause, State, Timestamp, TraceId},
    telemetry::spans::KeepReason,
};
use alloy::primitives::{Address, U256};
use prometheus_client::{encoding::text::encode, registry::Registry};
use recent::Recent;
use std::{ops::Deref, sync::LazyLock, time::Duration};
use table::Table;
use tokio::time::Instant;

pub(crate) struct Metrics {
    registry: Registry,
    table: Table,
    recent: Recent,
}

pub(crate) fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

impl Deref for Metrics {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::default();
        // Their names are standard and have no prefix.
        #[cfg(target_os = "linux")]
        registry.register_collector(Box::new(process::ProcessCollector));
        let table = Table::register(registry.sub_registry_with_prefix("registrar"));
        Self { registry, table, recent: Recent::new(Instant::now()) }
    }

    /// The metrics in the OpenMetrics text format.
    pub(crate) fn encode_openmetrics(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map(|()| text)
    }

    /// A stage of a transaction, which carries many registrations: no single trace can be its exemplar.
    pub(in crate::telemetry) fn observe_stage(&self, stage: Stage, took: Duration) {
        self.stage_duration(stage).observe(took, None);
        self.recent.observe(Instant::now(), stage, took);
    }

    /// From acceptance to confirmation of a registration. `trace` is the exemplar: a trace that is kept.
    pub(in crate::telemetry) fn observe_total(&self, took: Duration, trace: Option<TraceId>) {
        self.stage_duration(Stage::Total).observe(took, trace);
        self.recent.observe(Instant::now(), Stage::Total, took);
    }

    pub(in crate::telemetry) fn count_accepted(&self, is_new: bool) {
        let outcome = if is_new { RegistrationOutcome::Accepted } else { RegistrationOutcome::Duplicate };
        self.registrations(outcome).inc();
        if is_new {
            self.recent.count(Instant::now(), |counts| counts.accepted += 1);
        }
    }

    /// Either by a transaction of ours, or by an earlier one that was found on chain.
    pub(in crate::telemetry) fn count_confirmed(&self, outcome: RegistrationOutcome, registrations: u64) {
        self.registrations(outcome).inc_by(registrations);
        self.recent.count(Instant::now(), |counts| counts.confirmed += registrations);
    }

    pub(in crate::telemetry) fn count_failed(&self, reason: &'static str) {
        self.registrations(RegistrationOutcome::Failed).inc();
        self.recent.count_failure(Instant::now(), reason);
    }

    pub(in crate::telemetry) fn count_confirmation_timeout(&self, cause: Cause, trace: Option<TraceId>) {
        self.confirmation_timeouts(cause).inc(trace);
        self.recent.count_timeouts(cause.code(), |timeouts| timeouts.transactions += 1);
    }

    pub(in crate::telemetry) fn count_delayed(&self, cause: Cause, registrations: u64) {
        self.registrations_delayed(cause).inc_by(registrations);
        self.recent.count_timeouts(cause.code(), |timeouts| timeouts.queued += registrations);
    }

    pub(in crate::telemetry) fn add_spend(&self, signer: Address, wei: u128) {
        self.fee_spent.inc_by(wei as f64);
        self.recent.add_spend(Instant::now(), signer, wei as f64);
    }

    pub(crate) fn set_daily_spend(&self, wei: u128) {
        self.daily_spend.set(wei as f64);
    }

    pub(crate) fn set_in_flight(&self, state: State, registrations: usize) {
        self.in_flight(state).set(gauge_value(registrations));
    }

    pub(crate) fn set_change_readers(&self, streams: usize) {
        self.change_readers.set(gauge_value(streams));
    }

    /// Takes the time at which the oldest queued registration was accepted.
    pub(crate) fn set_queue_oldest(&self, accepted: Option<Timestamp>) {
        self.queue_oldest.set(accepted);
    }

    pub(crate) fn set_signer_balance(&self, signer: Address, wei: U256) {
        self.signer_balance(signer.to_string()).set(f64::from(wei));
    }

    pub(crate) fn set_signer_nonce_lag(&self, signer: Address, transactions: usize) {
        self.signer_nonce_lag(signer.to_string()).set(gauge_value(transactions));
    }

    pub(crate) fn set_signer_leased(&self, signer: Address, leased: bool) {
        self.signer_leased(signer.to_string()).set(i64::from(leased));
    }

    pub(crate) fn observe_sign(&self, signer: Address, backend: &'static str, outcome: &'static str, took: Duration) {
        self.signer_sign_duration(signer.to_string(), backend, outcome).observe(took, None);
    }

    pub(crate) fn observe_rpc_request(
        &self,
        endpoint: &str,
        method: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        self.rpc_request_duration(endpoint, method, outcome).observe(took, None);
    }

    pub(crate) fn set_rpc_endpoint_state<const N: usize>(
        &self,
        endpoint: &str,
        state: &'static str,
        all: [&'static str; N],
    ) {
        for one in all {
            self.rpc_endpoint_state(endpoint, one).set(i64::from(one == state));
        }
    }

    pub(crate) fn set_rpc_endpoint_head(&self, endpoint: &str, number: u64) {
        self.rpc_endpoint_head(endpoint).set(gauge_value(number));
    }

    pub(crate) fn inc_rpc_failovers(&self, from: &str, to: &str, reason: &'static str) {
        self.rpc_failovers(from, to, reason).inc();
    }

    /// `trace` is the exemplar: a trace that is kept, or may be.
    pub(crate) fn observe_grpc_request(
        &self,
        method: &'static str,
        code: &'static str,
        took: Duration,
        trace: Option<TraceId>,
    ) {
        self.grpc_request_duration(method, code).observe(took, trace);
    }

    pub(crate) fn set_connections(&self, port: Port, open: usize) {
        self.connections(port).set(gauge_value(open));
    }

    pub(crate) fn count_connection_end(&self, port: Port, end: ConnectionEnd) {
        self.connections_closed(port, end).inc();
    }

    pub(crate) fn set_tls_certificate_expiry(&self, not_after: Timestamp) {
        self.tls_certificate_expiry.set(not_after.micros() / 1_000_000);
    }

    pub(crate) fn count_credentials_reload(&self, what: Credentials, outcome: ReloadOutcome) {
        self.credentials_reload(what, outcome).inc();
    }

    pub(in crate::telemetry) fn count_auth(&self, caller: Option<&CallerName>, outcome: &'static str) {
        self.auth(caller.map(ToString::to_string).unwrap_or_default(), outcome).inc();
    }

    pub(in crate::telemetry) fn inc_telemetry_traces(&self, decision: Decision) {
        self.telemetry_traces(decision).inc();
        if decision != Decision::Background {
            self.telemetry_sample_rate.decided.inc();
        }
        if decision == Decision::Kept(KeepReason::Head) {
            self.telemetry_sample_rate.kept.inc();
        }
    }

    /// Counts spans for OTLP and envelopes for Sentry.
    pub(in crate::telemetry) fn add_telemetry_exports(&self, target: ExportTarget, outcome: ExportOutcome, count: u64) {
        self.telemetry_export(target, outcome).inc_by(count);
    }

    pub(in crate::telemetry) fn add_telemetry_dropped(&self, budget: Budget, spans: u64) {
        self.telemetry_dropped(budget).inc_by(spans);
    }

    pub(in crate::telemetry) fn set_telemetry_sample_rate(&self, configured: f64) {
        self.telemetry_sample_rate.configured.set(configured);
    }

    pub(in crate::telemetry) fn add_telemetry_processing(&self, took: Duration) {
        self.telemetry_processing.inc_by(took.as_secs_f64());
    }

    pub(in crate::telemetry) fn set_telemetry_queue_depth(&self, queue: Queue, depth: usize) {
        self.telemetry_queue_depth(queue).set(gauge_value(depth));
    }

    pub(in crate::telemetry) fn set_telemetry_buffered_bytes(&self, bytes: usize) {
        self.telemetry_buffered.set(gauge_value(bytes));
    }
}

/// No value here comes near the limit.
fn gauge_value<N>(number: N) -> i64
where
    i64: TryFrom<N>,
{
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_has_line(metrics: &Metrics, line: &str) {
        let page = metrics.encode_openmetrics().unwrap();
        assert!(page.lines().any(|seen| seen == line), "{line} is missing in\n{page}");
    }

    #[test]
    fn the_actual_sample_rate_counts_only_traces_kept_by_the_rate() {
        let metrics = Metrics::new();
        metrics.set_telemetry_sample_rate(0.25);
        assert_has_line(&metrics, "registrar_telemetry_sample_rate{kind=\"configured\"} 0.25");
        assert!(
            !metrics.encode_openmetrics().unwrap().contains("actual\"}"),
            "the actual rate is unknown before the first trace"
        );

        for (decision, times) in [
            (Decision::Kept(KeepReason::Head), 1),
            (Decision::Dropped, 6),
            (Decision::Kept(KeepReason::Error), 1),
            (Decision::Background, 100),
        ] {
            (0..times).for_each(|_| metrics.inc_telemetry_traces(decision));
        }

        assert_has_line(&metrics, "registrar_telemetry_sample_rate{kind=\"actual\"} 0.125");
        assert_has_line(&metrics, "registrar_telemetry_traces_total{decision=\"error\"} 1");
        assert_has_line(&metrics, "registrar_telemetry_traces_total{decision=\"background\"} 100");
    }

    #[test]
    fn exported_queued_and_dropped_telemetry_is_counted() {
        let metrics = Metrics::new();
        metrics.add_telemetry_exports(ExportTarget::Otlp, ExportOutcome::Ok, 512);
        metrics.add_telemetry_exports(ExportTarget::Otlp, ExportOutcome::Ok, 8);
        metrics.add_telemetry_exports(ExportTarget::Sentry, ExportOutcome::RateLimited, 1);
        metrics.add_telemetry_dropped(Budget::Spans, 7);
        metrics.add_telemetry_processing(Duration::from_millis(250));
        metrics.set_telemetry_queue_depth(Queue::Sentry, 30);
        metrics.set_telemetry_queue_depth(Queue::Sentry, 3);
        metrics.set_telemetry_buffered_bytes(4096);

        for line in [
            "registrar_telemetry_export_total{target=\"otlp\",outcome=\"ok\"} 520",
            "registrar_telemetry_export_total{target=\"sentry\",outcome=\"rate_limited\"} 1",
            "registrar_telemetry_export_total{target=\"sentry\",outcome=\"failed\"} 0",
            "registrar_telemetry_dropped_total{budget=\"spans\"} 7",
            "registrar_telemetry_processing_seconds_total 0.25",
            "registrar_telemetry_queue_depth{queue=\"sentry\"} 3",
            "registrar_telemetry_buffered_bytes 4096",
        ] {
            assert_has_line(&metrics, line);
        }
    }
}
