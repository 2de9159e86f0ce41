//! Sentry's application metrics. Prometheus has all there is; these are for dashboards beside the errors.

use crate::registration::{SpanId, TraceId};
use crate::telemetry::spans;
use sentry::{Hub, metrics};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// So many durations a second are sent: beyond, the others stand for them, for each costs Sentry as much as a log line.
const MAX_DURATIONS_PER_SECOND: u32 = 20;

fn is_enabled() -> bool {
    super::is_enabled()
}

/// So many documents are registered, in one transaction.
pub(in crate::telemetry) fn count_registered(documents: usize) {
    if is_enabled() {
        Hub::main().capture_metric(metrics::counter("documents.registered", documents as f64));
    }
}

/// A document was registered in this time.
pub(in crate::telemetry) fn record_duration(trace_id: TraceId, span_id: SpanId, took: Duration) {
    if is_enabled() && try_acquire() {
        let metric = metrics::distribution("document.registration.duration", took.as_secs_f64()).unit("second");
        spans::with_trace(trace_id, Some(span_id), || Hub::main().capture_metric(metric));
    }
}

/// A document failed, or was not confirmed in time, at this step.
pub(in crate::telemetry) fn count_failed(documents: usize, error_type: &'static str, step: &'static str) {
    if is_enabled() {
        let metric = metrics::counter("documents.failed", documents as f64);
        Hub::main().capture_metric(metric.attribute("errorType", error_type).attribute("step", step));
    }
}

fn try_acquire() -> bool {
    static SECOND: Mutex<Option<(Instant, u32)>> = Mutex::new(None);
    let mut second = SECOND.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let (since, sent) = second.get_or_insert((now, 0));
    if since.elapsed() >= Duration::from_secs(1) {
        (*since, *sent) = (now, 0);
    }
    *sent += 1;
    *sent <= MAX_DURATIONS_PER_SECOND
}
