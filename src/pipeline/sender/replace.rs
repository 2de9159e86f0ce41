//! Replaces a pending transaction at its nonce: the same calldata with higher fees, or a smaller batch. A replacement
//! is stored before any node receives it, and a block may include any version.

use super::types::{ChainConditions, ReplacementOutcome, Sender, SenderParts, Urgency};
use crate::{
    chain::UnsignedTransaction,
    clock::now,
    pipeline::{
        cost::{self, fee_market_view},
        error::{PrepareError, signer_blocker},
        in_flight::PendingTx,
        preflight::RegisterCall,
    },
    registration::{
        Pair,
        diagnosis::Blocker,
        policy::{
            batching,
            budget::{DailyBudget, OverBudget},
            fees::Fees,
            replacement::{self, SplitReason},
        },
        units::format_gwei,
    },
    store::{Attempt, Replacement, StoreError},
    telemetry::{events, log_retry},
};
use alloy::primitives::{B256, Bytes};
use tokio::time::Instant;
use tracing::warn;

impl Sender {
    /// Signs the same calldata at the same nonce with higher fees. Where the signer's whole queue waits for it, the
    /// daily budget may reduce the fees.
    pub(super) async fn bump_fees(&mut self, tx: &PendingTx, fees: Fees, urgency: Urgency) -> ReplacementOutcome {
        let mut outcome = self.sign_replacement(tx, fees, urgency).await;
        if let ReplacementOutcome::OverBudget(over) = outcome
            && let Some(reduced) = reduce_to_budget(tx, fees, urgency, over)
        {
            outcome = self.sign_replacement(tx, reduced, urgency).await;
        }
        if let ReplacementOutcome::OverBudget(over) = outcome {
            self.timers.on_over_budget(Instant::now());
            match urgency {
                Urgency::Routine => {}
                Urgency::Stuck | Urgency::BlocksQueue { .. } => {
                    self.mark_tx_blocked(tx, &Blocker::DailyBudget(over)).await;
                }
            }
        }
        outcome
    }

    async fn sign_replacement(&mut self, tx: &PendingTx, fees: Fees, urgency: Urgency) -> ReplacementOutcome {
        let versions = tx.versions();
        let Some(latest) = versions.attempts.last() else { return ReplacementOutcome::NotReplaced };
        let Some(unsigned) = UnsignedTransaction::with_fees(&latest.raw, fees) else {
            warn!(transaction_id = %tx.id, "stored transaction cannot be replaced");
            return ReplacementOutcome::NotReplaced;
        };
        let Some((hash, raw)) = self.sign_for(tx, unsigned, urgency).await else {
            return ReplacementOutcome::NotReplaced;
        };
        let (gas_limit, batch_size) = (versions.gas_limit, versions.batch_size);
        let attempt = Attempt { hash, raw, fees };
        let outcome = self.apply_replacement(tx, attempt, (gas_limit, batch_size), urgency).await;
        if outcome.is_replaced() {
            let max_fee = format_gwei(fees.max_fee_per_gas);
            tx.add_history(format!("bumped: {hash} offers at most {max_fee} per gas"), now());
            events::transaction_fee_bumped(tx.id, tx.signer, tx.nonce, hash, &fees);
        }
        outcome
    }

    /// Replaces a batch that no block includes by its first part at the same nonce. The other registrations are queued
    /// again when the nonce is consumed.
    pub(super) async fn split_batch(
        &mut self,
        tx: &PendingTx,
        conditions: Option<ChainConditions>,
        reason: SplitReason,
    ) -> ReplacementOutcome {
        let Some(ChainConditions { head, stalled }) = conditions else { return ReplacementOutcome::NotReplaced };
        let batch_size = tx.versions().batch_size;
        let pairs: Vec<Pair> = tx.traces().iter().map(|trace| trace.member.pair.clone()).collect();
        let count = match reason {
            SplitReason::TooMuchGas => {
                let lengths = pairs.iter().take(batch_size).map(|pair| pair.case_id.as_str().len());
                let fitting = batching::max_that_fit(lengths, head.gas_limit);
                if fitting < batch_size { fitting } else { batch_size.div_ceil(2) }
            }
            SplitReason::NeverTaken => replacement::cut_size(batch_size, self.batch_ceiling.get(Instant::now())),
        };
        let Some(part) = pairs.get(..count).filter(|part| !part.is_empty() && count < batch_size) else {
            return ReplacementOutcome::NotReplaced;
        };
        let RegisterCall { calldata, gas_limit } = RegisterCall::new(part);
        let market = Some(self.parts.chain.fee_market().await);
        let market = fee_market_view(market, (&head, stalled), gas_limit, self.parts.chain.max_fee_per_gas());
        let fees = match replacement::bumped_fees(tx.latest().1, &market) {
            Ok(fees) => fees,
            Err(exceeded) => {
                self.mark_tx_blocked(tx, &Blocker::FeeCap(exceeded)).await;
                return ReplacementOutcome::NotReplaced;
            }
        };
        let unsigned = UnsignedTransaction {
            chain_id: self.parts.chain.network().chain_id,
            nonce: tx.nonce,
            to: Some(self.parts.chain.contract()),
            calldata,
            gas_limit,
            fees,
        };
        let urgency = Urgency::BlocksQueue { base_fee: head.base_fee };
        let Some((hash, raw)) = self.sign_for(tx, unsigned, urgency).await else {
            return ReplacementOutcome::NotReplaced;
        };
        let outcome = self.apply_replacement(tx, Attempt { hash, raw, fees }, (gas_limit, count), urgency).await;
        match outcome {
            ReplacementOutcome::Replaced => {
                if reason == SplitReason::NeverTaken {
                    self.batch_ceiling.lower_to(count, Instant::now());
                }
                tx.add_history(format!("split: {hash} carries the first {count} of {batch_size}"), now());
                events::transaction_split(tx.id, tx.signer, tx.nonce, hash, (count, batch_size));
            }
            ReplacementOutcome::NotReplaced => {}
            ReplacementOutcome::OverBudget(over) => {
                self.timers.on_over_budget(Instant::now());
                self.mark_tx_blocked(tx, &Blocker::DailyBudget(over)).await;
            }
        }
        outcome
    }

    /// Hash and bytes of a replacement; `None` if the signer does not sign, or no replacement is due.
    async fn sign_for(
        &mut self,
        tx: &PendingTx,
        unsigned: UnsignedTransaction,
        urgency: Urgency,
    ) -> Option<(B256, Bytes)> {
        let now = Instant::now();
        if !self.timers.may_replace(now) || !self.timers.may_sign(now) {
            return None;
        }
        match self.sign(unsigned).await {
            Ok(signed) => Some(signed),
            Err(error) => {
                match urgency {
                    Urgency::Routine => {}
                    Urgency::Stuck | Urgency::BlocksQueue { .. } => {
                        self.mark_tx_blocked(tx, &signer_blocker(&error)).await;
                    }
                }
                None
            }
        }
    }

    /// Writes a new version, and makes it the latest one once it is written.
    async fn apply_replacement(
        &mut self,
        tx: &PendingTx,
        attempt: Attempt,
        (gas_limit, batch_size): (u64, usize),
        urgency: Urgency,
    ) -> ReplacementOutcome {
        match self.persist_replacement(tx, attempt.clone(), (gas_limit, batch_size), urgency).await {
            Ok(()) => {}
            Err(PrepareError::Blocked(Blocker::DailyBudget(over))) => return ReplacementOutcome::OverBudget(over),
            Err(PrepareError::Blocked(blocker)) => {
                self.mark_tx_blocked(tx, &blocker).await;
                return ReplacementOutcome::NotReplaced;
            }
            // A block includes it by now, or an earlier write succeeded although its answer was lost.
            Err(PrepareError::Store(StoreError::Conflict)) => {
                self.reload_attempts(tx).await;
                return ReplacementOutcome::NotReplaced;
            }
            Err(PrepareError::Store(error)) => {
                self.on_store_error(&error);
                return ReplacementOutcome::NotReplaced;
            }
            Err(PrepareError::BatchReverts) => return ReplacementOutcome::NotReplaced,
        }
        tx.push_attempt(attempt, gas_limit, batch_size);
        tx.status().mark_replaced();
        let summary = tx.summary();
        tx.traces().iter_mut().for_each(|trace| trace.on_replaced(summary));
        self.parts.waiters.notify_changed(&tx.members).await;
        ReplacementOutcome::Replaced
    }

    async fn persist_replacement(
        &self,
        tx: &PendingTx,
        attempt: Attempt,
        (gas_limit, batch_size): (u64, usize),
        urgency: Urgency,
    ) -> Result<(), PrepareError> {
        let SenderParts { chain, store, settings, .. } = &self.parts;
        let max_cost = cost::max_cost(chain, attempt.raw.len(), gas_limit, attempt.fees).await?.wei();
        // A nonce gap transaction carries no registrations and is not limited: the ones behind it are reserved already.
        let budget = cost::daily_budget(settings.daily_budget).filter(|_| !tx.members.is_empty());
        let daily_budget = match urgency {
            Urgency::Routine | Urgency::Stuck => budget,
            Urgency::BlocksQueue { .. } => budget.map(DailyBudget::with_reserve_access),
        };
        let (number, signed_at) = (tx.versions().attempts.len() + 1, now());
        let new = Replacement { attempt, number, gas_limit, batch_size, signed_at, max_cost, daily_budget };
        Ok(store.insert_replacement(tx.id, &new).await?)
    }

    async fn reload_attempts(&self, tx: &PendingTx) {
        match self.parts.store.open_transaction(tx.id).await {
            Ok(Some(open)) => {
                tx.status().reload_rejection(open.observations.last_rejection);
                for attempt in open.attempts.into_iter().skip(tx.versions().attempts.len()) {
                    tx.push_attempt(attempt, open.gas_limit, open.batch_size);
                }
            }
            Ok(None) => {}
            Err(error) => log_retry!(error, transaction_id = %tx.id, "failed to reload transaction"),
        }
    }
}

/// The highest fees that the budget has room for, where the signer's whole queue waits for the transaction.
fn reduce_to_budget(tx: &PendingTx, fees: Fees, urgency: Urgency, over: OverBudget) -> Option<Fees> {
    let Urgency::BlocksQueue { base_fee } = urgency else { return None };
    let excess = over.next_cost.saturating_sub(over.budget.saturating_sub(over.committed));
    replacement::reduced_fees(fees, excess, tx.versions().gas_limit, tx.latest().1, base_fee)
}
