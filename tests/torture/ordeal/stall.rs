//! How long it takes from the start of a process until registrations are confirmed again.

use std::{ops::Range, time::Duration};

/// One process, from its start to its kill, in times since the run began.
pub type Life = Range<Duration>;

/// What a life shows about how soon a start is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recovery {
    /// So long after the start the next registration was confirmed, or none was for so long; the chain was well all the time.
    Well(Duration),
    /// The chain was not well in between: so long after it was again.
    AfterTrouble(Duration),
    /// Killed too soon to tell.
    CutShort,
}

/// Judges a life by when registrations were confirmed (sorted) and when the chain was not well. A life that ends without any
/// confirmation is a stall only when it was longer than `patience`.
pub fn recovery(life: &Life, confirmed: &[Duration], unwell: &[Range<Duration>], patience: Duration) -> Recovery {
    let next = confirmed[confirmed.partition_point(|at| *at < life.start)..].first();
    let until = next.copied().filter(|at| *at <= life.end).unwrap_or(life.end);
    let seen = until < life.end || next == Some(&life.end);
    let well_again =
        unwell.iter().filter(|bad| bad.start < until && bad.end > life.start).map(|bad| bad.end.min(until)).max();
    let took = until - well_again.unwrap_or(life.start);
    match well_again {
        _ if !seen && took <= patience => Recovery::CutShort,
        Some(_) => Recovery::AfterTrouble(took),
        None => Recovery::Well(took),
    }
}

/// The longest time in which nothing was confirmed although the chain was well, between these two moments.
pub fn longest_gap(run: &Range<Duration>, confirmed: &[Duration], unwell: &[Range<Duration>]) -> Duration {
    let mut marks: Vec<Duration> = confirmed.iter().copied().filter(|at| run.contains(at)).collect();
    marks.extend([run.start, run.end]);
    marks.sort_unstable();
    let gaps = marks.windows(2).map(|pair| {
        let unwell_between = unwell.iter().map(|bad| bad.end.min(pair[1]).saturating_sub(bad.start.max(pair[0])));
        (pair[1] - pair[0]).saturating_sub(unwell_between.sum())
    });
    gaps.max().unwrap_or_default()
}
