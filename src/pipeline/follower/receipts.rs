//! What became of a transaction whose nonce has passed: included, reverted, replaced, reorged.

use super::{CanonicalView, Follower, SharedPendingTx};
use crate::{
    chain::{CallError, Chain, FanOut, MISSING_GRACE, Receipt, registration_topics, required_votes},
    pipeline::{
        error::PollError, now, observations::persist_observations, registration_trace::RegistrationTrace,
        tx_state::NonceConsumed,
    },
    registration::{Block, Failure, FailureReason, Finality, RegistrationId, State},
    store::{Inclusion, UnfinalizedBlock},
    telemetry::events,
};
use alloy::primitives::B256;
use futures_util::future::{join_all, try_join_all};
use std::{collections::HashSet, time::Duration};
use tokio::time::Instant;

/// After this long it is written down: a receipt often comes a moment after the nonce.
const MISSING_RECEIPT_PERSIST_AFTER: Duration = Duration::from_secs(1);

/// Why a transaction can never register its work.
#[derive(Clone, Copy, Debug)]
enum RequeueReason {
    /// It is in a block, and reverted.
    Reverted,
    /// A stranger's transaction consumed its nonce.
    NonceTaken,
}

impl Follower {
    /// The nonces of these have passed: finds the receipts of whichever attempts were included, all at once, and settles one
    /// after the other. One that cannot be looked for keeps none of the others; the first error is returned at the end.
    pub(super) async fn resolve_consumed_nonces(
        &mut self,
        passed: Vec<SharedPendingTx>,
        canonical: &mut CanonicalView,
    ) -> Result<(), PollError> {
        let chain = self.context.chain.clone();
        let looked = join_all(passed.into_iter().map(|flight| find_receipt(&chain, flight))).await;
        let (mut found, mut result) = (Vec::with_capacity(looked.len()), Ok(()));
        for one in looked {
            match one {
                Ok(one) => found.push(one),
                Err(error) => result = result.and(Err(error.into())),
            }
        }
        canonical
            .prefetch_headers(found.iter().filter_map(|(_, receipt)| Some(receipt.as_ref()?.1.block_number)))
            .await?;
        for (flight, receipt) in found {
            let settled = match receipt {
                Some((hash, receipt)) => self.apply_receipt(&flight, hash, receipt, canonical).await,
                None => self.handle_missing_receipt(&flight, canonical).await,
            };
            result = result.and(settled);
        }
        result
    }

    async fn apply_receipt(
        &mut self,
        flight: &SharedPendingTx,
        hash: B256,
        receipt: Receipt,
        canonical: &mut CanonicalView,
    ) -> Result<(), PollError> {
        flight.status().clear_nonce_consumed();
        let header = canonical.header(receipt.block_number).await?;
        let Some(header) = header.filter(|header| header.block.hash == receipt.block_hash) else {
            // Between two blocks of a reorg, or two nodes: the next poll knows more.
            return Ok(());
        };
        if !canonical.is_head_canonical().await? {
            return Ok(());
        }
        let depth = self.depth(header.block.number, canonical);
        let confirmations = self.context.settings.confirmations;
        let deep = depth >= confirmations && canonical.has_quorum(&header.block, confirmations).await;
        if receipt.succeeded {
            self.record_inclusion(flight, hash, &receipt, header.block, depth, deep).await
        } else if deep {
            // It has cost what it has cost, although it did nothing.
            self.context.store.record_revert_cost(flight.id, &receipt.cost(), now()).await?;
            self.requeue_members(flight, RequeueReason::Reverted).await
        } else {
            Ok(())
        }
    }

    pub(super) fn depth(&self, number: u64, canonical: &CanonicalView) -> u64 {
        (canonical.head.block.number + 1).saturating_sub(number).max(1)
    }

    /// In a canonical block: each registration is settled by its own event.
    async fn record_inclusion(
        &mut self,
        flight: &SharedPendingTx,
        hash: B256,
        receipt: &Receipt,
        block: Block,
        depth: u64,
        deep: bool,
    ) -> Result<(), PollError> {
        let cost = receipt.cost();
        let others = members_without_event(flight, receipt);
        let inclusion = Inclusion { hash, block, cost };
        let at = now();
        self.context.store.mark_included(flight.id, &inclusion, &others, deep, at).await?;
        let size = flight.members.len();
        let (key, carried) = ((flight.signer, flight.nonce), (size, others.len()));
        events::transaction_included(flight.id, key, hash, block.number, carried, &cost);
        {
            let mut journeys = flight.traces();
            let registered = journeys.iter_mut().filter(|journey| !others.contains(&journey.member.id));
            registered.for_each(|journey| journey.on_included(&block, &cost));
        }
        flight.status().mark_included(block, hash, at);
        if deep {
            self.finish_confirmed(flight, (block, hash), &others, depth);
        }
        self.context.waiters.notify_changed(&flight.members).await;
        Ok(())
    }

    /// Demoted if the including block is not canonical any more, else confirmed if it is `deep` enough.
    pub(super) async fn confirm_or_revert(
        &mut self,
        flight: &SharedPendingTx,
        (block, hash): (Block, B256),
        deep: bool,
        canonical: &mut CanonicalView,
    ) -> Result<(), PollError> {
        let Some(canonical_still) = canonical.is_canonical(block.number, block.hash).await? else { return Ok(()) };
        if canonical_still {
            let agreed = deep && canonical.has_quorum(&block, self.context.settings.confirmations).await;
            if !agreed || !canonical.is_head_canonical().await? {
                return Ok(());
            }
            let others = self.context.store.mark_confirmed(flight.id, now()).await?;
            self.finish_confirmed(flight, (block, hash), &others, self.depth(block.number, canonical));
        } else {
            self.context.store.mark_reorged(flight.id, now()).await?;
            let affected = flight.sample_affected();
            let key = (flight.signer, flight.nonce);
            events::transaction_reorged(flight.id, key, hash, block.number, affected.as_ref());
            flight.status().mark_reorged(now());
        }
        self.context.waiters.notify_changed(&flight.members).await;
        Ok(())
    }

    /// At confirmation depth: the flight is over, and what it has not registered is queued again; its block is watched until it
    /// is final.
    fn finish_confirmed(
        &mut self,
        flight: &SharedPendingTx,
        (block, hash): (Block, B256),
        others: &[RegistrationId],
        depth: u64,
    ) {
        let at = now();
        let sent = flight.status().submitted_at().unwrap_or(flight.signed_at);
        let mut journeys = std::mem::take(&mut *flight.traces());
        journeys.retain(|journey| !others.contains(&journey.member.id));
        let key = (flight.signer, flight.nonce);
        events::transaction_confirmed(flight.id, key, hash, block.number, journeys.len(), at.since(sent));
        for journey in journeys {
            let member = &journey.member;
            let total = at.since(member.created_at);
            events::registration_confirmed(member.id, (&member.trace, journey.span_id()), hash, block.number, total);
            journey.on_confirmed(hash, &block, depth, at);
        }
        self.context.in_flight.remove(flight);
        if !others.is_empty() {
            self.context.queue.notify();
        }
        let finality = Finality::Unsafe;
        self.unfinalized.push(UnfinalizedBlock {
            id: flight.id,
            signer: Some(flight.signer),
            finality,
            number: block.number,
            hash: block.hash,
        });
    }

    /// The nonce is consumed, and no receipt of ours is to be had: by a stranger's transaction, if that stays so.
    async fn handle_missing_receipt(
        &mut self,
        flight: &SharedPendingTx,
        canonical: &mut CanonicalView,
    ) -> Result<(), PollError> {
        let head = canonical.head.block.number;
        // One that nobody has sent since the start is as the store had it, which may be an older backup.
        let (first, consumed) = {
            let mut status = flight.status();
            let first = !status.is_nonce_consumed() && !status.was_broadcast();
            (first, status.record_nonce_consumed(Instant::now(), head))
        };
        let Some(NonceConsumed { since, at_head }) = consumed else { return Ok(()) };
        if since.elapsed() >= MISSING_RECEIPT_PERSIST_AFTER {
            self.persist_missing_receipt(flight, since.elapsed()).await;
        }
        let deep = head + 1 >= at_head + self.context.settings.confirmations;
        let displaced =
            deep && since.elapsed() >= MISSING_GRACE && self.is_nonce_taken(flight, since.elapsed(), head).await;
        if (first || displaced)
            && let Some((flight, hash, receipt)) = self.context.import_attempt(flight).await?
        {
            return self.apply_receipt(&flight, hash, receipt, canonical).await;
        }
        if displaced {
            return self.requeue_members(flight, RequeueReason::NonceTaken).await;
        }
        Ok(())
    }

    /// Keeps for other replicas and the next start that its nonce is consumed without a receipt.
    async fn persist_missing_receipt(&self, flight: &SharedPendingTx, lasting: Duration) {
        flight.status().record_receipt_missing(now().minus(lasting));
        persist_observations(flight, &self.context.store).await;
    }

    /// Whether every endpoint that answers, and more than one where there are more, says that the nonce is consumed at confirmation
    /// depth and that none of our attempts did it.
    async fn is_nonce_taken(&self, flight: &SharedPendingTx, missing: Duration, head: u64) -> bool {
        let chain = &self.context.chain;
        let fan_out = FanOut::to_quorum();
        let deep = (head + 1).saturating_sub(self.context.settings.confirmations);
        let nonces = chain.nonces_at_block_from_many(flight.signer, deep, fan_out).await;
        let versions = flight.versions();
        let asked = versions.attempts.iter().map(|attempt| chain.receipts_from_many(attempt.hash, fan_out));
        let receipts = join_all(asked).await;
        let consumed = nonces.iter().all(|witness| matches!(witness.result, Ok(nonce) if nonce > flight.nonce));
        let unseen = receipts.iter().flatten().all(|witness| matches!(witness.result, Ok(None)));
        let needed = required_votes(missing, chain.endpoint_count());
        let enough = nonces.len() >= needed && receipts.iter().all(|heard| heard.len() >= needed);
        enough && consumed && unseen
    }

    /// The transaction can never register its work, and its nonce is consumed at depth: the work is queued again.
    async fn requeue_members(&mut self, flight: &SharedPendingTx, why: RequeueReason) -> Result<(), PollError> {
        let (reason, reverted) = match why {
            RequeueReason::NonceTaken => ("its nonce was consumed by another transaction", None),
            RequeueReason::Reverted => (
                "it reverted",
                Some(Failure {
                    reason: FailureReason::TransactionReverted,
                    message: "its transactions were mined and reverted again and again, the last one with nothing else in it; \
                              that one is in the log"
                        .to_owned(),
                }),
            ),
        };
        self.context.store.requeue_members(flight.id, reverted.as_ref(), now()).await?;
        let affected = flight.sample_affected();
        events::registrations_requeued(
            flight.id,
            (flight.signer, flight.nonce),
            flight.latest().0,
            reason,
            flight.members.len(),
            affected.as_ref(),
        );
        self.context.in_flight.remove(flight);
        let journeys = std::mem::take(&mut *flight.traces());
        if let Some(failure) = &reverted {
            self.report_failed(journeys, failure).await?;
        }
        self.context.waiters.notify_changed(&flight.members).await;
        self.context.queue.notify();
        Ok(())
    }
}

impl Follower {
    /// Of what was carried by a transaction that reverted, tells what has failed for good: the rest is queued again.
    async fn report_failed(&self, journeys: Vec<RegistrationTrace>, failure: &Failure) -> Result<(), PollError> {
        let ids: Vec<_> = journeys.iter().map(|journey| journey.member.id).collect();
        let stored = self.context.store.get_all(&ids).await?;
        let failed: HashSet<_> = stored.iter().filter(|one| one.state == State::Failed).map(|one| one.id).collect();
        for journey in journeys.into_iter().filter(|journey| failed.contains(&journey.member.id)) {
            events::registration_failed(&journey.affected(journey.span_id()), failure, "wait");
            journey.on_failed(now());
        }
        Ok(())
    }
}

/// The receipt of the attempt that was included, with its hash.
async fn find_receipt(
    chain: &Chain,
    flight: SharedPendingTx,
) -> Result<(SharedPendingTx, Option<(B256, Receipt)>), CallError> {
    let versions = flight.versions();
    let asked = versions.attempts.iter().map(|attempt| chain.receipt(attempt.hash));
    let receipts = try_join_all(asked).await?;
    let found = versions.attempts.iter().zip(receipts).find_map(|(attempt, receipt)| Some((attempt.hash, receipt?)));
    Ok((flight, found))
}

/// The registrations whose own event is not in the receipt: skipped as duplicates, and to be found on chain by the next look.
fn members_without_event(flight: &SharedPendingTx, receipt: &Receipt) -> Vec<RegistrationId> {
    let registered: HashSet<&[B256]> = receipt.events.iter().filter_map(|topics| topics.get(..3)).collect();
    let journeys = flight.traces();
    journeys
        .iter()
        .filter(|journey| {
            let topics = registration_topics(&journey.member.pair);
            !registered.contains(topics.as_slice())
        })
        .map(|journey| journey.member.id)
        .collect()
}
