//! The head decision: which traces are exported whatever happens in them.
//!
//! It is made from the trace id alone ([`sample_rand::of_trace_id`]), or from the random value that a caller sends, so
//! that all processes decide the same. No span is dropped here: an unsampled trace is recorded as well, because it may
//! still fail.

use super::attributes::{HEALTH_CHECK_OP, SAMPLED_ATTRIBUTE, span_op};
use crate::{
    registration::TraceContext,
    telemetry::{
        propagation::{caller_sample_rand, sample_rand},
        settings::Rate,
    },
};
use opentelemetry::{
    Context, KeyValue, TraceId, Value,
    trace::{Link, SpanKind, TraceContextExt},
};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample, SpanData};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::time::Instant;

/// Traces that are exported because the caller sampled them; further ones are sampled by our rate. Without this limit
/// any client could drive up the costs of Sentry.
const MAX_CALLER_SAMPLED_PER_SECOND: f64 = 50.0;
/// Health checks run all the time and look alike.
const HEALTH_CHECK_RATE_FACTOR: f64 = 0.01;

#[derive(Clone, Debug)]
pub(in crate::telemetry) struct HeadSampler {
    rate: Rate,
    caller_budget: Arc<Mutex<TokenBucket>>,
}

#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    refilled_at: Instant,
}

impl HeadSampler {
    pub(in crate::telemetry) fn new(rate: Rate) -> Self {
        let bucket = TokenBucket { tokens: MAX_CALLER_SAMPLED_PER_SECOND, refilled_at: Instant::now() };
        Self { rate, caller_budget: Arc::new(Mutex::new(bucket)) }
    }

    /// The caller's own decision, within its budget.
    pub(super) fn is_caller_trace_sampled(&self, trace: &TraceContext) -> bool {
        match trace.sampled {
            Some(false) => false,
            Some(true) if self.try_acquire(Instant::now()) => true,
            Some(true) | None => is_below_rate(caller_sample_rand(trace), self.rate),
        }
    }

    pub(super) fn is_sampled_by_id(&self, trace_id: [u8; 16]) -> bool {
        is_within_rate(trace_id, self.rate)
    }

    fn try_acquire(&self, now: Instant) -> bool {
        let mut bucket = self.caller_budget.lock();
        let gained = now.saturating_duration_since(bucket.refilled_at).as_secs_f64() * MAX_CALLER_SAMPLED_PER_SECOND;
        bucket.refilled_at = now;
        bucket.tokens = (bucket.tokens + gained).min(MAX_CALLER_SAMPLED_PER_SECOND);
        let acquired = bucket.tokens >= 1.0;
        if acquired {
            bucket.tokens -= 1.0;
        }
        acquired
    }
}

/// The rate that Sentry extrapolates from for a root that the head decision kept: 1 for a trace that only its caller
/// sampled.
pub(in crate::telemetry) fn effective_sample_rate(root: &SpanData, configured: Rate) -> f64 {
    let rate = rate_for(&root.attributes, configured);
    if is_within_rate(root.span_context.trace_id().to_bytes(), rate) { rate.get() } else { 1.0 }
}

fn rate_for(attributes: &[KeyValue], configured: Rate) -> Rate {
    let is_health_check = span_op(attributes) == HEALTH_CHECK_OP;
    if is_health_check { configured.scaled_by(HEALTH_CHECK_RATE_FACTOR) } else { configured }
}

fn is_within_rate(trace_id: [u8; 16], rate: Rate) -> bool {
    is_below_rate(sample_rand::of_trace_id(trace_id), rate)
}

fn is_below_rate(rand: f64, rate: Rate) -> bool {
    rand < rate.get()
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
    use crate::{
        registration::TraceId as OwnTraceId,
        telemetry::{ids::new_trace_id, propagation},
    };
    use std::time::Duration;

    fn trace(id: u128, sampled: Option<bool>) -> TraceContext {
        let new = propagation::extract(&http::HeaderMap::new());
        TraceContext { trace_id: OwnTraceId::from_bytes(id.to_be_bytes()).unwrap(), sampled, ..new }
    }

    #[test]
    fn the_sampled_share_matches_the_rate_and_is_the_same_in_every_process() {
        let ids: Vec<_> = (0..20_000).map(|_| new_trace_id().to_bytes()).collect();
        for (rate, min, max) in [("0", 0, 0), ("0.01", 140, 270), ("0.5", 9_700, 10_300), ("1", 20_000, 20_000)] {
            let sampler = HeadSampler::new(rate.parse().unwrap());
            let kept = ids.iter().filter(|id| sampler.is_sampled_by_id(**id)).count();
            assert!((min..=max).contains(&kept), "{rate}: {kept}");
            let other = HeadSampler::new(rate.parse().unwrap());
            assert!(ids.iter().all(|id| sampler.is_sampled_by_id(*id) == other.is_sampled_by_id(*id)));
        }
    }

    #[test]
    fn a_deferred_decision_compares_the_callers_random_value_with_our_rate() {
        let sampler = HeadSampler::new("0.5".parse().unwrap());
        for (rand, id, expected) in [("0.4", u128::MAX, true), ("0.6", 1, false), ("0.5", 1, false)] {
            let sent = trace(id, None);
            let baggage = format!("sentry-trace_id={},sentry-sample_rand={rand}", sent.trace_id);
            assert_eq!(sampler.is_caller_trace_sampled(&TraceContext { baggage, ..sent }), expected, "{rand}");
        }
    }

    #[test]
    fn a_callers_sampling_decision_counts_within_a_budget() {
        let sampler = HeadSampler::new("0".parse().unwrap());
        assert!(!sampler.is_caller_trace_sampled(&trace(1, None)));
        assert!(!sampler.is_caller_trace_sampled(&trace(1, Some(false))));
        assert!(sampler.is_caller_trace_sampled(&trace(1, Some(true))), "the caller sampled it");
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!((0..1_000).filter(|_| sampler.try_acquire(now)).count(), 50, "within the budget");
        let later = now + Duration::from_secs(1);
        assert_eq!(
            (0..1_000).filter(|_| sampler.try_acquire(later)).count(),
            50,
            "the budget is refilled a second later"
        );
        let all = HeadSampler::new("1".parse().unwrap());
        assert!(!all.is_caller_trace_sampled(&trace(1, Some(false))), "the caller did not sample it");
    }
}
