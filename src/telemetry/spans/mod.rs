//! One pipeline for all spans, with two destinations.
//!
//! [`live`] has the `tracing` spans of batches, RPC requests and health checks. The [`tail_processor`] groups the spans
//! of one trace in this process into a segment, and has it decided when the last of them has ended. The span of a
//! [`call`], `db` spans and the data of a registration are only [deferred](segment) until then. The spans of a
//! registration are not live, because it may wait for hours and ninety-nine of a hundred good ones are not kept:
//! [`synthetic`] makes them from its recorded times when it ends, if its trace is kept. The [`export_queue`] delivers on
//! its own thread to an OTLP collector, to Sentry, or to both, with the same ids.
//!
//! ```text
//! head sampler (share of traces) ─┐
//! calls, live spans ── tail ──────┼─ keep? ── export queue ─┬─ scrub ── OTLP
//! synthetic registration spans ───┘    └─ trace cache       └─ scrub ── Sentry transactions
//! ```

mod attributes;
pub(super) mod call;
mod call_record;
mod context;
mod ended_call;
mod export_queue;
mod head_sampler;
mod live;
mod open_spans;
mod otlp;
mod otlp_client;
pub(super) mod partial_success;
mod pipeline;
mod segment;
mod sharded;
mod synthetic;
mod tail_policy;
mod tail_processor;
mod trace_cache;

pub(crate) use super::ids::new_span_id;
pub(super) use attributes::{
    BAGGAGE_ATTRIBUTE, OP_ATTRIBUTE, REGISTRATION_OP, SAMPLED_ATTRIBUTE, SERVER_OP, int_attribute, span_op,
    text_attribute,
};
pub(super) use call::annotate_caller;
pub(crate) use call::{CallSpan, annotate_batch_call, mark_repeated_call, server};
pub(super) use export_queue::Sink;
pub(super) use head_sampler::{HeadSampler, effective_sample_rate};
pub(super) use live::with_trace;
pub(crate) use live::{
    BatchSpan, annotate_registration, batch, client, current_trace, db, health_check, record_failover, saw_failover,
    sign,
};
pub(crate) use otlp::DEFAULT_OTLP_QUEUE_SPANS;
pub(super) use otlp::OtlpSink;
pub(super) use pipeline::{SpanPipeline, keep_failed_trace};
pub(super) use segment::Segment;
pub(crate) use synthetic::{AttrValue, SpanLink, SpanRecord, SpanTree, emit};
pub(crate) use tail_policy::{KeepReason, SLOW_REGISTRATION};
pub(super) use tail_processor::TailProcessor;
