//! From a metric to a trace: one of the observations behind a number, by its trace id
//! (<https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md#exemplars>).
//!
//! A trace id is kept as it is and written as text only when somebody asks for the page: an observation costs no allocation.

use crate::registration::TraceId;
use prometheus_client::{
    encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder},
    metrics::exemplar::{CounterWithExemplar, HistogramWithExemplars},
};
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// The labels of an exemplar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exemplar(TraceId);

impl EncodeLabelSet for Exemplar {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("trace_id", self.0.to_string()).encode(encoder.encode_label())
    }
}

/// A histogram that names, for each bucket, the last trace told that fell into it.
pub(super) type TracedHistogram = HistogramWithExemplars<Exemplar>;
/// A counter that names the trace of its last step.
pub(super) type TracedCounter = CounterWithExemplar<Exemplar>;

/// The time stands beside the id, for a bucket that is seldom hit shows an old trace.
pub(super) fn observe_with_trace(histogram: &TracedHistogram, took: Duration, trace: Option<TraceId>) {
    histogram.observe(took.as_secs_f64(), trace.map(Exemplar), trace.map(|_| SystemTime::now()));
}

pub(super) fn inc_with_trace(counter: &TracedCounter, trace: Option<TraceId>) {
    counter.inc_by(1, trace.map(Exemplar), trace.map(|_| SystemTime::now()));
}

#[cfg(test)]
mod tests {
    use crate::telemetry::{Metrics, ids::new_trace_id};
    use std::time::Duration;

    /// The page's lines with an exemplar.
    fn traced(metrics: &Metrics) -> Vec<String> {
        let page = metrics.encode_openmetrics().unwrap();
        page.lines().filter(|line| line.contains(" # ")).map(str::to_owned).collect()
    }

    #[test]
    fn each_bucket_names_the_last_trace_that_was_told() {
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
    fn a_trace_that_is_not_kept_is_not_named() {
        let metrics = Metrics::new();
        metrics.observe_grpc_request("/m", "ok", Duration::from_millis(5), None);
        metrics.observe_registration_total(Duration::from_millis(5), None);
        metrics.observe_stage("send", Duration::from_millis(5));
        metrics.inc_confirmation_timeouts("pending", None);
        assert_eq!(traced(&metrics), [""; 0]);
    }
}
