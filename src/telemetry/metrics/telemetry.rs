//! What telemetry says of itself. What it loses or fails at is counted here and nowhere else: an error of telemetry that is
//! reported as an error makes more telemetry.

use super::{
    Metrics, gauge_value,
    labels::{Budget, Decision, Export, Queue, RateKind},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        TypedMetric,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::{Registry, Unit},
};
use std::{fmt, sync::atomic::AtomicU64, time::Duration};

/// A trace that is kept for no other reason than the rate.
const DECISION_HEAD: &str = "head";
/// A trace in which all went well and that the rate does not keep.
const DECISION_DROPPED: &str = "dropped";
/// A trace of the service's own doings, such as health checks, which have a rate of their own.
const DECISION_BACKGROUND: &str = "background";
/// How much may be held: spans that are open or wait for others, spans of one segment, what waits to be delivered.
const BUDGETS: [&str; 3] = ["spans", "segment", "delivery"];
/// Where traces go. Before each stands a queue of the same name, and before both that of the delivery.
const EXPORT_TARGETS: [&str; 2] = ["otlp", "sentry"];
/// What can become of what goes there.
const EXPORT_OUTCOMES: [&str; 4] = ["ok", "failed", "dropped", "rate_limited"];

/// Telemetry about itself.
pub(super) struct TelemetryMetrics {
    traces: Family<Decision, Counter>,
    exports: Family<Export, Counter>,
    dropped: Family<Budget, Counter>,
    sample_rate: SampleRate,
    processing_seconds: Counter<f64, AtomicU64>,
    queue_depth: Family<Queue, Gauge>,
    buffered_bytes: Gauge,
}

impl TelemetryMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let telemetry = Self {
            traces: Family::default(),
            exports: Family::default(),
            dropped: Family::default(),
            sample_rate: SampleRate::default(),
            processing_seconds: Counter::default(),
            queue_depth: Family::default(),
            buffered_bytes: Gauge::default(),
        };
        for decision in [DECISION_HEAD, DECISION_DROPPED] {
            drop(telemetry.traces.get_or_create(&Decision { decision }));
        }
        for (target, outcome) in
            EXPORT_TARGETS.into_iter().flat_map(|target| EXPORT_OUTCOMES.map(|outcome| (target, outcome)))
        {
            drop(telemetry.exports.get_or_create(&Export { target, outcome }));
        }
        for budget in BUDGETS {
            drop(telemetry.dropped.get_or_create(&Budget { budget }));
        }
        for queue in EXPORT_TARGETS.into_iter().chain(["delivery"]) {
            drop(telemetry.queue_depth.get_or_create(&Queue { queue }));
        }
        telemetry.register(registry);
        telemetry
    }

    fn register(&self, r: &mut Registry) {
        r.register("telemetry_traces", "Finished traces by why they are kept, or dropped", self.traces.clone());
        r.register(
            "telemetry_export",
            "What was handed over, by what became of it: spans for otlp, envelopes for sentry",
            self.exports.clone(),
        );
        r.register("telemetry_dropped", "Spans that a budget had no room for, by budget", self.dropped.clone());
        r.register_collector(Box::new(self.sample_rate.clone()));
        r.register_with_unit(
            "telemetry_processing",
            "Time spent on deciding about traces and converting them",
            Unit::Seconds,
            self.processing_seconds.clone(),
        );
        r.register("telemetry_queue_depth", "What waits to be handed over, by queue", self.queue_depth.clone());
        r.register_with_unit(
            "telemetry_buffered",
            "Memory that spans take up until they are handed over or dropped, estimated",
            Unit::Bytes,
            self.buffered_bytes.clone(),
        );
    }
}

impl Metrics {
    /// A trace, or a part of one that ended by itself, was decided about: why it is kept (`head`, which is the rate alone,
    /// `error`, `timeout`, `slow`, `failover`, `fee_bump`, `related`), that it is not (`dropped`), or, whatever was decided, that
    /// it is one of the service's own doings, such as health checks (`background`). The README lists them.
    pub fn inc_telemetry_traces(&self, decision: &'static str) {
        self.telemetry.traces.get_or_create(&Decision { decision }).inc();
        if decision != DECISION_BACKGROUND {
            self.telemetry.sample_rate.decided.inc();
        }
        if decision == DECISION_HEAD {
            self.telemetry.sample_rate.kept.inc();
        }
    }

    /// What became of `count` spans on their way to `otlp`, or envelopes on their way to `sentry`: `ok` (taken by the other
    /// side), `failed` (refused, or not reached), `dropped` (no room in the queue), `rate_limited` (the other side asked for
    /// a pause).
    pub fn add_telemetry_exports(&self, target: &'static str, outcome: &'static str, count: u64) {
        self.telemetry.exports.get_or_create(&Export { target, outcome }).inc_by(count);
    }

    /// This budget (`spans`, `segment` or `delivery`) had no room for so many spans.
    pub fn add_telemetry_dropped(&self, budget: &'static str, spans: u64) {
        self.telemetry.dropped.get_or_create(&Budget { budget }).inc_by(spans);
    }

    /// The share of good traces that the settings ask to keep, from 0 to 1. What is really kept is reckoned from
    /// [`Self::telemetry_trace`].
    pub fn set_telemetry_sample_rate(&self, configured: f64) {
        self.telemetry.sample_rate.configured.set(configured);
    }

    /// Time that was spent on telemetry, beside what was traced.
    pub fn add_telemetry_processing(&self, took: Duration) {
        self.telemetry.processing_seconds.inc_by(took.as_secs_f64());
    }

    /// So many wait in the queue before this target.
    pub fn set_telemetry_queue_depth(&self, queue: &'static str, depth: usize) {
        self.telemetry.queue_depth.get_or_create(&Queue { queue }).set(gauge_value(depth));
    }

    /// The memory of all spans that are neither handed over nor dropped yet: an estimate.
    pub fn set_telemetry_buffered_bytes(&self, bytes: usize) {
        self.telemetry.buffered_bytes.set(gauge_value(bytes));
    }
}

/// How much should be kept, and how much is.
///
/// What is kept for another reason says nothing about the rate, and would have been decided by it all the same; so the actual
/// rate is the share that the rate alone has kept of everything, since the start. Callers who say that their traces are kept
/// raise it. Absent before the first trace.
#[derive(Clone, Debug, Default)]
struct SampleRate {
    configured: Gauge<f64, AtomicU64>,
    kept: Counter,
    decided: Counter,
}

impl Collector for SampleRate {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Share of good traces that are kept: configured, and actual since the start.";
        let mut encoder = encoder.encode_descriptor("telemetry_sample_rate", help, None, ConstGauge::<f64>::TYPE)?;
        let mut say = |kind, rate: f64| ConstGauge::new(rate).encode(encoder.encode_family(&RateKind { kind })?);
        say("configured", self.configured.get())?;
        match self.decided.get() {
            0 => Ok(()),
            decided => say("actual", self.kept.get() as f64 / decided as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_has_line(metrics: &Metrics, line: &str) {
        let page = metrics.encode_openmetrics().unwrap();
        assert!(page.lines().any(|seen| seen == line), "{line} is missing in\n{page}");
    }

    #[test]
    fn the_actual_rate_is_what_the_rate_alone_has_kept_of_everything() {
        let metrics = Metrics::new();
        metrics.set_telemetry_sample_rate(0.25);
        assert_has_line(&metrics, "registrar_telemetry_sample_rate{kind=\"configured\"} 0.25");
        assert!(
            !metrics.encode_openmetrics().unwrap().contains("actual\"}"),
            "nothing is known before the first trace"
        );

        for (decision, times) in [(DECISION_HEAD, 1), (DECISION_DROPPED, 6), ("error", 1), (DECISION_BACKGROUND, 100)] {
            (0..times).for_each(|_| metrics.inc_telemetry_traces(decision));
        }

        assert_has_line(&metrics, "registrar_telemetry_sample_rate{kind=\"actual\"} 0.125");
        assert_has_line(&metrics, "registrar_telemetry_traces_total{decision=\"error\"} 1");
        assert_has_line(&metrics, "registrar_telemetry_traces_total{decision=\"background\"} 100");
    }

    #[test]
    fn what_is_handed_over_waits_or_is_lost_is_counted() {
        let metrics = Metrics::new();
        metrics.add_telemetry_exports("otlp", "ok", 512);
        metrics.add_telemetry_exports("otlp", "ok", 8);
        metrics.add_telemetry_exports("sentry", "rate_limited", 1);
        metrics.add_telemetry_dropped("spans", 7);
        metrics.add_telemetry_processing(Duration::from_millis(250));
        metrics.set_telemetry_queue_depth("sentry", 30);
        metrics.set_telemetry_queue_depth("sentry", 3);
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
