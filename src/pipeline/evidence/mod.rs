//! Gathers what a diagnosis is made from. What is known without asking is not asked; the rest is one bounded round.

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

/// What is known of a transaction that is not settled; `blocked` is what the store says of its registrations.
///
/// At most [`round::CALLS`] calls, and at most [`round::LONGEST`].
pub async fn collect_for_pending(tools: &Context, flight: &PendingTx, blocked: Option<BlockedReason>) -> Evidence {
    let chain = chain_snapshot(tools);
    let (phase, submitted) = {
        let progress = flight.status();
        (progress.phase(), progress.submitted_at())
    };
    let subject = match phase {
        TxPhase::Included { block, .. } => {
            let asked = !chain.usable.is_empty() && is_at_confirmation_depth(tools, &block);
            let shown = if asked { collect::block_votes(&tools.chain, &block).await } else { Vec::new() };
            Subject::Included { block: block.number, block_votes: shown }
        }
        TxPhase::Signed => {
            let hindrance = flight.status().last_rejection().cloned().map(Blocker::Rejected);
            Subject::Unsent(Unsent {
                blocked_reason: blocked,
                blocker: hindrance.or_else(|| known_blocker(tools, blocked)),
                ..Unsent::default()
            })
        }
        TxPhase::Submitted => Subject::Submitted(Box::new(submitted_evidence(tools, flight, &chain).await)),
    };
    build_evidence(tools, chain, submitted, subject)
}

/// Whether a block is at confirmation depth, so that what it holds would be confirmed if all agreed.
pub fn is_at_confirmation_depth(tools: &Context, block: &Block) -> bool {
    let depth = tools.head().map_or(0, |head| (head.block.number + 1).saturating_sub(block.number));
    depth >= tools.settings.confirmations
}

/// What is known of a registration that no transaction of ours carries.
pub async fn collect_for_queued(tools: &Context, registration: &Registration, signers: &[Address]) -> Evidence {
    let chain = chain_snapshot(tools);
    let blocked = registration.blocked_reason;
    let pair = registration.request.pair.clone();
    let found_in = match blocked {
        Some(BlockedReason::AwaitingConfirmations) if !chain.usable.is_empty() => {
            collect::foreign_block(&tools.chain, pair.clone()).await
        }
        Some(_) | None => None,
    };
    let earlier = if blocked.is_none() { blocking_tx(tools, signers) } else { None };
    let hindrance = match (known_blocker(tools, blocked), blocked) {
        (None, Some(blocked)) if !chain.usable.is_empty() => {
            tools.diagnosis_cache.blocker(blocked, collect::preflight_blocker(tools, blocked, pair, signers)).await
        }
        (held, _) => held,
    };
    let subject = Subject::Unsent(Unsent {
        blocked_reason: blocked,
        blocker: hindrance,
        foreign_block: found_in,
        earlier_tx: earlier,
    });
    build_evidence(tools, chain, None, subject)
}

fn build_evidence(tools: &Context, chain: ChainSnapshot, submitted: Option<Timestamp>, subject: Subject) -> Evidence {
    let confirmations_required = tools.settings.confirmations;
    Evidence { now: now(), submitted_at: submitted, confirmations_required, chain, subject }
}

/// The endpoints and the head, from memory.
fn chain_snapshot(tools: &Context) -> ChainSnapshot {
    let head = tools.head.borrow().as_ref().map(convert::head_snapshot);
    tools.chain.snapshot(head)
}

/// What stood in a lane's way the last time, if that is what blocks the registration.
fn known_blocker(tools: &Context, blocked: Option<BlockedReason>) -> Option<Blocker> {
    tools.blockers.find(|hindrance| Some(hindrance.blocked_reason()) == blocked)
}

async fn submitted_evidence(tools: &Context, flight: &PendingTx, chain: &ChainSnapshot) -> SubmittedTx {
    let status = flight.status().clone();
    let (_, fees) = flight.latest();
    let waiting = not_included(tools, flight.signer);
    let earlier = waiting.iter().find(|other| other.nonce < flight.nonce).map(|other| convert::earlier_tx(other));
    let standstill = chain.stalled.is_some() && !chain.mines_on_demand;
    let answers = if chain.usable.is_empty() || standstill || earlier.is_some() {
        RpcAnswers::default()
    } else {
        collect::collect_answers(&tools.chain, flight, chain).await
    };
    SubmittedTx {
        signer: flight.signer,
        nonce: flight.nonce,
        gas_limit: flight.versions().gas_limit,
        fees,
        accepted_by: status.accepted_by().endpoint.clone(),
        earlier_tx: earlier,
        reorged_out_of_block: status.reorged_out_of(),
        last_rejection: status.last_rejection().cloned(),
        nonce_consumed_for: status.nonce_consumed_for(now(), Instant::now()),
        last_seen_nonce: tools.chain.last_seen_nonce(flight.signer),
        in_flight: waiting.len(),
        answers,
    }
}

/// The signer's transactions that no block holds, by nonce.
fn not_included(tools: &Context, signer: Address) -> Vec<Arc<PendingTx>> {
    let mut flights = tools.in_flight.of_signer(signer);
    flights.retain(|flight| !matches!(flight.status().phase(), TxPhase::Included { .. }));
    flights
}

/// The transaction that queued work waits for when no signer may sign another one: each has out as many as it may, or one that
/// no node takes.
fn blocking_tx(tools: &Context, signers: &[Address]) -> Option<EarlierTx> {
    let full = tools.blockers.signers_at_limit();
    let stuck = |signer: &Address| {
        let flights = tools.in_flight.of_signer(*signer);
        let unsent = |flight: &Arc<PendingTx>| flight.status().phase() == TxPhase::Signed;
        full.contains(signer) || flights.len() >= InFlightLimit::MAX_IN_FLIGHT || flights.iter().any(unsent)
    };
    let lowest = || signers.iter().find_map(|signer| not_included(tools, *signer).into_iter().next());
    let earlier = signers.iter().all(stuck).then(lowest)?;
    earlier.map(|flight| convert::earlier_tx(&flight))
}
