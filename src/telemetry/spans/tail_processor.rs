//! Hands live spans to the pipeline, and has each segment decided when its last span has ended.

use super::{context::NO_PARENT, pipeline::SpanPipeline};
use opentelemetry::{
    Context, SpanId,
    trace::{Span as _, TraceContextExt},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use std::{sync::Arc, time::Duration};

#[derive(Debug)]
pub(in crate::telemetry) struct TailProcessor(Arc<SpanPipeline>);

impl TailProcessor {
    pub(in crate::telemetry) fn new(pipeline: Arc<SpanPipeline>) -> Self {
        Self(pipeline)
    }
}

impl SpanProcessor for TailProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        let own = span.span_context();
        let parent = context.span();
        let parent = parent.span_context();
        let is_local = parent.is_valid() && !parent.is_remote();
        self.0.open_spans.start_span(own.trace_id(), own.span_id(), is_local.then(|| parent.span_id()));
    }

    fn on_end(&self, mut span: SpanData) {
        if span.parent_span_id == NO_PARENT {
            (span.parent_span_id, span.parent_span_is_remote) = (SpanId::INVALID, false);
        }
        if let Some(segment) = self.0.open_spans.end_span(span) {
            self.0.decide(segment);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
