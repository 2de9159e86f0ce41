//! Whether a pending transaction is left alone, rebroadcast, or replaced at its nonce.

use super::{
    batching::max_tx_gas,
    fees::{FeeCapExceeded, Fees, price, priority_fee},
};
use crate::registration::observations::{RejectKind, TxTooLarge};
use std::time::Duration;

/// An attempt pending for this long is replaced even if no problem is known, and each later one after twice the time:
/// block builders may have reasons that no node reports.
const FIRST_SCHEDULED_BUMP_AFTER: Duration = Duration::from_secs(15);
/// And only after three seconds of Base's blocks without it.
const MIN_BLOCKS_BEFORE_SCHEDULED_BUMP: u64 = 10;
/// A node that rejected the last attempt gets the next one no sooner.
const MIN_AGE_OF_REJECTED_ATTEMPT: Duration = Duration::from_secs(1);
/// A batch that was raised once in vain is cut after this long, and again after as long: nodes with a limit on data
/// (op-geth and op-rbuilder throttle by size when L1 is behind) take any transaction and include only small ones.
const CUT_AFTER: Duration = Duration::from_secs(5);
/// A larger batch than blocks took recently is cut after this long.
const CUT_OVERSIZED_AFTER: Duration = Duration::from_secs(1);
/// A longer delay than any transaction is pending.
const MAX_BUMP_DELAY_DOUBLINGS: u32 = 10;

/// A transaction that no block is known to hold, and the fee market.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingTxView {
    /// Of the latest attempt, as are the gas limit and batch size.
    pub fees: Fees,
    pub gas_limit: u64,
    pub batch_size: usize,
    /// The largest batch that blocks are known to take.
    pub max_batch_size: usize,
    pub attempts: u32,
    pub pending_for: Duration,
    /// Blocks since it was sent.
    pub blocks_since: u64,
    /// No lower nonce of the signer is pending.
    pub is_lowest_nonce: bool,
    /// A base fee was above its maximum fee since the last broadcast, so that nodes may have dropped it.
    pub was_below_base_fee: bool,
    /// The answer to the last broadcast, if a node rejected it.
    pub last_rejection: Option<RejectKind>,
    pub fee_market: FeeMarketView,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeeMarketView {
    /// Wei per gas.
    pub base_fee: u128,
    /// The priority fee to offer where blocks have room, in wei per gas.
    pub tip: u128,
    /// The most to offer to a node that refuses that as too low, in wei per gas.
    pub suggested_tip: u128,
    /// Set while blocks are full, in wei per gas.
    pub congestion_tip: Option<u128>,
    pub block_gas_limit: u64,
    /// The operator's cap, in wei per gas.
    pub fee_cap: u128,
    pub is_chain_stalled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplacementAction {
    Wait,
    Rebroadcast,
    /// The same calldata at the same nonce with these fees: with the present ones no block includes it.
    Replace(Fees),
    /// The same for an old transaction without a known problem. If it cannot be done, that is not reported.
    ScheduledBump(Fees),
    /// The fees it needs are above the cap.
    CapReached(FeeCapExceeded),
    /// A smaller batch at the same nonce.
    SplitBatch(SplitReason),
    /// No block has room for it, and it cannot be made smaller: it waits until the block gas limit rises.
    TooLarge(TxTooLarge),
}

/// Why a batch is replaced by a smaller one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SplitReason {
    /// It needs more gas than a block has, or a node refuses it for its gas.
    TooMuchGas,
    /// No block takes it although its fees are sufficient.
    NeverTaken,
}

pub fn next_action(of: &PendingTxView) -> ReplacementAction {
    let asked = &of.fee_market;
    // Without blocks, higher fees do not help.
    if asked.is_chain_stalled {
        return ReplacementAction::Wait;
    }
    let most = max_tx_gas(asked.block_gas_limit);
    if of.batch_size > 1 && (of.gas_limit > most || of.last_rejection == Some(RejectKind::GasLimit)) {
        return ReplacementAction::SplitBatch(SplitReason::TooMuchGas);
    }
    // Higher fees do not help.
    if of.gas_limit > most {
        return ReplacementAction::TooLarge(TxTooLarge { gas_limit: of.gas_limit, max_gas: most });
    }
    let is_fee_refused = of.last_rejection == Some(RejectKind::FeeTooLow);
    let raised = || bumped_fees(of.fees, &if is_fee_refused { asked.for_refused_tip(of.fees) } else { *asked });
    let priced_out = of.fees.max_fee_per_gas < asked.base_fee;
    let unwanted = matches!(of.last_rejection, Some(RejectKind::FeeTooLow | RejectKind::ReplacementUnderpriced))
        && of.pending_for >= MIN_AGE_OF_REJECTED_ATTEMPT;
    if of.was_below_base_fee && !priced_out {
        return ReplacementAction::Rebroadcast;
    }
    if priced_out || unwanted || is_outbid_by_congestion(of) {
        return raised().map_or_else(ReplacementAction::CapReached, ReplacementAction::Replace);
    }
    if is_cut_due(of) {
        return ReplacementAction::SplitBatch(SplitReason::NeverTaken);
    }
    // The present fees are sufficient, so reaching the cap is not reported.
    if is_scheduled_bump_due(of) {
        // The priority fee may be too low for the block builders.
        let raised = bumped_fees(of.fees, &asked.for_refused_tip(of.fees));
        raised.map_or(ReplacementAction::Wait, ReplacementAction::ScheduledBump)
    } else {
        ReplacementAction::Wait
    }
}

/// The minimum that replaces `old` in this fee market: both fees at least ceil(1.1 x) (reth's `PriceBumpConfig`; geth's
/// `PriceBump` is at most that) and not below those of a new transaction.
///
/// # Errors
/// When that is above the cap.
pub fn bumped_fees(old: Fees, asked: &FeeMarketView) -> Result<Fees, FeeCapExceeded> {
    let cap = asked.fee_cap;
    let tip = priority_fee(asked.tip, asked.congestion_tip, asked.base_fee, cap);
    let new = price(asked.base_fee, tip, cap)?;
    let max_fee_per_gas = new.max_fee_per_gas.max(min_replacement_fee(old.max_fee_per_gas));
    if max_fee_per_gas > cap {
        return Err(FeeCapExceeded { needed: max_fee_per_gas, cap });
    }
    let max_priority_fee_per_gas =
        new.max_priority_fee_per_gas.max(min_replacement_fee(old.max_priority_fee_per_gas)).min(max_fee_per_gas);
    Ok(Fees { max_fee_per_gas, max_priority_fee_per_gas })
}

/// `wanted` reduced by at least `less` wei in total, if that still replaces `old` and is not below the base fee.
pub fn reduced_fees(wanted: Fees, less: u128, gas_limit: u64, old: Fees, base_fee: u128) -> Option<Fees> {
    let per_gas = less.div_ceil(u128::from(gas_limit).max(1));
    let max_fee_per_gas = wanted.max_fee_per_gas.checked_sub(per_gas)?;
    let max_priority_fee_per_gas = wanted.max_priority_fee_per_gas.min(max_fee_per_gas);
    let replaces = max_fee_per_gas >= min_replacement_fee(old.max_fee_per_gas)
        && max_priority_fee_per_gas >= min_replacement_fee(old.max_priority_fee_per_gas);
    (replaces && max_fee_per_gas >= base_fee).then_some(Fees { max_fee_per_gas, max_priority_fee_per_gas })
}

/// The minimum that nodes accept as a replacement of this fee.
fn min_replacement_fee(old: u128) -> u128 {
    old.saturating_add(old.div_ceil(10)).saturating_add(1)
}

/// Blocks are full of transactions with higher priority fees.
fn is_outbid_by_congestion(of: &PendingTxView) -> bool {
    let spare = of.fees.max_fee_per_gas.saturating_sub(of.fee_market.base_fee);
    let offered = of.fees.max_priority_fee_per_gas.min(spare);
    of.blocks_since > 0 && of.fee_market.congestion_tip.is_some_and(|tip| tip > offered)
}

impl FeeMarketView {
    /// The priority fee may be too low, whatever blocks paid: it is doubled, up to what the node suggests.
    fn for_refused_tip(&self, old: Fees) -> Self {
        let doubled = old.max_priority_fee_per_gas.saturating_mul(2);
        Self { tip: self.tip.max(doubled.min(self.suggested_tip)), ..*self }
    }
}

/// Only the lowest nonce: the others may wait just for it. Neither higher fees nor a smaller batch help an empty account
/// or a full mempool.
fn is_overdue(of: &PendingTxView) -> bool {
    let in_vain = matches!(of.last_rejection, Some(RejectKind::InsufficientFunds | RejectKind::SenderLimit));
    of.is_lowest_nonce && !in_vain && of.blocks_since >= MIN_BLOCKS_BEFORE_SCHEDULED_BUMP
}

fn is_scheduled_bump_due(of: &PendingTxView) -> bool {
    let doublings = of.attempts.saturating_sub(1).min(MAX_BUMP_DELAY_DOUBLINGS);
    is_overdue(of) && of.pending_for >= FIRST_SCHEDULED_BUMP_AFTER * 2_u32.pow(doublings)
}

/// A batch that was raised in vain, or that is larger than what blocks took recently.
fn is_cut_due(of: &PendingTxView) -> bool {
    let due = if of.batch_size > of.max_batch_size {
        of.pending_for >= CUT_OVERSIZED_AFTER
    } else {
        of.attempts > 1 && of.pending_for >= CUT_AFTER
    };
    of.batch_size > 1 && due && is_overdue(of)
}

/// The size of the next part of a batch of `size` that no block takes.
pub fn cut_size(size: usize, max_batch_size: usize) -> usize {
    if size > max_batch_size { max_batch_size.max(1) } else { size.div_ceil(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: FeeMarketView = FeeMarketView {
        base_fee: 100,
        tip: 2,
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
        max_batch_size: 650,
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
            ("priced out", with(asking(803)), ReplacementAction::Replace(fees(2_500, 4))),
            ("priced out, the rest of the cap", with(asking(4_900)), ReplacementAction::Replace(fees(4_902, 4))),
            ("priced out, all of the cap", with(asking(4_999)), ReplacementAction::Replace(fees(5_000, 4))),
            ("priced out, above the cap", with(asking(5_001)), held(5_001)),
            (
                "priced out, not first",
                PendingTxView { is_lowest_nonce: false, ..with(asking(803)) },
                ReplacementAction::Replace(fees(2_500, 4)),
            ),
            (
                "priced out, a tenth more is above the cap",
                PendingTxView { fees: fees(4_800, 2), ..with(asking(4_900)) },
                held(5_281),
            ),
            ("the spike is over", PendingTxView { was_below_base_fee: true, ..FINE }, ReplacementAction::Rebroadcast),
            (
                "the spike is over, and a node had refused it",
                PendingTxView { was_below_base_fee: true, fees: fees(4_900, 2), ..refused(RejectKind::FeeTooLow) },
                ReplacementAction::Rebroadcast,
            ),
            ("the spike continues", PendingTxView { was_below_base_fee: true, ..with(asking(5_001)) }, held(5_001)),
            (
                "a stall",
                PendingTxView { fee_market: FeeMarketView { is_chain_stalled: true, ..asking(900) }, ..late(100, 100) },
                ReplacementAction::Wait,
            ),
            ("refused for its fee", refused(RejectKind::FeeTooLow), ReplacementAction::Replace(fees(884, 4))),
            (
                "refused as a replacement",
                refused(RejectKind::ReplacementUnderpriced),
                ReplacementAction::Replace(fees(884, 4)),
            ),
            (
                "refused just now",
                PendingTxView { pending_for: Duration::ZERO, ..refused(RejectKind::FeeTooLow) },
                ReplacementAction::Wait,
            ),
            ("refused for funds", refused(RejectKind::InsufficientFunds), ReplacementAction::Wait),
            ("refused for the sender", refused(RejectKind::SenderLimit), ReplacementAction::Wait),
            ("a crowd offers less", with(crowd(2)), ReplacementAction::Wait),
            ("a crowd offers more", with(crowd(30)), ReplacementAction::Replace(fees(884, 30))),
            ("a crowd, no block since", PendingTxView { blocks_since: 0, ..with(crowd(30)) }, ReplacementAction::Wait),
            ("a crowd, at the cap", PendingTxView { fees: fees(5_000, 2), ..with(crowd(30)) }, held(5_501)),
            ("scheduled", late(15, 10), ReplacementAction::ScheduledBump(fees(884, 4))),
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
                ReplacementAction::ScheduledBump(fees(884, 4)),
            ),
            ("scheduled at the cap", PendingTxView { fees: fees(4_900, 2), ..late(15, 10) }, ReplacementAction::Wait),
            (
                "a batch is raised before it is cut",
                PendingTxView { batch_size: 10, ..late(15, 10) },
                ReplacementAction::ScheduledBump(fees(884, 4)),
            ),
            (
                "raised in vain",
                PendingTxView { batch_size: 10, attempts: 2, ..late(5, 10) },
                ReplacementAction::SplitBatch(SplitReason::NeverTaken),
            ),
            ("raised just now", PendingTxView { batch_size: 10, attempts: 2, ..late(4, 100) }, ReplacementAction::Wait),
            (
                "raised in vain, no funds",
                PendingTxView {
                    batch_size: 10,
                    attempts: 2,
                    last_rejection: Some(RejectKind::InsufficientFunds),
                    ..late(100, 100)
                },
                ReplacementAction::Wait,
            ),
            (
                "raised in vain, not first",
                PendingTxView { batch_size: 10, attempts: 2, is_lowest_nonce: false, ..late(100, 100) },
                ReplacementAction::Wait,
            ),
            (
                "larger than what blocks took",
                PendingTxView { batch_size: 10, max_batch_size: 9, ..late(1, 10) },
                ReplacementAction::SplitBatch(SplitReason::NeverTaken),
            ),
            (
                "larger than what blocks took, too few blocks",
                PendingTxView { batch_size: 10, max_batch_size: 9, ..late(4, 9) },
                ReplacementAction::Wait,
            ),
            (
                "larger than a block",
                PendingTxView { fee_market: small_blocks, ..batch },
                ReplacementAction::SplitBatch(SplitReason::TooMuchGas),
            ),
            (
                "refused for its gas",
                PendingTxView { last_rejection: Some(RejectKind::GasLimit), ..batch },
                ReplacementAction::SplitBatch(SplitReason::TooMuchGas),
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
    fn a_replacement_offers_more_than_a_tenth_more_of_both_and_never_above_the_cap() {
        for old in [0, 1, 9, 10, 11, 99, 100, 101, 1_000, 4_544, 4_545, 4_546] {
            match bumped_fees(fees(old, old), &asking(0)) {
                Ok(new) => {
                    for fee in [new.max_fee_per_gas, new.max_priority_fee_per_gas] {
                        assert!(fee * 10 > old * 11 && fee > old && fee <= 5_000, "{old} to {new:?}");
                    }
                }
                Err(above) => assert!(old > 4_544 && above.needed > above.cap, "{old}: {above}"),
            }
        }
    }

    #[test]
    fn an_offer_is_lowered_to_what_there_is_as_long_as_it_replaces_the_old_one_and_a_block_takes_it() {
        for ((less, base_fee), expected) in [
            ((0, 803), Some(fees(2_500, 4))),
            ((1, 803), Some(fees(2_499, 4))),
            ((50_000, 803), Some(fees(2_499, 4))),
            ((50_001, 803), Some(fees(2_498, 4))),
            ((50_000 * 1_616, 803), Some(fees(884, 4))),
            ((50_000 * 1_617, 803), None),
            ((50_000 * 1_600, 900), Some(fees(900, 4))),
            ((50_000 * 1_601, 900), None),
            ((u128::MAX, 0), None),
        ] {
            assert_eq!(reduced_fees(fees(2_500, 4), less, 50_000, FINE.fees, base_fee), expected, "{less}, {base_fee}");
        }
        assert_eq!(reduced_fees(fees(2_500, 100), 50_000 * 1_616, 50_000, fees(802, 802), 0), None, "nor the tip");
    }

    #[test]
    fn a_batch_is_halved_or_cut_to_what_blocks_took() {
        for (size, max_batch_size, expected) in [(201, 650, 101), (2, 650, 1), (201, 26, 26), (26, 26, 13), (2, 0, 1)] {
            assert_eq!(cut_size(size, max_batch_size), expected, "{size} {max_batch_size}");
        }
    }
}
