//! Why an endpoint gave no usable answer, and why a node rejected a request.

use alloy::primitives::Bytes;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFault {
    /// Connection refused, or the host name does not resolve.
    #[error("no connection")]
    Connect,
    #[error("timed out")]
    Timeout,
    /// Says nothing about the endpoint's health.
    #[error("rate limited{}", retry_after.map_or_else(String::new, |delay| format!(" for {} s", delay.as_secs())))]
    Throttled { retry_after: Option<Duration> },
    /// An HTTP status without a JSON-RPC response.
    #[error("HTTP status {0}")]
    Status(u16),
    /// The node, or the proxy in front of it, reports an internal error.
    #[error("internal error of the node")]
    Backend,
    /// Not JSON-RPC, or not a response to this request.
    #[error("malformed response")]
    Unreadable,
    #[error("connection lost")]
    Lost,
    /// The endpoint returned a head without being able to return its parent.
    #[error("returned a head whose parent it does not have")]
    Implausible,
    /// No code at the contract's address any more, so this is not the chain that was verified at startup.
    #[error("no contract at its address: the node was restarted, or is on another chain")]
    NoContract,
}

/// What a rejection means for the sender; the comments give the consequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RejectReason {
    /// The node already has these bytes: success.
    AlreadyKnown,
    /// Consumed by one of our attempts or by another sender; the receipts decide.
    NonceTooLow,
    /// An earlier nonce is missing: its transaction is rebroadcast.
    NonceGap,
    /// Another attempt is pending, and this one does not outbid it.
    ReplacementUnderpriced,
    /// Below the node's minimum: wait, or raise the fee.
    FeeTooLow,
    /// Priority fee above max fee: a bug of this service.
    TipAboveFee,
    /// Above this node's own fee cap; another node may accept it.
    FeeAboveNodeCap,
    /// Wait until the signer is funded.
    InsufficientFunds,
    /// Too many pending transactions of this signer, at every endpoint: send fewer.
    SenderLimit,
    /// More gas than a transaction or block may have, or too little: use a smaller batch.
    GasLimit,
    Reverted(Bytes),
    /// The node does not have the requested block; another one may.
    UnknownBlock,
    /// The endpoint is quarantined.
    WrongChainId,
    Other,
}

impl EndpointFault {
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Throttled { .. } => "throttled",
            Self::Status(_) => "status",
            Self::Backend => "backend",
            Self::Unreadable => "unreadable",
            Self::Lost => "lost",
            Self::Implausible => "implausible",
            Self::NoContract => "no_contract",
        }
    }
}
