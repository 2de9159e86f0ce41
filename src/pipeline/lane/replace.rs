//! Signing again at the same nonce: the same calldata for a higher offer, or a smaller batch. Another version is on disk before a
//! node sees it, and any of them may be the one that is included.

use super::{
    Flight, Lane, StoreError,
    prepare::Obstacle,
    tend::{Sight, asked},
};
use crate::{
    chain::{self, Pair, Unsigned},
    pipeline::{flights::Held, now},
    registration::{
        diagnosis::Hindrance,
        policy::{
            batching,
            budget::{Allowance, OverBudget},
            fees::Fees,
            replacement::{self},
        },
        units::gwei,
    },
    store::{Attempt, Replacement},
    telemetry::{events, hindered},
};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// A version that the day's budget did not allow is offered to it again this often.
const UNTIL_BUDGET: Duration = Duration::from_secs(1);

/// How much a transaction needs another version.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need {
    /// Nothing is wrong with the one that is out.
    None,
    /// As it is, no block takes it.
    Waits,
    /// And everything else of its signer waits for it.
    AllWait {
        /// What blocks ask, in wei per gas.
        base_fee: u128,
    },
}

impl Lane {
    /// Signs the same again with a higher offer: with one that the day's budget has room for, where all else waits for it. Returns
    /// whether there is another version to be sent.
    pub(super) async fn raise(&mut self, flight: &Flight, fees: Fees, need: Need) -> bool {
        let over = match self.offer(flight, fees, need).await {
            Ok(done) => return done,
            Err(over) => over,
        };
        let over = match self.lowered(flight, fees, need, over) {
            Some(fees) => match self.offer(flight, fees, need).await {
                Ok(done) => return done,
                Err(over) => over,
            },
            None => over,
        };
        self.budget_at = Instant::now() + UNTIL_BUDGET;
        match need {
            Need::None => {}
            Need::Waits | Need::AllWait { .. } => self.hold(flight, &Hindrance::DailyBudget(over)).await,
        }
        false
    }

    async fn offer(&mut self, flight: &Flight, fees: Fees, need: Need) -> Result<bool, OverBudget> {
        let versions = flight.versions();
        let Some(latest) = versions.attempts.last() else { return Ok(false) };
        let signed = chain::sign_again(&self.signer, &latest.raw, fees);
        let Ok((hash, raw)) = signed else {
            warn!(transaction_id = %flight.id, "a transaction could not be signed again");
            return Ok(false);
        };
        let (gas_limit, batch_size) = (versions.gas_limit, versions.batch_size);
        let done = self.replace(flight, Attempt { hash, raw, fees }, (gas_limit, batch_size), need).await?;
        if done {
            flight.note(format!("bumped: {hash} offers at most {} per gas", gwei(fees.max_fee_per_gas)), now());
            events::transaction_fee_bumped(flight.id, flight.signer, flight.nonce, hash, &fees);
        }
        Ok(done)
    }

    /// As much of an offer that passes the budget as there is room for, if that helps what all else waits for.
    fn lowered(&self, flight: &Flight, fees: Fees, need: Need, over: OverBudget) -> Option<Fees> {
        let Need::AllWait { base_fee } = need else { return None };
        let less = over.next.saturating_sub(over.budget.saturating_sub(over.taken));
        replacement::lowered(fees, less, flight.versions().gas_limit, flight.latest().1, base_fee)
    }

    /// No block holds it, or a node refuses it for its gas: its first part goes on at the same nonce. The rest stays tied to that
    /// nonce until it is consumed, and is queued again then.
    pub(super) async fn split(&mut self, flight: &Flight, sight: Option<Sight>) -> bool {
        let Some(Sight { head, stalled }) = sight else { return false };
        let versions = flight.versions();
        let pairs: Vec<Pair> = {
            let journeys = flight.journeys();
            journeys.iter().map(|journey| (journey.member.document_hash, journey.member.case_id.clone())).collect()
        };
        let lengths = |count: usize| pairs.iter().take(count).map(|(_, case)| case.as_str().len());
        let fitting = batching::fit(lengths(versions.batch_size), head.gas_limit);
        let count = if fitting < versions.batch_size { fitting } else { versions.batch_size.div_ceil(2) };
        let Some(part) = pairs.get(..count).filter(|part| !part.is_empty() && count < versions.batch_size) else {
            return false;
        };
        let calldata = chain::register_calldata(part);
        let gas_limit = batching::gas_limit(&calldata, lengths(count));
        let market = self.tools.chain.market().await.ok();
        let asked = asked(market, (&head, stalled), gas_limit, self.tools.chain.max_fee_per_gas());
        let fees = match replacement::outbid(flight.latest().1, &asked) {
            Ok(fees) => fees,
            Err(above) => {
                self.hold(flight, &Hindrance::FeeCap(above)).await;
                return false;
            }
        };
        let unsigned = Unsigned {
            chain_id: self.tools.chain.network().chain_id,
            nonce: flight.nonce,
            to: Some(self.tools.chain.contract()),
            calldata,
            gas_limit,
            fees,
        };
        let Ok((hash, raw)) = chain::sign(&self.signer, &unsigned) else { return false };
        let need = Need::AllWait { base_fee: head.base_fee };
        let done = match self.replace(flight, Attempt { hash, raw, fees }, (gas_limit, count), need).await {
            Ok(done) => done,
            Err(over) => {
                self.budget_at = Instant::now() + UNTIL_BUDGET;
                self.hold(flight, &Hindrance::DailyBudget(over)).await;
                false
            }
        };
        if done {
            flight.note(format!("split: {hash} carries the first {count} of {}", versions.batch_size), now());
            events::transaction_split(flight.id, flight.signer, flight.nonce, hash, (count, versions.batch_size));
        }
        done
    }

    /// Writes another version, and counts it from then on. Returns whether there is one.
    ///
    /// # Errors
    /// When the day's budget has no room for it.
    async fn replace(
        &mut self,
        flight: &Flight,
        attempt: Attempt,
        (gas_limit, batch_size): (u64, usize),
        need: Need,
    ) -> Result<bool, OverBudget> {
        if Instant::now() < self.budget_at {
            return Ok(false);
        }
        match self.write_version(flight, attempt.clone(), (gas_limit, batch_size), need).await {
            Ok(()) => {}
            Err(Obstacle::Held(Hindrance::DailyBudget(over))) => return Err(over),
            Err(Obstacle::Held(hindrance)) => {
                self.hold(flight, &hindrance).await;
                return Ok(false);
            }
            // A block holds it by now; or the answer to an earlier write was lost, and what is on disk is more than what is known.
            Err(Obstacle::Store(StoreError::Conflict)) => {
                self.read_again(flight).await;
                return Ok(false);
            }
            Err(Obstacle::Store(error)) => {
                self.store_failed(&error);
                return Ok(false);
            }
            Err(Obstacle::PoisonedBatch) => return Ok(false),
        }
        flight.replaced(attempt, gas_limit, batch_size);
        {
            let mut progress = flight.progress();
            (progress.out, progress.priced_out, progress.held) = (None, false, Held::No);
            (progress.memory.refusal, progress.memory.kept.refusal) = (None, None);
        }
        if let Some(vehicle) = flight.vehicle() {
            flight.journeys().iter_mut().for_each(|journey| journey.replaced(&vehicle));
        }
        self.tools.waiters.changed(&self.tools.store, &flight.members).await;
        Ok(true)
    }

    async fn write_version(
        &self,
        flight: &Flight,
        attempt: Attempt,
        (gas_limit, batch_size): (u64, usize),
        need: Need,
    ) -> Result<(), Obstacle> {
        let worst_cost = self.worst_cost(attempt.raw.len(), gas_limit, attempt.fees).await?.wei();
        let (number, signed_at) = (flight.versions().attempts.len() + 1, now());
        // What fills a gap carries nothing, and goes out whatever was spent: what waits behind it is counted already.
        let allowance = self.allowance().filter(|_| !flight.members.is_empty());
        let allowance = match need {
            Need::None | Need::Waits => allowance,
            Need::AllWait { .. } => allowance.map(Allowance::whole),
        };
        let new = Replacement { attempt, number, gas_limit, batch_size, signed_at, worst_cost, allowance };
        Ok(self.tools.store.replace(flight.id, &new).await?)
    }

    async fn read_again(&self, flight: &Flight) {
        match self.tools.store.open_transaction(flight.id).await {
            Ok(Some(open)) => {
                {
                    let memory = &mut flight.progress().memory;
                    memory.refusal = open.remembered.refusal.clone();
                    memory.kept.refusal = open.remembered.refusal;
                }
                for attempt in open.attempts.into_iter().skip(flight.versions().attempts.len()) {
                    flight.replaced(attempt, open.gas_limit, open.batch_size);
                }
            }
            Ok(None) => {}
            Err(error) => hindered!(error, transaction_id = %flight.id, "a transaction could not be read"),
        }
    }
}
