//! Blocks below the head that the endpoints no longer have. A node's `null` proves nothing by itself: one that is
//! behind answers it too. But a chain may keep a hole after a reorg (anvil leaves one when a block is mined during
//! `anvil_reorg`), and a transaction in such a block must not count as included for ever.

use crate::chain::{
    CallError, Chain, EndpointResponse, FanOut, Header, MISSING_GRACE, QUORUM_TIMEOUT, RejectReason, required_votes,
};
use alloy::primitives::B256;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// After a longer gap the block counts as missing from now on. Polls are at most 2 s apart, plus their own duration.
const MAX_OBSERVATION_GAP: Duration = Duration::from_secs(8);
const MAX_MISSING_BLOCKS: usize = 1_000;

/// Since when which numbers have been missing. Clones share it, from poll to poll.
#[derive(Clone, Debug, Default)]
pub(super) struct MissingBlocks(Arc<Mutex<BTreeMap<u64, MissingSince>>>);

#[derive(Clone, Copy, Debug)]
struct MissingSince {
    since: Instant,
    last_missing: Instant,
    last_quorum_check: Option<Instant>,
}

impl MissingBlocks {
    pub(super) fn record_present(&self, number: u64) {
        self.0.lock().remove(&number);
    }

    /// Returns for how long it has been missing, if it is time to ask a quorum.
    pub(super) fn record_missing(&self, number: u64) -> Option<Duration> {
        let now = Instant::now();
        let first = MissingSince { since: now, last_missing: now, last_quorum_check: None };
        let mut blocks = self.0.lock();
        let missing = blocks.entry(number).or_insert(first);
        if now.duration_since(missing.last_missing) > MAX_OBSERVATION_GAP {
            *missing = first;
        }
        missing.last_missing = now;
        let missing_for = now.duration_since(missing.since);
        let due = missing_for >= MISSING_GRACE
            && missing.last_quorum_check.is_none_or(|checked| now.duration_since(checked) >= QUORUM_TIMEOUT);
        if due {
            missing.last_quorum_check = Some(now);
        }
        while blocks.len() > MAX_MISSING_BLOCKS {
            blocks.pop_first();
        }
        due.then_some(missing_for)
    }
}

/// Whether enough endpoints have the head and do not have the block.
pub(super) async fn is_gone_at_quorum(chain: &Chain, head: &Header, block: (u64, B256), missing_for: Duration) -> bool {
    is_gone_by_votes(&collect_votes(chain, head, block).await, missing_for, chain.endpoint_count())
}

/// Of each endpoint that has the head: whether it has the block. One that does not have the head is behind or on
/// another branch, and has no vote.
async fn collect_votes(chain: &Chain, head: &Header, (number, hash): (u64, B256)) -> Vec<bool> {
    let fan_out = FanOut::to_quorum();
    let headers = |number| chain.headers_from_many(number, fan_out);
    let (blocks, heads) = tokio::join!(headers(number), headers(head.block.number));
    let has_hash = |header: Option<Header>, hash| header.is_some_and(|header| header.block.hash == hash);
    let has_head: Vec<_> = heads
        .into_iter()
        .filter_map(parse_vote)
        .filter_map(|(endpoint, header)| has_hash(header, head.block.hash).then_some(endpoint))
        .collect();
    let votes = blocks.into_iter().filter_map(parse_vote).filter(|(endpoint, _)| has_head.contains(endpoint));
    votes.map(|(_, header)| has_hash(header, hash)).collect()
}

/// An endpoint and its header of a number. Some nodes answer with an error instead of `null` for a block that they do
/// not have; any other error is no vote.
fn parse_vote(response: EndpointResponse<Option<Header>>) -> Option<(String, Option<Header>)> {
    let header = match response.result {
        Ok(header) => header,
        Err(error) if is_unknown_block(&error) => None,
        Err(_) => return None,
    };
    Some((response.endpoint, header))
}

fn is_unknown_block(error: &CallError) -> bool {
    error.reject_reason() == Some(&RejectReason::UnknownBlock)
}

fn is_gone_by_votes(has_block: &[bool], missing_for: Duration, endpoints: usize) -> bool {
    missing_for >= MISSING_GRACE
        && has_block.len() >= required_votes(missing_for, endpoints)
        && !has_block.contains(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_gone_when_no_endpoint_with_the_head_has_it_for_long_enough() {
        let seconds = Duration::from_secs;
        for (has_block, missing_for, endpoints, expected) in [
            (&[false][..], 10, 1, true),
            (&[false], 9, 1, false),
            (&[true], 600, 1, false),
            (&[], 600, 1, false),
            (&[false, false], 10, 2, true),
            (&[false, false], 10, 3, true),
            (&[false, true], 600, 2, false),
            (&[true, false], 600, 3, false),
            // Of two endpoints, one is enough after a minute.
            (&[false], 59, 2, false),
            (&[false], 60, 2, true),
        ] {
            assert_eq!(
                is_gone_by_votes(has_block, seconds(missing_for), endpoints),
                expected,
                "{has_block:?}, {missing_for} s of {endpoints}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_is_missing_from_its_first_observation_until_it_is_present_again() {
        let missing = MissingBlocks::default();
        let after = async |seconds| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            missing.record_missing(7).map(|missing_for| missing_for.as_secs())
        };
        assert_eq!([after(0).await, after(5).await, after(4).await, after(1).await], [None, None, None, Some(10)]);
        assert_eq!([after(1).await, after(1).await], [None, Some(12)], "a quorum is asked at intervals");
        missing.record_present(7);
        assert_eq!([after(0).await, after(5).await, after(5).await], [None, None, Some(10)]);
        let after_a_gap = [after(9).await, after(5).await, after(5).await];
        assert_eq!(after_a_gap, [None, None, Some(10)], "a gap between observations starts anew");
    }
}
