//! Collects the evidence for a diagnosis: from memory where possible, and the rest with one bounded set of RPC calls.

mod collect;
mod convert;

use super::{Context, in_flight::PendingTx, now, tx_state::TxPhase};
use crate::registration::{
    Block, BlockedReason, Registration, Timestamp,
    diagnosis::{Blocker, ChainSnapshot, EarlierTx, Evidence, RpcAnswers, Subject, SubmittedTx, Unsent},
    policy::in_flight_limit::InFlightLimit,
};
use alloy::primitives::Address;
use std::sync::Arc;
use tokio::time::Instant;

/// Evidence about a pending transaction; `blocked` is the stored blocked reason of its registrations.
///
/// At most [`collect::MAX_EVIDENCE_CALLS`] RPC calls, within [`collect::EVIDENCE_TIMEOUT`].
pub(super) async fn collect_for_pending(context: &Context, tx: &PendingTx, blocked: Option<BlockedReason>) -> Evidence {
    let chain = chain_snapshot(context);
    let (phase, submitted_at) = {
        let status = tx.status();
        (status.phase(), status.submitted_at())
    };
    let subject = match phase {
        TxPhase::Included { block, .. } => {
            let needs_votes = !chain.usable.is_empty() && is_at_confirmation_depth(context, &block);
            let block_votes = if needs_votes { collect::block_votes(&context.chain, &block).await } else { Vec::new() };
            Subject::Included { block: block.number, block_votes }
        }
        TxPhase::Signed => {
            let rejection = tx.status().last_rejection().cloned().map(Blocker::Rejected);
            Subject::Unsent(Unsent {
                blocked_reason: blocked,
                blocker: rejection.or_else(|| known_blocker(context, blocked)),
                ..Unsent::default()
            })
        }
        TxPhase::Submitted => Subject::Submitted(Box::new(submitted_evidence(context, tx, &chain).await)),
    };
    build_evidence(context, chain, submitted_at, subject)
}

/// Whether a block has enough confirmations, so that only the endpoints' votes can keep its transactions unconfirmed.
pub(super) fn is_at_confirmation_depth(context: &Context, block: &Block) -> bool {
    let depth = context.head().map_or(0, |head| (head.block.number + 1).saturating_sub(block.number));
    depth >= context.settings.confirmations
}

/// Evidence about a registration without a pending transaction.
pub(super) async fn collect_for_queued(
    context: &Context,
    registration: &Registration,
    signers: &[Address],
) -> Evidence {
    let chain = chain_snapshot(context);
    let blocked = registration.blocked_reason;
    let pair = registration.request.pair.clone();
    let foreign_block = match blocked {
        Some(BlockedReason::AwaitingConfirmations) if !chain.usable.is_empty() => {
            collect::foreign_block(&context.chain, pair.clone()).await
        }
        Some(_) | None => None,
    };
    let earlier_tx = if blocked.is_none() { blocking_tx(context, signers) } else { None };
    let blocker = match (known_blocker(context, blocked), blocked) {
        (None, Some(blocked)) if !chain.usable.is_empty() => {
            context.diagnosis_cache.blocker(blocked, collect::preflight_blocker(context, blocked, pair, signers)).await
        }
        (known, _) => known,
    };
    let subject = Subject::Unsent(Unsent { blocked_reason: blocked, blocker, foreign_block, earlier_tx });
    build_evidence(context, chain, None, subject)
}

fn build_evidence(
    context: &Context,
    chain: ChainSnapshot,
    submitted_at: Option<Timestamp>,
    subject: Subject,
) -> Evidence {
    let confirmations_required = context.settings.confirmations;
    Evidence { now: now(), submitted_at, confirmations_required, chain, subject }
}

fn chain_snapshot(context: &Context) -> ChainSnapshot {
    let head = context.head.get().as_ref().map(convert::head_snapshot);
    context.chain.snapshot(head)
}

/// The blocker of a sender of this process, if it is the one that blocks the registration.
fn known_blocker(context: &Context, blocked: Option<BlockedReason>) -> Option<Blocker> {
    context.blockers.find(|blocker| Some(blocker.blocked_reason()) == blocked)
}

async fn submitted_evidence(context: &Context, tx: &PendingTx, chain: &ChainSnapshot) -> SubmittedTx {
    let status = tx.status().clone();
    let (_, fees) = tx.latest();
    let not_included = not_included(context, tx.signer);
    let earlier_tx = not_included.iter().find(|other| other.nonce < tx.nonce).map(|other| convert::earlier_tx(other));
    let is_stalled = chain.stalled.is_some() && !chain.mines_on_demand;
    let answers = if chain.usable.is_empty() || is_stalled || earlier_tx.is_some() {
        RpcAnswers::default()
    } else {
        collect::collect_answers(&context.chain, tx, chain).await
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
        last_seen_nonce: context.chain.last_seen_nonce(tx.signer),
        in_flight: not_included.len(),
        answers,
    }
}

/// The signer's transactions that no block includes, by nonce.
fn not_included(context: &Context, signer: Address) -> Vec<Arc<PendingTx>> {
    let mut pending = context.in_flight.of_signer(signer);
    pending.retain(|tx| !matches!(tx.status().phase(), TxPhase::Included { .. }));
    pending
}

/// The transaction that the queue waits for while no signer may sign another one: each is at its in-flight limit, or
/// has a transaction that no endpoint accepted.
fn blocking_tx(context: &Context, signers: &[Address]) -> Option<EarlierTx> {
    let at_limit = context.blockers.signers_at_limit();
    let cannot_sign = |signer: &Address| {
        let pending = context.in_flight.of_signer(*signer);
        let is_unsent = |tx: &Arc<PendingTx>| tx.status().phase() == TxPhase::Signed;
        at_limit.contains(signer) || pending.len() >= InFlightLimit::MAX_IN_FLIGHT || pending.iter().any(is_unsent)
    };
    let lowest = || signers.iter().find_map(|signer| not_included(context, *signer).into_iter().next());
    let blocking = signers.iter().all(cannot_sign).then(lowest)?;
    blocking.map(|tx| convert::earlier_tx(&tx))
}
