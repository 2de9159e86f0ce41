//! The newest, the safe and the finalized head of one moment.

use crate::{
    chain::Header,
    registration::{Block, Finality},
};
use std::time::Duration;

/// The least and the longest time after which a caller may ask again for a block that is not final.
const MIN_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(1_800);
/// Where the chain has no final head yet.
const UNKNOWN_WAIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    pub(super) newest: Header,
    pub(super) safe: Option<Header>,
    pub(super) finalized: Option<Header>,
}

impl Heads {
    /// The heads that have at least this finality and are not below the block `number`, the most final one first.
    pub(super) fn blocks_with(&self, number: u64, min: Finality) -> impl Iterator<Item = (Finality, Block)> {
        let heads =
            [(Finality::Finalized, self.finalized), (Finality::Safe, self.safe), (Finality::Unsafe, Some(self.newest))];
        let with_block = heads.into_iter().filter_map(|(finality, head)| Some((finality, head?.block)));
        with_block.filter(move |(finality, block)| *finality >= min && block.number >= number)
    }

    /// Of the block with this number.
    pub(super) fn finality_of(&self, number: u64) -> Finality {
        let has = |head: Option<Header>| head.is_some_and(|head| number <= head.block.number);
        match (has(self.finalized), has(self.safe)) {
            (true, _) => Finality::Finalized,
            (false, true) => Finality::Safe,
            (false, false) => Finality::Unsafe,
        }
    }

    /// About how long it takes until the block has this finality, if the head of that finality advances as fast as blocks
    /// were made since.
    pub(super) fn time_until(&self, number: u64, finality: Finality) -> Duration {
        let head = match finality {
            Finality::Finalized => self.finalized,
            Finality::Safe => self.safe,
            Finality::Unsafe => Some(self.newest),
        };
        let Some(head) = head else { return UNKNOWN_WAIT };
        let blocks = self.newest.block.number.saturating_sub(head.block.number);
        let missing = number.saturating_sub(head.block.number);
        if blocks == 0 {
            return MIN_WAIT;
        }
        let lag = self.newest.block.time.since(head.block.time);
        lag.mul_f64(missing as f64 / blocks as f64).clamp(MIN_WAIT, MAX_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::Timestamp;
    use alloy::primitives::B256;

    fn header(number: u64) -> Header {
        let block = Block { number, hash: B256::ZERO, time: Timestamp::from_seconds(number / 5) };
        Header { block, parent_hash: B256::ZERO, gas_limit: 0, base_fee: 0 }
    }

    /// As on Base: five blocks a second, two minutes until they are safe, twenty until they are final.
    fn heads() -> Heads {
        Heads { newest: header(10_000), safe: Some(header(9_400)), finalized: Some(header(4_000)) }
    }

    #[test]
    fn the_most_final_block_that_has_the_record_is_first() {
        use Finality::{Finalized, Safe, Unsafe};
        let blocks = |number, min| {
            heads().blocks_with(number, min).map(|(finality, block)| (finality, block.number)).collect::<Vec<_>>()
        };
        assert_eq!(blocks(4_000, Unsafe), [(Finalized, 4_000), (Safe, 9_400), (Unsafe, 10_000)]);
        assert_eq!(blocks(4_001, Unsafe), [(Safe, 9_400), (Unsafe, 10_000)]);
        assert_eq!(blocks(4_001, Finalized), []);
        assert_eq!(blocks(9_401, Safe), []);
        let without = Heads { safe: None, finalized: None, ..heads() };
        assert_eq!(without.blocks_with(1, Safe).count(), 0);
        let finality = [4_000, 9_400, 9_401].map(|number| heads().finality_of(number));
        assert_eq!(finality, [Finalized, Safe, Unsafe]);
    }

    #[test]
    fn the_wait_is_as_long_as_the_block_is_above_the_final_one() {
        let seconds = |number, finality| heads().time_until(number, finality).as_secs();
        assert_eq!((seconds(10_000, Finality::Finalized), seconds(7_000, Finality::Finalized)), (1_200, 600));
        assert_eq!((seconds(10_000, Finality::Safe), seconds(9_400, Finality::Safe)), (120, 1));
        let young = Heads { safe: None, finalized: None, ..heads() };
        assert_eq!(young.time_until(9, Finality::Finalized), UNKNOWN_WAIT);
        let halted = Heads { finalized: Some(header(10_000)), ..heads() };
        assert_eq!(halted.time_until(10_001, Finality::Finalized), MIN_WAIT);
    }
}
