//! Exemplars lead from a metric to a trace: one of the observations behind a number, by its trace id
//! (<https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md#exemplars>).
//!
//! A trace id is formatted when the metrics are read, so that an observation costs no allocation. Each exemplar has a
//! timestamp, because a rarely hit bucket shows an old trace.

use crate::registration::TraceId;
use prometheus_client::{
    encoding::{EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder},
    metrics::{
        MetricType, TypedMetric,
        exemplar::{CounterWithExemplar, HistogramWithExemplars},
        histogram::exponential_buckets,
    },
};
use std::{
    fmt,
    time::{Duration, SystemTime},
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Exemplar(TraceId);

impl EncodeLabelSet for Exemplar {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("trace_id", self.0.to_string()).encode(encoder.encode_label())
    }
}

/// A histogram of durations with the last trace of each bucket. Buckets from 1 ms, doubling, to 33 s.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct TracedHistogram(HistogramWithExemplars<Exemplar>);

impl TracedHistogram {
    pub(in crate::telemetry) fn observe(&self, took: Duration, trace: Option<TraceId>) {
        self.0.observe(took.as_secs_f64(), trace.map(Exemplar), trace.map(|_| SystemTime::now()));
    }
}

impl Default for TracedHistogram {
    fn default() -> Self {
        Self(HistogramWithExemplars::new(exponential_buckets(0.001, 2.0, 16)))
    }
}

/// A counter with the trace of its last increment.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct TracedCounter(CounterWithExemplar<Exemplar>);

impl TracedCounter {
    pub(in crate::telemetry) fn inc(&self, trace: Option<TraceId>) {
        self.0.inc_by(1, trace.map(Exemplar), trace.map(|_| SystemTime::now()));
    }
}

macro_rules! delegate_encoding {
    ($($wrapper:ty: $kind:ident;)+) => { $(
        impl TypedMetric for $wrapper {
            const TYPE: MetricType = MetricType::$kind;
        }

        impl EncodeMetric for $wrapper {
            fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
                self.0.encode(encoder)
            }

            fn metric_type(&self) -> MetricType {
                Self::TYPE
            }
        }
    )+ };
}

delegate_encoding! {
    TracedHistogram: Histogram;
    TracedCounter: Counter;
}

#[cfg(test)]
mod tests {
    use super::super::{Metrics, Stage};
    use crate::{registration::Cause, telemetry::ids::new_trace_id};
    use std::time::Duration;

    /// The lines that have an exemplar.
    fn traced(metrics: &Metrics) -> Vec<String> {
        let page = metrics.encode_openmetrics().unwrap();
        page.lines().filter(|line| line.contains(" # ")).map(str::to_owned).collect()
    }

    #[test]
    fn each_bucket_has_the_last_trace_as_its_exemplar() {
        let metrics = Metrics::new();
        let [first, second, third] = std::array::from_fn(|_| new_trace_id());
        for (millis, trace) in [(5, Some(first)), (5, Some(second)), (100, Some(third)), (100, None)] {
            metrics.observe_grpc_request("/m", "ok", Duration::from_millis(millis), trace);
        }

        let lines = traced(&metrics);

        assert_eq!(lines.len(), 2, "{lines:?}");
        for (line, bucket, count, trace, value) in
            [(&lines[0], "0.008", 2, second, "0.005"), (&lines[1], "0.128", 4, third, "0.1")]
        {
            let expected = format!(
                "registrar_grpc_request_duration_seconds_bucket{{le=\"{bucket}\",method=\"/m\",code=\"ok\"}} {count} \
                 # {{trace_id=\"{trace}\"}} {value} "
            );
            assert!(line.starts_with(&expected), "{line} is not {expected}");
        }
    }

    #[test]
    fn without_a_trace_there_is_no_exemplar() {
        let metrics = Metrics::new();
        metrics.observe_grpc_request("/m", "ok", Duration::from_millis(5), None);
        metrics.stage_duration(Stage::Total).observe(Duration::from_millis(5), None);
        metrics.observe_stage(Stage::Send, Duration::from_millis(5));
        metrics.confirmation_timeouts(Cause::Pending).inc(None);
        assert_eq!(traced(&metrics), [""; 0]);
    }
}
