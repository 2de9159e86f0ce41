//! The parts of `chain`'s and the pipeline's types that a diagnosis needs. `Receipt`, `FeeHistory` and
//! `EndpointResponse` have more: events and costs for the follower, base fees for pricing, typed errors.

use crate::{
    chain::{self, CallError, EndpointResponse, FeeHistory, Receipt},
    pipeline::{head::Head, in_flight::PendingTx},
    registration::diagnosis::{EarlierTx, EndpointAnswer, FeeSnapshot, HeadSnapshot, ReceiptSnapshot, RevertReason},
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

pub(super) fn earlier_tx(tx: &PendingTx) -> EarlierTx {
    EarlierTx { nonce: tx.nonce, hash: tx.latest().0, registration_id: tx.members.first().copied() }
}

/// Without the endpoints that did not answer.
pub(super) fn endpoint_answers<T, U>(
    responses: &[EndpointResponse<T>],
    convert: impl Fn(&T) -> U,
) -> Vec<EndpointAnswer<U>> {
    let answer = |response: &EndpointResponse<T>| {
        let value = convert(response.result.as_ref().ok()?);
        Some(EndpointAnswer { endpoint: response.endpoint.clone(), value })
    };
    responses.iter().filter_map(answer).collect()
}

pub(super) fn receipt_snapshot(receipt: &Receipt) -> ReceiptSnapshot {
    ReceiptSnapshot {
        block: receipt.block_number,
        block_hash: receipt.block_hash,
        succeeded: receipt.succeeded,
        gas_used: receipt.gas_used,
    }
}

/// For blocks with this gas limit.
pub(super) fn fees_snapshot(history: &FeeHistory, gas_limit: u64) -> FeeSnapshot {
    FeeSnapshot { next_base_fee: history.next_base_fee, blocks: history.block_observations(gas_limit) }
}

pub(super) fn revert_cause(data: &Bytes) -> RevertReason {
    chain::decode_not_registrar(data).map_or_else(|| RevertReason::Data(data.clone()), RevertReason::NotRegistrar)
}

pub(super) fn error_text(error: &CallError) -> String {
    match error {
        CallError::Unavailable { fault, .. } => fault.to_string(),
        CallError::Rejected { message, code, .. } => format!("{message} (code {code})"),
        CallError::NoEndpoint { details, .. } => details.clone(),
    }
}
