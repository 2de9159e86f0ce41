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
const UPSTREAM_PER_SECOND: f64 = 50.0;
/// Health checks run all day long, and say the same.
const OF_HEALTH_CHECKS: f64 = 0.01;
/// A root span with this attribute has been decided already.
pub const DECIDED: &str = "registrar.sampled";

/// Decides.
#[derive(Clone, Debug)]
pub struct Head {
    rate: Rate,
    upstream: Arc<Mutex<Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    filled: Instant,
}

impl Head {
    /// Keeps this share.
    pub fn new(rate: Rate) -> Self {
        let bucket = Bucket { left: UPSTREAM_PER_SECOND, filled: Instant::now() };
        Self { rate, upstream: Arc::new(Mutex::new(bucket)) }
    }

    /// The share of good traces that is kept.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Whether a trace that comes from a caller is kept: its own decision counts, as far as it may.
    pub fn of_caller(&self, trace: &TraceContext) -> bool {
        match trace.sampled {
            Some(false) => false,
            Some(true) if self.admitted(Instant::now()) => true,
            Some(true) | None => self.of_trace(trace.trace_id.to_bytes()),
        }
    }

    /// Whether a trace is kept that nobody has decided about.
    pub fn of_trace(&self, trace_id: [u8; 16]) -> bool {
        is_within(trace_id, self.rate)
    }

    fn admitted(&self, now: Instant) -> bool {
        let mut bucket = self.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(bucket.filled).as_secs_f64() * UPSTREAM_PER_SECOND;
        bucket.filled = now;
        bucket.left = (bucket.left + gained).min(UPSTREAM_PER_SECOND);
        let admitted = bucket.left >= 1.0;
        if admitted {
            bucket.left -= 1.0;
        }
        admitted
    }
}

/// Of how many a root that the head decision kept is one: a trace that its caller alone wanted stands for itself.
pub fn rate_that_kept(root: &SpanData, configured: Rate) -> f64 {
    let rate = rate_of(&root.attributes, configured);
    if is_within(root.span_context.trace_id().to_bytes(), rate) { rate.get() } else { 1.0 }
}

fn rate_of(attributes: &[KeyValue], configured: Rate) -> Rate {
    let check = super::op_of(attributes) == super::HEALTH_CHECK;
    if check { configured.times(OF_HEALTH_CHECKS) } else { configured }
}

/// Whether a trace id is within this share: its lower eight bytes, without the highest bit, as a share of all there are.
fn is_within(trace_id: [u8; 16], rate: Rate) -> bool {
    let [.., a, b, c, d, e, f, g, h] = trace_id;
    let lower = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
    rate.get() >= 1.0 || (lower as f64) < rate.get() * (1_u64 << 63) as f64
}

impl ShouldSample for Head {
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
            (DECIDED, Value::Bool(sampled)) => Some(*sampled),
            _ => None,
        });
        let sampled = match (&context, decided) {
            (Some(parent), _) => parent.is_sampled(),
            (None, Some(sampled)) => sampled,
            (None, None) => is_within(trace_id.to_bytes(), rate_of(attributes, self.rate)),
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
        let ids: Vec<_> = (0..20_000).map(|_| propagation::mint().to_bytes()).collect();
        for (rate, least, most) in [("0", 0, 0), ("0.01", 140, 270), ("0.5", 9_700, 10_300), ("1", 20_000, 20_000)] {
            let head = Head::new(rate.parse().unwrap());
            let kept = ids.iter().filter(|id| head.of_trace(**id)).count();
            assert!((least..=most).contains(&kept), "{rate}: {kept}");
            let again = Head::new(rate.parse().unwrap());
            assert!(ids.iter().all(|id| head.of_trace(*id) == again.of_trace(*id)));
        }
    }

    #[test]
    fn a_caller_decides_about_its_own_traces_up_to_a_bound() {
        let head = Head::new("0".parse().unwrap());
        assert!(!head.of_caller(&trace(1, None)));
        assert!(!head.of_caller(&trace(1, Some(false))));
        assert!(head.of_caller(&trace(1, Some(true))), "it may say yes");
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!((0..1_000).filter(|_| head.admitted(now)).count(), 50, "and not to all");
        let later = now + Duration::from_secs(1);
        assert_eq!((0..1_000).filter(|_| head.admitted(later)).count(), 50, "a second later there is room again");
        let all = Head::new("1".parse().unwrap());
        assert!(!all.of_caller(&trace(1, Some(false))), "a caller may also say no");
    }
}
