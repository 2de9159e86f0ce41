//! Time from the start of a process until the next confirmation.

use std::{ops::Range, time::Duration};

/// A process from its start to its kill, as time since the start of the run.
pub type Lifetime = Range<Duration>;

/// How long a start kept registrations from being confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recovery {
    /// Time from the start to the next confirmation, or to the kill without one; the chain was usable throughout.
    Healthy(Duration),
    /// As `Healthy`, but measured from the end of the last fault in between.
    AfterFault(Duration),
    /// Killed too soon to distinguish a stall from a quick start.
    TooShort,
}

/// Evaluates a process by the sorted confirmation times and the chain's unhealthy intervals. A process without any
/// confirmation counts as stalled only when it ran longer than `max_stall`.
pub fn recovery(
    lifetime: &Lifetime,
    confirmed: &[Duration],
    unhealthy: &[Range<Duration>],
    max_stall: Duration,
) -> Recovery {
    let next = confirmed[confirmed.partition_point(|at| *at < lifetime.start)..].first();
    let until = next.copied().filter(|at| *at <= lifetime.end).unwrap_or(lifetime.end);
    let seen = until < lifetime.end || next == Some(&lifetime.end);
    let well_again = unhealthy
        .iter()
        .filter(|bad| bad.start < until && bad.end > lifetime.start)
        .map(|bad| bad.end.min(until))
        .max();
    let took = until - well_again.unwrap_or(lifetime.start);
    match well_again {
        _ if !seen && took <= max_stall => Recovery::TooShort,
        Some(_) => Recovery::AfterFault(took),
        None => Recovery::Healthy(took),
    }
}

/// The longest time without a confirmation between two moments, not counting the chain's unhealthy intervals.
pub fn longest_gap(run: &Range<Duration>, confirmed: &[Duration], unhealthy: &[Range<Duration>]) -> Duration {
    let mut marks: Vec<Duration> = confirmed.iter().copied().filter(|at| run.contains(at)).collect();
    marks.extend([run.start, run.end]);
    marks.sort_unstable();
    let gaps = marks.windows(2).map(|pair| {
        let unwell_between = unhealthy.iter().map(|bad| bad.end.min(pair[1]).saturating_sub(bad.start.max(pair[0])));
        (pair[1] - pair[0]).saturating_sub(unwell_between.sum())
    });
    gaps.max().unwrap_or_default()
}
