//! What a transaction may cost: whether the signer can pay for it, and whether the day's budget allows it.

use super::{
    Flight, Lane, Phase,
    prepare::{Obstacle, Prepared},
};
use crate::{
    chain::Outlook,
    pipeline::now,
    registration::{
        diagnosis::Hindrance,
        policy::{
            budget::{self, Spending},
            fees::Fees,
        },
    },
    store::StoreError,
    telemetry::metrics,
};
use alloy::primitives::U256;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// Bytes of a transaction besides its calldata: envelope, signature, lengths.
const ENVELOPE_BYTES: usize = 200;
/// The fees beside the gas follow L1's, which may double before the transaction is included.
const SIDE_FEES_SLACK: u64 = 2;

impl Lane {
    /// What a transaction may cost at most, in wei, all fees counted; and what of it is beside the gas.
    pub(super) async fn worst_cost(&self, prepared: &Prepared, fees: Fees) -> Result<(U256, U256), Obstacle> {
        let size = prepared.calldata.len() + ENVELOPE_BYTES;
        let beside = self.tools.chain.side_fees(size, prepared.gas_limit).await? * U256::from(SIDE_FEES_SLACK);
        Ok((cost(prepared.gas_limit, fees.max_fee_per_gas) + beside, beside))
    }

    /// The signer must be able to pay for this and for everything it has out: nodes count both.
    pub(super) fn check_balance(&self, outlook: &Outlook, (own, beside): (U256, U256)) -> Result<(), Obstacle> {
        let waits = |flight: &Arc<Flight>| !matches!(flight.progress().phase, Phase::Included { .. });
        let of = |flight: Arc<Flight>| cost(flight.versions().gas_limit, flight.latest().1.max_fee_per_gas) + beside;
        let out: U256 = self.tools.flights.of(self.address()).into_iter().filter(waits).map(of).sum();
        let needed = own + out;
        if outlook.balance >= needed {
            return Ok(());
        }
        let (signer, balance) = (self.address(), outlook.balance);
        Err(Obstacle::Held(Hindrance::Funds { signer, balance, needed }))
    }

    /// The day's budget, if there is one, must allow another transaction that may cost `next`. Until what this returns is dropped,
    /// no other lane spends.
    pub(super) async fn check_budget(&self, next: U256) -> Result<Option<OwnedMutexGuard<()>>, Obstacle> {
        let Some(budget) = self.tools.settings.daily_budget else { return Ok(None) };
        let purse = self.tools.purse.clone().lock_owned().await;
        let spending = self.spending().await?;
        let next = u128::try_from(next).unwrap_or(u128::MAX);
        match budget::fits(spending, next, budget) {
            Ok(()) => Ok(Some(purse)),
            Err(over) => Err(Obstacle::Held(Hindrance::DailyBudget(over))),
        }
    }

    /// Whether the budget still does not allow a transaction that may cost so much.
    pub(super) async fn is_over_budget(&self, next: u128) -> bool {
        let Some(budget) = self.tools.settings.daily_budget else { return false };
        self.spending().await.is_ok_and(|spending| budget::fits(spending, next, budget).is_err())
    }

    async fn spending(&self) -> Result<Spending, StoreError> {
        let spending = self.tools.store.spending(budget::day_of(now())).await?;
        metrics().daily_spend(spending.spent.saturating_add(spending.out));
        Ok(spending)
    }
}

fn cost(gas: u64, fee: u128) -> U256 {
    U256::from(gas) * U256::from(fee)
}
