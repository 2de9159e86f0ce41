//! Gathers what a diagnosis is made from. What is known without asking is not asked; the rest is one bounded round.

mod convert;
mod round;

pub use convert::refused;

use super::{
    Tools,
    flights::{Flight, Phase, lock},
    now,
};
use crate::registration::{
    Block, Blocked, Registration, Timestamp,
    diagnosis::{Answers, ChainSeen, Earlier, Evidence, Hindrance, Sent, Subject, Unsent},
    policy::window::Window,
};
use alloy::primitives::Address;
use std::sync::Arc;

/// What is known of a transaction that is not settled; `blocked` is what the store says of its registrations.
///
/// At most [`round::CALLS`] calls, and at most [`round::LONGEST`].
pub async fn of_flight(tools: &Tools, flight: &Flight, blocked: Option<Blocked>) -> Evidence {
    let chain = chain(tools);
    let (phase, submitted) = {
        let progress = flight.progress();
        (progress.phase, progress.sent)
    };
    let subject = match phase {
        Phase::Included { block, .. } => {
            let asked = !chain.usable.is_empty() && is_deep(tools, &block);
            let shown = if asked { round::shown(&tools.chain, &block).await } else { Vec::new() };
            Subject::Included { block: block.number, shown }
        }
        Phase::Signed => {
            let hindrance = flight.progress().memory.refusal.clone().map(Hindrance::Refused);
            Subject::Unsent(Unsent {
                blocked,
                hindrance: hindrance.or_else(|| held(tools, blocked)),
                ..Unsent::default()
            })
        }
        Phase::Submitted => Subject::Sent(Box::new(sent(tools, flight, &chain).await)),
    };
    evidence(tools, chain, submitted, subject)
}

/// Whether a block is at confirmation depth, so that what it holds would be confirmed if all agreed.
pub fn is_deep(tools: &Tools, block: &Block) -> bool {
    let depth = tools.head().map_or(0, |head| (head.block.number + 1).saturating_sub(block.number));
    depth >= tools.settings.confirmations
}

/// What is known of a registration that no transaction of ours carries.
pub async fn of_queued(tools: &Tools, registration: &Registration, signers: &[Address]) -> Evidence {
    let chain = chain(tools);
    let blocked = registration.blocked;
    let pair = (registration.asked.document_hash, registration.asked.case_id.clone());
    let found_in = match blocked {
        Some(Blocked::AwaitingConfirmations) if !chain.usable.is_empty() => {
            round::found_in(&tools.chain, pair.clone()).await
        }
        Some(_) | None => None,
    };
    let earlier = if blocked.is_none() { before_all(tools, signers) } else { None };
    let hindrance = match (held(tools, blocked), blocked) {
        (None, Some(blocked)) if !chain.usable.is_empty() => {
            tools.diagnoses.hindrance(blocked, round::rehearsed(tools, blocked, pair, signers)).await
        }
        (held, _) => held,
    };
    let subject = Subject::Unsent(Unsent { blocked, hindrance, found_in, earlier });
    evidence(tools, chain, None, subject)
}

fn evidence(tools: &Tools, chain: ChainSeen, submitted: Option<Timestamp>, subject: Subject) -> Evidence {
    let confirmations_required = tools.settings.confirmations;
    Evidence { now: now(), submitted, confirmations_required, chain, subject }
}

/// The endpoints and the head, from memory.
fn chain(tools: &Tools) -> ChainSeen {
    let head = tools.head.borrow().as_ref().map(convert::head);
    convert::chain(tools.chain.overview(), head, tools.chain.network().is_local())
}

/// What stood in a lane's way the last time, if that is what blocks the registration.
fn held(tools: &Tools, blocked: Option<Blocked>) -> Option<Hindrance> {
    tools.standings.find(|hindrance| Some(hindrance.blocked()) == blocked)
}

async fn sent(tools: &Tools, flight: &Flight, chain: &ChainSeen) -> Sent {
    let (memory, missing) = {
        let progress = flight.progress();
        (progress.memory.clone(), progress.missing)
    };
    let (hash, fees) = flight.latest();
    let waiting = waiting(tools, flight.signer);
    let earlier = waiting.iter().find(|other| other.nonce < flight.nonce).map(|other| convert::earlier(other));
    let standstill = chain.stalled.is_some() && !chain.mines_on_demand;
    let answers = if chain.usable.is_empty() || standstill || earlier.is_some() {
        Answers::default()
    } else {
        round::ask(&tools.chain, flight, chain).await
    };
    Sent {
        signer: flight.signer,
        nonce: flight.nonce,
        hash,
        gas_limit: flight.versions().gas_limit,
        fees,
        taken_by: memory.taken.by,
        earlier,
        reorged_out: memory.reorged_out,
        refusal: memory.refusal,
        // Whoever has just taken it up counts anew, and knows what was seen before.
        missing_for: memory.missing_since.map(|since| now().since(since)).or(missing.map(|(since, _)| since.elapsed())),
        seen_nonce: tools.chain.seen_nonce(flight.signer),
        in_flight: waiting.len(),
        answers,
    }
}

/// The signer's transactions that no block holds, by nonce.
fn waiting(tools: &Tools, signer: Address) -> Vec<Arc<Flight>> {
    let mut flights = tools.flights.of(signer);
    flights.retain(|flight| !matches!(flight.progress().phase, Phase::Included { .. }));
    flights
}

/// The transaction that queued work waits for when no signer may sign another one: each has out as many as it may, or one that
/// no node takes.
fn before_all(tools: &Tools, signers: &[Address]) -> Option<Earlier> {
    let full = lock(&tools.full).clone();
    let stuck = |signer: &Address| {
        let flights = tools.flights.of(*signer);
        let unsent = |flight: &Arc<Flight>| flight.progress().phase == Phase::Signed;
        full.contains(signer) || flights.len() >= Window::MOST || flights.iter().any(unsent)
    };
    let lowest = || signers.iter().find_map(|signer| waiting(tools, *signer).into_iter().next());
    let earlier = signers.iter().all(stuck).then(lowest)?;
    earlier.map(|flight| convert::earlier(&flight))
}
