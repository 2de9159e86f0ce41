//! Collects the evidence for a diagnosis: from memory where possible, and the rest with one bounded set of RPC calls.

mod collect;
mod convert;
mod sources;

pub(super) use sources::Sources;

use super::{in_flight::PendingTx, tx_state::TxPhase};
use crate::clock::now;
use crate::registration::{
    Block, BlockedReason, Pair, Registration, Timestamp,
    diagnosis::{Blocker, ChainSnapshot, EarlierTx, Evidence, RpcAnswers, Subject, SubmittedTx, Unsent},
    policy::in_flight_limit::InFlightLimit,
};
use alloy::primitives::Address;
use std::sync::Arc;
use tokio::time::Instant;

/// Evidence about a pending transaction; `blocked` is the stored blocked reason of its registrations.
///
/// At most [`collect::MAX_EVIDENCE_CALLS`] RPC calls, within [`collect::EVIDENCE_TIMEOUT`].
pub(super) async fn collect_for_pending(sources: &Sources, tx: &PendingTx, blocked: Option<BlockedReason>) -> Evidence {
    let chain = chain_snapshot(sources);
    let (phase, submitted_at) = {
        let status = tx.status();
        (status.phase(), status.submitted_at())
    };
    let subject = match phase {
        TxPhase::Included { block, .. } => {
            let needs_votes = !chain.usable.is_empty() && is_at_confirmation_depth(sources, &block);
            let block_votes = if needs_votes { collect::block_votes(&sources.chain, &block).await } else { Vec::new() };
            Subject::Included { block: block.number, block_votes }
        }
        TxPhase::Signed => {
            let rejection = tx.status().last_rejection().cloned().map(Blocker::Rejected);
            Subject::Unsent(Unsent {
                blocked_reason: blocked,
                blocker: rejection.or_else(|| known_blocker(sources, blocked)),
                ..Unsent::default()
            })
        }
        TxPhase::Submitted => Subject::Submitted(Box::new(submitted_evidence(sources, tx, &chain).await)),
    };
    build_evidence(sources, chain, submitted_at, subject)
}

/// Whether a block has enough confirmations, so that only the endpoints' votes can keep its transactions unconfirmed.
pub(super) fn is_at_confirmation_depth(sources: &Sources, block: &Block) -> bool {
    let depth = sources.head.header().map_or(0, |head| (head.block.number + 1).saturating_sub(block.number));
    depth >= sources.settings.confirmations
}

/// Evidence about a registration without a pending transaction.
pub(super) async fn collect_for_queued(
    sources: &Sources,
    registration: &Registration,
    signers: &[Address],
) -> Evidence {
    let (blocked, pair) = (registration.blocked_reason, &registration.request.pair);
    let foreign_block = match blocked {
        Some(BlockedReason::AwaitingConfirmations) if !chain_snapshot(sources).usable.is_empty() => {
            collect::foreign_block(&sources.chain, pair.clone()).await
        }
        Some(_) | None => None,
    };
    collect_for_queue(sources, (blocked, pair), foreign_block, signers).await
}

/// Evidence about all queued registrations with this blocked reason; `pair` is that of one of them.
pub(super) async fn collect_for_queue(
    sources: &Sources,
    (blocked, pair): (Option<BlockedReason>, &Pair),
    foreign_block: Option<u64>,
    signers: &[Address],
) -> Evidence {
    let chain = chain_snapshot(sources);
    let earlier_tx = if blocked.is_none() { blocking_tx(sources, signers) } else { None };
    let blocker = match (known_blocker(sources, blocked), blocked) {
        (None, Some(blocked)) if !chain.usable.is_empty() => {
            sources
                .blocker_cache
                .get(blocked, collect::preflight_blocker(sources, blocked, pair.clone(), signers))
                .await
        }
        (known, _) => known,
    };
    let subject = Subject::Unsent(Unsent { blocked_reason: blocked, blocker, foreign_block, earlier_tx });
    build_evidence(sources, chain, None, subject)
}

fn build_evidence(
    sources: &Sources,
    chain: ChainSnapshot,
    submitted_at: Option<Timestamp>,
    subject: Subject,
) -> Evidence {
    let confirmations_required = sources.settings.confirmations;
    Evidence { now: now(), submitted_at, confirmations_required, chain, subject }
}

fn chain_snapshot(sources: &Sources) -> ChainSnapshot {
    let head = sources.head.get().as_ref().map(convert::head_snapshot);
    sources.chain.snapshot(head)
}

/// The blocker of a sender of this process, if it is the one that blocks the registration.
fn known_blocker(sources: &Sources, blocked: Option<BlockedReason>) -> Option<Blocker> {
    sources.blockers.find(|blocker| Some(blocker.blocked_reason()) == blocked)
}

async fn submitted_evidence(sources: &Sources, tx: &PendingTx, chain: &ChainSnapshot) -> SubmittedTx {
    let status = tx.status().clone();
    let (_, fees) = tx.latest();
    let not_included = not_included(sources, tx.signer);
    let earlier_tx = not_included.iter().find(|other| other.nonce < tx.nonce).map(|other| convert::earlier_tx(other));
    let is_stalled = chain.stalled.is_some() && !chain.mines_on_demand;
    let answers = if chain.usable.is_empty() || is_stalled || earlier_tx.is_some() {
        RpcAnswers::default()
    } else {
        collect::collect_answers(&sources.chain, tx, chain).await
    };
    SubmittedTx {
        signer: tx.signer,
        nonce: tx.nonce,
        gas_limit: tx.versions().gas_limit,
        fees,
        accepted_by: status.accepted_by().endpoint.clone(),
        earlier_tx,
        reorged_out_of_block: status.reorged_out_of(),
        last_rejection: status.last_rejection().cloned(),
        nonce_consumed_for: status.nonce_consumed_for(now(), Instant::now()),
        last_seen_nonce: sources.chain.last_seen_nonce(tx.signer),
        in_flight: not_included.len(),
        answers,
    }
}

/// The signer's transactions that no block includes, by nonce.
fn not_included(sources: &Sources, signer: Address) -> Vec<Arc<PendingTx>> {
    let mut pending = sources.in_flight.of_signer(signer);
    pending.retain(|tx| !matches!(tx.status().phase(), TxPhase::Included { .. }));
    pending
}

/// The transaction that the queue waits for while no signer may sign another one: each is at its in-flight limit, or
/// has a transaction that no endpoint accepted.
fn blocking_tx(sources: &Sources, signers: &[Address]) -> Option<EarlierTx> {
    let at_limit = sources.blockers.signers_at_limit();
    let cannot_sign = |signer: &Address| {
        let pending = sources.in_flight.of_signer(*signer);
        let is_unsent = |tx: &Arc<PendingTx>| tx.status().phase() == TxPhase::Signed;
        at_limit.contains(signer) || pending.len() >= InFlightLimit::MAX_IN_FLIGHT || pending.iter().any(is_unsent)
    };
    let lowest = || signers.iter().find_map(|signer| not_included(sources, *signer).into_iter().next());
    let blocking = signers.iter().all(cannot_sign).then(lowest)?;
    blocking.map(|tx| convert::earlier_tx(&tx))
}
