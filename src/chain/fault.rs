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
    /// The plan's requests of the day or month are used up: waiting for seconds does not help.
    #[error("the plan's quota is spent")]
    QuotaSpent { retry_after: Option<Duration> },
    /// Never followed: the other host would get the key and the signed transaction.
    #[error("redirects; use the URL it redirects to")]
    Redirect,
    /// The node does not answer a question that every node can answer.
    #[error("refused: {message} (code {code})")]
    Refused {
        code: i64,
        /// Shortened and redacted.
        message: String,
    },
    /// An HTTP status without a JSON-RPC response.
    #[error("HTTP status {0}")]
    Status(u16),
    /// The node, or the proxy in front of it, reports an internal error.
    #[error("internal error of the node")]
    Backend,
    /// Not JSON-RPC, or not a response to this request.
    #[error("malformed response")]
    Unreadable,
    /// More than the method's limit.
    #[error("response too large")]
    TooLarge,
    /// The id is of another request: a proxy on the way mixes up its connections.
    #[error("answered another request")]
    Foreign,
    /// A send was answered with a hash that is not the transaction's: some nodes do so for one that they refuse.
    #[error("answered with the hash of another transaction")]
    OtherTransaction,
    /// A number that no chain can have.
    #[error("implausible value")]
    OutOfRange,
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
    /// The node has the block no more, or not its state; another one may. Says nothing about the chain.
    Pruned,
    /// The node does not have the transaction, or has not indexed it yet: as null.
    UnknownTransaction,
    /// The logs of fewer blocks may be read.
    LogRange,
    /// This endpoint does not offer the method.
    UnknownMethod,
    /// The endpoint is quarantined.
    WrongChainId,
    Other,
}

impl EndpointFault {
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Throttled { .. } | Self::QuotaSpent { .. } => "throttled",
            Self::Redirect => "redirect",
            Self::Refused { .. } => "refused",
            Self::Status(_) => "status",
            Self::Backend => "backend",
            Self::Unreadable | Self::TooLarge | Self::Foreign | Self::OtherTransaction => "unreadable",
            Self::Lost => "lost",
            Self::Implausible | Self::OutOfRange => "implausible",
            Self::NoContract => "no_contract",
        }
    }
}
