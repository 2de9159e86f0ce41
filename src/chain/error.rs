//! What a call to a node can come to, split by what the caller can do about it.
//!
//! A node's text is read in one table here. No error holds a URL: alloy's own would, so they are taken apart and dropped.

use alloy::{
    primitives::Bytes,
    transports::{RpcError, TransportError, TransportErrorKind},
};
use std::time::Duration;

/// The longest node text that is kept.
const MAX_MESSAGE: usize = 200;

/// Why a call brought no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No answer, or none that means anything: the node may or may not have seen the request.
    #[error("{endpoint} does not answer {method}: {fault}")]
    Unavailable {
        /// The endpoint's name.
        endpoint: String,
        /// The JSON-RPC method.
        method: &'static str,
        /// What went wrong on the way.
        fault: Fault,
    },
    /// The node answered, and said no.
    #[error("{endpoint} refuses {method}: {message} (code {code})")]
    Refused {
        /// The endpoint's name.
        endpoint: String,
        /// The JSON-RPC method.
        method: &'static str,
        /// What it means for us.
        refusal: Refusal,
        /// The JSON-RPC error code.
        code: i64,
        /// The node's words, shortened and without URLs.
        message: String,
    },
}

/// What went wrong between us and a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody listens, or the name does not resolve.
    #[error("no connection")]
    Connect,
    /// No answer in time.
    #[error("timed out")]
    Timeout,
    /// Too many requests; a matter of patience, not of health.
    #[error("rate limited")]
    Throttled {
        /// When to come back, where the node says so.
        retry_after: Option<Duration>,
    },
    /// An HTTP status without a JSON-RPC answer.
    #[error("HTTP status {0}")]
    Status(u16),
    /// An answer that is no JSON-RPC, or none to our question.
    #[error("unreadable answer")]
    Unreadable,
    /// The connection broke.
    #[error("connection lost")]
    Lost,
    /// The contract's address has no code any more, so the node shows another chain than the one that was proved.
    #[error("there is no contract at its address: the node was restarted, or shows another chain")]
    NoContract,
}

/// What a node's refusal means for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has these very bytes already: success.
    AlreadyKnown,
    /// The nonce is consumed, by one of our attempts or by a stranger.
    NonceTooLow,
    /// Another attempt of ours is pending, and this one does not outbid it.
    ReplacementUnderpriced,
    /// The offer is below what the node takes.
    FeeTooLow,
    /// The signer cannot pay.
    InsufficientFunds,
    /// The node takes no more from this signer for now.
    SenderLimit,
    /// More gas than a transaction or block may have, or less than it needs.
    Gas,
    /// The call or its simulation reverted, with this data.
    Reverted(Bytes),
    /// The node does not know the block that was asked about.
    UnknownBlock,
    /// Too many requests.
    Throttled,
    /// Signed for another chain.
    OtherChain,
    /// Anything else.
    Other,
}

impl CallError {
    /// Takes alloy's error apart.
    pub(super) fn of(endpoint: &str, method: &'static str, error: &TransportError) -> Self {
        match error {
            RpcError::ErrorResp(payload) => {
                let data = payload.as_revert_data();
                Self::Refused {
                    endpoint: endpoint.to_owned(),
                    method,
                    refusal: classify(payload.code, &payload.message, data),
                    code: payload.code,
                    message: presentable(&payload.message),
                }
            }
            RpcError::Transport(kind) => {
                Self::Unavailable { endpoint: endpoint.to_owned(), method, fault: fault(kind) }
            }
            RpcError::NullResp
            | RpcError::UnsupportedFeature(_)
            | RpcError::LocalUsageError(_)
            | RpcError::SerError(_)
            | RpcError::DeserError { .. } => {
                Self::Unavailable { endpoint: endpoint.to_owned(), method, fault: Fault::Unreadable }
            }
        }
    }

    /// What the refusal means, if the node answered.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            Self::Unavailable { .. } => None,
        }
    }

    /// A word for a metric label.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Unavailable { fault, .. } => match fault {
                Fault::Connect => "connect",
                Fault::Timeout => "timeout",
                Fault::Throttled { .. } => "throttled",
                Fault::Status(_) => "status",
                Fault::Unreadable => "unreadable",
                Fault::Lost => "lost",
                Fault::NoContract => "no_contract",
            },
        }
    }
}

fn fault(kind: &TransportErrorKind) -> Fault {
    match kind {
        TransportErrorKind::HttpError(error) if error.status == 429 => Fault::Throttled { retry_after: None },
        TransportErrorKind::HttpError(error) => Fault::Status(error.status),
        TransportErrorKind::HttpErrorWithRetryAfter { error, retry_after } => match error.status {
            429 | 503 => Fault::Throttled { retry_after: Some(*retry_after) },
            status => Fault::Status(status),
        },
        TransportErrorKind::Custom(error) => match error.downcast_ref::<reqwest::Error>() {
            Some(error) if error.is_timeout() => Fault::Timeout,
            Some(error) if error.is_connect() => Fault::Connect,
            _ => Fault::Lost,
        },
        TransportErrorKind::NonRetryable(_) => Fault::Lost,
        // The enum is non-exhaustive; what is left are answers that do not fit their question.
        TransportErrorKind::MissingBatchResponse(_)
        | TransportErrorKind::BackendGone
        | TransportErrorKind::PubsubUnavailable
        | _ => Fault::Unreadable,
    }
}

/// The table from a node's words to what they mean. Texts are compared in lower case and in this order: a later row may be
/// part of an earlier one. Each row names who says it.
const TEXTS: [(&str, Refusal); 25] = [
    ("already known", Refusal::AlreadyKnown),    // geth, reth
    ("already imported", Refusal::AlreadyKnown), // anvil
    ("nonce too low", Refusal::NonceTooLow),     // geth, reth, anvil
    ("replacement transaction underpriced", Refusal::ReplacementUnderpriced), // geth, reth, anvil
    ("transaction underpriced", Refusal::FeeTooLow), // geth, reth
    ("gas price below minimum", Refusal::FeeTooLow), // geth
    ("priority fee below minimum", Refusal::FeeTooLow), // reth
    ("max fee per gas less than block base fee", Refusal::FeeTooLow), // geth, anvil
    ("insufficient funds", Refusal::InsufficientFunds), // geth, reth, anvil
    ("txpool is full", Refusal::SenderLimit),    // geth, reth (also its cap per sender)
    ("account limit exceeded", Refusal::SenderLimit), // geth
    ("sender is over rate limit", Refusal::SenderLimit), // Base's proxyd, -32017
    ("in-flight transaction limit", Refusal::SenderLimit), // geth, reth, for delegated accounts
    ("exceeds block gas limit", Refusal::Gas),   // geth, reth
    ("gas limit too high", Refusal::Gas),        // geth, reth, anvil
    ("maximum per-transaction gas limit", Refusal::Gas), // Base
    ("max transaction gas limit", Refusal::Gas), // reth
    ("intrinsic gas too", Refusal::Gas),         // geth, reth, anvil
    ("insufficient gas for floor data", Refusal::Gas), // geth
    ("invalid chain id", Refusal::OtherChain),   // geth, reth, anvil
    ("header not found", Refusal::UnknownBlock), // geth
    ("block not found", Refusal::UnknownBlock),  // reth
    ("blockoutofrange", Refusal::UnknownBlock),  // anvil
    ("rate limit", Refusal::Throttled),          // Base's proxyd -32016, most providers
    ("exceeded its compute units", Refusal::Throttled), // Alchemy, 429
];

fn classify(code: i64, message: &str, data: Option<Bytes>) -> Refusal {
    // Code 3 is geth's and reth's for a revert with data; a revert without data says so in words.
    if code == 3 || data.is_some() {
        return Refusal::Reverted(data.unwrap_or_default());
    }
    let message = message.to_lowercase();
    let known = TEXTS.iter().find(|(text, _)| message.contains(text)).map(|(_, refusal)| refusal.clone());
    match known {
        Some(refusal) => refusal,
        None if message.contains("revert") => Refusal::Reverted(Bytes::new()),
        None if code == 429 => Refusal::Throttled,
        None => Refusal::Other,
    }
}

/// A node's words, fit to be shown: one line, short, and without the URLs that proxies like to repeat.
fn presentable(message: &str) -> String {
    let words = message.split_whitespace().map(|word| if word.contains("://") { "<url>" } else { word });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_is_understood() {
        for (code, message, expected) in [
            (-32000, "already known", Refusal::AlreadyKnown),
            (-32003, "transaction already imported", Refusal::AlreadyKnown),
            (-32000, "nonce too low: next nonce 5, tx nonce 4", Refusal::NonceTooLow),
            (-32003, "nonce too low", Refusal::NonceTooLow),
            (-32000, "replacement transaction underpriced", Refusal::ReplacementUnderpriced),
            (-32000, "transaction underpriced", Refusal::FeeTooLow),
            (-32003, "transaction priority fee below minimum required priority fee 1000000", Refusal::FeeTooLow),
            (-32003, "max fee per gas less than block base fee", Refusal::FeeTooLow),
            (-32003, "Insufficient funds for gas * price + value", Refusal::InsufficientFunds),
            (-32000, "insufficient funds for gas * price + value: balance 0", Refusal::InsufficientFunds),
            (-32003, "txpool is full", Refusal::SenderLimit),
            (-32017, "sender is over rate limit", Refusal::SenderLimit),
            (-32000, "exceeds block gas limit", Refusal::Gas),
            (-32000, "intrinsic gas too high -- CallGasCostMoreThanGasLimit", Refusal::Gas),
            (-32003, "invalid chain id for signer", Refusal::OtherChain),
            (-32001, "block not found: 0x10", Refusal::UnknownBlock),
            (-32602, "BlockOutOfRangeError { requested: 9, head: 1 }", Refusal::UnknownBlock),
            (-32016, "over rate limit", Refusal::Throttled),
            (429, "slow down", Refusal::Throttled),
            (3, "execution reverted", Refusal::Reverted(Bytes::new())),
            (-32000, "execution reverted", Refusal::Reverted(Bytes::new())),
            (-32603, "something else", Refusal::Other),
        ] {
            assert_eq!(classify(code, message, None), expected, "{code} {message}");
        }
    }

    #[test]
    fn a_nodes_words_lose_their_urls_and_their_length() {
        assert_eq!(presentable("bad key at https://base.example/v2/k3y now"), "bad key at <url> now");
        assert_eq!(presentable("a\u{1b}[2J\nb"), "a[2J b");
        assert_eq!(presentable(&"x".repeat(500)).len(), MAX_MESSAGE);
    }
}
