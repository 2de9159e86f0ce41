//! What became of a transaction whose nonce has passed: included, reverted, replaced, reorged.

use super::{Canonical, Follower, PollError, SharedFlight};
use crate::{
    chain::{CallError, Chain, Receipt, registered_topics},
    pipeline::{
        flights::{Held, Phase},
        journey::Journey,
        memory::Kept,
        now,
    },
    registration::{Block, Failure, FailureReason, Finality, RegistrationId, State},
    store::{Inclusion, UnfinalizedBlock},
    telemetry::events,
};
use alloy::primitives::B256;
use futures_util::future::{join_all, try_join_all};
use std::{collections::HashSet, time::Duration};
use tokio::time::Instant;

/// A consumed nonce without a receipt for any of our hashes is believed after this long, for a node's "null" proves nothing.
const MISSING_GRACE: Duration = Duration::from_secs(10);
/// After this long it is written down: a receipt often comes a moment after the nonce.
const WORTH_WRITING: Duration = Duration::from_secs(1);
/// And after this long when only one of several endpoints can be asked.
const LONE_GRACE: Duration = Duration::from_secs(60);
/// How many endpoints are heard before a nonce counts as consumed by a stranger.
const WITNESSES: usize = 2;
/// How long they have to answer.
const HEARING: Duration = Duration::from_secs(2);

/// Why a transaction can never register its work.
#[derive(Clone, Copy, Debug)]
enum Released {
    /// It is in a block, and reverted.
    Reverted,
    /// A stranger's transaction consumed its nonce.
    Displaced,
}

impl Follower {
    /// The nonces of these have passed: finds the receipts of whichever attempts were included, all at once, and settles one
    /// after the other. One that cannot be looked for keeps none of the others; the first error is returned at the end.
    pub(super) async fn look_for(
        &mut self,
        passed: Vec<SharedFlight>,
        canonical: &mut Canonical,
    ) -> Result<(), PollError> {
        let chain = self.tools.chain.clone();
        let looked = join_all(passed.into_iter().map(|flight| receipt_of(&chain, flight))).await;
        let (mut found, mut result) = (Vec::with_capacity(looked.len()), Ok(()));
        for one in looked {
            match one {
                Ok(one) => found.push(one),
                Err(error) => result = result.and(Err(error.into())),
            }
        }
        canonical.fetch(found.iter().filter_map(|(_, receipt)| Some(receipt.as_ref()?.1.block_number))).await?;
        for (flight, receipt) in found {
            let settled = match receipt {
                Some((hash, receipt)) => self.settle(&flight, hash, receipt, canonical).await,
                None => self.missing(&flight, canonical).await,
            };
            result = result.and(settled);
        }
        result
    }

    async fn settle(
        &mut self,
        flight: &SharedFlight,
        hash: B256,
        receipt: Receipt,
        canonical: &mut Canonical,
    ) -> Result<(), PollError> {
        flight.progress().is_not_missing();
        let header = canonical.header(receipt.block_number).await?;
        let Some(header) = header.filter(|header| header.block.hash == receipt.block_hash) else {
            // Between two blocks of a reorg, or two nodes: the next poll knows more.
            return Ok(());
        };
        if !canonical.head_stands().await? {
            return Ok(());
        }
        let depth = self.depth(header.block.number, canonical);
        let confirmations = self.tools.settings.confirmations;
        let deep = depth >= confirmations && canonical.is_agreed(&header.block, confirmations).await;
        if receipt.succeeded {
            self.include(flight, hash, &receipt, header.block, depth, deep).await
        } else if deep {
            // It has cost what it has cost, although it did nothing.
            self.tools.store.paid(flight.id, &receipt.cost(), now()).await?;
            self.release(flight, Released::Reverted).await
        } else {
            Ok(())
        }
    }

    pub(super) fn depth(&self, number: u64, canonical: &Canonical) -> u64 {
        (canonical.head.block.number + 1).saturating_sub(number).max(1)
    }

    /// In a canonical block: each registration is settled by its own event.
    async fn include(
        &mut self,
        flight: &SharedFlight,
        hash: B256,
        receipt: &Receipt,
        block: Block,
        depth: u64,
        deep: bool,
    ) -> Result<(), PollError> {
        let cost = receipt.cost();
        let others = unregistered(flight, receipt);
        let inclusion = Inclusion { hash, block, cost };
        let at = now();
        self.tools.store.included(flight.id, &inclusion, &others, deep, at).await?;
        flight.note(format!("included in block {}", block.number), at);
        let size = flight.members.len();
        let (key, carried) = ((flight.signer, flight.nonce), (size, others.len()));
        events::transaction_included(flight.id, key, hash, block.number, carried, &cost);
        {
            let mut journeys = flight.journeys();
            let registered = journeys.iter_mut().filter(|journey| !others.contains(&journey.member.id));
            registered.for_each(|journey| journey.included(&block, &cost));
        }
        {
            let mut progress = flight.progress();
            progress.phase = Phase::Included { block, hash };
            progress.held = Held::No;
            (progress.memory.reorged_out, progress.memory.refusal) = (None, None);
            progress.memory.kept = Kept::default();
            // As in the store: a node that included it had it, even if its answer never came.
            progress.sent.get_or_insert(at);
        }
        if deep {
            self.land(flight, (block, hash), &others, depth);
        }
        self.tools.waiters.changed(&self.tools.store, &flight.members).await;
        Ok(())
    }

    /// Demoted if the including block is not canonical any more, else confirmed if it is `deep` enough.
    pub(super) async fn confirm_or_demote(
        &mut self,
        flight: &SharedFlight,
        (block, hash): (Block, B256),
        deep: bool,
        canonical: &mut Canonical,
    ) -> Result<(), PollError> {
        let Some(canonical_still) = canonical.holds(block.number, block.hash).await? else { return Ok(()) };
        if canonical_still {
            let agreed = deep && canonical.is_agreed(&block, self.tools.settings.confirmations).await;
            if !agreed || !canonical.head_stands().await? {
                return Ok(());
            }
            let others = self.tools.store.confirmed(flight.id, now()).await?;
            self.land(flight, (block, hash), &others, self.depth(block.number, canonical));
        } else {
            self.tools.store.reorged(flight.id, now()).await?;
            let affected = flight.first_affected();
            let key = (flight.signer, flight.nonce);
            events::transaction_reorged(flight.id, key, hash, block.number, affected.as_ref());
            flight.note(format!("reorged out of block {}", block.number), now());
            let mut progress = flight.progress();
            progress.phase = Phase::Submitted;
            progress.memory.reorged_out = Some(block.number);
            progress.memory.kept = Kept::default();
            // Nodes do not put the transactions of a dropped block back into their pools for certain.
            (progress.broadcast, progress.out) = (None, None);
        }
        self.tools.waiters.changed(&self.tools.store, &flight.members).await;
        Ok(())
    }

    /// At confirmation depth: the flight is over, and what it has not registered is queued again; its block is watched until it
    /// is final.
    fn land(&mut self, flight: &SharedFlight, (block, hash): (Block, B256), others: &[RegistrationId], depth: u64) {
        let at = now();
        let sent = flight.progress().sent.unwrap_or(flight.signed);
        let mut journeys = std::mem::take(&mut *flight.journeys());
        journeys.retain(|journey| !others.contains(&journey.member.id));
        let key = (flight.signer, flight.nonce);
        events::transaction_confirmed(flight.id, key, hash, block.number, journeys.len(), at.since(sent));
        for journey in journeys {
            let member = &journey.member;
            let total = at.since(member.created);
            events::registration_confirmed(member.id, (&member.trace, journey.span()), hash, block.number, total);
            journey.confirmed(hash, &block, depth, at);
        }
        self.tools.flights.remove(flight);
        if !others.is_empty() {
            self.tools.queue.tell();
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
    async fn missing(&mut self, flight: &SharedFlight, canonical: &mut Canonical) -> Result<(), PollError> {
        let head = canonical.head.block.number;
        // One that nobody has sent since the start is as the store had it, which may be an older backup.
        let first = flight.progress().missing.is_none() && flight.progress().broadcast.is_none();
        let (since, at_head) = *flight.progress().missing.get_or_insert((Instant::now(), head));
        if since.elapsed() >= WORTH_WRITING {
            self.remember_missing(flight, since.elapsed()).await;
        }
        let deep = head + 1 >= at_head + self.tools.settings.confirmations;
        let displaced =
            deep && since.elapsed() >= MISSING_GRACE && self.is_displaced(flight, since.elapsed(), head).await;
        if (first || displaced)
            && let Some((flight, hash, receipt)) = self.tools.recognise_version(flight).await?
        {
            return self.settle(&flight, hash, receipt, canonical).await;
        }
        if displaced {
            return self.release(flight, Released::Displaced).await;
        }
        Ok(())
    }

    /// Keeps for other replicas and the next start that its nonce is consumed without a receipt.
    async fn remember_missing(&self, flight: &SharedFlight, lasting: Duration) {
        flight.progress().memory.missing_since.get_or_insert_with(|| now().minus(lasting));
        flight.remember(&self.tools.store).await;
    }

    /// Whether every endpoint that answers, and more than one where there are more, says that the nonce is consumed at confirmation
    /// depth and that none of our attempts did it.
    async fn is_displaced(&self, flight: &SharedFlight, missing: Duration, head: u64) -> bool {
        let chain = &self.tools.chain;
        let until = Instant::now() + HEARING;
        let deep = (head + 1).saturating_sub(self.tools.settings.confirmations);
        let nonces = chain.nonces_everywhere_at(flight.signer, deep, WITNESSES, until).await;
        let versions = flight.versions();
        let asked = versions.attempts.iter().map(|attempt| chain.receipts_everywhere(attempt.hash, WITNESSES, until));
        let receipts = join_all(asked).await;
        let consumed = nonces.iter().all(|witness| matches!(witness.answer, Ok(nonce) if nonce > flight.nonce));
        let unseen = receipts.iter().flatten().all(|witness| matches!(witness.answer, Ok(None)));
        let needed = if missing >= LONE_GRACE { 1 } else { WITNESSES.min(chain.endpoints()) };
        let enough = nonces.len() >= needed && receipts.iter().all(|heard| heard.len() >= needed);
        enough && consumed && unseen
    }

    /// The transaction can never register its work, and its nonce is consumed at depth: the work is queued again.
    async fn release(&mut self, flight: &SharedFlight, why: Released) -> Result<(), PollError> {
        let (reason, reverted) = match why {
            Released::Displaced => ("its nonce was consumed by another transaction", None),
            Released::Reverted => (
                "it reverted",
                Some(Failure {
                    reason: FailureReason::TransactionReverted,
                    message: "its transactions were mined and reverted again and again, the last one with nothing else in it; \
                              that one is in the log"
                        .to_owned(),
                }),
            ),
        };
        self.tools.store.release(flight.id, reverted.as_ref(), now()).await?;
        let affected = flight.first_affected();
        events::transaction_released(
            flight.id,
            (flight.signer, flight.nonce),
            flight.latest().0,
            reason,
            flight.members.len(),
            affected.as_ref(),
        );
        self.tools.flights.remove(flight);
        let journeys = std::mem::take(&mut *flight.journeys());
        if let Some(failure) = &reverted {
            self.tell_failed(journeys, failure).await?;
        }
        self.tools.waiters.changed(&self.tools.store, &flight.members).await;
        self.tools.queue.tell();
        Ok(())
    }
}

impl Follower {
    /// Of what was carried by a transaction that reverted, tells what has failed for good: the rest is queued again.
    async fn tell_failed(&self, journeys: Vec<Journey>, failure: &Failure) -> Result<(), PollError> {
        let ids: Vec<_> = journeys.iter().map(|journey| journey.member.id).collect();
        let stored = self.tools.store.get_all(&ids).await?;
        let failed: HashSet<_> = stored.iter().filter(|one| one.state == State::Failed).map(|one| one.id).collect();
        for journey in journeys.into_iter().filter(|journey| failed.contains(&journey.member.id)) {
            events::failed(&journey.affected(journey.span()), failure, "wait");
            journey.failed(now());
        }
        Ok(())
    }
}

/// The receipt of the attempt that was included, with its hash.
async fn receipt_of(chain: &Chain, flight: SharedFlight) -> Result<(SharedFlight, Option<(B256, Receipt)>), CallError> {
    let versions = flight.versions();
    let asked = versions.attempts.iter().map(|attempt| chain.receipt(attempt.hash));
    let receipts = try_join_all(asked).await?;
    let found = versions.attempts.iter().zip(receipts).find_map(|(attempt, receipt)| Some((attempt.hash, receipt?)));
    Ok((flight, found))
}

/// The registrations whose own event is not in the receipt: skipped as duplicates, and to be found on chain by the next look.
fn unregistered(flight: &SharedFlight, receipt: &Receipt) -> Vec<RegistrationId> {
    let registered: HashSet<&[B256]> = receipt.events.iter().filter_map(|topics| topics.get(..3)).collect();
    let journeys = flight.journeys();
    journeys
        .iter()
        .filter(|journey| {
            let topics = registered_topics(journey.member.document_hash, &journey.member.case_id);
            !registered.contains(topics.as_slice())
        })
        .map(|journey| journey.member.id)
        .collect()
}
