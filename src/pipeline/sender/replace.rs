//! Signing again at the same nonce: the same calldata for a higher offer, or a smaller batch. Another version is on disk before a
//! node sees it, and any of them may be the one that is included.

use super::{
    PendingTx, Sender, StoreError,
    maintain::{ChainConditions, fee_market_view},
    prepare::PrepareError,
};
use crate::{
    chain::{self, UnsignedTransaction},
    pipeline::{in_flight::BlockedState, now},
    registration::{
        Pair,
        diagnosis::Blocker,
        policy::{
            batching,
            budget::{DailyBudget, OverBudget},
            fees::Fees,
            replacement::{self},
        },
        units::format_gwei,
    },
    store::{Attempt, Replacement},
    telemetry::{events, log_retry},
};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// A version that the day's budget did not allow is offered to it again this often.
const BUDGET_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How much a transaction needs another version.
#[derive(Clone, Copy, Debug)]
pub(super) enum Urgency {
    /// Nothing is wrong with the one that is out.
    Routine,
    /// As it is, no block takes it.
    Stuck,
    /// And everything else of its signer waits for it.
    BlocksQueue {
        /// What blocks ask, in wei per gas.
        base_fee: u128,
    },
}

impl Sender {
    /// Signs the same again with a higher offer: with one that the day's budget has room for, where all else waits for it. Returns
    /// whether there is another version to be sent.
    pub(super) async fn bump_fees(&mut self, flight: &PendingTx, fees: Fees, need: Urgency) -> bool {
        let over = match self.sign_replacement(flight, fees, need).await {
            Ok(done) => return done,
            Err(over) => over,
        };
        let over = match self.reduce_to_budget(flight, fees, need, over) {
            Some(fees) => match self.sign_replacement(flight, fees, need).await {
                Ok(done) => return done,
                Err(over) => over,
            },
            None => over,
        };
        self.next_budget_check = Instant::now() + BUDGET_RETRY_INTERVAL;
        match need {
            Urgency::Routine => {}
            Urgency::Stuck | Urgency::BlocksQueue { .. } => {
                self.mark_tx_blocked(flight, &Blocker::DailyBudget(over)).await
            }
        }
        false
    }

    async fn sign_replacement(&mut self, flight: &PendingTx, fees: Fees, need: Urgency) -> Result<bool, OverBudget> {
        let versions = flight.versions();
        let Some(latest) = versions.attempts.last() else { return Ok(false) };
        let signed = chain::resign_with_fees(&self.signer, &latest.raw, fees);
        let Ok((hash, raw)) = signed else {
            warn!(transaction_id = %flight.id, "a transaction could not be signed again");
            return Ok(false);
        };
        let (gas_limit, batch_size) = (versions.gas_limit, versions.batch_size);
        let done = self.apply_replacement(flight, Attempt { hash, raw, fees }, (gas_limit, batch_size), need).await?;
        if done {
            flight.add_history(
                format!("bumped: {hash} offers at most {} per gas", format_gwei(fees.max_fee_per_gas)),
                now(),
            );
            events::transaction_fee_bumped(flight.id, flight.signer, flight.nonce, hash, &fees);
        }
        Ok(done)
    }

    /// As much of an offer that passes the budget as there is room for, if that helps what all else waits for.
    fn reduce_to_budget(&self, flight: &PendingTx, fees: Fees, need: Urgency, over: OverBudget) -> Option<Fees> {
        let Urgency::BlocksQueue { base_fee } = need else { return None };
        let less = over.next_cost.saturating_sub(over.budget.saturating_sub(over.committed));
        replacement::reduced_fees(fees, less, flight.versions().gas_limit, flight.latest().1, base_fee)
    }

    /// No block holds it, or a node refuses it for its gas: its first part goes on at the same nonce. The rest stays tied to that
    /// nonce until it is consumed, and is queued again then.
    pub(super) async fn split_batch(&mut self, flight: &PendingTx, sight: Option<ChainConditions>) -> bool {
        let Some(ChainConditions { head, stalled }) = sight else { return false };
        let versions = flight.versions();
        let pairs: Vec<Pair> = {
            let journeys = flight.traces();
            journeys.iter().map(|journey| journey.member.pair.clone()).collect()
        };
        let lengths = |count: usize| pairs.iter().take(count).map(|pair| pair.case_id.as_str().len());
        let fitting = batching::max_that_fit(lengths(versions.batch_size), head.gas_limit);
        let count = if fitting < versions.batch_size { fitting } else { versions.batch_size.div_ceil(2) };
        let Some(part) = pairs.get(..count).filter(|part| !part.is_empty() && count < versions.batch_size) else {
            return false;
        };
        let calldata = chain::register_calldata(part);
        let gas_limit = batching::gas_limit(&calldata, lengths(count));
        let market = self.context.chain.fee_market().await.ok();
        let asked = fee_market_view(market, (&head, stalled), gas_limit, self.context.chain.max_fee_per_gas());
        let fees = match replacement::bumped_fees(flight.latest().1, &asked) {
            Ok(fees) => fees,
            Err(above) => {
                self.mark_tx_blocked(flight, &Blocker::FeeCap(above)).await;
                return false;
            }
        };
        let unsigned = UnsignedTransaction {
            chain_id: self.context.chain.network().chain_id,
            nonce: flight.nonce,
            to: Some(self.context.chain.contract()),
            calldata,
            gas_limit,
            fees,
        };
        let Ok((hash, raw)) = chain::sign(&self.signer, &unsigned) else { return false };
        let need = Urgency::BlocksQueue { base_fee: head.base_fee };
        let done = match self.apply_replacement(flight, Attempt { hash, raw, fees }, (gas_limit, count), need).await {
            Ok(done) => done,
            Err(over) => {
                self.next_budget_check = Instant::now() + BUDGET_RETRY_INTERVAL;
                self.mark_tx_blocked(flight, &Blocker::DailyBudget(over)).await;
                false
            }
        };
        if done {
            flight.add_history(format!("split: {hash} carries the first {count} of {}", versions.batch_size), now());
            events::transaction_split(flight.id, flight.signer, flight.nonce, hash, (count, versions.batch_size));
        }
        done
    }

    /// Writes another version, and counts it from then on. Returns whether there is one.
    ///
    /// # Errors
    /// When the day's budget has no room for it.
    async fn apply_replacement(
        &mut self,
        flight: &PendingTx,
        attempt: Attempt,
        (gas_limit, batch_size): (u64, usize),
        need: Urgency,
    ) -> Result<bool, OverBudget> {
        if Instant::now() < self.next_budget_check {
            return Ok(false);
        }
        match self.persist_replacement(flight, attempt.clone(), (gas_limit, batch_size), need).await {
            Ok(()) => {}
            Err(PrepareError::Blocked(Blocker::DailyBudget(over))) => return Err(over),
            Err(PrepareError::Blocked(hindrance)) => {
                self.mark_tx_blocked(flight, &hindrance).await;
                return Ok(false);
            }
            // A block holds it by now; or the answer to an earlier write was lost, and what is on disk is more than what is known.
            Err(PrepareError::Store(StoreError::Conflict)) => {
                self.reload_attempts(flight).await;
                return Ok(false);
            }
            Err(PrepareError::Store(error)) => {
                self.on_store_error(&error);
                return Ok(false);
            }
            Err(PrepareError::BatchReverts) => return Ok(false),
        }
        flight.push_attempt(attempt, gas_limit, batch_size);
        {
            let mut progress = flight.status();
            (progress.pending_since, progress.underpriced, progress.blocked) = (None, false, BlockedState::Clear);
            (progress.observations.last_rejection, progress.observations.persisted.last_rejection) = (None, None);
        }
        if let Some(vehicle) = flight.summary() {
            flight.traces().iter_mut().for_each(|journey| journey.on_replaced(&vehicle));
        }
        self.context.waiters.notify_changed(&flight.members).await;
        Ok(true)
    }

    async fn persist_replacement(
        &self,
        flight: &PendingTx,
        attempt: Attempt,
        (gas_limit, batch_size): (u64, usize),
        need: Urgency,
    ) -> Result<(), PrepareError> {
        let worst_cost = self.max_cost(attempt.raw.len(), gas_limit, attempt.fees).await?.wei();
        let (number, signed_at) = (flight.versions().attempts.len() + 1, now());
        // What fills a gap carries nothing, and goes out whatever was spent: what waits behind it is counted already.
        let allowance = self.daily_budget().filter(|_| !flight.members.is_empty());
        let allowance = match need {
            Urgency::Routine | Urgency::Stuck => allowance,
            Urgency::BlocksQueue { .. } => allowance.map(DailyBudget::with_reserve_access),
        };
        let new = Replacement {
            attempt,
            number,
            gas_limit,
            batch_size,
            signed_at,
            max_cost: worst_cost,
            daily_budget: allowance,
        };
        Ok(self.context.store.insert_replacement(flight.id, &new).await?)
    }

    async fn reload_attempts(&self, flight: &PendingTx) {
        match self.context.store.open_transaction(flight.id).await {
            Ok(Some(open)) => {
                {
                    let memory = &mut flight.status().observations;
                    memory.last_rejection = open.observations.last_rejection.clone();
                    memory.persisted.last_rejection = open.observations.last_rejection;
                }
                for attempt in open.attempts.into_iter().skip(flight.versions().attempts.len()) {
                    flight.push_attempt(attempt, open.gas_limit, open.batch_size);
                }
            }
            Ok(None) => {}
            Err(error) => log_retry!(error, transaction_id = %flight.id, "a transaction could not be read"),
        }
    }
}
