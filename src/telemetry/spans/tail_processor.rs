//! Hands live spans to the pipeline, and has each segment decided when its last span has ended.

use super::{call_record::CallRecord, context::is_local, open_spans::Ended, pipeline::SpanPipeline};
use opentelemetry::{
    Context,
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
        let is_local = is_local(parent);
        let call = CallRecord::of(context).filter(|_| is_local);
        self.0.open_spans.start_span(own.trace_id(), own.span_id(), is_local.then(|| parent.span_id()), call);
    }

    fn on_end(&self, span: SpanData) {
        match self.0.open_spans.end_span(span) {
            Ended::Open => {}
            Ended::Complete(segment) => self.0.decide(segment),
            Ended::OfCall(call, span) => call.end_child(*span).into_iter().for_each(|segment| self.0.decide(segment)),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
