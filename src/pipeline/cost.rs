//! What a transaction costs at most, and whether the signer's balance and the daily budget cover it.

use super::{
    in_flight::{PendingTx, PendingTxs},
    tx_state::TxPhase,
};
use crate::{
    chain::{CallError, Chain, FeeMarket, Header},
    clock::now,
    registration::{
        diagnosis::{BlockFullness, Blocker},
        policy::{
            budget::{DailyBudget, OverBudget},
            fees::{self, Fees},
            replacement::FeeMarketView,
        },
    },
    store::Store,
};
use alloy::primitives::{Address, U256};
use std::sync::Arc;

/// The L1 fee may double before the transaction is included.
const L1_FEE_MARGIN_FACTOR: u64 = 2;

/// The maximum cost of a transaction in wei: gas limit times maximum fee per gas, plus the L1 fee.
pub(super) struct MaxCost {
    total: U256,
    l1_fee: U256,
}

impl MaxCost {
    /// Saturates at `u128::MAX`, which is more ether than exists.
    pub(super) fn wei(&self) -> u128 {
        u128::try_from(self.total).unwrap_or(u128::MAX)
    }
}

/// The maximum cost of a signed transaction of `size` bytes.
pub(super) async fn max_cost(chain: &Chain, size: usize, gas_limit: u64, fees: Fees) -> Result<MaxCost, CallError> {
    let l1_fee = chain.l1_fee_upper_bound(size, gas_limit).await? * U256::from(L1_FEE_MARGIN_FACTOR);
    Ok(MaxCost { total: gas_cost(gas_limit, fees.max_fee_per_gas) + l1_fee, l1_fee })
}

/// Checks that the balance covers a new transaction and every pending one, because nodes require both.
pub(super) fn balance_shortfall(
    in_flight: &PendingTxs,
    signer: Address,
    balance: U256,
    cost: &MaxCost,
) -> Option<Blocker> {
    let is_pending = |tx: &Arc<PendingTx>| !matches!(tx.status().phase(), TxPhase::Included { .. });
    let pending_cost =
        |tx: Arc<PendingTx>| gas_cost(tx.versions().gas_limit, tx.latest().1.max_fee_per_gas) + cost.l1_fee;
    let pending: U256 = in_flight.of_signer(signer).into_iter().filter(is_pending).map(pending_cost).sum();
    let needed = cost.total + pending;
    (balance < needed).then_some(Blocker::InsufficientFunds { signer, balance, needed })
}

pub(super) fn daily_budget(limit: Option<u128>) -> Option<DailyBudget> {
    limit.map(|limit| DailyBudget::new(limit, now()))
}

/// Whether the daily budget has no room for another transaction of this maximum cost; `None` also if it cannot be read.
///
/// An estimate only: the store decides when it writes the signed bytes, because other senders and replicas spend from
/// the same budget.
pub(super) async fn over_budget(store: &Store, limit: Option<u128>, next_cost: u128) -> Option<OverBudget> {
    let DailyBudget { limit: budget, day_start, .. } = daily_budget(limit)?;
    let committed = store.spending(day_start).await.ok()?.committed_with_reserve();
    (committed.saturating_add(next_cost) > budget).then_some(OverBudget { committed, next_cost, budget })
}

fn gas_cost(gas: u64, fee_per_gas: u128) -> U256 {
    U256::from(gas) * U256::from(fee_per_gas)
}

/// The fees that a transaction with this gas limit needs; without fee data the base fee alone.
pub(super) fn fee_market_view(
    market: Option<FeeMarket>,
    (head, is_chain_stalled): (&Header, bool),
    gas_limit: u64,
    fee_cap: u128,
) -> FeeMarketView {
    let history = market.as_ref().and_then(|market| market.history.as_ref());
    let blocks: Vec<BlockFullness> =
        history.map(|history| history.block_observations(head.gas_limit)).unwrap_or_default();
    let max_tip = market.as_ref().map_or(0, |market| market.max_tip);
    FeeMarketView {
        base_fee: head.base_fee,
        tip: market.as_ref().map_or(0, |market| market.tip),
        suggested_tip: market.as_ref().map_or(0, |market| market.suggested_tip),
        congestion_tip: fees::congestion_tip(&blocks, gas_limit).map(|tip| tip.min(max_tip)),
        block_gas_limit: head.gas_limit,
        fee_cap,
        is_chain_stalled,
    }
}
