//! Prometheus metrics: one documented structure, units in the names, label values from short lists.
//!
//! What is counted stands in three parts, by who tells it: the work, the calls in and out, and telemetry about itself. A series
//! whose labels are known before it happens is there from the start, at 0: an alert on an increase misses the first one of a
//! series that appears with it.

mod calls;
mod exemplar;
mod labels;
mod pipeline;
#[cfg(target_os = "linux")]
mod process;
mod telemetry;

use prometheus_client::{
    encoding::text::encode,
    metrics::histogram::exponential_buckets,
    registry::{Registry, Unit},
};
use std::sync::LazyLock;

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    pipeline: pipeline::PipelineMetrics,
    calls: calls::CallMetrics,
    telemetry: telemetry::TelemetryMetrics,
}

/// The process's metrics.
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::default();
        // By the names that every Prometheus client gives them, without ours before them.
        #[cfg(target_os = "linux")]
        registry.register_collector(Box::new(process::ProcessCollector));
        let ours = registry.sub_registry_with_prefix("registrar");
        let work = pipeline::PipelineMetrics::new(ours);
        let calls = calls::CallMetrics::new(ours);
        let telemetry = telemetry::TelemetryMetrics::new(ours);
        Self { registry, pipeline: work, calls, telemetry }
    }

    /// The metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// When they cannot be written, which a `String` never causes.
    pub fn encode_openmetrics(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map(|()| text)
    }
}

/// From 1 ms, doubling, to 33 s.
fn duration_buckets() -> impl Iterator<Item = f64> {
    exponential_buckets(0.001, 2.0, 16)
}

fn wei_unit() -> Unit {
    Unit::Other("wei".to_owned())
}

/// A gauge holds what fits; nothing that is counted here comes near the limit.
fn gauge_value<N>(number: N) -> i64
where
    i64: TryFrom<N>,
{
    i64::try_from(number).unwrap_or(i64::MAX)
}
