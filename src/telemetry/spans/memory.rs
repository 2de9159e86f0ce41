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
const PARTS: usize = 16;
/// So many kept traces are remembered.
const KEPT: usize = 8_192;
/// So many segments that are not kept are held, about 6 MB.
const HELD: usize = 4_096;
/// A segment with more spans than this is not held.
const LARGEST: usize = 32;

/// The memory.
#[derive(Debug)]
pub(super) struct Memory([Mutex<Part>; PARTS]);

#[derive(Debug, Default)]
struct Part {
    kept: HashSet<TraceId>,
    kept_in_order: VecDeque<TraceId>,
    held: HashMap<TraceId, Vec<Segment>>,
    /// Once for each held segment.
    held_in_order: VecDeque<TraceId>,
}

impl Default for Memory {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Memory {
    fn part(&self, trace_id: TraceId) -> MutexGuard<'_, Part> {
        let [.., last] = trace_id.to_bytes();
        self.0[usize::from(last) % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_kept(&self, trace_id: TraceId) -> bool {
        self.part(trace_id).kept.contains(&trace_id)
    }

    /// Marks a trace as kept; returns what was held of it.
    pub(super) fn keep(&self, trace_id: TraceId) -> Vec<Segment> {
        let mut part = self.part(trace_id);
        if part.kept.insert(trace_id) {
            part.kept_in_order.push_back(trace_id);
            if part.kept_in_order.len() > KEPT / PARTS
                && let Some(oldest) = part.kept_in_order.pop_front()
            {
                part.kept.remove(&oldest);
            }
        }
        // Its places in the order are passed over when they come up.
        part.held.remove(&trace_id).unwrap_or_default()
    }

    /// Holds a segment; returns how many are gone for good.
    pub(super) fn hold(&self, trace_id: TraceId, segment: Segment) -> usize {
        if segment.spans.len() > LARGEST {
            return 1;
        }
        let mut part = self.part(trace_id);
        part.held.entry(trace_id).or_default().push(segment);
        part.held_in_order.push_back(trace_id);
        let mut gone = 0;
        while part.held_in_order.len() > HELD / PARTS {
            let Some(oldest) = part.held_in_order.pop_front() else { break };
            // All of a trace goes together.
            gone += part.held.remove(&oldest).map_or(0, |segments| segments.len());
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::SpanId;

    fn trace(number: u128) -> TraceId {
        // All in one part.
        TraceId::from(number * PARTS as u128 * 16)
    }

    fn segment() -> Segment {
        Segment { root: SpanId::from(1), spans: Vec::new() }
    }

    #[test]
    fn what_ended_well_is_there_when_its_trace_fails_later() {
        let memory = Memory::default();
        assert_eq!(memory.hold(trace(1), segment()), 0);
        assert_eq!(memory.hold(trace(1), segment()), 0);
        assert!(!memory.is_kept(trace(1)));
        assert_eq!(memory.keep(trace(1)).len(), 2);
        assert!(memory.is_kept(trace(1)));
        assert!(memory.keep(trace(1)).is_empty(), "it is delivered once");
    }

    #[test]
    fn the_oldest_goes_first_and_nothing_grows() {
        let memory = Memory::default();
        let most = HELD / PARTS;
        let gone: usize = (1..=2 * most as u128).map(|number| memory.hold(trace(number), segment())).sum();
        assert_eq!(gone, most);
        assert!(memory.keep(trace(1)).is_empty());
        assert_eq!(memory.keep(trace(2 * most as u128)).len(), 1);
        (1..=2 * KEPT as u128).for_each(|number| drop(memory.keep(trace(number))));
        let part = memory.part(trace(1));
        assert_eq!((part.kept.len(), part.kept_in_order.len()), (KEPT / PARTS, KEPT / PARTS));
        assert!(part.held_in_order.len() <= most);
    }
}
