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

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_stall_lasts_from_the_start_or_the_end_of_a_trouble_to_the_next_confirmation() {
        let well = |took| Recovery::Well(seconds(took));
        let after = |took| Recovery::AfterTrouble(seconds(took));
        for (life, confirmed, unwell, expected) in [
            (10..30, &[9, 12, 13][..], &[][..], well(2)),
            (10..30, &[10], &[], well(0)),
            // Others confirm what this one does not live to see.
            (10..12, &[13], &[], Recovery::CutShort),
            (10..15, &[16], &[], Recovery::CutShort),
            (10..12, &[12], &[], well(2)),
            // Long enough to tell.
            (10..16, &[17], &[], well(6)),
            (10..30, &[], &[], well(20)),
            // A trouble that is over by then, one in its middle, one that it ends in, and one that comes later.
            (10..30, &[12], &[(5, 9)], well(2)),
            (10..30, &[14], &[(8, 11), (12, 13)], after(1)),
            (10..30, &[14], &[(12, 18)], after(0)),
            (10..30, &[14], &[(15, 18)], well(4)),
            // Killed after a trouble, too soon to tell, and late enough.
            (10..14, &[], &[(11, 12)], Recovery::CutShort),
            (10..30, &[], &[(11, 12)], after(18)),
        ] {
            let confirmed: Vec<_> = confirmed.iter().copied().map(seconds).collect();
            let unwell: Vec<_> = unwell.iter().map(|(from, to)| seconds(*from)..seconds(*to)).collect();
            let life = seconds(life.start)..seconds(life.end);
            assert_eq!(recovery(&life, &confirmed, &unwell, PATIENCE), expected, "{life:?} {confirmed:?} {unwell:?}");
        }
    }

    #[test]
    fn a_gap_is_what_is_left_of_the_time_between_two_confirmations_without_the_troubles() {
        let run = seconds(0)..seconds(20);
        let unwell = [seconds(5)..seconds(9), seconds(17)..seconds(18)];
        assert_eq!(longest_gap(&run, &[seconds(4), seconds(10), seconds(15)], &unwell), seconds(5));
        assert_eq!(longest_gap(&run, &[seconds(6), seconds(16)], &unwell), seconds(7));
        assert_eq!(longest_gap(&run, &[], &[]), seconds(20));
    }
}
