//! Sentry's application metrics, for dashboards beside its errors. Prometheus has all metrics.

use super::hub::is_enabled;
use crate::{
    registration::{SpanId, TraceId},
    telemetry::spans,
};
use parking_lot::Mutex;
use sentry::{Hub, metrics};
use std::time::Duration;
use tokio::time::Instant;

/// Each costs as much as a log line at Sentry, and a sample shows the distribution.
const MAX_DURATIONS_PER_SECOND: u32 = 20;

pub(in crate::telemetry) fn count_registered(documents: usize) {
    if is_enabled() {
        Hub::main().capture_metric(metrics::counter("documents.registered", documents as f64));
    }
}

pub(in crate::telemetry) fn record_duration(trace_id: TraceId, span_id: SpanId, duration: Duration) {
    if is_enabled() && try_acquire() {
        let metric = metrics::distribution("document.registration.duration", duration.as_secs_f64()).unit("second");
        spans::with_trace(trace_id, Some(span_id), || Hub::main().capture_metric(metric));
    }
}

/// Counts documents that failed or timed out.
pub(in crate::telemetry) fn count_failed(documents: usize, error_type: &'static str, step: &'static str) {
    if is_enabled() {
        let metric = metrics::counter("documents.failed", documents as f64);
        Hub::main().capture_metric(metric.attribute("errorType", error_type).attribute("step", step));
    }
}

fn try_acquire() -> bool {
    static SECOND: Mutex<Option<(Instant, u32)>> = Mutex::new(None);
    let mut second = SECOND.lock();
    let now = Instant::now();
    let (since, sent) = second.get_or_insert((now, 0));
    if since.elapsed() >= Duration::from_secs(1) {
        (*since, *sent) = (now, 0);
    }
    *sent += 1;
    *sent <= MAX_DURATIONS_PER_SECOND
}
