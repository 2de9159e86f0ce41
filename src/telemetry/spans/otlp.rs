//! OTLP export to a collector: the standard exporter behind the standard batch processor, with its results counted.

use super::{
    attributes::{BAGGAGE_ATTRIBUTE, SAMPLED_ATTRIBUTE},
    export_queue::Sink,
    otlp_client, partial_success,
    segment::Segment,
    tail_policy::KeepReason,
};
use crate::telemetry::{
    metrics::{ExportOutcome, ExportTarget, Queue, metrics},
    receiver_status::{QUEUE_ROOM_WAIT, ReceiverStatus},
    settings::{OtlpSettings, SpanLimits},
};
use opentelemetry::trace::{SpanContext, TraceFlags};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter as Exporter, SpanProcessor},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Queued spans unless OTEL_BSP_MAX_QUEUE_SIZE is set: about 8 MB. The SDK's default of 2,048 is two seconds at
/// 200 registrations per second.
pub(crate) const DEFAULT_OTLP_QUEUE_SPANS: usize = 8_192;

#[derive(Debug)]
struct CountingExporter {
    inner: SpanExporter,
    queued: Arc<AtomicUsize>,
    receiver_status: Arc<ReceiverStatus>,
}

impl Exporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        partial_success::take_rejected();
        let result = self.inner.export(batch).await;
        let rejected = partial_success::take_rejected().min(spans as u64);
        let left = self.queued.fetch_sub(spans, Ordering::Relaxed).saturating_sub(spans);
        metrics().set_telemetry_queue_depth(Queue::Otlp, left);
        let failed = match &result {
            // Rejected spans are reported on their own.
            Ok(()) => {
                self.receiver_status.record_success();
                rejected
            }
            Err(error) => {
                self.receiver_status.record_failure(&error.to_string());
                spans as u64
            }
        };
        metrics().add_telemetry_exports(ExportTarget::Otlp, ExportOutcome::Ok, spans as u64 - failed);
        metrics().add_telemetry_exports(ExportTarget::Otlp, ExportOutcome::Failed, failed);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[derive(Debug)]
pub(in crate::telemetry) struct OtlpSink {
    processor: BatchSpanProcessor,
    queued: Arc<AtomicUsize>,
    receiver_status: Arc<ReceiverStatus>,
    max_queue_size: usize,
    limits: SpanLimits,
}

impl OtlpSink {
    pub(in crate::telemetry) fn start(
        settings: &OtlpSettings,
        limits: SpanLimits,
        resource: &Resource,
    ) -> Result<Self, ExporterBuildError> {
        let queued = Arc::new(AtomicUsize::new(0));
        let receiver_status = Arc::new(ReceiverStatus::new("otlp"));
        let exporter = CountingExporter {
            inner: otlp_client::build_exporter(settings)?,
            queued: queued.clone(),
            receiver_status: receiver_status.clone(),
        };
        let max_queue_size = settings.max_queue_size;
        let config = BatchConfigBuilder::default().with_max_queue_size(max_queue_size).build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        processor.set_resource(resource);
        Ok(Self { processor, queued, receiver_status, max_queue_size, limits })
    }

    fn is_full(&self) -> bool {
        self.queued.load(Ordering::Relaxed) >= self.max_queue_size
    }
}

impl Sink for OtlpSink {
    fn export(&mut self, segment: &Segment, _reason: KeepReason) {
        let deadline = Instant::now() + QUEUE_ROOM_WAIT;
        for span in &segment.spans {
            self.receiver_status.wait_for_room(deadline, || self.is_full());
            // The processor would drop it without a trace.
            if self.is_full() {
                metrics().add_telemetry_exports(ExportTarget::Otlp, ExportOutcome::Dropped, 1);
                continue;
            }
            self.queued.fetch_add(1, Ordering::Relaxed);
            self.processor.on_end(prepare_for_export(span, self.limits));
        }
    }

    fn shutdown(&mut self, timeout: Duration) -> bool {
        self.processor.shutdown_with_timeout(timeout).is_ok()
    }
}

/// Marks the span as sampled, because the processor drops others, and removes internal attributes.
fn prepare_for_export(span: &SpanData, limits: SpanLimits) -> SpanData {
    let mut span = span.clone();
    let context = &span.span_context;
    let flags = context.trace_flags() | TraceFlags::SAMPLED;
    let (trace_id, span_id) = (context.trace_id(), context.span_id());
    span.span_context = SpanContext::new(trace_id, span_id, flags, false, context.trace_state().clone());
    span.attributes.retain(|attribute| ![BAGGAGE_ATTRIBUTE, SAMPLED_ATTRIBUTE].contains(&attribute.key.as_str()));
    let max = usize::try_from(limits.attributes).unwrap_or(usize::MAX);
    let dropped = span.attributes.len().saturating_sub(max);
    span.attributes.truncate(max);
    span.dropped_attributes_count += u32::try_from(dropped).unwrap_or(u32::MAX);
    span
}
