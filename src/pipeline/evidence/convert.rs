//! From what the chain room and the pipeline know to what a diagnosis is made from.

use crate::{
    chain::{self, CallError, EndpointResponse, EndpointStatus, FeeHistory, PoolStatus, Receipt},
    pipeline::{head::Head, in_flight::PendingTx},
    registration::diagnosis::{
        ChainSnapshot, EarlierTx, EndpointAnswer, EndpointSnapshot, FeeSnapshot, HeadSnapshot, ReceiptSnapshot,
        RevertReason, StallSnapshot,
    },
};
use alloy::primitives::Bytes;

pub(super) fn head_snapshot(head: &Head) -> HeadSnapshot {
    HeadSnapshot {
        number: head.header.block.number,
        gas_limit: head.header.gas_limit,
        base_fee: head.header.base_fee,
        age: head.since.elapsed(),
    }
}

pub(super) fn chain_snapshot(overview: PoolStatus, head: Option<HeadSnapshot>, mines_on_demand: bool) -> ChainSnapshot {
    let stalled = overview.stall.map(|stall| StallSnapshot { head: stall.head.number, duration: stall.duration });
    let (usable, unusable): (Vec<_>, Vec<_>) =
        overview.endpoints.into_iter().partition(|endpoint| endpoint.state.is_usable());
    let seen = |endpoints: Vec<EndpointStatus>| endpoints.into_iter().map(endpoint_snapshot).collect();
    ChainSnapshot { usable: seen(usable), unusable: seen(unusable), stalled, head, mines_on_demand }
}

fn endpoint_snapshot(view: EndpointStatus) -> EndpointSnapshot {
    EndpointSnapshot {
        name: view.name,
        state: view.state.code(),
        head: view.head.map(|block| block.number),
        lag: view.lag,
        latency: view.latency,
        error: view.error,
    }
}

pub(super) fn earlier_tx(flight: &PendingTx) -> EarlierTx {
    EarlierTx { nonce: flight.nonce, hash: flight.latest().0, registration_id: flight.members.first().copied() }
}

/// Those who answered.
pub(super) fn endpoint_answers<T, U>(
    witnesses: &[EndpointResponse<T>],
    says: impl Fn(&T) -> U,
) -> Vec<EndpointAnswer<U>> {
    let answered = |witness: &EndpointResponse<T>| {
        let says = says(witness.result.as_ref().ok()?);
        Some(EndpointAnswer { endpoint: witness.endpoint.clone(), value: says })
    };
    witnesses.iter().filter_map(answered).collect()
}

pub(super) fn receipt_snapshot(receipt: &Receipt) -> ReceiptSnapshot {
    ReceiptSnapshot {
        block: receipt.block_number,
        block_hash: receipt.block_hash,
        succeeded: receipt.succeeded,
        gas_used: receipt.gas_used,
    }
}

/// Fees of blocks that hold `gas_limit` each.
pub(super) fn fees_snapshot(history: &FeeHistory, gas_limit: u64) -> FeeSnapshot {
    FeeSnapshot { next_base_fee: history.next_base_fee, blocks: history.block_observations(gas_limit) }
}

pub(super) fn revert_cause(data: &Bytes) -> RevertReason {
    chain::decode_not_registrar(data).map_or_else(|| RevertReason::Data(data.clone()), RevertReason::NotRegistrar)
}

/// Why a call brought no answer, in a few words.
pub(super) fn error_text(error: &CallError) -> String {
    match error {
        CallError::Unavailable { fault, .. } => fault.to_string(),
        CallError::Rejected { message, code, .. } => format!("{message} (code {code})"),
        CallError::NoEndpoint { details: why, .. } => why.clone(),
    }
}
