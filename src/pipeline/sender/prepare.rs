//! From a claim to signed bytes on disk.

use super::{Context, Sender, cost::TX_ENVELOPE_BYTES, maintain::fee_market_view};
use crate::{
    chain::{self, CallError, Chain, EndpointFault, OnChainRecord, RejectReason, SenderState, UnsignedTransaction},
    pipeline::{
        follower::PollError,
        in_flight::{PendingTx, TxPhase, TxStatus, Versions, lock},
        now,
        queue::Claim,
        registration_trace::{RegistrationTrace, TxSummary},
    },
    registration::{
        BlockedReason, Failure, FailureReason, Pair, RegistrationId, Timestamp, TransactionId,
        diagnosis::{Blocker, TxTooLarge},
        policy::{batching, fees},
    },
    store::{Attempt, FoundOnChain, NewTransaction, QueuedRegistration, StoreError},
    telemetry::{events, metrics, spans::BatchSpan},
};
use alloy::primitives::{Bytes, hex};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

/// The gas of a block before the first one is seen: anvil's.
pub(super) const DEFAULT_BLOCK_GAS_LIMIT: u64 = 30_000_000;
/// How soon a pair that is on chain, but not deep enough, is looked at again.
const SHALLOW_RECORD_RECHECK: Duration = Duration::from_millis(250);
/// A record so many blocks deeper than it has to be needs no second endpoint to agree.
const OLD_RECORD_DEPTH: u64 = 1_000;
/// How many endpoints are heard about a nonce that is higher than ours.
const HIGHER_NONCE_QUORUM: usize = 2;
/// How long they have to answer.
const HIGHER_NONCE_QUORUM_TIMEOUT: Duration = Duration::from_secs(2);
/// How many original transactions are looked up at once.
const ORIGINAL_LOOKUP_CONCURRENCY: usize = 8;

/// What is about to be signed.
pub(super) struct Prepared {
    pub(super) calldata: Bytes,
    pub(super) gas_limit: u64,
    /// When its registrations left the queue.
    pub(super) prepared_at: Timestamp,
}

/// What stands between a claim and a transaction.
pub(super) enum PrepareError {
    /// Something an operator can mend.
    Blocked(Blocker),
    /// One of several registrations makes the batch revert.
    BatchReverts,
    /// The store.
    Store(StoreError),
}

impl From<StoreError> for PrepareError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::OverBudget(over) => Self::Blocked(Blocker::DailyBudget(over)),
            StoreError::Database(_)
            | StoreError::Corrupt(_)
            | StoreError::Conflict
            | StoreError::Fenced
            | StoreError::BatchFailed
            | StoreError::Closed => Self::Store(error),
        }
    }
}

impl From<PollError> for PrepareError {
    fn from(error: PollError) -> Self {
        match error {
            PollError::Call(error) => error.into(),
            PollError::Store(error) => error.into(),
        }
    }
}

impl From<CallError> for PrepareError {
    fn from(error: CallError) -> Self {
        Self::Blocked(match error {
            CallError::Rejected { .. } => Blocker::Other(error.to_string()),
            CallError::Unavailable { .. } | CallError::NoEndpoint { .. } => Blocker::NoEndpoint(error.to_string()),
        })
    }
}

impl Sender {
    /// Settles what is on chain already and makes a transaction of the rest; `None` when nothing is left to send.
    pub(super) async fn prepare(
        &mut self,
        claim: &mut Claim,
        batch: &BatchSpan,
    ) -> Result<Option<Arc<PendingTx>>, PrepareError> {
        let prepared_at = now();
        if self.next_nonce.is_none() {
            self.next_nonce = self.context.store.next_nonce(self.signer.address()).await?;
        }
        let block_gas = self.context.head().map_or(DEFAULT_BLOCK_GAS_LIMIT, |head| head.gas_limit);
        claim.truncate(batching::max_that_fit(case_id_lengths(&claim.registrations), block_gas));
        let journeys: Vec<_> = claim
            .registrations
            .iter()
            .map(|row| RegistrationTrace::new(row.clone(), &self.context.chain_info, prepared_at))
            .collect();
        let (mut calldata, mut gas_limit) = register_call(&claim.registrations);
        let most = batching::max_tx_gas(block_gas);
        if gas_limit > most {
            // A nonce that no block takes would keep everything behind it waiting.
            return Err(PrepareError::Blocked(Blocker::TooLarge(TxTooLarge { gas_limit, max_gas: most })));
        }
        let (outlook, simulated) = tokio::join!(
            self.context.chain.sender_state(self.signer.address()),
            self.context.chain.simulate(self.signer.address(), &calldata, gas_limit)
        );
        let outlook = outlook?;
        metrics().set_signer_balance(self.signer.address(), outlook.balance);
        let new = match simulated {
            Ok(new) => new,
            Err(error) => return self.on_simulation_error(claim, journeys, error).await,
        };
        let journeys = if new < claim.registrations.len() {
            let left = self.settle_already_registered(claim, journeys, &outlook).await?;
            (calldata, gas_limit) = register_call(&claim.registrations);
            left
        } else {
            journeys
        };
        if claim.registrations.is_empty() {
            return Ok(None);
        }
        let prepared = Prepared { calldata, gas_limit, prepared_at };
        self.sign_and_persist(claim, journeys, &outlook, prepared, batch).await.map(Some)
    }

    /// The simulation reverted, or nobody ran it.
    async fn on_simulation_error(
        &self,
        claim: &Claim,
        journeys: Vec<RegistrationTrace>,
        error: CallError,
    ) -> Result<Option<Arc<PendingTx>>, PrepareError> {
        let Some(RejectReason::Reverted(data)) = error.reject_reason() else {
            return Err(PrepareError::Blocked(simulation_blocker(&self.context, &error)));
        };
        if let Some(account) = chain::decode_not_registrar(data) {
            return Err(PrepareError::Blocked(Blocker::SignerNotAllowed(account)));
        }
        let [row] = claim.registrations.as_slice() else { return Err(PrepareError::BatchReverts) };
        let failure = Failure {
            reason: FailureReason::RejectedByContract,
            message: format!(
                "the contract {} refuses this registration: {error}, revert data {}",
                self.context.chain.contract(),
                hex::encode_prefixed(data)
            ),
        };
        if !self.context.store.mark_failed(row.id, &failure, now()).await? {
            return Ok(None);
        }
        // As many as there are registrations: one.
        for journey in journeys {
            events::registration_failed(&journey.affected(journey.span_id()), &failure, "prepare");
            journey.on_failed(now());
        }
        self.context.waiters.notify_changed(&self.context.store, &[row.id]).await;
        Ok(None)
    }

    /// Some pairs are on chain: settles those that are deep enough, puts the others off, and keeps the rest in the claim.
    async fn settle_already_registered(
        &self,
        claim: &mut Claim,
        journeys: Vec<RegistrationTrace>,
        outlook: &SenderState,
    ) -> Result<Vec<RegistrationTrace>, PrepareError> {
        let pairs = pairs_of(&claim.registrations);
        let records = self.context.chain.records(&pairs).await?;
        let head = outlook.head.block.number;
        let confirmations = self.context.settings.confirmations;
        let deep = |number: u64| (head + 1).saturating_sub(number) >= confirmations;
        let lookups: Vec<_> = claim
            .registrations
            .iter()
            .zip(&records)
            .filter_map(|(row, record)| Some((row.clone(), (*record)?)))
            .filter(|(_, record)| deep(record.block_number))
            .collect();
        let chain = &self.context.chain;
        let lookups = lookups
            .into_iter()
            .map(|(row, record)| find_original_registration(chain.clone(), row, record, confirmations));
        let found: Vec<Option<FoundOnChain>> =
            stream::iter(lookups).buffered(ORIGINAL_LOOKUP_CONCURRENCY).try_collect().await?;
        let mut found: Vec<FoundOnChain> = found.into_iter().flatten().collect();
        self.context.import_found(&mut found).await?;
        let (settled, blocks): (Vec<RegistrationId>, Vec<_>) =
            self.context.store.mark_found_on_chain(&found, now()).await?.into_iter().unzip();
        lock(&self.context.new_unfinalized).extend(blocks);

        let mut shallow = Vec::new();
        let mut left = (Vec::new(), Vec::new());
        for ((row, record), journey) in claim.registrations.drain(..).zip(records).zip(journeys) {
            match (found.iter().find(|one| one.id == row.id), record) {
                // Another replica has signed it since it was looked at: it is that one's to tell of.
                (Some(one), _) if !settled.contains(&one.id) => {}
                (Some(one), _) => {
                    events::found_on_chain(row.id, row.trace.trace_id, one.hash, one.registrar);
                    let depth = (head + 1).saturating_sub(one.block.number);
                    journey.on_confirmed(one.hash, &one.block, depth, now());
                }
                (None, Some(_)) => shallow.push(row.id),
                (None, None) => {
                    left.0.push(row);
                    left.1.push(journey);
                }
            }
        }
        claim.registrations = left.0;
        if !shallow.is_empty() {
            let (now, later) = (now(), now().plus(SHALLOW_RECORD_RECHECK));
            self.context.store.set_blocked_queued(&shallow, BlockedReason::AwaitingConfirmations, later, now).await?;
        }
        let changed = [settled, shallow].concat();
        self.context.waiters.notify_changed(&self.context.store, &changed).await;
        Ok(left.1)
    }

    /// Prices, signs, and writes nonce and bytes in one database transaction. No node has seen anything yet.
    async fn sign_and_persist(
        &mut self,
        claim: &Claim,
        mut journeys: Vec<RegistrationTrace>,
        outlook: &SenderState,
        prepared: Prepared,
        batch: &BatchSpan,
    ) -> Result<Arc<PendingTx>, PrepareError> {
        let signer = self.signer.address();
        let cap = self.context.chain.max_fee_per_gas();
        let asked = fee_market_view(Some(outlook.fee_market.clone()), (&outlook.head, false), prepared.gas_limit, cap);
        let tip = fees::priority_fee(asked.suggested_tip, asked.congestion_tip, asked.base_fee, cap);
        let fees =
            fees::price(asked.base_fee, tip, cap).map_err(|above| PrepareError::Blocked(Blocker::FeeCap(above)))?;
        let worst = self.max_cost(prepared.calldata.len() + TX_ENVELOPE_BYTES, prepared.gas_limit, fees).await?;
        self.check_balance(outlook, &worst)?;
        let Prepared { calldata, gas_limit, prepared_at } = prepared;
        let next = self.next_nonce.unwrap_or(0);
        let nonce = if outlook.nonce > next { next.max(self.quorum_nonce(outlook).await) } else { next };
        // What a signer did before the store knew it is nobody's business.
        if let Some(next) = self.next_nonce.filter(|next| *next < nonce) {
            self.context.account_for_nonces(signer, next..nonce, outlook.head.block.number).await;
        }

        let unsigned = UnsignedTransaction {
            chain_id: self.context.chain.network().chain_id,
            nonce,
            to: Some(self.context.chain.contract()),
            calldata,
            gas_limit,
            fees,
        };
        let (hash, raw) = chain::sign(&self.signer, &unsigned)
            .map_err(|error| PrepareError::Blocked(Blocker::Other(format!("the signer {error}"))))?;
        let attempt = Attempt { hash, raw, fees };
        let id = TransactionId::from(Uuid::now_v7());
        let signed_at = now();
        let new = NewTransaction {
            id,
            signer,
            nonce,
            gas_limit,
            prepared_at,
            signed_at,
            attempt: attempt.clone(),
            max_cost: worst.wei(),
            daily_budget: self.daily_budget(),
        };
        self.context.store.insert_signed_transaction(&new, &claim.ids()).await?;
        self.next_nonce = Some(nonce + 1);
        events::transaction_signed(id, signer, nonce, hash, journeys.len(), signed_at.since(prepared_at));

        let vehicle =
            TxSummary { from: signer, nonce, batch_size: journeys.len(), gas_limit, hash, fees, attempt: 1, signed_at };
        let (endpoint, id_of_batch) = (Arc::from(self.context.chain.primary()), batch.id());
        batch.record_transaction(&signer, nonce, &hash, journeys.len());
        for journey in &mut journeys {
            journey.on_signed(&vehicle, &endpoint, id_of_batch);
            batch.link_registration(&journey.member.trace, journey.span_id());
        }
        let progress = TxStatus::new(TxPhase::Signed);
        let versions = Versions { attempts: vec![attempt], gas_limit, batch_size: journeys.len() };
        let flight = Arc::new(PendingTx::new(id, (signer, nonce), signed_at, versions, journeys, progress));
        self.context.in_flight.insert(flight.clone());
        self.context.waiters.notify_changed(&self.context.store, &flight.members).await;
        Ok(flight)
    }

    /// The signer's nonce is higher than ours: it has sent something that we do not know of. One endpoint alone could leave a gap
    /// that nothing fills, so that the lowest of two counts.
    async fn quorum_nonce(&self, outlook: &SenderState) -> u64 {
        let until = Instant::now() + HIGHER_NONCE_QUORUM_TIMEOUT;
        let witnesses = self.context.chain.nonces_from_many(self.signer.address(), HIGHER_NONCE_QUORUM, until).await;
        witnesses.into_iter().filter_map(|witness| witness.result.ok()).fold(outlook.nonce, u64::min)
    }
}

/// A call that nobody ran, or that a node refused to.
pub(super) fn simulation_blocker(tools: &Context, error: &CallError) -> Blocker {
    match error {
        CallError::Unavailable { fault: EndpointFault::NoContract, endpoint, .. } => {
            Blocker::NoContract { endpoint: endpoint.clone(), contract: tools.chain.contract() }
        }
        CallError::Unavailable { fault: EndpointFault::Unreadable, .. } | CallError::Rejected { .. } => {
            Blocker::Other(error.to_string())
        }
        CallError::Unavailable { .. } | CallError::NoEndpoint { .. } => Blocker::NoEndpoint(error.to_string()),
    }
}

/// The transaction that registered a pair before us, so many blocks deep; `None` when the nodes do not show it, or do not agree (yet).
async fn find_original_registration(
    chain: Chain,
    row: QueuedRegistration,
    record: OnChainRecord,
    confirmations: u64,
) -> Result<Option<FoundOnChain>, CallError> {
    let Some(original) = chain.find_registration(&row.pair, record).await? else {
        return Ok(None);
    };
    let head = chain.last_probed_head().map_or(0, |head| head.block.number);
    // What is old is in the contract's state, which was asked; some nodes do not keep its block.
    let old = head >= original.block.number + confirmations + OLD_RECORD_DEPTH;
    let agreed = old || chain.has_quorum(&original.block, confirmations, head).await;
    Ok(agreed.then_some(FoundOnChain {
        id: row.id,
        hash: original.transaction,
        registrar: original.registrar,
        block: original.block,
        own_transaction: None,
    }))
}

fn pairs_of(rows: &[QueuedRegistration]) -> Vec<Pair> {
    rows.iter().map(|row| row.pair.clone()).collect()
}

fn case_id_lengths(rows: &[QueuedRegistration]) -> impl Iterator<Item = usize> {
    rows.iter().map(|row| row.pair.case_id.as_str().len())
}

fn register_call(rows: &[QueuedRegistration]) -> (Bytes, u64) {
    let calldata = chain::register_calldata(&pairs_of(rows));
    let gas_limit = batching::gas_limit(&calldata, case_id_lengths(rows));
    (calldata, gas_limit)
}
