//! The head decision: which of all traces are kept whatever becomes of them.
//!
//! It is made from the trace id alone, as the `TraceIdRatioBased` sampler does
//! (<https://opentelemetry.io/docs/specs/otel/trace/sdk/#traceidratiobased>), so that every process and every restart decides
//! the same. Nothing is ever dropped here: what is not sampled is recorded all the same, for it may yet fail.

use crate::{registration::TraceContext, telemetry::settings::Rate};
use opentelemetry::{
    Context, KeyValue, TraceId, Value,
    trace::{Link, SpanKind, TraceContextExt},
};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample, SpanData};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// So many traces a second are kept because a caller says so; the others that it says so of stand as any other. Else whoever
/// can reach the service decides what Sentry costs.
const MAX_CALLER_SAMPLED_PER_SECOND: f64 = 50.0;
/// Health checks run all day long, and say the same.
const HEALTH_CHECK_RATE_FACTOR: f64 = 0.01;
/// A root span with this attribute has been decided already.
pub const SAMPLED_ATTRIBUTE: &str = "registrar.sampled";

/// Decides.
#[derive(Clone, Debug)]
pub struct HeadSampler {
    rate: Rate,
    caller_budget: Arc<Mutex<TokenBucket>>,
}

#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    refilled_at: Instant,
}

impl HeadSampler {
    /// Keeps this share.
    pub fn new(rate: Rate) -> Self {
        let bucket = TokenBucket { tokens: MAX_CALLER_SAMPLED_PER_SECOND, refilled_at: Instant::now() };
        Self { rate, caller_budget: Arc::new(Mutex::new(bucket)) }
    }

    /// The share of good traces that is kept.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Whether a trace that comes from a caller is kept: its own decision counts, as far as it may.
    pub fn is_caller_trace_sampled(&self, trace: &TraceContext) -> bool {
        match trace.sampled {
            Some(false) => false,
            Some(true) if self.try_acquire(Instant::now()) => true,
            Some(true) | None => self.is_sampled_by_id(trace.trace_id.to_bytes()),
        }
    }

    /// Whether a trace is kept that nobody has decided about.
    pub fn is_sampled_by_id(&self, trace_id: [u8; 16]) -> bool {
        is_within_rate(trace_id, self.rate)
    }

    fn try_acquire(&self, now: Instant) -> bool {
        let mut bucket = self.caller_budget.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(bucket.refilled_at).as_secs_f64() * MAX_CALLER_SAMPLED_PER_SECOND;
        bucket.refilled_at = now;
        bucket.tokens = (bucket.tokens + gained).min(MAX_CALLER_SAMPLED_PER_SECOND);
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }
}

/// Of how many a root that the head decision kept is one: a trace that its caller alone wanted stands for itself.
pub fn effective_sample_rate(root: &SpanData, configured: Rate) -> f64 {
    let rate = rate_for(&root.attributes, configured);
    if is_within_rate(root.span_context.trace_id().to_bytes(), rate) { rate.get() } else { 1.0 }
}

fn rate_for(attributes: &[KeyValue], configured: Rate) -> Rate {
    let check = super::span_op(attributes) == super::HEALTH_CHECK_OP;
    if check { configured.scaled_by(HEALTH_CHECK_RATE_FACTOR) } else { configured }
}

/// Whether a trace id is within this share: its lower eight bytes, without the highest bit, as a share of all there are.
fn is_within_rate(trace_id: [u8; 16], rate: Rate) -> bool {
    let [.., a, b, c, d, e, f, g, h] = trace_id;
    let lower = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
    rate.get() >= 1.0 || (lower as f64) < rate.get() * (1_u64 << 63) as f64
}

impl ShouldSample for HeadSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        _name: &str,
        _kind: &SpanKind,
        attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let context = parent.map(|parent| parent.span().span_context().clone()).filter(|context| context.is_valid());
        let decided = attributes.iter().find_map(|attribute| match (attribute.key.as_str(), &attribute.value) {
            (SAMPLED_ATTRIBUTE, Value::Bool(sampled)) => Some(*sampled),
            _ => None,
        });
        let sampled = match (&context, decided) {
            (Some(parent), _) => parent.is_sampled(),
            (None, Some(sampled)) => sampled,
            (None, None) => is_within_rate(trace_id.to_bytes(), rate_for(attributes, self.rate)),
        };
        SamplingResult {
            decision: if sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::RecordOnly },
            attributes: Vec::new(),
            trace_state: context.map(|context| context.trace_state().clone()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{registration::TraceId as OwnTraceId, telemetry::propagation};
    use std::time::Duration;

    fn trace(id: u128, sampled: Option<bool>) -> TraceContext {
        let fresh = propagation::extract(&http::HeaderMap::new());
        TraceContext { trace_id: OwnTraceId::from_bytes(id.to_be_bytes()).unwrap(), sampled, ..fresh }
    }

    #[test]
    fn the_share_holds_and_every_process_decides_the_same() {
        let ids: Vec<_> = (0..20_000).map(|_| propagation::new_trace_id().to_bytes()).collect();
        for (rate, least, most) in [("0", 0, 0), ("0.01", 140, 270), ("0.5", 9_700, 10_300), ("1", 20_000, 20_000)] {
            let head = HeadSampler::new(rate.parse().unwrap());
            let kept = ids.iter().filter(|id| head.is_sampled_by_id(**id)).count();
            assert!((least..=most).contains(&kept), "{rate}: {kept}");
            let again = HeadSampler::new(rate.parse().unwrap());
            assert!(ids.iter().all(|id| head.is_sampled_by_id(*id) == again.is_sampled_by_id(*id)));
        }
    }

    #[test]
    fn a_caller_decides_about_its_own_traces_up_to_a_bound() {
        let head = HeadSampler::new("0".parse().unwrap());
        assert!(!head.is_caller_trace_sampled(&trace(1, None)));
        assert!(!head.is_caller_trace_sampled(&trace(1, Some(false))));
        assert!(head.is_caller_trace_sampled(&trace(1, Some(true))), "it may say yes");
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!((0..1_000).filter(|_| head.try_acquire(now)).count(), 50, "and not to all");
        let later = now + Duration::from_secs(1);
        assert_eq!((0..1_000).filter(|_| head.try_acquire(later)).count(), 50, "a second later there is room again");
        let all = HeadSampler::new("1".parse().unwrap());
        assert!(!all.is_caller_trace_sampled(&trace(1, Some(false))), "a caller may also say no");
    }
}
