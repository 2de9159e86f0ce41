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
pub(super) fn observe(histogram: &TracedHistogram, took: Duration, trace: Option<TraceId>) {
    histogram.observe(took.as_secs_f64(), trace.map(Exemplar), trace.map(|_| SystemTime::now()));
}

pub(super) fn count(counter: &TracedCounter, trace: Option<TraceId>) {
    counter.inc_by(1, trace.map(Exemplar), trace.map(|_| SystemTime::now()));
}
