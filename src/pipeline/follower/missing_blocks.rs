//! Blocks below the head that nobody shows any more. A node's "null" proves nothing by itself: one that is behind says it too. But a
//! chain may keep a hole where a reorg has replaced blocks (anvil leaves one when a block is mined beside `anvil_reorg`), and what
//! was in it must not count as included for ever.

use super::CanonicalView;
use crate::chain::{
    CallError, EndpointResponse, FanOut, Header, MISSING_GRACE, QUORUM_TIMEOUT, RejectReason, required_votes,
};
use alloy::primitives::B256;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Two looks that are further apart are not one absence; polls are 2 s apart at most, and take a while.
const MAX_OBSERVATION_GAP: Duration = Duration::from_secs(8);
/// So many numbers are remembered.
const MAX_MISSING_BLOCKS: usize = 1_000;

/// Since when numbers below the head are not shown; kept from poll to poll.
#[derive(Clone, Debug, Default)]
pub(super) struct MissingBlocks(Arc<Mutex<BTreeMap<u64, MissingSince>>>);

#[derive(Clone, Copy, Debug)]
struct MissingSince {
    since: Instant,
    last_missing: Instant,
    /// When several endpoints were last asked.
    last_quorum_check: Option<Instant>,
}

impl MissingBlocks {
    /// It is there.
    pub(super) fn record_present(&self, number: u64) {
        self.0.lock().remove(&number);
    }

    /// It was not shown just now. Returns since when that is so, if it is time to ask several endpoints.
    fn record_missing(&self, number: u64) -> Option<Duration> {
        let now = Instant::now();
        let mut absences = self.0.lock();
        let absence =
            absences.entry(number).or_insert(MissingSince { since: now, last_missing: now, last_quorum_check: None });
        if now.duration_since(absence.last_missing) > MAX_OBSERVATION_GAP {
            *absence = MissingSince { since: now, last_missing: now, last_quorum_check: None };
        }
        absence.last_missing = now;
        let unshown = now.duration_since(absence.since);
        let due = unshown >= MISSING_GRACE
            && absence.last_quorum_check.is_none_or(|asked| now.duration_since(asked) >= QUORUM_TIMEOUT);
        if due {
            absence.last_quorum_check = Some(now);
        }
        while absences.len() > MAX_MISSING_BLOCKS {
            absences.pop_first();
        }
        due.then_some(unshown)
    }
}

impl CanonicalView {
    /// Whether this block is gone, whose number is below the head and is not shown.
    pub(super) async fn is_block_gone(&mut self, number: u64, hash: B256) -> bool {
        if number >= self.head.block.number {
            return false;
        }
        if let Some(gone) = self.gone_cache.get(&hash) {
            return *gone;
        }
        let gone = match self.missing_blocks.record_missing(number) {
            None => false,
            Some(unshown) => {
                is_gone_by_votes(&self.collect_votes(number, hash).await, unshown, self.chain.endpoint_count())
            }
        };
        self.gone_cache.insert(hash, gone);
        gone
    }

    /// Whether endpoints show the block, of those that show the head: one that does not is behind, or on another chain, and has no say.
    async fn collect_votes(&self, number: u64, hash: B256) -> Vec<bool> {
        let fan_out = FanOut::to_quorum();
        let asked = |number| self.chain.headers_from_many(number, fan_out);
        let (blocks, heads) = tokio::join!(asked(number), asked(self.head.block.number));
        let is = |header: Option<Header>, hash| header.is_some_and(|header| header.block.hash == hash);
        let has_head: Vec<_> = heads
            .into_iter()
            .filter_map(parse_vote)
            .filter_map(|(endpoint, header)| is(header, self.head.block.hash).then_some(endpoint))
            .collect();
        let of_those = blocks.into_iter().filter_map(parse_vote).filter(|(endpoint, _)| has_head.contains(endpoint));
        of_those.map(|(_, header)| is(header, hash)).collect()
    }
}

/// What an endpoint says about a number, if it says anything: some nodes refuse to tell of a block that they do not have.
fn parse_vote(witness: EndpointResponse<Option<Header>>) -> Option<(String, Option<Header>)> {
    let header = match witness.result {
        Ok(header) => header,
        Err(error) if is_unknown_block(&error) => None,
        Err(_) => return None,
    };
    Some((witness.endpoint, header))
}

fn is_unknown_block(error: &CallError) -> bool {
    error.reject_reason() == Some(&RejectReason::UnknownBlock)
}

/// Whether a block that nobody has shown for so long is gone, by whether each of those that were heard shows it.
fn is_gone_by_votes(shown: &[bool], unshown: Duration, endpoints: usize) -> bool {
    unshown >= MISSING_GRACE && shown.len() >= required_votes(unshown, endpoints) && !shown.contains(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_gone_when_nobody_who_has_the_head_has_it_and_that_stays_so() {
        let seconds = Duration::from_secs;
        for (shown, unshown, endpoints, expected) in [
            (&[false][..], 10, 1, true),
            (&[false], 9, 1, false),
            (&[true], 600, 1, false),
            (&[], 600, 1, false),
            (&[false, false], 10, 2, true),
            (&[false, false], 10, 3, true),
            (&[false, true], 600, 2, false),
            (&[true, false], 600, 3, false),
            // Of two, one alone is heard after a minute.
            (&[false], 59, 2, false),
            (&[false], 60, 2, true),
        ] {
            assert_eq!(
                is_gone_by_votes(shown, seconds(unshown), endpoints),
                expected,
                "{shown:?}, {unshown} s of {endpoints}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_absence_is_counted_from_its_first_look_until_the_block_is_shown() {
        let unshown = MissingBlocks::default();
        let after = async |seconds| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            unshown.record_missing(7).map(|since| since.as_secs())
        };
        assert_eq!([after(0).await, after(5).await, after(4).await, after(1).await], [None, None, None, Some(10)]);
        assert_eq!([after(1).await, after(1).await], [None, Some(12)], "asked now and then");
        unshown.record_present(7);
        assert_eq!([after(0).await, after(5).await, after(5).await], [None, None, Some(10)]);
        let apart = [after(9).await, after(5).await, after(5).await];
        assert_eq!(apart, [None, None, Some(10)], "two looks far apart are not one absence");
    }
}
