//! Compares the heads of all endpoints.
//!
//! | endpoints with a head | reference |
//! |---|---|
//! | one | its own head: there is nothing to compare with |
//! | two | the newer by block time, unless it is from the future or its endpoint cannot return its parent |
//! | three and more | the second newest, so that one wrong endpoint cannot lead; the newest while no other head advances |
//!
//! A frozen primary is measured by the others' heads, not by its own. Distance is measured in time, not in blocks: five of
//! Base's blocks share a second.

use super::health_policy::HeadStatus;
use crate::{chain::Header, registration::Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// By block time.
const MAX_HEAD_LAG: Duration = Duration::from_secs(3);
/// One minute of Base's blocks; heads of equal age are never further apart in number.
const MAX_NUMBER_GAP: u64 = 300;
/// How far a block's time may be in the future.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5);
/// The chain is stalled when no head has advanced for this long and none is younger.
const STALL_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObservedHead {
    pub header: Header,
    /// By the local clock.
    pub since: Instant,
    /// False when the endpoint could not return the parent block.
    pub plausible: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct HeadComparison {
    /// In the order of the endpoints.
    pub statuses: Vec<HeadStatus>,
    pub stalled_since: Option<Instant>,
}

/// `now` is the local clock, `time` the calendar time.
pub fn compare_heads(heads: &[Option<ObservedHead>], now: Instant, time: Timestamp) -> HeadComparison {
    let known: Vec<&ObservedHead> = heads.iter().flatten().collect();
    let future = |seen: &ObservedHead| seen.header.block.time.since(time) > MAX_CLOCK_SKEW;
    // When all are in the future, the local clock is wrong, or the chain's (anvil's can be set).
    let all_future = known.iter().all(|seen| future(seen));
    let alone = known.len() < 2;
    let possible = |seen: &ObservedHead| alone || (seen.plausible && (all_future || !future(seen)));

    let lead = reference_time(known.iter().copied().filter(|seen| possible(seen)), now);
    // A lead within the clock skew must not make other endpoints lag.
    let lead = lead.map(|lead| if all_future { lead } else { lead.min(time) });
    let mut numbers: Vec<u64> =
        known.iter().filter(|seen| possible(seen)).map(|seen| seen.header.block.number).collect();
    numbers.sort_unstable();
    let highest = if numbers.len() > 2 { numbers.get(numbers.len() - 2) } else { numbers.last() };
    // As recent as the others', but with a number far below: another chain with the same id.
    let elsewhere =
        |seen: &ObservedHead| highest.is_some_and(|highest| seen.header.block.number + MAX_NUMBER_GAP < *highest);
    let standing = |seen: &ObservedHead| match lead {
        _ if !possible(seen) => HeadStatus::Implausible,
        Some(lead) if lead.since(seen.header.block.time) > MAX_HEAD_LAG => {
            HeadStatus::Lagging(lead.since(seen.header.block.time))
        }
        Some(_) if elsewhere(seen) => HeadStatus::Implausible,
        Some(_) | None => HeadStatus::InSync,
    };
    let standings = heads.iter().map(|seen| seen.as_ref().map_or(HeadStatus::InSync, standing)).collect();

    // An endpoint that returns the newest block later than others has not advanced the chain.
    let newest =
        known.iter().filter(|seen| possible(seen)).map(|seen| seen.header.block).max_by_key(|block| block.number);
    let holders = known.iter().filter(|seen| Some(seen.header.block) == newest);
    let moved = holders.map(|seen| seen.since).min();
    let still_since = moved.zip(newest).filter(|(moved, newest)| {
        now.saturating_duration_since(*moved) >= STALL_AFTER && time.since(newest.time) >= STALL_AFTER
    });
    HeadComparison { statuses: standings, stalled_since: still_since.map(|(moved, _)| moved) }
}

/// The block time that the heads are compared with.
fn reference_time<'a>(possible: impl Iterator<Item = &'a ObservedHead>, now: Instant) -> Option<Timestamp> {
    let mut seen: Vec<&ObservedHead> = possible.collect();
    seen.sort_unstable_by_key(|seen| seen.header.block.time);
    let (newest, others) = seen.split_last()?;
    let moves = |seen: &ObservedHead| now.saturating_duration_since(seen.since) < STALL_AFTER;
    let alone = moves(newest) && !others.iter().any(|seen| moves(seen));
    let second = others.last().filter(|_| others.len() > 1 && !alone);
    Some(second.unwrap_or(newest).header.block.time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::Block;
    use alloy::primitives::B256;

    const NOW: u64 = 1_000;

    /// A head of this age in seconds (negative: from the future), shown since `since` seconds.
    fn observed_head(start: Instant, age: i64, since: u64, plausible: bool) -> Option<ObservedHead> {
        let time = Timestamp::from_seconds(NOW.saturating_add_signed(-age));
        let since = start - Duration::from_secs(since);
        let number = NOW.saturating_add_signed(-age);
        let block = Block { number, hash: B256::ZERO, time };
        Some(ObservedHead {
            header: Header { block, parent_hash: B256::ZERO, gas_limit: 0, base_fee: 0 },
            since,
            plausible,
        })
    }

    #[test]
    fn each_number_of_endpoints_has_its_rule() {
        use HeadStatus::*;
        let start = Instant::now() + Duration::from_secs(10_000);
        let fresh = |age| observed_head(start, age, 0, true);
        let behind = |seconds| Lagging(Duration::from_secs(seconds));
        for (what, heads, expected) in [
            ("none answers", vec![None, None], vec![InSync, InSync]),
            ("one alone is not judged, however old", vec![fresh(900)], vec![InSync]),
            ("nor when the others do not answer", vec![fresh(900), None], vec![InSync, InSync]),
            ("nor from the future", vec![fresh(-900)], vec![InSync]),
            ("nor without a parent", vec![observed_head(start, 0, 0, false)], vec![InSync]),
            ("two together", vec![fresh(1), fresh(0)], vec![InSync, InSync]),
            ("three seconds are not too far", vec![fresh(3), fresh(0)], vec![InSync, InSync]),
            ("a frozen primary is behind the backup", vec![fresh(4), fresh(0)], vec![behind(4), InSync]),
            ("a frozen backup is behind the primary", vec![fresh(0), fresh(60)], vec![InSync, behind(60)]),
            ("a head from the future does not lead", vec![fresh(-60), fresh(0)], vec![Implausible, InSync]),
            ("a little of the future is a matter of clocks", vec![fresh(-3), fresh(0)], vec![InSync, InSync]),
            ("two from the future: our clock is wrong", vec![fresh(-60), fresh(-60)], vec![InSync, InSync]),
            ("no parent, no lead", vec![observed_head(start, 0, 0, false), fresh(9)], vec![Implausible, InSync]),
            ("two of three agree", vec![fresh(9), fresh(0), fresh(0)], vec![behind(9), InSync, InSync]),
            ("a lone leader of three does not lead", vec![fresh(0), fresh(9), fresh(9)], vec![InSync, InSync, InSync]),
            ("a frozen primary of three", vec![fresh(60), fresh(1), fresh(0)], vec![behind(59), InSync, InSync]),
            (
                "two of three stand still for long",
                vec![observed_head(start, 60, 60, true), observed_head(start, 60, 60, true), fresh(0)],
                vec![behind(60), behind(60), InSync],
            ),
            ("a clock ahead makes nobody late", vec![fresh(-4), fresh(0)], vec![InSync, InSync]),
            ("one away, one frozen", vec![None, fresh(60), fresh(0)], vec![InSync, behind(60), InSync]),
        ] {
            let review = compare_heads(&heads, start, Timestamp::from_seconds(NOW));
            assert_eq!(review.statuses, expected, "{what}");
        }
    }

    #[test]
    fn a_young_head_far_below_the_others_is_of_another_chain() {
        let start = Instant::now();
        let at = |number| {
            observed_head(start, 0, 0, true).map(|seen| {
                let block = Block { number, ..seen.header.block };
                ObservedHead { header: Header { block, ..seen.header }, ..seen }
            })
        };
        let standings =
            |heads: &[Option<ObservedHead>]| compare_heads(heads, start, Timestamp::from_seconds(NOW)).statuses;
        assert_eq!(standings(&[at(35), at(2_515)]), [HeadStatus::Implausible, HeadStatus::InSync]);
        assert_eq!(standings(&[at(2_300), at(2_515)]), [HeadStatus::InSync, HeadStatus::InSync]);
        assert_eq!(
            standings(&[at(9_999), at(2_515), at(2_515)]),
            [HeadStatus::InSync, HeadStatus::InSync, HeadStatus::InSync]
        );
    }

    #[test]
    fn the_chain_stands_still_when_no_endpoint_shows_anything_newer() {
        let start = Instant::now() + Duration::from_secs(10_000);
        let still = |heads: &[Option<ObservedHead>]| {
            compare_heads(heads, start, Timestamp::from_seconds(NOW)).stalled_since.is_some()
        };
        let head = |age, since| observed_head(start, age, since, true);
        assert!(still(&[head(12, 10), head(12, 11)]), "all heads old and unmoved");
        assert!(!still(&[head(12, 10), head(0, 0)]), "one moves");
        assert!(still(&[head(12, 10), head(12, 0)]), "one shows the same block only now");
        assert!(!still(&[head(12, 2)]), "just arrived, though old: the node may be catching up");
        assert!(!still(&[head(2, 10)]), "young, though unmoved: our own clock stood still");
        assert!(!still(&[None]), "nobody answers: that is no stall");
    }
}
