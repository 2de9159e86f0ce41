//! The result of a failed call.
//!
//! No error contains an endpoint's URL: alloy's errors do, so they are converted and dropped, and node messages are
//! redacted.

use super::{
    fault::{EndpointFault, RejectReason},
    node_errors::{Classification, RawError, classify},
    quantity::OUT_OF_RANGE,
    transport::{GatewayError, NoAnswer},
};
use crate::telemetry::redact::{Redactor, redact};
use alloy::{
    primitives::Bytes,
    rpc::json_rpc::ErrorPayload,
    transports::{RpcError, TransportError, TransportErrorKind},
};

const MAX_NODE_ERROR_CHARS: usize = 200;
/// What an unknown error of these means may depend on our request. The others ask what every node knows; proofs are not.
const EVALUATING_METHODS: [&str; 4] = ["eth_sendRawTransaction", "eth_call", "eth_estimateGas", "eth_getProof"];

/// Split by what the caller can do: try again later, change the request, or wait for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No usable response: the node may or may not have processed the request.
    #[error("{endpoint} did not answer {method}: {fault}")]
    Unavailable { endpoint: String, method: &'static str, fault: EndpointFault },
    #[error("{endpoint} rejected {method}: {message} (code {code})")]
    Rejected {
        endpoint: String,
        method: &'static str,
        reason: RejectReason,
        code: i64,
        /// Shortened and redacted.
        message: String,
    },
    #[error("no usable RPC endpoint for {method}: {details}")]
    NoEndpoint {
        method: &'static str,
        /// Each endpoint with its error.
        details: String,
    },
}

impl CallError {
    pub fn is_revert(&self) -> bool {
        self.revert_data().is_some()
    }

    /// May be empty.
    pub fn revert_data(&self) -> Option<&Bytes> {
        match self.reject_reason() {
            Some(RejectReason::Reverted(data)) => Some(data),
            _ => None,
        }
    }

    /// A node answered, from a chain without our contract.
    pub fn is_contract_missing(&self) -> bool {
        matches!(self, Self::Unavailable { fault: EndpointFault::NoContract, .. })
    }
}

impl CallError {
    pub(super) fn from_transport_error(
        endpoint: &str,
        redactor: &Redactor,
        method: &'static str,
        error: &TransportError,
    ) -> Self {
        let answer = match error {
            RpcError::ErrorResp(payload) => {
                RawError { status: None, retry_after: None, payload: Some(payload), addressed: true }
            }
            RpcError::Transport(TransportErrorKind::Custom(cause)) => match cause.downcast_ref::<GatewayError>() {
                Some(GatewayError { status, retry_after, payload, addressed }) => RawError {
                    status: *status,
                    retry_after: *retry_after,
                    payload: payload.as_ref(),
                    addressed: *addressed,
                },
                None => return Self::unavailable(endpoint, method, classify_transport_error(cause.as_ref())),
            },
            RpcError::DeserError { err, .. } if err.to_string().contains(OUT_OF_RANGE) => {
                return Self::unavailable(endpoint, method, EndpointFault::OutOfRange);
            }
            // Responses that do not match the request.
            RpcError::Transport(_)
            | RpcError::NullResp
            | RpcError::UnsupportedFeature(_)
            | RpcError::LocalUsageError(_)
            | RpcError::SerError(_)
            | RpcError::DeserError { .. } => return Self::unavailable(endpoint, method, EndpointFault::Unreadable),
        };
        match (classify(method, &answer), answer.payload) {
            (Classification::Failed(fault), _) => Self::unavailable(endpoint, method, fault),
            (Classification::Rejected(_), None) => Self::unavailable(endpoint, method, EndpointFault::Unreadable),
            (Classification::Rejected(reason), Some(ErrorPayload { code, message, .. })) => {
                let (code, message) = (*code, sanitize_node_message(message, redactor));
                if reason == RejectReason::Other && !EVALUATING_METHODS.contains(&method) {
                    return Self::unavailable(endpoint, method, EndpointFault::Refused { code, message });
                }
                Self::Rejected { endpoint: endpoint.to_owned(), method, reason, code, message }
            }
        }
    }

    pub(super) fn unavailable(endpoint: &str, method: &'static str, fault: EndpointFault) -> Self {
        Self::Unavailable { endpoint: endpoint.to_owned(), method, fault }
    }

    /// A throttling or rejecting endpoint has answered.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::Unavailable { fault, .. } => {
                !matches!(fault, EndpointFault::Throttled { .. } | EndpointFault::QuotaSpent { .. })
            }
            Self::Rejected { .. } | Self::NoEndpoint { .. } => false,
        }
    }

    /// The rate, or the quota of a plan.
    pub(super) fn is_throttling(&self) -> bool {
        match self {
            Self::Unavailable { fault, .. } => {
                matches!(fault, EndpointFault::Throttled { .. } | EndpointFault::QuotaSpent { .. })
            }
            Self::Rejected { .. } | Self::NoEndpoint { .. } => false,
        }
    }

    /// The endpoint answered that it does not do this.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Rejected { .. } => true,
            Self::Unavailable { fault, .. } => matches!(fault, EndpointFault::Refused { .. }),
            Self::NoEndpoint { .. } => false,
        }
    }

    /// The result has more entries or bytes than the endpoint, or we, allow.
    pub(super) fn is_range_too_large(&self) -> bool {
        match self {
            Self::Rejected { reason, .. } => *reason == RejectReason::LogRange,
            Self::Unavailable { fault, .. } => *fault == EndpointFault::TooLarge,
            Self::NoEndpoint { .. } => false,
        }
    }

    pub fn reject_reason(&self) -> Option<&RejectReason> {
        match self {
            Self::Rejected { reason, .. } => Some(reason),
            Self::Unavailable { .. } | Self::NoEndpoint { .. } => None,
        }
    }

    #[cfg(test)]
    fn endpoint_fault(&self) -> Option<&EndpointFault> {
        match self {
            Self::Unavailable { fault, .. } => Some(fault),
            Self::Rejected { .. } | Self::NoEndpoint { .. } => None,
        }
    }

    /// For metrics and spans.
    pub fn outcome_label(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "refused",
            Self::NoEndpoint { .. } => "no_endpoint",
            Self::Unavailable { fault, .. } => fault.label(),
        }
    }
}

fn classify_transport_error(error: &(dyn std::error::Error + Send + Sync + 'static)) -> EndpointFault {
    match error.downcast_ref::<NoAnswer>() {
        Some(NoAnswer::Malformed) => return EndpointFault::Unreadable,
        Some(NoAnswer::Foreign) => return EndpointFault::Foreign,
        Some(NoAnswer::TooLarge) => return EndpointFault::TooLarge,
        Some(NoAnswer::Redirect) => return EndpointFault::Redirect,
        None => {}
    }
    match error.downcast_ref::<reqwest::Error>() {
        Some(error) if error.is_timeout() => EndpointFault::Timeout,
        Some(error) if error.is_connect() => EndpointFault::Connect,
        _ => EndpointFault::Lost,
    }
}

/// One line, shortened, without URLs and keys: proxies repeat them in error messages. All secrets of the endpoint's own
/// URL are removed, also where they are plain words.
pub(super) fn sanitize_node_message(message: &str, own: &Redactor) -> String {
    // First as received, because a secret may contain white space; then again, because joining lines may complete a
    // secret.
    let clean = own.redact(message);
    let line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    redact(&line).chars().take(MAX_NODE_ERROR_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn node_messages_are_shortened_and_lose_urls() {
        let none = Redactor::new([""; 0]);
        let sanitized = "bad key at https://base.example/[redacted] now";
        assert_eq!(sanitize_node_message("bad key at https://base.example/v2/k3y now", &none), sanitized);
        assert_eq!(sanitize_node_message("a\u{1b}[2J\nb", &none), "a[2J b");
        assert_eq!(sanitize_node_message(&"x".repeat(500), &none).len(), MAX_NODE_ERROR_CHARS);
    }

    #[test]
    fn a_node_cannot_leak_its_own_url_without_a_global_redactor() {
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
        let retry_after = Some(Duration::from_secs(3));
        let gateway_error = GatewayError { status: Some(429), retry_after, payload: Some(payload), addressed: true };
        let error = CallError::from_transport_error(
            "node",
            &Redactor::new([""; 0]),
            "eth_call",
            &TransportErrorKind::custom(gateway_error),
        );
        assert_eq!(
            error.endpoint_fault(),
            Some(&EndpointFault::Throttled { retry_after: Some(Duration::from_secs(3)) })
        );
        assert_eq!(error.to_string(), "node did not answer eth_call: rate limited for 3 s");
    }
}
