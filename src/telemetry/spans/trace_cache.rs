//! Traces whose segments end at different times: which of them are kept, and the last segments of the others.
//!
//! A call may be answered long before its registration fails. Its segment is held for a while, so that it is still
//! exported then. The oldest are evicted first.

use super::{
    segment::Segment,
    sharded::{SHARDS, Sharded},
};
use opentelemetry::TraceId;
use std::collections::{HashMap, HashSet, VecDeque};

const MAX_KEPT_TRACES: usize = 8_192;
/// About 12 MB: the calls of 30 s, the confirmation timeout, at 200 per second.
const MAX_HELD_SPANS: usize = 12_288;

#[derive(Debug, Default)]
pub(super) struct TraceCache(Sharded<Shard>);

#[derive(Debug, Default)]
struct Shard {
    kept: HashSet<TraceId>,
    kept_in_order: VecDeque<TraceId>,
    held: HashMap<TraceId, Vec<Segment>>,
    /// Once per held segment, with its number of spans.
    held_in_order: VecDeque<(TraceId, usize)>,
    held_spans: usize,
}

impl TraceCache {
    pub(super) fn is_kept(&self, trace_id: TraceId) -> bool {
        self.0.lock(trace_id).kept.contains(&trace_id)
    }

    /// Returns the segments of the trace that were held.
    pub(super) fn mark_kept(&self, trace_id: TraceId) -> Vec<Segment> {
        let mut shard = self.0.lock(trace_id);
        if shard.kept.insert(trace_id) {
            shard.kept_in_order.push_back(trace_id);
            if shard.kept_in_order.len() > MAX_KEPT_TRACES / SHARDS
                && let Some(oldest) = shard.kept_in_order.pop_front()
            {
                shard.kept.remove(&oldest);
            }
        }
        // Its entries in `held_in_order` are skipped when they come up.
        shard.held.remove(&trace_id).unwrap_or_default()
    }

    /// Returns the segment if its trace is kept. Otherwise holds it if it is `worth_holding`, and evicts the oldest.
    pub(super) fn hold(&self, trace_id: TraceId, segment: Segment, worth_holding: bool) -> Option<Segment> {
        let mut shard = self.0.lock(trace_id);
        if shard.kept.contains(&trace_id) {
            return Some(segment);
        }
        let spans = segment.span_count().max(1);
        if !worth_holding || spans > MAX_HELD_SPANS / SHARDS {
            return None;
        }
        shard.held.entry(trace_id).or_default().push(segment);
        shard.held_in_order.push_back((trace_id, spans));
        shard.held_spans += spans;
        while shard.held_spans > MAX_HELD_SPANS / SHARDS {
            let Some((oldest, spans)) = shard.held_in_order.pop_front() else { break };
            shard.held_spans -= spans;
            // Removes all segments of the trace; its other entries in the order are skipped.
            shard.held.remove(&oldest);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::SpanId;

    fn trace(number: u128) -> TraceId {
        // All in one shard.
        TraceId::from(number * SHARDS as u128 * 16)
    }

    fn segment() -> Segment {
        Segment { root_id: SpanId::from(1), call: None, spans: Vec::new(), deferred: Vec::new() }
    }

    #[test]
    fn held_segments_are_returned_when_their_trace_is_kept_later() {
        let cache = TraceCache::default();
        assert!(cache.hold(trace(1), segment(), true).is_none());
        assert!(cache.hold(trace(1), segment(), true).is_none());
        assert!(cache.hold(trace(2), segment(), false).is_none());
        assert!(!cache.is_kept(trace(1)));
        assert_eq!(cache.mark_kept(trace(1)).len(), 2);
        assert!(cache.is_kept(trace(1)));
        assert!(cache.mark_kept(trace(1)).is_empty(), "segments are returned once");
        assert!(cache.mark_kept(trace(2)).is_empty(), "not worth holding");
        assert!(cache.hold(trace(2), segment(), false).is_some(), "its trace is kept now");
    }

    #[test]
    fn the_oldest_are_evicted_first_and_the_size_is_bounded() {
        let cache = TraceCache::default();
        let max = MAX_HELD_SPANS / SHARDS;
        (1..=2 * max as u128).for_each(|number| drop(cache.hold(trace(number), segment(), true)));
        assert!(cache.mark_kept(trace(1)).is_empty());
        assert_eq!(cache.mark_kept(trace(2 * max as u128)).len(), 1);
        (1..=2 * MAX_KEPT_TRACES as u128).for_each(|number| drop(cache.mark_kept(trace(number))));
        let shard = cache.0.lock(trace(1));
        assert_eq!((shard.kept.len(), shard.kept_in_order.len()), (MAX_KEPT_TRACES / SHARDS, MAX_KEPT_TRACES / SHARDS));
        assert!(shard.held_in_order.len() <= max && shard.held_spans <= max);
    }
}
