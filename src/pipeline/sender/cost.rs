//! What a transaction may cost: whether the signer can pay for it, and whether the day's budget allows it.

use super::{Context, PendingTx, Sender, TxPhase};
use crate::{
    chain::{CallError, SenderState},
    pipeline::{error::PrepareError, now},
    registration::{
        diagnosis::Blocker,
        policy::{
            budget::{DailyBudget, OverBudget},
            fees::Fees,
        },
    },
};
use alloy::primitives::{Address, U256};
use std::sync::Arc;

/// Bytes of a transaction besides its calldata: envelope, signature, lengths.
pub(super) const TX_ENVELOPE_BYTES: usize = 200;
/// The fees beside the gas follow L1's, which may double before the transaction is included.
const L1_FEE_MARGIN_FACTOR: u64 = 2;

/// What a transaction may cost at most, in wei.
pub(super) struct MaxCost {
    total: U256,
    /// What of it is beside the gas.
    l1_fee: U256,
}

impl MaxCost {
    /// In wei; what does not fit is more than there is.
    pub(super) fn wei(&self) -> u128 {
        u128::try_from(self.total).unwrap_or(u128::MAX)
    }
}

impl Sender {
    /// What a transaction of so many bytes may cost at most, all fees counted.
    pub(super) async fn max_cost(&self, size: usize, gas_limit: u64, fees: Fees) -> Result<MaxCost, PrepareError> {
        Ok(max_cost(&self.context, size, gas_limit, fees).await?)
    }

    /// The signer must be able to pay for this and for everything it has out: nodes count both.
    pub(super) fn check_balance(&self, outlook: &SenderState, worst: &MaxCost) -> Result<(), PrepareError> {
        balance_shortfall(&self.context, self.address(), outlook.balance, worst)
            .map_or(Ok(()), |poor| Err(PrepareError::Blocked(poor)))
    }

    /// What the day allows, if there is a limit. The store holds it in the transaction that writes the signed bytes, for other lanes
    /// and other replicas spend of the same budget.
    pub(super) fn daily_budget(&self) -> Option<DailyBudget> {
        daily_budget(&self.context)
    }

    /// Whether the budget still does not allow a transaction that may cost so much. A look, that nothing is decided by.
    pub(super) async fn is_over_budget(&self, next: u128) -> bool {
        over_budget(&self.context, next).await.is_some()
    }
}

/// What a transaction of so many bytes may cost at most, all fees counted.
pub(super) async fn max_cost(tools: &Context, size: usize, gas_limit: u64, fees: Fees) -> Result<MaxCost, CallError> {
    let beside = tools.chain.l1_fee_upper_bound(size, gas_limit).await? * U256::from(L1_FEE_MARGIN_FACTOR);
    Ok(MaxCost { total: gas_cost(gas_limit, fees.max_fee_per_gas) + beside, l1_fee: beside })
}

/// That the signer cannot pay for this and for everything it has out; `None` when it can.
pub(super) fn balance_shortfall(tools: &Context, signer: Address, balance: U256, worst: &MaxCost) -> Option<Blocker> {
    let MaxCost { total: own, l1_fee } = *worst;
    let waits = |flight: &Arc<PendingTx>| !matches!(flight.status().phase(), TxPhase::Included { .. });
    let of = |flight: Arc<PendingTx>| gas_cost(flight.versions().gas_limit, flight.latest().1.max_fee_per_gas) + l1_fee;
    let out: U256 = tools.in_flight.of_signer(signer).into_iter().filter(waits).map(of).sum();
    let needed = own + out;
    (balance < needed).then_some(Blocker::InsufficientFunds { signer, balance, needed })
}

/// That the day's budget does not allow another transaction that may cost so much; `None` when it does, or cannot be read. A
/// look, that nothing is decided by.
pub(super) async fn over_budget(tools: &Context, next: u128) -> Option<OverBudget> {
    let DailyBudget { limit: budget, day_start: since, .. } = daily_budget(tools)?;
    let taken = tools.store.spending(since).await.ok()?.committed_with_reserve();
    (taken.saturating_add(next) > budget).then_some(OverBudget { committed: taken, next_cost: next, budget })
}

fn daily_budget(tools: &Context) -> Option<DailyBudget> {
    tools.settings.daily_budget.map(|budget| DailyBudget::new(budget, now()))
}

fn gas_cost(gas: u64, fee: u128) -> U256 {
    U256::from(gas) * U256::from(fee)
}
