//! What was observed of a registration that is not confirmed. What is absent was not observed: not requested, or not
//! answered in time. Nothing is concluded from it.

use super::blocker::Blocker;
use crate::registration::{
    blocked_reason::BlockedReason,
    ids::RegistrationId,
    observations::{
        EndpointAnswer, EndpointSnapshot, FeeSnapshot, HeadSnapshot, NodeRejection, ReceiptSnapshot, RevertReason,
        StallSnapshot,
    },
    policy::fees::Fees,
    time::Timestamp,
};
use alloy::primitives::{Address, B256, U256};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Evidence {
    pub now: Timestamp,
    /// When a node first accepted the transaction.
    pub submitted_at: Option<Timestamp>,
    /// The including block itself counts as 1.
    pub confirmations_required: u64,
    pub chain: ChainSnapshot,
    pub subject: Subject,
}

/// The endpoints and the head as the pool last saw them; no call is made for it.
#[derive(Clone, Debug, Default)]
pub struct ChainSnapshot {
    /// In order of preference.
    pub usable: Vec<EndpointSnapshot>,
    /// Down, or on another chain.
    pub unusable: Vec<EndpointSnapshot>,
    /// Set while no endpoint reports a new block.
    pub stalled: Option<StallSnapshot>,
    pub head: Option<HeadSnapshot>,
    /// Whether the chain may mine a block only when there is a transaction, as plain anvil does: then a head that
    /// does not move is no fault.
    pub mines_on_demand: bool,
}

/// The registration, by how far it has come.
#[derive(Clone, Debug)]
pub enum Subject {
    /// No node has a transaction for it.
    Unsent(Unsent),
    /// A node accepted its transaction, and no block is known to hold it.
    Submitted(Box<SubmittedTx>),
    /// In a canonical block.
    Included {
        block: u64,
        /// Whether each endpoint has that very block; asked only when it is deep enough and still not confirmed.
        block_votes: Vec<EndpointAnswer<bool>>,
    },
}

#[derive(Clone, Debug, Default)]
pub struct Unsent {
    pub blocked_reason: Option<BlockedReason>,
    /// What prevented the last attempt to send it, with the values.
    pub blocker: Option<Blocker>,
    /// The block in which another sender registered the pair.
    pub foreign_block: Option<u64>,
    /// The transaction that has to be included before another one may be sent.
    pub earlier_tx: Option<EarlierTx>,
}

#[derive(Clone, Debug)]
pub struct SubmittedTx {
    pub signer: Address,
    pub nonce: u64,
    pub gas_limit: u64,
    pub fees: Fees,
    /// The endpoint that accepted it, if one is known.
    pub accepted_by: Option<String>,
    /// A transaction of the same signer with a lower nonce that no block holds.
    pub earlier_tx: Option<EarlierTx>,
    /// The block that held it until a reorg.
    pub reorged_out_of_block: Option<u64>,
    /// Cleared when a node accepts the transaction.
    pub last_rejection: Option<NodeRejection>,
    /// For how long its nonce has been consumed without a receipt for any attempt.
    pub nonce_consumed_for: Option<Duration>,
    /// The signer's next nonce as last agreed on: an endpoint with a lower one is behind.
    pub last_seen_nonce: Option<u64>,
    /// Transactions of the signer that no block holds, this one included.
    pub in_flight: usize,
    pub answers: RpcAnswers,
}

/// Another transaction of ours, which has to be included first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EarlierTx {
    pub nonce: u64,
    /// Hash of the latest attempt.
    pub hash: B256,
    /// One of the registrations in it.
    pub registration_id: Option<RegistrationId>,
}

/// The answers to one round of calls.
#[derive(Clone, Debug, Default)]
pub struct RpcAnswers {
    /// The receipt of whichever attempt has one.
    pub receipts: Vec<EndpointAnswer<Option<ReceiptSnapshot>>>,
    /// Whether the endpoint knows the transaction, pending or included.
    pub tx_known: Vec<EndpointAnswer<bool>>,
    /// The signer's next nonce, by included transactions.
    pub nonces: Vec<EndpointAnswer<u64>>,
    /// The signer's balance in wei.
    pub balance: Option<U256>,
    pub fees: Option<FeeSnapshot>,
    /// Hash of the canonical block at the receipt's height.
    pub canonical_block_hash: Option<B256>,
    pub revert: Option<RevertReason>,
    /// Endpoints without an answer, each with the reason.
    pub unanswered: Vec<EndpointAnswer<String>>,
}
