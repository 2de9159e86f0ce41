//! The outcome of a pending transaction whose nonce is consumed: included, reverted, displaced by another transaction,
//! or reorged.

use super::{
    Follower, SharedPendingTx,
    canonical_view::{CanonicalView, Canonicity},
    comparison::Comparison,
    contradiction::{AgreedReceipt, find_agreed_receipt},
};
use crate::{
    chain::{
        CallError, Chain, FanOut, MISSING_GRACE, Receipt, SINGLE_ENDPOINT_GRACE, real_answers, registration_topics,
    },
    pipeline::{
        error::PollError, now, observations::persist_observations, registration_trace::RegistrationTrace,
        tx_state::NonceConsumed,
    },
    registration::{
        Block, Failure, FailureReason, Finality, Registration, RegistrationId, State, policy::next_nonce::NONCE_QUORUM,
    },
    store::{Inclusion, UnfinalizedBlock},
    telemetry::events,
};
use alloy::primitives::B256;
use futures_util::future::{join_all, try_join_all};
use std::{collections::HashSet, time::Duration};
use tokio::time::Instant;

/// A receipt often appears a moment after the nonce is consumed; only a longer absence is stored.
const MISSING_RECEIPT_PERSIST_AFTER: Duration = Duration::from_secs(1);

/// Why a transaction can never register its members.
#[derive(Clone, Copy, Debug)]
enum RequeueReason {
    Reverted,
    /// By a transaction that is none of its attempts.
    NonceTaken,
}

impl Follower {
    /// Reads the receipts of all attempts concurrently, and then handles one transaction after the other. An error with
    /// one does not keep the others from being handled; the first error is returned at the end.
    pub(super) async fn resolve_consumed_nonces(
        &mut self,
        consumed: Vec<SharedPendingTx>,
        canonical: &mut CanonicalView,
    ) -> Result<(), PollError> {
        let chain = self.parts.chain.clone();
        let reads = join_all(consumed.into_iter().map(|tx| find_receipt(&chain, tx))).await;
        let (mut receipts, mut result) = (Vec::with_capacity(reads.len()), Ok(()));
        for read in reads {
            match read {
                Ok(receipt) => receipts.push(receipt),
                Err(error) => result = result.and(Err(error.into())),
            }
        }
        canonical
            .prefetch_headers(receipts.iter().filter_map(|(_, receipt)| Some(receipt.as_ref()?.1.block_number)))
            .await?;
        self.contradictions.start_poll();
        self.taken_nonces.start_poll();
        for (tx, receipt) in receipts {
            let handled = match receipt {
                Some((hash, receipt)) => self.apply_receipt(&tx, hash, receipt, canonical).await,
                None => self.handle_missing_receipt(&tx, canonical).await,
            };
            result = result.and(handled);
        }
        result
    }

    async fn apply_receipt(
        &mut self,
        tx: &SharedPendingTx,
        hash: B256,
        receipt: Receipt,
        canonical: &mut CanonicalView,
    ) -> Result<(), PollError> {
        tx.status().clear_nonce_consumed();
        let header = canonical.header(receipt.block_number).await?;
        let canonical_block = header.map(|header| header.block).filter(|block| block.hash == receipt.block_hash);
        let AgreedReceipt { hash, receipt, block } = match canonical_block {
            Some(block) => AgreedReceipt { hash, receipt, block },
            None if !self.contradictions.is_due() => return Ok(()),
            None => match find_agreed_receipt(&self.parts.chain, tx, canonical).await? {
                Some(agreed) => agreed,
                // A reorg is under way: a later poll decides.
                None => return Ok(()),
            },
        };
        if !canonical.is_head_canonical().await? {
            return Ok(());
        }
        let depth = canonical.depth(block.number);
        let confirmations = self.parts.settings.confirmations;
        let is_deep = depth >= confirmations && canonical.is_confirmed_by_quorum(&block, confirmations).await;
        let compared = match is_deep {
            true => self.compare_receipt(tx, hash, &block).await,
            false => Comparison::NotAgreed,
        };
        let (receipt, is_confirmed) = match compared {
            Comparison::NotPossible => (receipt, true),
            Comparison::Agreed(receipt) => (receipt, true),
            Comparison::Denied => return Ok(()),
            Comparison::NotAgreed => (receipt, false),
        };
        if receipt.succeeded {
            self.record_inclusion(tx, hash, &receipt, block, depth, is_confirmed).await
        } else if is_confirmed {
            // A reverted transaction is paid for too.
            self.parts.store.record_revert_cost(tx.id, &receipt.cost(), now()).await?;
            self.requeue_members(tx, RequeueReason::Reverted).await
        } else {
            Ok(())
        }
    }

    /// A canonical block includes it. Each registration counts as registered only if the receipt has its own event.
    async fn record_inclusion(
        &mut self,
        tx: &SharedPendingTx,
        hash: B256,
        receipt: &Receipt,
        block: Block,
        depth: u64,
        is_confirmed: bool,
    ) -> Result<(), PollError> {
        let cost = receipt.cost();
        let unregistered = members_without_event(tx, receipt);
        let inclusion = Inclusion { hash, block, cost };
        let at = now();
        self.parts.store.mark_included(tx.id, &inclusion, &unregistered, is_confirmed, at).await?;
        let (key, counts) = ((tx.signer, tx.nonce), (tx.members.len(), unregistered.len()));
        events::transaction_included(tx.id, key, hash, block.number, counts, &cost);
        {
            let mut traces = tx.traces();
            let registered = traces.iter_mut().filter(|trace| !unregistered.contains(&trace.member.id));
            registered.for_each(|trace| trace.on_included(&block, &cost));
        }
        tx.status().mark_included(block, hash, at);
        if is_confirmed {
            self.finish_confirmed(tx, (block, hash), &unregistered, depth);
        }
        self.parts.waiters.notify_changed(&tx.members).await;
        Ok(())
    }

    /// An included transaction is submitted again if its block is not canonical, and confirmed if the block is deep
    /// enough and a quorum agrees.
    pub(super) async fn confirm_or_revert(
        &mut self,
        tx: &SharedPendingTx,
        (block, hash): (Block, B256),
        at_confirmation_depth: bool,
        canonical: &mut CanonicalView,
    ) -> Result<(), PollError> {
        match canonical.is_canonical(block.number, block.hash).await? {
            Canonicity::Unknown => return Ok(()),
            Canonicity::Canonical => {
                let confirmations = self.parts.settings.confirmations;
                let is_confirmed =
                    at_confirmation_depth && canonical.is_confirmed_by_quorum(&block, confirmations).await;
                if !is_confirmed || !canonical.is_head_canonical().await? {
                    return Ok(());
                }
                let unregistered = match self.compare_receipt(tx, hash, &block).await {
                    Comparison::NotPossible => self.parts.store.mark_confirmed(tx.id, now()).await?,
                    Comparison::Agreed(receipt) if receipt.succeeded => {
                        // The endpoint that first had the receipt may have been wrong about events and costs.
                        let unregistered = members_without_event(tx, &receipt);
                        let inclusion = Inclusion { hash, block, cost: receipt.cost() };
                        self.parts.store.mark_included(tx.id, &inclusion, &unregistered, true, now()).await?;
                        unregistered
                    }
                    Comparison::Agreed(_) | Comparison::Denied => return self.take_back(tx, (block, hash)).await,
                    Comparison::NotAgreed => return Ok(()),
                };
                self.finish_confirmed(tx, (block, hash), &unregistered, canonical.depth(block.number));
            }
            Canonicity::NotCanonical => return self.take_back(tx, (block, hash)).await,
        }
        self.parts.waiters.notify_changed(&tx.members).await;
        Ok(())
    }

    /// The next poll looks for its receipt again.
    async fn take_back(&self, tx: &SharedPendingTx, (block, hash): (Block, B256)) -> Result<(), PollError> {
        self.parts.store.mark_reorged(tx.id, now()).await?;
        let sample = tx.sample_affected();
        events::transaction_reorged(tx.id, (tx.signer, tx.nonce), hash, block.number, sample.as_ref());
        tx.status().mark_reorged(now());
        self.parts.waiters.notify_changed(&tx.members).await;
        Ok(())
    }

    /// The transaction leaves memory. The members that it did not register are queued again, and its block is tracked
    /// until it is final.
    fn finish_confirmed(
        &mut self,
        tx: &SharedPendingTx,
        (block, hash): (Block, B256),
        unregistered: &[RegistrationId],
        depth: u64,
    ) {
        let at = now();
        let submitted_at = tx.status().submitted_at().unwrap_or(tx.signed_at);
        let mut traces = std::mem::take(&mut *tx.traces());
        traces.retain(|trace| !unregistered.contains(&trace.member.id));
        let key = (tx.signer, tx.nonce);
        events::transaction_confirmed(tx.id, key, hash, block.number, traces.len(), at.since(submitted_at));
        for trace in traces {
            let member = &trace.member;
            let total = at.since(member.created_at);
            events::registration_confirmed(member.id, (&member.trace, trace.span_id()), hash, block.number, total);
            trace.on_confirmed(hash, &block, depth, at);
        }
        self.parts.in_flight.remove(tx);
        if !unregistered.is_empty() {
            self.parts.queue.notify();
        }
        self.unfinalized.push(UnfinalizedBlock {
            id: tx.id,
            signer: Some(tx.signer),
            finality: Finality::Unsafe,
            number: block.number,
            hash: block.hash,
        });
    }

    /// The nonce is consumed, and no attempt has a receipt. If that lasts, an unknown transaction consumed it: one of
    /// ours that the store does not know, which is imported, or a foreign one, after which the members are queued
    /// again.
    async fn handle_missing_receipt(
        &mut self,
        tx: &SharedPendingTx,
        canonical: &mut CanonicalView,
    ) -> Result<(), PollError> {
        let head = canonical.head.block.number;
        // Before the first broadcast everything known of it is from the store, which may be restored from an older
        // backup.
        let (may_be_outdated, consumed) = {
            let mut status = tx.status();
            let is_first_observation = !status.is_nonce_consumed();
            (is_first_observation && !status.was_broadcast(), status.record_nonce_consumed(Instant::now(), head))
        };
        let Some(NonceConsumed { since, at_head }) = consumed else { return Ok(()) };
        if since.elapsed() >= MISSING_RECEIPT_PERSIST_AFTER {
            tx.status().record_receipt_missing(now().minus(since.elapsed()));
            persist_observations(tx, &self.parts.store).await;
        }
        let at_confirmation_depth = head + 1 >= at_head + self.parts.settings.confirmations;
        let is_nonce_taken = at_confirmation_depth
            && since.elapsed() >= MISSING_GRACE
            && self.taken_nonces.is_due()
            && self.is_nonce_taken(tx, since.elapsed(), head).await;
        if (may_be_outdated || is_nonce_taken)
            && let Some((tx, hash, receipt)) = self.parts.importer.import_attempt(tx).await?
        {
            return self.apply_receipt(&tx, hash, receipt, canonical).await;
        }
        if is_nonce_taken {
            return self.requeue_members(tx, RequeueReason::NonceTaken).await;
        }
        Ok(())
    }

    /// Whether the nonce is consumed at confirmation depth by none of the attempts. Two endpoints have to say so, and
    /// none that answers may deny it. Of one endpoint it is believed when it names a transaction of the signer with this
    /// nonce, or when it has lasted.
    async fn is_nonce_taken(&self, tx: &SharedPendingTx, missing_for: Duration, head: u64) -> bool {
        let chain = &self.parts.chain;
        let fan_out = FanOut::to_quorum();
        let confirmed_block = (head + 1).saturating_sub(self.parts.settings.confirmations);
        let versions = tx.versions();
        let reads = versions.attempts.iter().map(|attempt| chain.receipts_from_many(attempt.hash, fan_out));
        let (nonces, receipts) =
            tokio::join!(chain.nonces_at_block_from_many(tx.signer, confirmed_block, fan_out), join_all(reads));
        let nonces = real_answers(nonces);
        let mut answers = nonces.len();
        let mut is_denied = nonces.iter().any(|nonce| *nonce <= tx.nonce);
        for receipts in receipts.into_iter().map(real_answers) {
            answers = answers.min(receipts.len());
            is_denied |= receipts.iter().any(Option::is_some);
        }
        if is_denied || answers == 0 {
            return false;
        }
        if answers >= NONCE_QUORUM || missing_for >= SINGLE_ENDPOINT_GRACE {
            return true;
        }
        let other = chain.included_transaction(tx.signer, tx.nonce).await;
        other.is_some_and(|hash| versions.attempts.iter().all(|attempt| attempt.hash != hash))
    }

    /// The nonce is consumed at confirmation depth, and the transaction registered nothing.
    async fn requeue_members(&mut self, tx: &SharedPendingTx, reason: RequeueReason) -> Result<(), PollError> {
        let (description, failure) = match reason {
            RequeueReason::NonceTaken => ("its nonce was consumed by another transaction", None),
            RequeueReason::Reverted => (
                "it reverted",
                Some(Failure {
                    reason: FailureReason::TransactionReverted,
                    message: "its transactions were included and reverted repeatedly, the last one with no other \
                              registration in it; that transaction is in the log"
                        .to_owned(),
                }),
            ),
        };
        self.parts.store.requeue_members(tx.id, failure.as_ref(), now()).await?;
        let sample = tx.sample_affected();
        events::registrations_requeued(
            tx.id,
            (tx.signer, tx.nonce),
            tx.latest().0,
            description,
            tx.members.len(),
            sample.as_ref(),
        );
        self.parts.in_flight.remove(tx);
        let traces = std::mem::take(&mut *tx.traces());
        if let Some(failure) = &failure {
            self.report_failed(traces, failure).await?;
        }
        self.parts.waiters.notify_changed(&tx.members).await;
        self.parts.queue.notify();
        Ok(())
    }

    /// After a revert the store decides which members have failed; the others are queued again.
    async fn report_failed(&self, traces: Vec<RegistrationTrace>, failure: &Failure) -> Result<(), PollError> {
        let ids: Vec<_> = traces.iter().map(|trace| trace.member.id).collect();
        let stored = self.parts.store.get_all(&ids).await?;
        let is_failed = |registration: &&Registration| registration.state == State::Failed;
        let failed: HashSet<_> = stored.iter().filter(is_failed).map(|registration| registration.id).collect();
        for trace in traces.into_iter().filter(|trace| failed.contains(&trace.member.id)) {
            events::registration_failed(&trace.affected(trace.span_id()), failure, "wait");
            trace.on_failed(now());
        }
        Ok(())
    }
}

/// The receipt of the included attempt, with the attempt's hash.
async fn find_receipt(
    chain: &Chain,
    tx: SharedPendingTx,
) -> Result<(SharedPendingTx, Option<(B256, Receipt)>), CallError> {
    let versions = tx.versions();
    let reads = versions.attempts.iter().map(|attempt| chain.receipt(attempt.hash));
    let receipts = try_join_all(reads).await?;
    let found = versions.attempts.iter().zip(receipts).find_map(|(attempt, receipt)| Some((attempt.hash, receipt?)));
    Ok((tx, found))
}

/// The contract skipped these because another transaction registered their pairs first; the sender finds them on chain.
fn members_without_event(tx: &SharedPendingTx, receipt: &Receipt) -> Vec<RegistrationId> {
    let registered: HashSet<&[B256]> = receipt.events.iter().filter_map(|topics| topics.get(..3)).collect();
    let traces = tx.traces();
    traces
        .iter()
        .filter(|trace| {
            let topics = registration_topics(&trace.member.pair);
            !registered.contains(topics.as_slice())
        })
        .map(|trace| trace.member.id)
        .collect()
}
