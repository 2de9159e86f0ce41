//! What a transaction may cost: whether the signer can pay for it, and whether the day's budget allows it.

use super::{Flight, Lane, Phase, Tools, prepare::Obstacle};
use crate::{
    chain::{CallError, Outlook},
    pipeline::now,
    registration::{
        diagnosis::Hindrance,
        policy::{
            budget::{Allowance, OverBudget},
            fees::Fees,
        },
    },
};
use alloy::primitives::{Address, U256};
use std::sync::Arc;

/// Bytes of a transaction besides its calldata: envelope, signature, lengths.
pub(super) const ENVELOPE_BYTES: usize = 200;
/// The fees beside the gas follow L1's, which may double before the transaction is included.
const SIDE_FEES_SLACK: u64 = 2;

/// What a transaction may cost at most, in wei.
pub(super) struct WorstCost {
    all: U256,
    /// What of it is beside the gas.
    beside: U256,
}

impl WorstCost {
    /// In wei; what does not fit is more than there is.
    pub(super) fn wei(&self) -> u128 {
        u128::try_from(self.all).unwrap_or(u128::MAX)
    }
}

impl Lane {
    /// What a transaction of so many bytes may cost at most, all fees counted.
    pub(super) async fn worst_cost(&self, size: usize, gas_limit: u64, fees: Fees) -> Result<WorstCost, Obstacle> {
        Ok(worst_cost(&self.tools, size, gas_limit, fees).await?)
    }

    /// The signer must be able to pay for this and for everything it has out: nodes count both.
    pub(super) fn check_balance(&self, outlook: &Outlook, worst: &WorstCost) -> Result<(), Obstacle> {
        shortfall(&self.tools, self.address(), outlook.balance, worst).map_or(Ok(()), |poor| Err(Obstacle::Held(poor)))
    }

    /// What the day allows, if there is a limit. The store holds it in the transaction that writes the signed bytes, for other lanes
    /// and other replicas spend of the same budget.
    pub(super) fn allowance(&self) -> Option<Allowance> {
        allowance(&self.tools)
    }

    /// Whether the budget still does not allow a transaction that may cost so much. A look, that nothing is decided by.
    pub(super) async fn is_over_budget(&self, next: u128) -> bool {
        over_budget(&self.tools, next).await.is_some()
    }
}

/// What a transaction of so many bytes may cost at most, all fees counted.
pub(super) async fn worst_cost(tools: &Tools, size: usize, gas_limit: u64, fees: Fees) -> Result<WorstCost, CallError> {
    let beside = tools.chain.side_fees(size, gas_limit).await? * U256::from(SIDE_FEES_SLACK);
    Ok(WorstCost { all: cost(gas_limit, fees.max_fee_per_gas) + beside, beside })
}

/// That the signer cannot pay for this and for everything it has out; `None` when it can.
pub(super) fn shortfall(tools: &Tools, signer: Address, balance: U256, worst: &WorstCost) -> Option<Hindrance> {
    let WorstCost { all: own, beside } = *worst;
    let waits = |flight: &Arc<Flight>| !matches!(flight.progress().phase, Phase::Included { .. });
    let of = |flight: Arc<Flight>| cost(flight.versions().gas_limit, flight.latest().1.max_fee_per_gas) + beside;
    let out: U256 = tools.flights.of(signer).into_iter().filter(waits).map(of).sum();
    let needed = own + out;
    (balance < needed).then_some(Hindrance::Funds { signer, balance, needed })
}

/// That the day's budget does not allow another transaction that may cost so much; `None` when it does, or cannot be read. A
/// look, that nothing is decided by.
pub(super) async fn over_budget(tools: &Tools, next: u128) -> Option<OverBudget> {
    let Allowance { budget, since, .. } = allowance(tools)?;
    let taken = tools.store.spending(since).await.ok()?.taken_or_kept();
    (taken.saturating_add(next) > budget).then_some(OverBudget { taken, next, budget })
}

fn allowance(tools: &Tools) -> Option<Allowance> {
    tools.settings.daily_budget.map(|budget| Allowance::of(budget, now()))
}

fn cost(gas: u64, fee: u128) -> U256 {
    U256::from(gas) * U256::from(fee)
}
