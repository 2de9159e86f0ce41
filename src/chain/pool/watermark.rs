//! What was seen already, so that an answer from before it can be told.

use crate::{chain::Header, registration::Block};
use alloy::primitives::Address;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// When every endpoint that can be trusted shows less than was seen for this long, the head has really fallen.
const PATIENCE: Duration = Duration::from_secs(3);

/// The highest head and nonces that were seen.
#[derive(Debug, Default)]
pub struct Watermark {
    head: Option<Header>,
    nonces: BTreeMap<Address, u64>,
    /// Since when nobody shows the highest head any more.
    low_since: Option<Instant>,
    /// How often the head fell.
    falls: u64,
}

/// How a head stands to what was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The same one, its child, or the first: nothing is between them.
    Next,
    /// Farther up, or beside: it is to be believed when its own parent can be shown.
    Leap,
    /// From before what was seen.
    Behind,
}

impl Watermark {
    /// How a head stands to the highest one.
    pub fn step(&self, header: &Header) -> Step {
        let Some(seen) = self.head else { return Step::Leap };
        if [header.block.hash, header.parent_hash].contains(&seen.block.hash) {
            Step::Next
        } else if header.block.number < seen.block.number {
            Step::Behind
        } else {
            Step::Leap
        }
    }

    /// The highest head.
    #[cfg(test)]
    fn head(&self) -> Option<Header> {
        self.head
    }

    /// How often the head fell so far.
    pub fn falls(&self) -> u64 {
        self.falls
    }

    /// Raises it to a head that is believed.
    pub fn raise(&mut self, header: Header) {
        if self.step(&header) != Step::Behind {
            self.head = Some(header);
            self.low_since = None;
        }
    }

    /// Whether a nonce is from before what was seen.
    pub fn is_old_nonce(&self, account: Address, nonce: u64) -> bool {
        self.nonces.get(&account).is_some_and(|seen| nonce < *seen)
    }

    /// The nonce that counts from now on, also when it is lower: every endpoint was asked then.
    pub fn note_nonce(&mut self, account: Address, nonce: u64) {
        self.nonces.insert(account, nonce);
    }

    /// Looks at the heads of every endpoint that can be trusted. When none of them reaches what was seen, and that stays so, the
    /// head has fallen: returns from where, and what is the highest now. The next head is then believed anew.
    pub fn review(&mut self, trusted: &[Block], now: Instant) -> Option<(Block, Block)> {
        let seen = self.head?.block;
        let highest = trusted.iter().max_by_key(|block| block.number)?;
        if highest.number >= seen.number {
            self.low_since = None;
            return None;
        }
        let low_since = *self.low_since.get_or_insert(now);
        if now.saturating_duration_since(low_since) < PATIENCE {
            return None;
        }
        let falls = self.falls + 1;
        *self = Self { falls, ..Self::default() };
        Some((seen, *highest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::Timestamp;
    use alloy::primitives::B256;

    fn header(number: u64, hash: u8, parent: u8) -> Header {
        let block = Block { number, hash: B256::repeat_byte(hash), time: Timestamp::from_seconds(1_000 + number) };
        Header { block, parent_hash: B256::repeat_byte(parent), gas_limit: 30_000_000, base_fee: 1 }
    }

    #[test]
    fn a_head_is_next_or_a_leap_or_behind() {
        let mut watermark = Watermark::default();
        assert_eq!(watermark.step(&header(9, 9, 8)), Step::Leap, "the first one has to show its parent");
        watermark.raise(header(9, 9, 8));
        for (what, head, expected) in [
            ("the same", header(9, 9, 8), Step::Next),
            ("its child", header(10, 10, 9), Step::Next),
            ("its grandchild", header(11, 11, 10), Step::Leap),
            ("another of the same height", header(9, 99, 8), Step::Leap),
            ("a child of another", header(10, 10, 99), Step::Leap),
            ("its parent", header(8, 8, 7), Step::Behind),
        ] {
            assert_eq!(watermark.step(&head), expected, "{what}");
        }
        watermark.raise(header(8, 8, 7));
        assert_eq!(watermark.head(), Some(header(9, 9, 8)), "a lower one never lowers it");
    }

    #[test]
    fn the_head_has_fallen_when_all_who_are_trusted_stay_below_it() {
        let (mut watermark, start) = (Watermark::default(), Instant::now());
        watermark.raise(header(9, 9, 8));
        watermark.note_nonce(Address::ZERO, 5);
        let (high, low) = (header(9, 9, 8).block, header(7, 7, 6).block);
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(watermark.review(&[low], after(0)), None);
        assert_eq!(watermark.review(&[low], after(2_900)), None, "not yet");
        assert_eq!(watermark.review(&[low, high], after(3_000)), None, "somebody shows it still");
        assert_eq!(watermark.review(&[], after(4_000)), None, "nobody answers: that says nothing");
        assert_eq!(watermark.review(&[low, low], after(5_000)), None, "patience begins again");
        assert!(watermark.is_old_nonce(Address::ZERO, 4));
        assert_eq!(watermark.review(&[low], after(8_000)), Some((high, low)));
        assert_eq!((watermark.head(), watermark.falls()), (None, 1));
        assert!(!watermark.is_old_nonce(Address::ZERO, 4), "nonces fall with the head");
    }
}
