//! What a call to a node can come to, split by what the caller can do about it.
//!
//! No error holds an endpoint's URL: alloy's own would, so they are taken apart and dropped, and a node's words are redacted.

use super::{
    node_errors::{Classification, RawError, classify},
    transport::{HttpError, MalformedResponse},
};
use crate::telemetry::redact::{Redactor, redact};
use alloy::{
    primitives::Bytes,
    rpc::json_rpc::ErrorPayload,
    transports::{RpcError, TransportError, TransportErrorKind},
};
use std::time::Duration;

/// The longest node text that is kept.
const MAX_NODE_ERROR_CHARS: usize = 200;

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
        fault: EndpointFault,
    },
    /// The node answered, and said no.
    #[error("{endpoint} refuses {method}: {message} (code {code})")]
    Rejected {
        /// The endpoint's name.
        endpoint: String,
        /// The JSON-RPC method.
        method: &'static str,
        /// What it means for us.
        reason: RejectReason,
        /// The JSON-RPC error code.
        code: i64,
        /// The node's words, shortened and redacted.
        message: String,
    },
    /// No endpoint may be asked just now.
    #[error("no RPC endpoint is usable for {method}: {details}")]
    NoEndpoint {
        /// The JSON-RPC method.
        method: &'static str,
        /// Each endpoint, and what is wrong with it.
        details: String,
    },
}

impl CallError {
    /// Whether a node answered, and shows a chain without our contract.
    pub fn is_contract_missing(&self) -> bool {
        matches!(self, Self::Unavailable { fault: EndpointFault::NoContract, .. })
    }
}

/// What went wrong between us and a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFault {
    /// Nobody listens, or the name does not resolve.
    #[error("no connection")]
    Connect,
    /// No answer in time.
    #[error("timed out")]
    Timeout,
    /// Too many requests; a matter of patience, not of health.
    #[error("rate limited{}", retry_after.map_or_else(String::new, |delay| format!(" for {} s", delay.as_secs())))]
    Throttled {
        /// When to come back, where the node says so.
        retry_after: Option<Duration>,
    },
    /// An HTTP status without a JSON-RPC answer.
    #[error("HTTP status {0}")]
    Status(u16),
    /// The node, or the proxy before it, says that it failed inside.
    #[error("the node failed inside")]
    Backend,
    /// An answer that is no JSON-RPC, or none to our question.
    #[error("unreadable answer")]
    Unreadable,
    /// The connection broke.
    #[error("connection lost")]
    Lost,
    /// It shows a head whose parent nobody has.
    #[error("it shows a head without a parent")]
    Implausible,
    /// The contract's address has no code any more, so the node shows another chain than the one that was proved.
    #[error("there is no contract at its address: the node was restarted, or shows another chain")]
    NoContract,
}

/// What a node's refusal means for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RejectReason {
    /// It has these very bytes already: success.
    AlreadyKnown,
    /// The nonce is consumed, by one of our attempts or by a stranger: the receipts say by which.
    NonceTooLow,
    /// An earlier nonce is missing: its bytes go out again.
    NonceGap,
    /// Another attempt of ours is pending, and this one does not outbid it.
    ReplacementUnderpriced,
    /// The offer is below what the node takes: wait, or bid more.
    FeeTooLow,
    /// The priority fee is above the maximum fee: a fault of ours.
    TipAboveFee,
    /// The node's own limit on what a transaction may cost: another node may take it.
    FeeAboveNodeCap,
    /// The signer cannot pay: wait until it can.
    InsufficientFunds,
    /// No more from this signer for now, whichever endpoint is asked: fewer in flight.
    SenderLimit,
    /// More gas than a transaction or block may have, or less than it needs: a smaller batch.
    GasLimit,
    /// The call or its simulation reverted, with this data.
    Reverted(Bytes),
    /// The node does not know the block that was asked about: another one may.
    UnknownBlock,
    /// The node is on another chain: it is never asked again.
    WrongChainId,
    /// Anything else.
    Other,
}

impl CallError {
    /// Takes alloy's error apart.
    pub(super) fn from_transport_error(
        endpoint: &str,
        redactor: &Redactor,
        method: &'static str,
        error: &TransportError,
    ) -> Self {
        let answer = match error {
            RpcError::ErrorResp(payload) => RawError { status: None, retry_after: None, payload: Some(payload) },
            RpcError::Transport(TransportErrorKind::Custom(cause)) => match cause.downcast_ref::<HttpError>() {
                Some(HttpError { status, retry_after, payload }) => {
                    RawError { status: Some(*status), retry_after: *retry_after, payload: payload.as_ref() }
                }
                None => return Self::unavailable(endpoint, method, classify_transport_error(cause.as_ref())),
            },
            // Answers that do not fit their question.
            RpcError::Transport(_)
            | RpcError::NullResp
            | RpcError::UnsupportedFeature(_)
            | RpcError::LocalUsageError(_)
            | RpcError::SerError(_)
            | RpcError::DeserError { .. } => return Self::unavailable(endpoint, method, EndpointFault::Unreadable),
        };
        match (classify(&answer), answer.payload) {
            (Classification::Rejected(refusal), Some(ErrorPayload { code, message, .. })) => Self::Rejected {
                endpoint: endpoint.to_owned(),
                method,
                reason: refusal,
                code: *code,
                message: sanitize_node_message(message, redactor),
            },
            (Classification::Rejected(_), None) => Self::unavailable(endpoint, method, EndpointFault::Unreadable),
            (Classification::Failed(fault), _) => Self::unavailable(endpoint, method, fault),
        }
    }

    /// An endpoint that did not do its work.
    pub(super) fn unavailable(endpoint: &str, method: &'static str, fault: EndpointFault) -> Self {
        Self::Unavailable { endpoint: endpoint.to_owned(), method, fault }
    }

    /// Whether the endpoint was to answer and did not; to be left alone, or to refuse, is an answer.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::Unavailable { fault, .. } => !matches!(fault, EndpointFault::Throttled { .. }),
            Self::Rejected { .. } | Self::NoEndpoint { .. } => false,
        }
    }

    /// What the refusal means, if the node answered.
    pub fn reject_reason(&self) -> Option<&RejectReason> {
        match self {
            Self::Rejected { reason: refusal, .. } => Some(refusal),
            Self::Unavailable { .. } | Self::NoEndpoint { .. } => None,
        }
    }

    /// What went wrong on the way, if the node did not answer.
    #[cfg(test)]
    fn endpoint_fault(&self) -> Option<&EndpointFault> {
        match self {
            Self::Unavailable { fault, .. } => Some(fault),
            Self::Rejected { .. } | Self::NoEndpoint { .. } => None,
        }
    }

    /// A word for a metric label.
    pub fn outcome_label(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "refused",
            Self::NoEndpoint { .. } => "no_endpoint",
            Self::Unavailable { fault, .. } => match fault {
                EndpointFault::Connect => "connect",
                EndpointFault::Timeout => "timeout",
                EndpointFault::Throttled { .. } => "throttled",
                EndpointFault::Status(_) => "status",
                EndpointFault::Backend => "backend",
                EndpointFault::Unreadable => "unreadable",
                EndpointFault::Lost => "lost",
                EndpointFault::Implausible => "implausible",
                EndpointFault::NoContract => "no_contract",
            },
        }
    }
}

fn classify_transport_error(error: &(dyn std::error::Error + Send + Sync + 'static)) -> EndpointFault {
    if error.is::<MalformedResponse>() {
        return EndpointFault::Unreadable;
    }
    match error.downcast_ref::<reqwest::Error>() {
        Some(error) if error.is_timeout() => EndpointFault::Timeout,
        Some(error) if error.is_connect() => EndpointFault::Connect,
        _ => EndpointFault::Lost,
    }
}

/// A node's words, fit to be shown: one line, short, and without what proxies like to repeat of URLs and keys. The endpoint's own
/// are all taken out, plain words too.
fn sanitize_node_message(message: &str, own: &Redactor) -> String {
    // As it came, for a secret may have white space in it; and again, for a line can show what several lines hid.
    let clean = own.redact(message);
    let line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    redact(&line).chars().take(MAX_NODE_ERROR_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_words_lose_their_urls_and_their_length() {
        let none = Redactor::new([""; 0]);
        let cleaned = "bad key at https://base.example/[redacted] now";
        assert_eq!(sanitize_node_message("bad key at https://base.example/v2/k3y now", &none), cleaned);
        assert_eq!(sanitize_node_message("a\u{1b}[2J\nb", &none), "a[2J b");
        assert_eq!(sanitize_node_message(&"x".repeat(500), &none).len(), MAX_NODE_ERROR_CHARS);
    }

    #[test]
    fn a_node_may_not_repeat_its_own_url_although_nothing_was_installed() {
        let url =
            super::super::EndpointUrl::parse("https://someone:pass-word@base.example/v2/topsecret?apikey=k3y-in-query");
        let own = Redactor::new(url.unwrap().secrets());
        for (message, expected) in [
            ("no such path /v2/topsecret/ here", "no such path /v2/[redacted]/ here"),
            ("key k3y-in-query is not active", "key [redacted] is not active"),
            ("pass%2Dword is wrong", "[redacted] is wrong"),
            ("got Basic c29tZW9uZTpwYXNzLXdvcmQ=", "got Basic [redacted]"),
        ] {
            assert_eq!(sanitize_node_message(message, &own), expected);
        }
    }

    #[test]
    fn a_json_rpc_error_in_a_429_keeps_its_status_and_its_retry_after() {
        let payload = ErrorPayload { code: -32000, message: "go away".into(), data: None };
        let refusal = HttpError { status: 429, retry_after: Some(Duration::from_secs(3)), payload: Some(payload) };
        let error = CallError::from_transport_error(
            "node",
            &Redactor::new([""; 0]),
            "eth_call",
            &TransportErrorKind::custom(refusal),
        );
        assert_eq!(
            error.endpoint_fault(),
            Some(&EndpointFault::Throttled { retry_after: Some(Duration::from_secs(3)) })
        );
        assert_eq!(error.to_string(), "node does not answer eth_call: rate limited for 3 s");
    }
}
