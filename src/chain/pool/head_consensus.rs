//! Compares the heads of all endpoints.
//!
//! | endpoints with a head | reference |
//! |---|---|
//! | one | its own head: there is nothing to compare with |
//! | two | the newer by block time, unless it is from the future or its endpoint cannot return its parent |
//! | three and more | the second newest, so that one wrong endpoint is no reference; the newest if only it advances |
//!
//! A frozen primary is compared with the others' heads, not with its own. Distance is measured in time, not in blocks:
//! five of Base's blocks share a second.

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
    let is_future = |seen: &ObservedHead| seen.header.block.time.since(time) > MAX_CLOCK_SKEW;
    // When all are in the future, the local clock is wrong, or the chain's (anvil's can be set).
    let all_future = known.iter().all(|seen| is_future(seen));
    let is_only = known.len() < 2;
    let is_plausible = |seen: &ObservedHead| is_only || (seen.plausible && (all_future || !is_future(seen)));

    let reference = reference_time(known.iter().copied().filter(|seen| is_plausible(seen)), now);
    // A reference within the clock skew must not make other endpoints lag.
    let reference = reference.map(|reference| if all_future { reference } else { reference.min(time) });
    let mut numbers: Vec<u64> =
        known.iter().filter(|seen| is_plausible(seen)).map(|seen| seen.header.block.number).collect();
    numbers.sort_unstable();
    let highest = if numbers.len() > 2 { numbers.get(numbers.len() - 2) } else { numbers.last() };
    // As recent as the others', but with a number far below: another chain with the same id.
    let is_on_other_chain =
        |seen: &ObservedHead| highest.is_some_and(|highest| seen.header.block.number + MAX_NUMBER_GAP < *highest);
    let status = |seen: &ObservedHead| match reference {
        _ if !is_plausible(seen) => HeadStatus::Implausible,
        Some(reference) if reference.since(seen.header.block.time) > MAX_HEAD_LAG => {
            HeadStatus::Lagging(reference.since(seen.header.block.time))
        }
        Some(_) if is_on_other_chain(seen) => HeadStatus::Implausible,
        Some(_) | None => HeadStatus::InSync,
    };
    let statuses = heads.iter().map(|seen| seen.as_ref().map_or(HeadStatus::InSync, status)).collect();

    // An endpoint that returns the newest block later than others has not advanced the chain.
    let newest =
        known.iter().filter(|seen| is_plausible(seen)).map(|seen| seen.header.block).max_by_key(|block| block.number);
    let holders = known.iter().filter(|seen| Some(seen.header.block) == newest);
    let advanced_at = holders.map(|seen| seen.since).min();
    let stalled = advanced_at.zip(newest).filter(|(advanced_at, newest)| {
        now.saturating_duration_since(*advanced_at) >= STALL_AFTER && time.since(newest.time) >= STALL_AFTER
    });
    HeadComparison { statuses, stalled_since: stalled.map(|(advanced_at, _)| advanced_at) }
}

/// The block time that the heads are compared with.
fn reference_time<'a>(plausible: impl Iterator<Item = &'a ObservedHead>, now: Instant) -> Option<Timestamp> {
    let mut seen: Vec<&ObservedHead> = plausible.collect();
    seen.sort_unstable_by_key(|seen| seen.header.block.time);
    let (newest, others) = seen.split_last()?;
    let advances = |seen: &ObservedHead| now.saturating_duration_since(seen.since) < STALL_AFTER;
    let only_newest_advances = advances(newest) && !others.iter().any(|seen| advances(seen));
    let second = others.last().filter(|_| others.len() > 1 && !only_newest_advances);
    Some(second.unwrap_or(newest).header.block.time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::Block;
    use alloy::primitives::B256;

    const NOW: u64 = 1_000;

    /// A head of this age in seconds (negative: from the future), first observed `since` seconds ago.
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
    fn the_reference_head_depends_on_the_number_of_endpoints() {
        use HeadStatus::*;
        let start = Instant::now() + Duration::from_secs(10_000);
        let fresh = |age| observed_head(start, age, 0, true);
        let lagging = |seconds| Lagging(Duration::from_secs(seconds));
        for (what, heads, expected) in [
            ("no endpoint has a head", vec![None, None], vec![InSync, InSync]),
            ("a single head is not compared, however old", vec![fresh(900)], vec![InSync]),
            ("a single head, and an endpoint without one", vec![fresh(900), None], vec![InSync, InSync]),
            ("a single head from the future", vec![fresh(-900)], vec![InSync]),
            ("a single head without its parent", vec![observed_head(start, 0, 0, false)], vec![InSync]),
            ("two within the tolerance", vec![fresh(1), fresh(0)], vec![InSync, InSync]),
            ("three seconds are within the tolerance", vec![fresh(3), fresh(0)], vec![InSync, InSync]),
            ("a frozen primary lags behind the backup", vec![fresh(4), fresh(0)], vec![lagging(4), InSync]),
            ("a frozen backup lags behind the primary", vec![fresh(0), fresh(60)], vec![InSync, lagging(60)]),
            ("a head from the future is no reference", vec![fresh(-60), fresh(0)], vec![Implausible, InSync]),
            ("within the clock skew", vec![fresh(-3), fresh(0)], vec![InSync, InSync]),
            ("two from the future: the local clock is wrong", vec![fresh(-60), fresh(-60)], vec![InSync, InSync]),
            (
                "a head without its parent is no reference",
                vec![observed_head(start, 0, 0, false), fresh(9)],
                vec![Implausible, InSync],
            ),
            ("two of three agree", vec![fresh(9), fresh(0), fresh(0)], vec![lagging(9), InSync, InSync]),
            ("the newest of three is no reference", vec![fresh(0), fresh(9), fresh(9)], vec![InSync, InSync, InSync]),
            ("a frozen primary of three", vec![fresh(60), fresh(1), fresh(0)], vec![lagging(59), InSync, InSync]),
            (
                "two of three do not advance",
                vec![observed_head(start, 60, 60, true), observed_head(start, 60, 60, true), fresh(0)],
                vec![lagging(60), lagging(60), InSync],
            ),
            ("a clock ahead makes no head lag", vec![fresh(-4), fresh(0)], vec![InSync, InSync]),
            ("one without a head, one frozen", vec![None, fresh(60), fresh(0)], vec![InSync, lagging(60), InSync]),
        ] {
            let comparison = compare_heads(&heads, start, Timestamp::from_seconds(NOW));
            assert_eq!(comparison.statuses, expected, "{what}");
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
        let statuses =
            |heads: &[Option<ObservedHead>]| compare_heads(heads, start, Timestamp::from_seconds(NOW)).statuses;
        assert_eq!(statuses(&[at(35), at(2_515)]), [HeadStatus::Implausible, HeadStatus::InSync]);
        assert_eq!(statuses(&[at(2_300), at(2_515)]), [HeadStatus::InSync, HeadStatus::InSync]);
        assert_eq!(
            statuses(&[at(9_999), at(2_515), at(2_515)]),
            [HeadStatus::InSync, HeadStatus::InSync, HeadStatus::InSync]
        );
    }

    #[test]
    fn the_chain_is_stalled_when_no_head_advances() {
        let start = Instant::now() + Duration::from_secs(10_000);
        let is_stalled = |heads: &[Option<ObservedHead>]| {
            compare_heads(heads, start, Timestamp::from_seconds(NOW)).stalled_since.is_some()
        };
        let head = |age, since| observed_head(start, age, since, true);
        assert!(is_stalled(&[head(12, 10), head(12, 11)]), "all heads are old and unchanged");
        assert!(!is_stalled(&[head(12, 10), head(0, 0)]), "one advances");
        assert!(is_stalled(&[head(12, 10), head(12, 0)]), "one has just returned the same block");
        assert!(!is_stalled(&[head(12, 2)]), "new, though its block is old: the node may be catching up");
        assert!(!is_stalled(&[head(2, 10)]), "unchanged, though its block is young: the local clock stopped");
        assert!(!is_stalled(&[None]), "no endpoint has a head");
    }
}
