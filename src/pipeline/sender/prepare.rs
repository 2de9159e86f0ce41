//! From a claim to signed bytes in the store.

use super::types::Sender;
use crate::{
    chain::{CallError, Chain, OnChainRecord, SenderState, UnsignedTransaction},
    clock::now,
    pipeline::{
        cost,
        error::PrepareError,
        in_flight::{PendingTx, Versions},
        preflight::{self, DEFAULT_BLOCK_GAS_LIMIT, Quote, QuoteError, RegisterCall, Simulation, SimulationError},
        queue::Claim,
        registration_trace::RegistrationTrace,
        tx_state::TxStatus,
    },
    registration::{
        BlockedReason, Failure, FailureReason, Pair, RegistrationId, Timestamp, TransactionId, policy::batching,
    },
    store::{Attempt, FoundOnChain, NewTransaction, QueuedRegistration},
    telemetry::{events, metrics, spans::BatchSpan},
};
use alloy::primitives::{Bytes, hex};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Delay before a pair that is on chain, but has too few confirmations, is checked again.
const SHALLOW_RECORD_RECHECK: Duration = Duration::from_millis(250);
/// A record this much deeper than required is confirmed by the contract's state alone.
const OLD_RECORD_DEPTH: u64 = 1_000;
const ORIGINAL_LOOKUP_CONCURRENCY: usize = 8;

/// The registrations of a claim that are to be signed, with their traces.
struct Prepared {
    call: RegisterCall,
    sender_state: SenderState,
    traces: Vec<RegistrationTrace>,
    /// When the registrations left the queue.
    prepared_at: Timestamp,
}

impl From<QuoteError> for PrepareError {
    fn from(error: QuoteError) -> Self {
        match error {
            QuoteError::Blocked(blocker) => Self::Blocked(blocker),
            QuoteError::Call(error) => error.into(),
        }
    }
}

impl Sender {
    /// Completes the registrations that are on chain already and signs a transaction with the rest; `None` if none
    /// remain.
    pub(super) async fn prepare(
        &mut self,
        claim: &mut Claim,
        batch: &BatchSpan,
    ) -> Result<Option<Arc<PendingTx>>, PrepareError> {
        let prepared_at = now();
        if self.next_nonce.is_none() {
            self.next_nonce = self.parts.store.next_nonce(self.address()).await?;
        }
        let head = self.parts.head.header().map(|head| self.parts.chain.checked_head(head));
        let block_gas_limit = head.map_or(DEFAULT_BLOCK_GAS_LIMIT, |head| head.gas_limit);
        let case_id_lengths = claim.registrations.iter().map(|row| row.pair.case_id.as_str().len());
        claim.truncate(batching::max_that_fit(case_id_lengths, block_gas_limit));
        let traces: Vec<_> = claim
            .registrations
            .iter()
            .map(|row| RegistrationTrace::new(row.clone(), &self.parts.chain_info, prepared_at))
            .collect();
        let call = RegisterCall::new(&pairs(&claim.registrations));
        call.check_size(block_gas_limit).map_err(PrepareError::Blocked)?;
        let Simulation { sender_state, new_pairs } =
            preflight::simulate(&self.parts.chain, self.address(), &call).await;
        let sender_state = sender_state?;
        metrics().set_signer_balance(self.address(), sender_state.balance);
        let new_pairs = match new_pairs {
            Ok(new_pairs) => new_pairs,
            Err(SimulationError::Blocked(blocker)) => return Err(PrepareError::Blocked(blocker)),
            Err(SimulationError::Reverted { error, data }) => {
                return self.on_revert(claim, traces, &error, &data).await.map(|()| None);
            }
        };
        let mut prepared = Prepared { call, sender_state, traces, prepared_at };
        if new_pairs < claim.registrations.len() {
            prepared.traces = self.settle_already_registered(claim, prepared.traces, &prepared.sender_state).await?;
            prepared.call = RegisterCall::new(&pairs(&claim.registrations));
        }
        if claim.registrations.is_empty() {
            return Ok(None);
        }
        self.sign_and_persist(claim, prepared, batch).await.map(Some)
    }

    /// Fails the registration that reverts in the simulation, once it is the only one of its batch.
    async fn on_revert(
        &self,
        claim: &Claim,
        traces: Vec<RegistrationTrace>,
        error: &CallError,
        data: &Bytes,
    ) -> Result<(), PrepareError> {
        let [row] = claim.registrations.as_slice() else { return Err(PrepareError::BatchReverts) };
        let failure = Failure {
            reason: FailureReason::RejectedByContract,
            message: format!(
                "the contract {} refuses this registration: {error}, revert data {}",
                self.parts.chain.contract(),
                hex::encode_prefixed(data)
            ),
        };
        if !self.parts.store.mark_failed(row.id, &failure, now()).await? {
            return Ok(());
        }
        for trace in traces {
            events::registration_failed(&trace.affected(trace.span_id()), &failure, "prepare");
            trace.on_failed(now());
        }
        self.parts.waiters.notify_changed(&[row.id]).await;
        Ok(())
    }

    /// Confirms the registrations whose pairs are on chain with enough confirmations, postpones those with fewer, and
    /// keeps the others in the claim. Returns their traces.
    async fn settle_already_registered(
        &self,
        claim: &mut Claim,
        traces: Vec<RegistrationTrace>,
        sender_state: &SenderState,
    ) -> Result<Vec<RegistrationTrace>, PrepareError> {
        let records = self.parts.chain.records(&pairs(&claim.registrations)).await?;
        let head = sender_state.head.block.number;
        let confirmations = self.parts.settings.confirmations;
        let depth = |block: u64| (head + 1).saturating_sub(block);
        let lookups: Vec<_> = claim
            .registrations
            .iter()
            .zip(&records)
            .filter_map(|(row, record)| Some((row.clone(), (*record)?)))
            .filter(|(_, record)| depth(record.block_number) >= confirmations)
            .collect();
        let chain = &self.parts.chain;
        let lookups = lookups
            .into_iter()
            .map(|(row, record)| find_original_registration(chain.clone(), row, record, confirmations));
        let found: Vec<Option<FoundOnChain>> =
            stream::iter(lookups).buffered(ORIGINAL_LOOKUP_CONCURRENCY).try_collect().await?;
        let mut found: Vec<FoundOnChain> = found.into_iter().flatten().collect();
        self.parts.importer.import_found(&mut found).await?;
        let (settled, blocks): (Vec<RegistrationId>, Vec<_>) =
            self.parts.store.mark_found_on_chain(&found, now()).await?.into_iter().unzip();
        self.parts.follower_inbox.add_blocks(blocks);

        let mut shallow = Vec::new();
        let (mut rows_left, mut traces_left) = (Vec::new(), Vec::new());
        for ((row, record), trace) in claim.registrations.drain(..).zip(records).zip(traces) {
            match (found.iter().find(|original| original.id == row.id), record) {
                // Another replica has signed it in the meantime, and reports on it.
                (Some(original), _) if !settled.contains(&original.id) => {}
                (Some(original), _) => {
                    events::found_on_chain(row.id, row.trace.trace_id, original.hash, original.registrar);
                    trace.on_confirmed(original.hash, &original.block, depth(original.block.number), now());
                }
                (None, Some(_)) => shallow.push(row.id),
                (None, None) => {
                    rows_left.push(row);
                    traces_left.push(trace);
                }
            }
        }
        claim.registrations = rows_left;
        if !shallow.is_empty() {
            let (now, later) = (now(), now().plus(SHALLOW_RECORD_RECHECK));
            self.parts.store.set_blocked_queued(&shallow, BlockedReason::AwaitingConfirmations, later, now).await?;
        }
        let changed = [settled, shallow].concat();
        self.parts.waiters.notify_changed(&changed).await;
        Ok(traces_left)
    }

    /// Quotes and signs, and writes nonce and bytes in one database transaction before any node receives them.
    async fn sign_and_persist(
        &mut self,
        claim: &Claim,
        prepared: Prepared,
        batch: &BatchSpan,
    ) -> Result<Arc<PendingTx>, PrepareError> {
        let Prepared { call, sender_state, traces, prepared_at } = prepared;
        let signer = self.address();
        let Quote { fees, max_cost } =
            preflight::quote(&self.parts.chain, &self.parts.in_flight, signer, &sender_state, &call).await?;
        let nonce = self.choose_nonce(&sender_state).await?;
        let (chain, gas_limit) = (&self.parts.chain, call.gas_limit);
        let unsigned = UnsignedTransaction {
            chain_id: chain.network().chain_id,
            nonce,
            to: Some(chain.contract()),
            calldata: call.calldata,
            gas_limit,
            fees,
        };
        let (hash, raw) = self.sign(unsigned).await?;
        let signed_at = now();
        let new = NewTransaction {
            id: TransactionId::from(Uuid::now_v7()),
            signer,
            nonce,
            gas_limit,
            prepared_at,
            signed_at,
            attempt: Attempt { hash, raw, fees },
            max_cost: max_cost.wei(),
            daily_budget: cost::daily_budget(self.parts.settings.daily_budget),
        };
        self.parts.store.insert_signed_transaction(&new, &claim.ids()).await?;
        self.next_nonce = Some(nonce + 1);
        events::transaction_signed(new.id, signer, nonce, hash, traces.len(), signed_at.since(prepared_at));
        let tx = self.track_signed(new, traces, batch);
        self.parts.waiters.notify_changed(&tx.members).await;
        Ok(tx)
    }

    fn track_signed(
        &self,
        new: NewTransaction,
        mut traces: Vec<RegistrationTrace>,
        batch: &BatchSpan,
    ) -> Arc<PendingTx> {
        let NewTransaction { id, signer, nonce, gas_limit, signed_at, attempt, .. } = new;
        let (hash, batch_size) = (attempt.hash, traces.len());
        let versions = Versions { attempts: vec![attempt], gas_limit, batch_size };
        let summary = versions.summary((signer, nonce), signed_at);
        let (endpoint, batch_id) = (Arc::from(self.parts.chain.primary()), batch.id());
        batch.record_transaction(&signer, nonce, &hash, batch_size);
        for trace in &mut traces {
            trace.on_signed(summary, &endpoint, batch_id);
            batch.link_registration(&trace.member.trace, trace.span_id());
        }
        let tx = PendingTx::new(id, (signer, nonce), signed_at, versions, traces, TxStatus::signed());
        let tx = Arc::new(tx);
        self.parts.in_flight.insert(tx.clone());
        tx
    }
}

/// The transaction that registered a pair that is on chain already; `None` while endpoints do not show it or disagree.
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
    // The contract's state confirms an old record, and some nodes do not keep its block.
    let is_agreed = match head >= original.block.number + confirmations + OLD_RECORD_DEPTH {
        true => chain.is_recorded_by_quorum(&row.pair, record).await,
        false => {
            chain.is_registered_by_quorum(&row.pair, &original).await
                && chain.is_confirmed_by_quorum(&original.block, confirmations, head).await
        }
    };
    Ok(is_agreed.then_some(FoundOnChain {
        id: row.id,
        hash: original.transaction,
        registrar: original.registrar,
        block: original.block,
        own_transaction: None,
    }))
}

fn pairs(rows: &[QueuedRegistration]) -> Vec<Pair> {
    rows.iter().map(|row| row.pair.clone()).collect()
}
