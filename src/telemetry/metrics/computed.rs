//! Gauges computed when the metrics are read.

use super::family::LabelValue;
use crate::registration::Timestamp;
use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{
        MetricType,
        counter::Counter,
        gauge::{ConstGauge, Gauge},
    },
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// Earlier than any acceptance.
const NOTHING_QUEUED: i64 = 0;

/// The age of the oldest queued registration. It is stored as the time of acceptance, so that the age keeps growing
/// while the store cannot be read, which is when it matters.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct QueueOldest(Arc<AtomicI64>);

impl QueueOldest {
    pub(super) fn set(&self, accepted: Option<Timestamp>) {
        self.0.store(accepted.map_or(NOTHING_QUEUED, Timestamp::micros), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<Timestamp> {
        match self.0.load(Ordering::Relaxed) {
            NOTHING_QUEUED => None,
            accepted => Some(Timestamp::from_micros(accepted)),
        }
    }
}

impl EncodeMetric for QueueOldest {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        let age = self.get().map_or(Duration::ZERO, |accepted| Timestamp::from(SystemTime::now()).since(accepted));
        ConstGauge::new(age.as_secs_f64()).encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// The configured share of traces to keep, and the actual one since the start.
///
/// A trace kept for another reason would have been sampled at the rate as well, so the actual rate is the share of
/// all traces that the rate alone kept. Callers that set the sampled flag raise it. Absent before the first trace.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct SampleRate {
    pub(super) configured: Gauge<f64, AtomicU64>,
    pub(super) kept: Counter,
    pub(super) decided: Counter,
}

impl EncodeMetric for SampleRate {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut encode_kind = |kind: &'static str, rate: f64| {
            ConstGauge::new(rate).encode(encoder.encode_family(&[("kind", LabelValue::Borrowed(kind))])?)
        };
        encode_kind("configured", self.configured.get())?;
        match self.decided.get() {
            0 => Ok(()),
            decided => encode_kind("actual", self.kept.get() as f64 / decided as f64),
        }
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}
