//! Whether a transaction that waits for a block is left alone, sent again, or signed again at its nonce. Numbers in, a remedy
//! out.

use super::{
    batching::max_tx_gas,
    fees::{FeeCapExceeded, Fees, price, priority_fee},
};
use crate::registration::observations::{RejectKind, TxTooLarge};
use std::time::Duration;

/// A version that has waited this long with nothing wrong is outbid all the same, and each one after it waits twice as long:
/// whoever builds blocks may have reasons that nobody shows.
const FIRST_SCHEDULED_BUMP_AFTER: Duration = Duration::from_secs(15);
/// And only when so many blocks came without it: three seconds of Base's.
const MIN_BLOCKS_BEFORE_SCHEDULED_BUMP: u64 = 10;
/// A node that refused the last version gets the next one no sooner.
const MIN_AGE_OF_REJECTED_ATTEMPT: Duration = Duration::from_secs(1);
/// A longer schedule than any transaction lives.
const MAX_BUMP_DELAY_DOUBLINGS: u32 = 10;

/// A transaction that no block is known to hold, and what blocks ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingTxView {
    /// What its latest version offers.
    pub fees: Fees,
    /// That version's gas limit.
    pub gas_limit: u64,
    /// How many registrations that version carries.
    pub batch_size: usize,
    /// How many versions there are.
    pub attempts: u32,
    /// How long the latest one has been out.
    pub pending_for: Duration,
    /// How many blocks have come since.
    pub blocks_since: u64,
    /// Whether no earlier nonce of the signer waits too.
    pub is_lowest_nonce: bool,
    /// Whether a block asked for more than it offers since its bytes last went out, so that nodes may have dropped it.
    pub was_below_base_fee: bool,
    /// What a node's refusal of the latest version means, when its bytes last went out.
    pub last_rejection: Option<RejectKind>,
    /// What blocks ask.
    pub fee_market: FeeMarketView,
}

/// What blocks ask just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeeMarketView {
    /// Wei per gas.
    pub base_fee: u128,
    /// The priority fee that the node suggests, in wei per gas.
    pub suggested_tip: u128,
    /// The priority fee that outbids a crowd, where blocks are full, in wei per gas.
    pub congestion_tip: Option<u128>,
    /// How much gas a block holds.
    pub block_gas_limit: u64,
    /// The operator's cap, in wei per gas.
    pub fee_cap: u128,
    /// Whether no endpoint's head moves.
    pub is_chain_stalled: bool,
}

/// What is to be done about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplacementAction {
    /// Nothing: it waits for a block like everything else.
    Wait,
    /// The same bytes again, now.
    Rebroadcast,
    /// The same calldata at the same nonce, with these fees: as it is, no block takes it.
    Replace(Fees),
    /// The same, though nothing is wrong: it is only old. Where it cannot be done there is nothing to report.
    ScheduledBump(Fees),
    /// It would have to offer more than the cap.
    CapReached(FeeCapExceeded),
    /// A smaller batch at the same nonce: no block holds this one.
    SplitBatch,
    /// No block holds it, and it cannot be made smaller: it waits until blocks take so much.
    TooLarge(TxTooLarge),
}

/// What is to be done about a transaction.
pub fn next_action(of: &PendingTxView) -> ReplacementAction {
    let asked = &of.fee_market;
    // Blocks that do not come take no higher offer either.
    if asked.is_chain_stalled {
        return ReplacementAction::Wait;
    }
    let most = max_tx_gas(asked.block_gas_limit);
    if of.batch_size > 1 && (of.gas_limit > most || of.last_rejection == Some(RejectKind::GasLimit)) {
        return ReplacementAction::SplitBatch;
    }
    // No offer is high enough for that.
    if of.gas_limit > most {
        return ReplacementAction::TooLarge(TxTooLarge { gas_limit: of.gas_limit, max_gas: most });
    }
    let raised = || bumped_fees(of.fees, asked);
    let priced_out = of.fees.max_fee_per_gas < asked.base_fee;
    let unwanted = matches!(of.last_rejection, Some(RejectKind::FeeTooLow | RejectKind::ReplacementUnderpriced))
        && of.pending_for >= MIN_AGE_OF_REJECTED_ATTEMPT;
    if of.was_below_base_fee && !priced_out {
        return ReplacementAction::Rebroadcast;
    }
    if priced_out || unwanted || is_outbid_by_congestion(of) {
        return raised().map_or_else(ReplacementAction::CapReached, ReplacementAction::Replace);
    }
    // It offers enough, so that a cap that forbids more is nothing to report.
    if is_scheduled_bump_due(of) {
        raised().map_or(ReplacementAction::Wait, ReplacementAction::ScheduledBump)
    } else {
        ReplacementAction::Wait
    }
}

/// The least that replaces `old` where blocks ask this: both fees at least ceil(1.1 x) (reth's `PriceBumpConfig`; geth's
/// `PriceBump` is at most that) and what a new transaction would offer.
///
/// # Errors
/// [`AboveCap`] when that is more than the cap.
pub fn bumped_fees(old: Fees, asked: &FeeMarketView) -> Result<Fees, FeeCapExceeded> {
    let cap = asked.fee_cap;
    let tip = priority_fee(asked.suggested_tip, asked.congestion_tip, asked.base_fee, cap);
    let new = price(asked.base_fee, tip, cap)?;
    let max_fee_per_gas = new.max_fee_per_gas.max(min_replacement_fee(old.max_fee_per_gas));
    if max_fee_per_gas > cap {
        return Err(FeeCapExceeded { needed: max_fee_per_gas, cap });
    }
    let max_priority_fee_per_gas =
        new.max_priority_fee_per_gas.max(min_replacement_fee(old.max_priority_fee_per_gas)).min(max_fee_per_gas);
    Ok(Fees { max_fee_per_gas, max_priority_fee_per_gas })
}

/// An offer that may cost at least so many wei less than `wanted` with this gas limit, if it still replaces `old` and a block takes it.
pub fn reduced_fees(wanted: Fees, less: u128, gas_limit: u64, old: Fees, base_fee: u128) -> Option<Fees> {
    let per_gas = less.div_ceil(u128::from(gas_limit).max(1));
    let max_fee_per_gas = wanted.max_fee_per_gas.checked_sub(per_gas)?;
    let max_priority_fee_per_gas = wanted.max_priority_fee_per_gas.min(max_fee_per_gas);
    let replaces = max_fee_per_gas >= min_replacement_fee(old.max_fee_per_gas)
        && max_priority_fee_per_gas >= min_replacement_fee(old.max_priority_fee_per_gas);
    (replaces && max_fee_per_gas >= base_fee).then_some(Fees { max_fee_per_gas, max_priority_fee_per_gas })
}

/// The least that nodes take in the place of this fee.
fn min_replacement_fee(old: u128) -> u128 {
    old.saturating_add(old.div_ceil(10).max(1))
}

/// Blocks are full of what offers more to whoever builds them.
fn is_outbid_by_congestion(of: &PendingTxView) -> bool {
    let spare = of.fees.max_fee_per_gas.saturating_sub(of.fee_market.base_fee);
    let offered = of.fees.max_priority_fee_per_gas.min(spare);
    of.blocks_since > 0 && of.fee_market.congestion_tip.is_some_and(|crowd| crowd > offered)
}

/// Only the first one: those behind it may have nothing to wait for but it. A higher offer pays for nothing that the signer cannot,
/// and opens no pool that is full.
fn is_scheduled_bump_due(of: &PendingTxView) -> bool {
    let doublings = of.attempts.saturating_sub(1).min(MAX_BUMP_DELAY_DOUBLINGS);
    let in_vain = matches!(of.last_rejection, Some(RejectKind::InsufficientFunds | RejectKind::SenderLimit));
    of.is_lowest_nonce
        && !in_vain
        && of.blocks_since >= MIN_BLOCKS_BEFORE_SCHEDULED_BUMP
        && of.pending_for >= FIRST_SCHEDULED_BUMP_AFTER * 2_u32.pow(doublings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: FeeMarketView = FeeMarketView {
        base_fee: 100,
        suggested_tip: 2,
        congestion_tip: None,
        block_gas_limit: 30_000_000,
        fee_cap: 5_000,
        is_chain_stalled: false,
    };
    /// Sent a moment ago, with nothing wrong.
    const FINE: PendingTxView = PendingTxView {
        fees: fees(802, 2),
        gas_limit: 50_000,
        batch_size: 1,
        attempts: 1,
        pending_for: Duration::from_millis(300),
        blocks_since: 1,
        is_lowest_nonce: true,
        was_below_base_fee: false,
        last_rejection: None,
        fee_market: ASKED,
    };

    const fn fees(max_fee_per_gas: u128, max_priority_fee_per_gas: u128) -> Fees {
        Fees { max_fee_per_gas, max_priority_fee_per_gas }
    }

    fn late(seconds: u64, blocks: u64) -> PendingTxView {
        PendingTxView { pending_for: Duration::from_secs(seconds), blocks_since: blocks, ..FINE }
    }

    fn asking(base_fee: u128) -> FeeMarketView {
        FeeMarketView { base_fee, ..ASKED }
    }

    #[test]
    fn the_truth_table() {
        let with = |asked| PendingTxView { fee_market: asked, ..FINE };
        let refused = |meaning| PendingTxView { last_rejection: Some(meaning), ..late(1, 2) };
        let crowd = |crowd| FeeMarketView { congestion_tip: Some(crowd), ..ASKED };
        let batch = PendingTxView { batch_size: 10, gas_limit: 400_000, ..FINE };
        let small_blocks = FeeMarketView { block_gas_limit: 300_000, ..ASKED };
        let held = |needed| ReplacementAction::CapReached(FeeCapExceeded { needed, cap: 5_000 });
        for (what, of, expected) in [
            ("nothing wrong", FINE, ReplacementAction::Wait),
            ("the offer is what is asked", with(asking(802)), ReplacementAction::Wait),
            ("priced out", with(asking(803)), ReplacementAction::Replace(fees(2_500, 3))),
            ("priced out, the rest of the cap", with(asking(4_900)), ReplacementAction::Replace(fees(4_902, 3))),
            ("priced out, all of the cap", with(asking(4_999)), ReplacementAction::Replace(fees(5_000, 3))),
            ("priced out, above the cap", with(asking(5_001)), held(5_001)),
            (
                "priced out, not first",
                PendingTxView { is_lowest_nonce: false, ..with(asking(803)) },
                ReplacementAction::Replace(fees(2_500, 3)),
            ),
            (
                "priced out, a tenth more is above the cap",
                PendingTxView { fees: fees(4_800, 2), ..with(asking(4_900)) },
                held(5_280),
            ),
            ("the spike is over", PendingTxView { was_below_base_fee: true, ..FINE }, ReplacementAction::Rebroadcast),
            (
                "the spike is over, and a node had refused it",
                PendingTxView { was_below_base_fee: true, fees: fees(4_900, 2), ..refused(RejectKind::FeeTooLow) },
                ReplacementAction::Rebroadcast,
            ),
            ("the spike goes on", PendingTxView { was_below_base_fee: true, ..with(asking(5_001)) }, held(5_001)),
            (
                "a stall",
                PendingTxView { fee_market: FeeMarketView { is_chain_stalled: true, ..asking(900) }, ..late(100, 100) },
                ReplacementAction::Wait,
            ),
            ("refused for its fee", refused(RejectKind::FeeTooLow), ReplacementAction::Replace(fees(883, 3))),
            (
                "refused as a replacement",
                refused(RejectKind::ReplacementUnderpriced),
                ReplacementAction::Replace(fees(883, 3)),
            ),
            (
                "refused just now",
                PendingTxView { pending_for: Duration::ZERO, ..refused(RejectKind::FeeTooLow) },
                ReplacementAction::Wait,
            ),
            ("refused for funds", refused(RejectKind::InsufficientFunds), ReplacementAction::Wait),
            ("refused for the sender", refused(RejectKind::SenderLimit), ReplacementAction::Wait),
            ("a crowd offers less", with(crowd(2)), ReplacementAction::Wait),
            ("a crowd offers more", with(crowd(30)), ReplacementAction::Replace(fees(883, 30))),
            ("a crowd, no block since", PendingTxView { blocks_since: 0, ..with(crowd(30)) }, ReplacementAction::Wait),
            ("a crowd, at the cap", PendingTxView { fees: fees(5_000, 2), ..with(crowd(30)) }, held(5_500)),
            ("scheduled", late(15, 10), ReplacementAction::ScheduledBump(fees(883, 3))),
            (
                "scheduled in vain",
                PendingTxView { last_rejection: Some(RejectKind::InsufficientFunds), ..late(15, 10) },
                ReplacementAction::Wait,
            ),
            ("not long enough", late(14, 100), ReplacementAction::Wait),
            ("too few blocks", late(100, 9), ReplacementAction::Wait),
            ("not first", PendingTxView { is_lowest_nonce: false, ..late(15, 10) }, ReplacementAction::Wait),
            ("the second waits twice as long", PendingTxView { attempts: 2, ..late(29, 100) }, ReplacementAction::Wait),
            (
                "and then no longer",
                PendingTxView { attempts: 2, ..late(30, 100) },
                ReplacementAction::ScheduledBump(fees(883, 3)),
            ),
            ("scheduled at the cap", PendingTxView { fees: fees(4_900, 2), ..late(15, 10) }, ReplacementAction::Wait),
            ("larger than a block", PendingTxView { fee_market: small_blocks, ..batch }, ReplacementAction::SplitBatch),
            (
                "refused for its gas",
                PendingTxView { last_rejection: Some(RejectKind::GasLimit), ..batch },
                ReplacementAction::SplitBatch,
            ),
            (
                "a single one is not split, nor outbid",
                PendingTxView {
                    fee_market: small_blocks,
                    batch_size: 1,
                    blocks_since: 100,
                    pending_for: Duration::from_secs(100),
                    ..batch
                },
                ReplacementAction::TooLarge(TxTooLarge {
                    gas_limit: batch.gas_limit,
                    max_gas: small_blocks.block_gas_limit,
                }),
            ),
            (
                "a single one that a node refuses for its gas",
                PendingTxView { last_rejection: Some(RejectKind::GasLimit), batch_size: 1, ..batch },
                ReplacementAction::Wait,
            ),
        ] {
            assert_eq!(next_action(&of), expected, "{what}");
        }
    }

    #[test]
    fn a_replacement_offers_at_least_a_tenth_more_of_both_rounded_up_and_never_above_the_cap() {
        for old in [0, 1, 9, 10, 11, 99, 100, 101, 1_000, 4_545, 4_546] {
            match bumped_fees(fees(old, old), &asking(0)) {
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
            assert_eq!(reduced_fees(fees(2_500, 3), less, 50_000, FINE.fees, base_fee), expected, "{less}, {base_fee}");
        }
        assert_eq!(reduced_fees(fees(2_500, 100), 50_000 * 1_617, 50_000, fees(802, 802), 0), None, "nor the tip");
    }
}
