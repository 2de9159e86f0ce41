//! From what the chain room and the pipeline know to what a diagnosis is made from.

use crate::{
    chain::{self, CallError, EndpointView, FeeHistory, Overview, Receipt, Refusal, Witness},
    pipeline::{Head, flights::Flight},
    registration::{
        Timestamp,
        diagnosis::{
            ChainSeen, Earlier, EndpointSeen, FeesSeen, HeadSeen, Meaning, ReceiptSeen, Refused, Revert, StallSeen,
            Witnessed,
        },
    },
};
use alloy::primitives::Bytes;

/// A node's refusal of bytes; `None` when it refused nothing, or only says that it had them or their nonce already.
pub fn refused(error: &CallError, at: Timestamp) -> Option<Refused> {
    let CallError::Refused { endpoint, refusal, code, message, .. } = error else { return None };
    let meaning = match refusal {
        Refusal::AlreadyKnown | Refusal::NonceTooLow => return None,
        Refusal::ReplacementUnderpriced => Meaning::Replacement,
        Refusal::FeeTooLow => Meaning::Fee,
        Refusal::InsufficientFunds => Meaning::Funds,
        Refusal::SenderLimit => Meaning::SenderLimit,
        Refusal::Gas => Meaning::Gas,
        Refusal::NonceGap
        | Refusal::TipAboveFee
        | Refusal::FeeAboveNodeCap
        | Refusal::Reverted(_)
        | Refusal::UnknownBlock
        | Refusal::OtherChain
        | Refusal::Other => Meaning::Other,
    };
    Some(Refused { endpoint: endpoint.clone(), code: *code, words: message.clone(), meaning, at })
}

pub(super) fn head(head: &Head) -> HeadSeen {
    HeadSeen {
        number: head.header.block.number,
        gas_limit: head.header.gas_limit,
        base_fee: head.header.base_fee,
        still: head.since.elapsed(),
    }
}

pub(super) fn chain(overview: Overview, head: Option<HeadSeen>, mines_on_demand: bool) -> ChainSeen {
    let stalled = overview.stalled.map(|stall| StallSeen { head: stall.head.number, lasting: stall.lasting });
    let (usable, unusable): (Vec<_>, Vec<_>) =
        overview.endpoints.into_iter().partition(|endpoint| endpoint.state.is_usable());
    let seen = |endpoints: Vec<EndpointView>| endpoints.into_iter().map(endpoint).collect();
    ChainSeen { usable: seen(usable), unusable: seen(unusable), stalled, head, mines_on_demand }
}

fn endpoint(view: EndpointView) -> EndpointSeen {
    EndpointSeen {
        name: view.name,
        state: view.state.code(),
        head: view.head.map(|block| block.number),
        lag: view.lag,
        latency: view.latency,
        error: view.error,
    }
}

pub(super) fn earlier(flight: &Flight) -> Earlier {
    Earlier { nonce: flight.nonce, hash: flight.latest().0, registration: flight.members.first().copied() }
}

/// Those who answered.
pub(super) fn answered<T, U>(witnesses: &[Witness<T>], says: impl Fn(&T) -> U) -> Vec<Witnessed<U>> {
    let answered = |witness: &Witness<T>| {
        let says = says(witness.answer.as_ref().ok()?);
        Some(Witnessed { endpoint: witness.endpoint.clone(), says })
    };
    witnesses.iter().filter_map(answered).collect()
}

pub(super) fn receipt(receipt: &Receipt) -> ReceiptSeen {
    ReceiptSeen {
        block: receipt.block_number,
        block_hash: receipt.block_hash,
        succeeded: receipt.succeeded,
        gas_used: receipt.gas_used,
    }
}

/// Fees of blocks that hold `gas_limit` each.
pub(super) fn fees(history: &FeeHistory, gas_limit: u64) -> FeesSeen {
    FeesSeen { next_base_fee: history.next_base_fee, blocks: history.blocks(gas_limit) }
}

pub(super) fn revert(data: &Bytes) -> Revert {
    chain::refused_registrar(data).map_or_else(|| Revert::Data(data.clone()), Revert::NotRegistrar)
}

/// Why a call brought no answer, in a few words.
pub(super) fn silence(error: &CallError) -> String {
    match error {
        CallError::Unavailable { fault, .. } => fault.to_string(),
        CallError::Refused { message, code, .. } => format!("{message} (code {code})"),
        CallError::NoEndpoint { why, .. } => why.clone(),
    }
}
