//! What a node's rejection of a transaction means for a diagnosis.

use crate::{
    chain::{CallError, RejectReason},
    registration::{
        Timestamp,
        diagnosis::{NodeRejection, RejectKind},
    },
};

/// `None` when the node rejected nothing, or only because it had the bytes or their nonce already.
pub(super) fn node_rejection(error: &CallError, at: Timestamp) -> Option<NodeRejection> {
    let CallError::Rejected { endpoint, reason, code, message, .. } = error else { return None };
    let kind = match reason {
        RejectReason::AlreadyKnown | RejectReason::NonceTooLow => return None,
        RejectReason::ReplacementUnderpriced => RejectKind::ReplacementUnderpriced,
        RejectReason::FeeTooLow => RejectKind::FeeTooLow,
        RejectReason::InsufficientFunds => RejectKind::InsufficientFunds,
        RejectReason::SenderLimit => RejectKind::SenderLimit,
        RejectReason::GasLimit => RejectKind::GasLimit,
        RejectReason::NonceGap
        | RejectReason::TipAboveFee
        | RejectReason::FeeAboveNodeCap
        | RejectReason::Reverted(_)
        | RejectReason::UnknownBlock
        | RejectReason::Pruned
        | RejectReason::UnknownTransaction
        | RejectReason::LogRange
        | RejectReason::UnknownMethod
        | RejectReason::WrongChainId
        | RejectReason::Other => RejectKind::Other,
    };
    Some(NodeRejection { endpoint: endpoint.clone(), code: *code, message: message.clone(), kind, at })
}
