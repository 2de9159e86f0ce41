//! What is remembered of traces whose parts end at different times: which ones are kept, and what of the others ended last.
//!
//! A call may be answered long before the journey that it began fails. Its span is held for a while, so that a failure still
//! finds it; the oldest goes first.

use super::Segment;
use opentelemetry::TraceId;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Locks are taken on one of so many parts.
const CACHE_SHARDS: usize = 16;
/// So many kept traces are remembered.
const MAX_KEPT_TRACES: usize = 8_192;
/// So many spans that are not kept are held, about 12 MB: those of the calls of 30 s, the confirmation clock, at 200 a second.
const MAX_HELD_SPANS: usize = 12_288;

/// The memory.
#[derive(Debug)]
pub(super) struct TraceCache([Mutex<Shard>; CACHE_SHARDS]);

#[derive(Debug, Default)]
struct Shard {
    kept: HashSet<TraceId>,
    kept_in_order: VecDeque<TraceId>,
    held: HashMap<TraceId, Vec<Segment>>,
    /// Once for each held segment, with how many spans it has.
    held_in_order: VecDeque<(TraceId, usize)>,
    held_spans: usize,
}

impl Default for TraceCache {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl TraceCache {
    fn shard(&self, trace_id: TraceId) -> MutexGuard<'_, Shard> {
        let [.., last] = trace_id.to_bytes();
        self.0[usize::from(last) % CACHE_SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_kept(&self, trace_id: TraceId) -> bool {
        self.shard(trace_id).kept.contains(&trace_id)
    }

    /// Marks a trace as kept; returns what was held of it.
    pub(super) fn mark_kept(&self, trace_id: TraceId) -> Vec<Segment> {
        let mut part = self.shard(trace_id);
        if part.kept.insert(trace_id) {
            part.kept_in_order.push_back(trace_id);
            if part.kept_in_order.len() > MAX_KEPT_TRACES / CACHE_SHARDS
                && let Some(oldest) = part.kept_in_order.pop_front()
            {
                part.kept.remove(&oldest);
            }
        }
        // Its places in the order are passed over when they come up.
        part.held.remove(&trace_id).unwrap_or_default()
    }

    /// Gives a segment back if its trace is kept, and else holds it, if it is `worth` it. The oldest are gone for good.
    pub(super) fn hold(&self, trace_id: TraceId, segment: Segment, worth: bool) -> Option<Segment> {
        let mut part = self.shard(trace_id);
        if part.kept.contains(&trace_id) {
            return Some(segment);
        }
        let spans = segment.span_count().max(1);
        if !worth || spans > MAX_HELD_SPANS / CACHE_SHARDS {
            return None;
        }
        part.held.entry(trace_id).or_default().push(segment);
        part.held_in_order.push_back((trace_id, spans));
        part.held_spans += spans;
        while part.held_spans > MAX_HELD_SPANS / CACHE_SHARDS {
            let Some((oldest, spans)) = part.held_in_order.pop_front() else { break };
            part.held_spans -= spans;
            // All of a trace goes together; its other places are passed over.
            part.held.remove(&oldest);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::SpanId;

    fn trace(number: u128) -> TraceId {
        // All in one part.
        TraceId::from(number * CACHE_SHARDS as u128 * 16)
    }

    fn segment() -> Segment {
        Segment { root_id: SpanId::from(1), spans: Vec::new(), deferred: Vec::new() }
    }

    #[test]
    fn what_ended_well_is_there_when_its_trace_fails_later() {
        let memory = TraceCache::default();
        assert!(memory.hold(trace(1), segment(), true).is_none());
        assert!(memory.hold(trace(1), segment(), true).is_none());
        assert!(memory.hold(trace(2), segment(), false).is_none());
        assert!(!memory.is_kept(trace(1)));
        assert_eq!(memory.mark_kept(trace(1)).len(), 2);
        assert!(memory.is_kept(trace(1)));
        assert!(memory.mark_kept(trace(1)).is_empty(), "it is delivered once");
        assert!(memory.mark_kept(trace(2)).is_empty(), "it was not worth holding");
        assert!(memory.hold(trace(2), segment(), false).is_some(), "it is kept from now on");
    }

    #[test]
    fn the_oldest_goes_first_and_nothing_grows() {
        let memory = TraceCache::default();
        let most = MAX_HELD_SPANS / CACHE_SHARDS;
        (1..=2 * most as u128).for_each(|number| drop(memory.hold(trace(number), segment(), true)));
        assert!(memory.mark_kept(trace(1)).is_empty());
        assert_eq!(memory.mark_kept(trace(2 * most as u128)).len(), 1);
        (1..=2 * MAX_KEPT_TRACES as u128).for_each(|number| drop(memory.mark_kept(trace(number))));
        let part = memory.shard(trace(1));
        assert_eq!(
            (part.kept.len(), part.kept_in_order.len()),
            (MAX_KEPT_TRACES / CACHE_SHARDS, MAX_KEPT_TRACES / CACHE_SHARDS)
        );
        assert!(part.held_in_order.len() <= most && part.held_spans <= most);
    }
}
