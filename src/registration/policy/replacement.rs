//! Whether a transaction that waits for a block is left alone, sent again, or signed again at its nonce. Numbers in, a remedy
//! out.

use super::{
    batching::most_gas,
    fees::{AboveCap, Fees, price, priority_fee},
};
use crate::registration::diagnosis::{Meaning, TooLarge};
use std::time::Duration;

/// A version that has waited this long with nothing wrong is outbid all the same, and each one after it waits twice as long:
/// whoever builds blocks may have reasons that nobody shows.
const FIRST_SCHEDULED: Duration = Duration::from_secs(15);
/// And only when so many blocks came without it: three seconds of Base's.
const SCHEDULED_BLOCKS: u64 = 10;
/// A node that refused the last version gets the next one no sooner.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(1);
/// A longer schedule than any transaction lives.
const MOST_DOUBLINGS: u32 = 10;

/// A transaction that no block is known to hold, and what blocks ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// What its latest version offers.
    pub offer: Fees,
    /// That version's gas limit.
    pub gas_limit: u64,
    /// How many registrations that version carries.
    pub batch_size: usize,
    /// How many versions there are.
    pub versions: u32,
    /// How long the latest one has been out.
    pub waited: Duration,
    /// How many blocks have come since.
    pub blocks: u64,
    /// Whether no earlier nonce of the signer waits too.
    pub is_first: bool,
    /// Whether a block asked for more than it offers since its bytes last went out, so that nodes may have dropped it.
    pub was_priced_out: bool,
    /// What a node's refusal of the latest version means, when its bytes last went out.
    pub refused: Option<Meaning>,
    /// What blocks ask.
    pub asked: Asked,
}

/// What blocks ask just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Wei per gas.
    pub base_fee: u128,
    /// The priority fee that the node suggests, in wei per gas.
    pub suggested: u128,
    /// The priority fee that outbids a crowd, where blocks are full, in wei per gas.
    pub crowd: Option<u128>,
    /// How much gas a block holds.
    pub block_gas: u64,
    /// The operator's cap, in wei per gas.
    pub cap: u128,
    /// Whether no endpoint's head moves.
    pub stalled: bool,
}

/// What is to be done about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Nothing: it waits for a block like everything else.
    Wait,
    /// The same bytes again, now.
    Rebroadcast,
    /// The same calldata at the same nonce, with these fees: as it is, no block takes it.
    Replace(Fees),
    /// The same, though nothing is wrong: it is only old. Where it cannot be done there is nothing to report.
    Refresh(Fees),
    /// It would have to offer more than the cap.
    Held(AboveCap),
    /// A smaller batch at the same nonce: no block holds this one.
    Split,
    /// No block holds it, and it cannot be made smaller: it waits until blocks take so much.
    TooLarge(TooLarge),
}

/// What is to be done about a transaction.
pub fn remedy(of: &Waiting) -> Remedy {
    let asked = &of.asked;
    // Blocks that do not come take no higher offer either.
    if asked.stalled {
        return Remedy::Wait;
    }
    let most = most_gas(asked.block_gas);
    if of.batch_size > 1 && (of.gas_limit > most || of.refused == Some(Meaning::Gas)) {
        return Remedy::Split;
    }
    // No offer is high enough for that.
    if of.gas_limit > most {
        return Remedy::TooLarge(TooLarge { gas: of.gas_limit, most });
    }
    let raised = || outbid(of.offer, asked);
    let priced_out = of.offer.max_fee_per_gas < asked.base_fee;
    let unwanted = matches!(of.refused, Some(Meaning::Fee | Meaning::Replacement)) && of.waited >= BETWEEN_REFUSALS;
    if of.was_priced_out && !priced_out {
        return Remedy::Rebroadcast;
    }
    if priced_out || unwanted || is_crowded_out(of) {
        return raised().map_or_else(Remedy::Held, Remedy::Replace);
    }
    // It offers enough, so that a cap that forbids more is nothing to report.
    if is_scheduled(of) { raised().map_or(Remedy::Wait, Remedy::Refresh) } else { Remedy::Wait }
}

/// The least that replaces `old` where blocks ask this: both fees at least ceil(1.1 x) (reth's `PriceBumpConfig`; geth's
/// `PriceBump` is at most that) and what a new transaction would offer.
///
/// # Errors
/// [`AboveCap`] when that is more than the cap.
pub fn outbid(old: Fees, asked: &Asked) -> Result<Fees, AboveCap> {
    let cap = asked.cap;
    let tip = priority_fee(asked.suggested, asked.crowd, asked.base_fee, cap);
    let new = price(asked.base_fee, tip, cap)?;
    let max_fee_per_gas = new.max_fee_per_gas.max(least(old.max_fee_per_gas));
    if max_fee_per_gas > cap {
        return Err(AboveCap { needed: max_fee_per_gas, cap });
    }
    let max_priority_fee_per_gas =
        new.max_priority_fee_per_gas.max(least(old.max_priority_fee_per_gas)).min(max_fee_per_gas);
    Ok(Fees { max_fee_per_gas, max_priority_fee_per_gas })
}

/// An offer that may cost at least so many wei less than `wanted` with this gas limit, if it still replaces `old` and a block takes it.
pub fn lowered(wanted: Fees, less: u128, gas_limit: u64, old: Fees, base_fee: u128) -> Option<Fees> {
    let per_gas = less.div_ceil(u128::from(gas_limit).max(1));
    let max_fee_per_gas = wanted.max_fee_per_gas.checked_sub(per_gas)?;
    let max_priority_fee_per_gas = wanted.max_priority_fee_per_gas.min(max_fee_per_gas);
    let replaces = max_fee_per_gas >= least(old.max_fee_per_gas)
        && max_priority_fee_per_gas >= least(old.max_priority_fee_per_gas);
    (replaces && max_fee_per_gas >= base_fee).then_some(Fees { max_fee_per_gas, max_priority_fee_per_gas })
}

/// The least that nodes take in the place of this fee.
fn least(old: u128) -> u128 {
    old.saturating_add(old.div_ceil(10).max(1))
}

/// Blocks are full of what offers more to whoever builds them.
fn is_crowded_out(of: &Waiting) -> bool {
    let spare = of.offer.max_fee_per_gas.saturating_sub(of.asked.base_fee);
    let offered = of.offer.max_priority_fee_per_gas.min(spare);
    of.blocks > 0 && of.asked.crowd.is_some_and(|crowd| crowd > offered)
}

/// Only the first one: those behind it may have nothing to wait for but it. A higher offer pays for nothing that the signer cannot,
/// and opens no pool that is full.
fn is_scheduled(of: &Waiting) -> bool {
    let doublings = of.versions.saturating_sub(1).min(MOST_DOUBLINGS);
    let in_vain = matches!(of.refused, Some(Meaning::Funds | Meaning::SenderLimit));
    of.is_first && !in_vain && of.blocks >= SCHEDULED_BLOCKS && of.waited >= FIRST_SCHEDULED * 2_u32.pow(doublings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked =
        Asked { base_fee: 100, suggested: 2, crowd: None, block_gas: 30_000_000, cap: 5_000, stalled: false };
    /// Sent a moment ago, with nothing wrong.
    const FINE: Waiting = Waiting {
        offer: fees(802, 2),
        gas_limit: 50_000,
        batch_size: 1,
        versions: 1,
        waited: Duration::from_millis(300),
        blocks: 1,
        is_first: true,
        was_priced_out: false,
        refused: None,
        asked: ASKED,
    };

    const fn fees(max_fee_per_gas: u128, max_priority_fee_per_gas: u128) -> Fees {
        Fees { max_fee_per_gas, max_priority_fee_per_gas }
    }

    fn late(seconds: u64, blocks: u64) -> Waiting {
        Waiting { waited: Duration::from_secs(seconds), blocks, ..FINE }
    }

    fn asking(base_fee: u128) -> Asked {
        Asked { base_fee, ..ASKED }
    }

    #[test]
    fn the_truth_table() {
        let with = |asked| Waiting { asked, ..FINE };
        let refused = |meaning| Waiting { refused: Some(meaning), ..late(1, 2) };
        let crowd = |crowd| Asked { crowd: Some(crowd), ..ASKED };
        let batch = Waiting { batch_size: 10, gas_limit: 400_000, ..FINE };
        let small_blocks = Asked { block_gas: 300_000, ..ASKED };
        let held = |needed| Remedy::Held(AboveCap { needed, cap: 5_000 });
        for (what, of, expected) in [
            ("nothing wrong", FINE, Remedy::Wait),
            ("the offer is what is asked", with(asking(802)), Remedy::Wait),
            ("priced out", with(asking(803)), Remedy::Replace(fees(2_500, 3))),
            ("priced out, the rest of the cap", with(asking(4_900)), Remedy::Replace(fees(4_902, 3))),
            ("priced out, all of the cap", with(asking(4_999)), Remedy::Replace(fees(5_000, 3))),
            ("priced out, above the cap", with(asking(5_001)), held(5_001)),
            (
                "priced out, not first",
                Waiting { is_first: false, ..with(asking(803)) },
                Remedy::Replace(fees(2_500, 3)),
            ),
            (
                "priced out, a tenth more is above the cap",
                Waiting { offer: fees(4_800, 2), ..with(asking(4_900)) },
                held(5_280),
            ),
            ("the spike is over", Waiting { was_priced_out: true, ..FINE }, Remedy::Rebroadcast),
            (
                "the spike is over, and a node had refused it",
                Waiting { was_priced_out: true, offer: fees(4_900, 2), ..refused(Meaning::Fee) },
                Remedy::Rebroadcast,
            ),
            ("the spike goes on", Waiting { was_priced_out: true, ..with(asking(5_001)) }, held(5_001)),
            ("a stall", Waiting { asked: Asked { stalled: true, ..asking(900) }, ..late(100, 100) }, Remedy::Wait),
            ("refused for its fee", refused(Meaning::Fee), Remedy::Replace(fees(883, 3))),
            ("refused as a replacement", refused(Meaning::Replacement), Remedy::Replace(fees(883, 3))),
            ("refused just now", Waiting { waited: Duration::ZERO, ..refused(Meaning::Fee) }, Remedy::Wait),
            ("refused for funds", refused(Meaning::Funds), Remedy::Wait),
            ("refused for the sender", refused(Meaning::SenderLimit), Remedy::Wait),
            ("a crowd offers less", with(crowd(2)), Remedy::Wait),
            ("a crowd offers more", with(crowd(30)), Remedy::Replace(fees(883, 30))),
            ("a crowd, no block since", Waiting { blocks: 0, ..with(crowd(30)) }, Remedy::Wait),
            ("a crowd, at the cap", Waiting { offer: fees(5_000, 2), ..with(crowd(30)) }, held(5_500)),
            ("scheduled", late(15, 10), Remedy::Refresh(fees(883, 3))),
            ("scheduled in vain", Waiting { refused: Some(Meaning::Funds), ..late(15, 10) }, Remedy::Wait),
            ("not long enough", late(14, 100), Remedy::Wait),
            ("too few blocks", late(100, 9), Remedy::Wait),
            ("not first", Waiting { is_first: false, ..late(15, 10) }, Remedy::Wait),
            ("the second waits twice as long", Waiting { versions: 2, ..late(29, 100) }, Remedy::Wait),
            ("and then no longer", Waiting { versions: 2, ..late(30, 100) }, Remedy::Refresh(fees(883, 3))),
            ("scheduled at the cap", Waiting { offer: fees(4_900, 2), ..late(15, 10) }, Remedy::Wait),
            ("larger than a block", Waiting { asked: small_blocks, ..batch }, Remedy::Split),
            ("refused for its gas", Waiting { refused: Some(Meaning::Gas), ..batch }, Remedy::Split),
            (
                "a single one is not split, nor outbid",
                Waiting { asked: small_blocks, batch_size: 1, blocks: 100, waited: Duration::from_secs(100), ..batch },
                Remedy::TooLarge(TooLarge { gas: batch.gas_limit, most: small_blocks.block_gas }),
            ),
            (
                "a single one that a node refuses for its gas",
                Waiting { refused: Some(Meaning::Gas), batch_size: 1, ..batch },
                Remedy::Wait,
            ),
        ] {
            assert_eq!(remedy(&of), expected, "{what}");
        }
    }

    #[test]
    fn a_replacement_offers_at_least_a_tenth_more_of_both_rounded_up_and_never_above_the_cap() {
        for old in [0, 1, 9, 10, 11, 99, 100, 101, 1_000, 4_545, 4_546] {
            match outbid(fees(old, old), &asking(0)) {
                Ok(new) => {
                    for fee in [new.max_fee_per_gas, new.max_priority_fee_per_gas] {
                        assert!(fee * 10 >= old * 11 && fee > old && fee <= 5_000, "{old} to {new:?}");
                    }
                }
                Err(above) => assert!(old > 4_545 && above.needed > above.cap, "{old}: {above}"),
            }
        }
    }

    #[test]
    fn an_offer_is_lowered_to_what_there_is_as_long_as_it_replaces_the_old_one_and_a_block_takes_it() {
        for ((less, base_fee), expected) in [
            ((0, 803), Some(fees(2_500, 3))),
            ((1, 803), Some(fees(2_499, 3))),
            ((50_000, 803), Some(fees(2_499, 3))),
            ((50_001, 803), Some(fees(2_498, 3))),
            ((50_000 * 1_617, 803), Some(fees(883, 3))),
            ((50_000 * 1_618, 803), None),
            ((50_000 * 1_600, 900), Some(fees(900, 3))),
            ((50_000 * 1_601, 900), None),
            ((u128::MAX, 0), None),
        ] {
            assert_eq!(lowered(fees(2_500, 3), less, 50_000, FINE.offer, base_fee), expected, "{less}, {base_fee}");
        }
        assert_eq!(lowered(fees(2_500, 100), 50_000 * 1_617, 50_000, fees(802, 802), 0), None, "nor the tip");
    }
}
