//! Answers of the collector that reject a part of an export. To the exporter they are successes, which it only logs
//! (<https://opentelemetry.io/docs/specs/otlp/#partial-success>); this reads its log event.

use crate::telemetry::{event_listener::EventListener, redact::redact};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tracing::{Event, Metadata, Subscriber, field, warn};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

const EXPORTER_TARGET: &str = "opentelemetry-otlp";
/// `TonicTracesClient.PartialSuccess`, `HttpTraceClient.PartialSuccess`.
const EVENT_NAME_END: &str = "PartialSuccess";
/// The collector's message may be of any length.
const MAX_MESSAGE_CHARS: usize = 300;

/// There is one exporter, which sends one batch at a time.
static REJECTED: AtomicU64 = AtomicU64::new(0);
/// Such an answer usually repeats with each batch.
static IS_REPORTED: AtomicBool = AtomicBool::new(false);

/// Spans that were rejected since the last call.
pub(super) fn take_rejected() -> u64 {
    REJECTED.swap(0, Ordering::Relaxed)
}

pub(in crate::telemetry) fn listener<S>() -> EventListener<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    (is_partial_success, PartialSuccessListener.boxed())
}

fn is_partial_success(metadata: &Metadata<'_>) -> bool {
    metadata.target() == EXPORTER_TARGET && metadata.name().ends_with(EVENT_NAME_END)
}

struct PartialSuccessListener;

impl<S: Subscriber> Layer<S> for PartialSuccessListener {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut answer = Answer::default();
        event.record(&mut answer);
        REJECTED.fetch_add(answer.rejected, Ordering::Relaxed);
        if !IS_REPORTED.swap(true, Ordering::Relaxed) {
            let Answer { rejected, message } = answer;
            warn!(receiver = "otlp", rejected, error = &*redact(&message), "collector rejects spans; reported once");
        }
    }
}

#[derive(Default)]
struct Answer {
    rejected: u64,
    message: String,
}

impl field::Visit for Answer {
    fn record_i64(&mut self, field: &field::Field, value: i64) {
        if field.name() == "rejected_spans" {
            self.rejected = u64::try_from(value).unwrap_or(0);
        }
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        if field.name() == "error_message" {
            self.message = value.chars().take(MAX_MESSAGE_CHARS).collect();
        }
    }

    fn record_debug(&mut self, _field: &field::Field, _value: &dyn std::fmt::Debug) {}
}
