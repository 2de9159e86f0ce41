//! The highest head and nonces seen so far, to detect stale answers.

use crate::{chain::Header, registration::Block};
use alloy::primitives::{Address, B256};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// How long all trusted endpoints must be below the highest head before it has regressed.
const HEAD_REGRESSION_GRACE: Duration = Duration::from_secs(3);

/// The same, when none of them ever returned the highest head: they may only be behind.
const UNSEEN_HEAD_GRACE: Duration = Duration::from_secs(60);
/// One minute of Base's blocks.
const HEAD_HISTORY_LEN: usize = 300;
/// Endpoints receive a block at different times.
const HEAD_PROPAGATION_DELAY: Duration = Duration::from_secs(1);

/// Of an endpoint that answers and is in sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrustedHead {
    pub head: Block,
    /// That the endpoint itself has returned.
    pub highest_number: u64,
}

#[derive(Debug, Default)]
pub struct Watermark {
    head: Option<Header>,
    raised_at: Option<Instant>,
    nonces: BTreeMap<Address, u64>,
    /// By number: shows whether a lower head is of the same chain.
    history: BTreeMap<u64, B256>,
    /// Since when no endpoint returns the highest head, and the highest trusted head then.
    below_since: Option<(Instant, Block)>,
    regressions: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadStep {
    /// The same head, its child, or the first.
    Advance,
    /// Higher or beside: accepted when the endpoint can return its parent.
    Jump,
    /// Lower than the highest head.
    Regress,
}

impl Watermark {
    pub fn classify_head(&self, header: &Header) -> HeadStep {
        let Some(seen) = self.head else { return HeadStep::Jump };
        let same = header.block == seen.block;
        let child = header.parent_hash == seen.block.hash && header.block.number == seen.block.number + 1;
        if same || child {
            HeadStep::Advance
        } else if header.block.number < seen.block.number {
            HeadStep::Regress
        } else {
            HeadStep::Jump
        }
    }

    /// An endpoint without a head this new is not stale.
    pub fn is_recently_raised(&self, now: Instant) -> bool {
        self.raised_at.is_some_and(|raised| now.saturating_duration_since(raised) < HEAD_PROPAGATION_DELAY)
    }

    pub fn head(&self) -> Option<Header> {
        self.head
    }

    pub fn regressions(&self) -> u64 {
        self.regressions
    }

    pub fn raise(&mut self, header: Header, now: Instant) {
        if self.head != Some(header) && self.classify_head(&header) != HeadStep::Regress {
            (self.head, self.raised_at, self.below_since) = (Some(header), Some(now), None);
            self.history.insert(header.block.number, header.block.hash);
            if self.history.len() > HEAD_HISTORY_LEN {
                self.history.pop_first();
            }
        }
    }

    pub fn nonce(&self, account: Address) -> Option<u64> {
        self.nonces.get(&account).copied()
    }

    pub fn is_stale_nonce(&self, account: Address, nonce: u64) -> bool {
        self.nonces.get(&account).is_some_and(|seen| nonce < *seen)
    }

    /// Accepts a lower nonce too: every reachable endpoint returned it.
    pub fn record_nonce(&mut self, account: Address, nonce: u64) {
        self.nonces.insert(account, nonce);
    }

    /// Returns the old and the new highest head when all trusted endpoints have stayed below the highest head. The next
    /// head is then accepted without comparison.
    pub fn detect_regression(&mut self, trusted: &[TrustedHead], now: Instant) -> Option<(Block, Block)> {
        let seen = self.head?.block;
        let highest = trusted.iter().map(|trusted| trusted.head).max_by_key(|block| block.number)?;
        if highest.number >= seen.number {
            self.below_since = None;
            return None;
        }
        let (low_since, low) = *self.below_since.get_or_insert((now, highest));
        let contradicts = self.history.get(&highest.number).is_some_and(|known| *known != highest.hash);
        if highest.number > low.number && !contradicts {
            // The endpoint is catching up on the same chain.
            self.below_since = Some((now, highest));
            return None;
        }
        let had_head = trusted.iter().any(|trusted| trusted.highest_number >= seen.number);
        let below_for = now.saturating_duration_since(low_since);
        if below_for < if had_head { HEAD_REGRESSION_GRACE } else { UNSEEN_HEAD_GRACE } {
            return None;
        }
        // Blocks are known to be gone only if the endpoint once had them.
        let regressions = self.regressions + u64::from(had_head);
        *self = Self { regressions, ..Self::default() };
        Some((seen, highest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::Timestamp;

    fn header(number: u64, hash: u8, parent: u8) -> Header {
        let block = Block { number, hash: B256::repeat_byte(hash), time: Timestamp::from_seconds(1_000 + number) };
        Header { block, parent_hash: B256::repeat_byte(parent), gas_limit: 30_000_000, base_fee: 1 }
    }

    #[test]
    fn a_head_advances_or_jumps_or_regresses() {
        let (mut watermark, now) = (Watermark::default(), Instant::now());
        assert_eq!(watermark.classify_head(&header(9, 9, 8)), HeadStep::Jump, "the first head needs its parent");
        watermark.raise(header(9, 9, 8), now);
        for (what, head, expected) in [
            ("the same", header(9, 9, 8), HeadStep::Advance),
            ("its child", header(10, 10, 9), HeadStep::Advance),
            ("its grandchild", header(11, 11, 10), HeadStep::Jump),
            ("another block of the same height", header(9, 99, 8), HeadStep::Jump),
            ("a child of another block", header(10, 10, 99), HeadStep::Jump),
            ("its hash with another number", header(99, 9, 8), HeadStep::Jump),
            ("its child with another number", header(99, 10, 9), HeadStep::Jump),
            ("its parent", header(8, 8, 7), HeadStep::Regress),
        ] {
            assert_eq!(watermark.classify_head(&head), expected, "{what}");
        }
        watermark.raise(header(8, 8, 7), now);
        assert_eq!(watermark.head(), Some(header(9, 9, 8)), "a lower head does not replace it");
    }

    #[test]
    fn the_head_has_regressed_when_all_trusted_endpoints_stay_below_it() {
        let (mut watermark, start) = (Watermark::default(), Instant::now());
        watermark.raise(header(9, 9, 8), start);
        watermark.record_nonce(Address::ZERO, 5);
        let (high_block, low_block) = (header(9, 9, 8).block, header(7, 7, 6).block);
        let high = TrustedHead { head: high_block, highest_number: 9 };
        let low = TrustedHead { head: low_block, highest_number: 9 };
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(watermark.detect_regression(&[low], after(0)), None);
        assert_eq!(watermark.detect_regression(&[low], after(2_900)), None, "within the grace period");
        assert_eq!(watermark.detect_regression(&[low, high], after(3_000)), None, "one endpoint still has it");
        assert_eq!(watermark.detect_regression(&[], after(4_000)), None, "no endpoint answers");
        assert_eq!(watermark.detect_regression(&[low, low], after(5_000)), None, "the grace period starts again");
        assert!(watermark.is_stale_nonce(Address::ZERO, 4));
        assert_eq!(watermark.detect_regression(&[low], after(8_000)), Some((high_block, low_block)));
        assert_eq!((watermark.head(), watermark.regressions()), (None, 1));
        assert!(!watermark.is_stale_nonce(Address::ZERO, 4), "nonces are reset with the head");
    }

    #[test]
    fn an_endpoint_that_never_had_the_head_does_not_prove_a_regression() {
        let (mut watermark, start) = (Watermark::default(), Instant::now());
        watermark.raise(header(9, 9, 8), start);
        let lagging = TrustedHead { head: header(7, 7, 6).block, highest_number: 7 };
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(watermark.detect_regression(&[lagging], after(0)), None);
        assert_eq!(watermark.detect_regression(&[lagging], after(59)), None);
        assert!(
            watermark.detect_regression(&[lagging], after(60)).is_some(),
            "no other endpoint answered within the grace period"
        );
        assert_eq!(watermark.regressions(), 0, "no block is known to be gone");
    }

    #[test]
    fn catching_up_on_the_same_chain_is_no_regression_and_on_another_chain_it_is() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let trusted = |number, hash| [TrustedHead { head: header(number, hash, 0).block, highest_number: 9 }];
        for (what, hash, expected) in [("the same chain", 8, 0), ("another chain", 88, 1)] {
            let mut watermark = Watermark::default();
            watermark.raise(header(8, 8, 7), start);
            watermark.raise(header(9, 9, 8), start);
            watermark.detect_regression(&trusted(6, 6), after(0));
            watermark.detect_regression(&trusted(7, 7), after(2));
            watermark.detect_regression(&trusted(8, hash), after(4));
            watermark.detect_regression(&trusted(8, hash), after(6));
            assert_eq!(watermark.regressions(), expected, "{what}");
        }
    }
}
