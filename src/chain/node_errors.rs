//! Classifies node error messages. Each row names the clients and providers that send the message.
//!
//! Sources: go-ethereum `core/txpool/errors.go` and `core/error.go`, reth `rpc-eth-types/src/error`, anvil, Base's
//! `proxyd` (`proxyd/backend.go`), and the providers' documentation. Codes alone say little: geth uses -32000 for
//! everything.

use super::fault::{EndpointFault, RejectReason};
use alloy::{
    primitives::Bytes,
    rpc::json_rpc::ErrorPayload,
    transports::{
        TransportError,
        layers::{RateLimitRetryPolicy, RetryPolicy},
    },
};
use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct RawError<'a> {
    /// Unless it was a success.
    pub(super) status: Option<u16>,
    pub(super) retry_after: Option<Duration>,
    pub(super) payload: Option<&'a ErrorPayload>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Classification {
    /// The node evaluated the request and rejected it.
    Rejected(RejectReason),
    /// The endpoint did not process the request; another one may.
    Failed(EndpointFault),
}

const THROTTLED: Classification = Classification::Failed(EndpointFault::Throttled { retry_after: None });
/// Infura restores the daily quota at midnight UTC; trying earlier finds out whether the plan was upgraded.
const DAILY_QUOTA_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);
const BACKEND_FAILURE: Classification = Classification::Failed(EndpointFault::Backend);

/// The API key or path is wrong, not the request: another endpoint may accept it. Alchemy and Infura return these with
/// a JSON-RPC error in the body.
const ENDPOINT_CONFIG_STATUSES: [u16; 3] = [401, 403, 404];

const fn rejected(reason: RejectReason) -> Classification {
    Classification::Rejected(reason)
}

/// In lower case; the first match counts, and a later row may be a substring of an earlier one.
const MESSAGE_RULES: [(&str, Classification); 46] = [
    ("already known", rejected(RejectReason::AlreadyKnown)), // geth, reth
    ("already imported", rejected(RejectReason::AlreadyKnown)), // anvil
    ("nonce too low", rejected(RejectReason::NonceTooLow)),  // geth, reth, anvil
    ("nonce too high", rejected(RejectReason::NonceGap)),    // geth, for blob transactions
    ("gapped-nonce", rejected(RejectReason::NonceGap)),      // geth, for delegated accounts
    ("replacement transaction underpriced", rejected(RejectReason::ReplacementUnderpriced)), // geth, reth, anvil
    ("transaction underpriced", rejected(RejectReason::FeeTooLow)), // geth, reth
    ("gas price below minimum", rejected(RejectReason::FeeTooLow)), // geth
    ("priority fee below minimum", rejected(RejectReason::FeeTooLow)), // reth
    ("max fee per gas less than block base fee", rejected(RejectReason::FeeTooLow)), // geth, anvil
    ("higher than max fee per gas", rejected(RejectReason::TipAboveFee)), // geth, reth, anvil
    ("exceeds the configured cap", rejected(RejectReason::FeeAboveNodeCap)), // geth, reth
    ("insufficient funds", rejected(RejectReason::InsufficientFunds)), // geth, reth, anvil
    ("txpool is full", rejected(RejectReason::SenderLimit)), // geth, reth (also its cap per sender)
    ("account limit exceeded", rejected(RejectReason::SenderLimit)), // geth
    ("in-flight transaction limit", rejected(RejectReason::SenderLimit)), // geth, reth, for delegated accounts
    ("sender is over rate limit", rejected(RejectReason::SenderLimit)), // proxyd -32017: at the sequencer
    ("exceeds block gas limit", rejected(RejectReason::GasLimit)), // geth, reth
    ("gas limit too high", rejected(RejectReason::GasLimit)), // geth, reth, anvil
    ("maximum per-transaction gas limit", rejected(RejectReason::GasLimit)), // Base
    ("max transaction gas limit", rejected(RejectReason::GasLimit)), // reth
    ("intrinsic gas too", rejected(RejectReason::GasLimit)), // geth, reth, anvil
    ("insufficient gas for floor data", rejected(RejectReason::GasLimit)), // geth
    ("invalid chain id", rejected(RejectReason::WrongChainId)), // geth, reth, anvil
    ("header not found", rejected(RejectReason::UnknownBlock)), // geth
    ("block not found", rejected(RejectReason::UnknownBlock)), // reth
    ("unknown block", rejected(RejectReason::UnknownBlock)), // erigon, nethermind
    ("blockoutofrange", rejected(RejectReason::UnknownBlock)), // anvil
    ("transaction confirmation timeout", Classification::Failed(EndpointFault::Timeout)), // anvil, the synchronous send
    ("no backend is currently healthy", BACKEND_FAILURE),    // proxyd -32011
    ("no backends available", BACKEND_FAILURE),              // proxyd -32011
    ("over capacity", BACKEND_FAILURE),                      // proxyd -32012
    ("gateway timeout", Classification::Failed(EndpointFault::Timeout)), // proxyd -32015
    ("429 too many requests", THROTTLED),                    // a node that forwards its proxy's error as -32000
    ("over rate limit", THROTTLED),                          // proxyd -32016
    ("rate limit", THROTTLED),                               // most providers
    ("rate exceeded", THROTTLED),                            // Infura
    ("too many requests", THROTTLED),                        // most providers
    ("exceeded its compute units", THROTTLED),               // Alchemy 429
    ("credits limited", THROTTLED),                          // QuickNode -32012
    ("request limit reached", THROTTLED),                    // QuickNode -32007
    ("payment required", THROTTLED),                         // Infura 402: the daily quota is used up
    ("daily request count exceeded", THROTTLED),             // Infura
    ("capacity exceeded", THROTTLED),                        // Alchemy
    ("concurrent requests", THROTTLED),                      // several providers
    ("request timed out", Classification::Failed(EndpointFault::Timeout)), // several providers
];

/// Codes of proxyd and providers, for messages that are not in [`MESSAGE_RULES`].
const CODE_RULES: [(i64, Classification); 7] = [
    (-32017, rejected(RejectReason::SenderLimit)),
    (-32016, THROTTLED),
    (-32015, Classification::Failed(EndpointFault::Timeout)),
    (-32012, BACKEND_FAILURE),
    (-32011, BACKEND_FAILURE),
    (-32603, BACKEND_FAILURE),                           // JSON-RPC 2.0: internal error
    (4, Classification::Failed(EndpointFault::Timeout)), // geth, reth: no receipt in time after a synchronous send
];

pub(super) fn classify(answer: &RawError<'_>) -> Classification {
    let classified = answer.payload.and_then(classify_payload);
    match (classified, answer.status) {
        (Some(Classification::Failed(EndpointFault::Throttled { .. })), status) => throttled(answer, status),
        (Some(classification), _) => classification,
        (None, Some(status @ (402 | 429))) => throttled(answer, Some(status)),
        (None, Some(503)) if answer.retry_after.is_some() => throttled(answer, Some(503)),
        (None, Some(status))
            if status >= 500 || ENDPOINT_CONFIG_STATUSES.contains(&status) || answer.payload.is_none() =>
        {
            Classification::Failed(EndpointFault::Status(status))
        }
        // A JSON-RPC error with an unknown message, whatever the HTTP status.
        (None, _) => Classification::Rejected(RejectReason::Other),
    }
}

fn classify_payload(payload: &ErrorPayload) -> Option<Classification> {
    let data = payload.as_revert_data();
    let text = payload.message.to_lowercase();
    // geth, reth and anvil use code 3 for a revert with data; without data only the message shows it. anvil repeats the
    // data in the message, which therefore must not be matched against the table.
    if data.is_some() || (payload.code == 3 && text.contains("revert")) {
        return Some(Classification::Rejected(RejectReason::Reverted(data.unwrap_or_default())));
    }
    if let Some((_, classification)) = MESSAGE_RULES.iter().find(|(known, _)| text.contains(known)) {
        return Some(classification.clone());
    }
    if text.contains("execution reverted") {
        return Some(Classification::Rejected(RejectReason::Reverted(Bytes::new())));
    }
    if let Some((_, classification)) = CODE_RULES.iter().find(|(code, _)| *code == payload.code) {
        return Some(classification.clone());
    }
    // alloy knows further throttling messages of providers.
    payload.is_retry_err().then_some(THROTTLED)
}

/// The delay comes from the header, or from Infura's `data.rate.backoff_seconds` or phrases such as "try again in 4ms"
/// (both parsed by alloy), or is a long one when the daily quota is used up (402).
fn throttled(answer: &RawError<'_>, status: Option<u16>) -> Classification {
    let hint = || RateLimitRetryPolicy::default().backoff_hint(&TransportError::ErrorResp(answer.payload?.clone()));
    let quota_delay = || (status == Some(402)).then_some(DAILY_QUOTA_RETRY_AFTER);
    let retry_after = answer.retry_after.or_else(hint).or_else(quota_delay);
    Classification::Failed(EndpointFault::Throttled { retry_after })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Client, HTTP status, code, message, expected classification.
    type Row = (&'static str, Option<u16>, i64, &'static str, Classification);

    fn classify_message(status: Option<u16>, code: i64, message: &str) -> Classification {
        let payload = ErrorPayload { code, message: message.to_owned().into(), data: None };
        classify(&RawError { status, retry_after: None, payload: Some(&payload) })
    }

    #[rustfmt::skip]
    fn rows() -> Vec<Row> {
        use RejectReason::*;
        let no = |reason| Classification::Rejected(reason);
        let failed = |fault| Classification::Failed(fault);
        vec![
            ("geth, reth", None, -32000, "already known", no(AlreadyKnown)),
            ("anvil", None, -32003, "transaction already imported", no(AlreadyKnown)),
            ("geth", None, -32000, "nonce too low: next nonce 5, tx nonce 4", no(NonceTooLow)),
            ("reth", None, -32000, "nonce too low", no(NonceTooLow)),
            ("anvil", None, -32003, "nonce too low", no(NonceTooLow)),
            ("geth", None, -32000, "nonce too high", no(NonceGap)),
            ("geth", None, -32000, "gapped-nonce tx from delegated accounts", no(NonceGap)),
            ("geth, reth", None, -32000, "replacement transaction underpriced", no(ReplacementUnderpriced)),
            ("anvil", None, -32003, "replacement transaction underpriced", no(ReplacementUnderpriced)),
            ("geth, reth", None, -32000, "transaction underpriced", no(FeeTooLow)),
            ("geth", None, -32000,
                "transaction gas price below minimum: gas tip cap 1, minimum needed 2", no(FeeTooLow)),
            ("reth", None, -32003,
                "transaction priority fee below minimum required priority fee 1000000", no(FeeTooLow)),
            ("anvil", None, -32003, "max fee per gas less than block base fee", no(FeeTooLow)),
            ("geth", None, -32000,
                "max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1, baseFee: 2", no(FeeTooLow)),
            ("geth", None, -32000,
                "insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1", no(InsufficientFunds)),
            ("reth", None, -32003, "insufficient funds for gas * price + value: have 0 want 1", no(InsufficientFunds)),
            ("anvil", None, -32003, "Insufficient funds for gas * price + value", no(InsufficientFunds)),
            ("geth, reth", None, -32000, "exceeds block gas limit", no(GasLimit)),
            ("anvil", None, -32000, "intrinsic gas too high -- CallGasCostMoreThanGasLimit", no(GasLimit)),
            ("geth", None, -32000, "transaction gas limit too high (cap: 16777216, tx: 20000000)", no(GasLimit)),
            ("reth", None, -32003, "gas limit too high", no(GasLimit)),
            ("reth", None, -32000, "exceeds max transaction gas limit", no(GasLimit)),
            ("Base", None, -32000, "exceeds maximum per-transaction gas limit", no(GasLimit)),
            ("geth", None, -32000, "intrinsic gas too low: gas 1, minimum needed 21000", no(GasLimit)),
            ("geth", None, -32000, "insufficient gas for floor data gas cost: gas 1, minimum needed 2", no(GasLimit)),
            ("geth", None, -32000, "max priority fee per gas higher than max fee per gas", no(TipAboveFee)),
            ("reth, anvil", None, -32003, "max priority fee per gas higher than max fee per gas", no(TipAboveFee)),
            ("geth", None, -32000, "invalid sender: invalid chain id for signer: have 1 want 2", no(WrongChainId)),
            ("reth", None, -32000, "invalid chain ID", no(WrongChainId)),
            ("anvil", None, -32003, "invalid chain id for signer", no(WrongChainId)),
            ("geth, reth", None, -32000,
                "tx fee (1.20 ether) exceeds the configured cap (1.00 ether)", no(FeeAboveNodeCap)),
            ("geth", None, -32000, "txpool is full", no(SenderLimit)),
            ("reth", None, -32003, "txpool is full", no(SenderLimit)),
            ("geth", None, -32000, "account limit exceeded: pooled 16 txs", no(SenderLimit)),
            ("geth, reth", None, -32000, "in-flight transaction limit reached for delegated accounts", no(SenderLimit)),
            ("geth", None, -32000, "execution reverted", no(Reverted(Bytes::new()))),
            ("geth, reth", None, 3, "execution reverted", no(Reverted(Bytes::new()))),
            ("any", None, -32000, "state was reverted, try again", no(Other)),
            ("any", None, 3, "something else", no(Other)),
            ("geth, reth", None, 4,
                "The transaction was added to the mempool but wasn't processed in 2s.", failed(EndpointFault::Timeout)),
            ("anvil", None, -32603, "Transaction confirmation timeout", failed(EndpointFault::Timeout)),
            ("geth", None, -32000, "header not found", no(UnknownBlock)),
            ("reth", None, -32001, "block not found: 0x10", no(UnknownBlock)),
            ("anvil", None, -32602, "BlockOutOfRangeError: block height is 1 but requested was 9", no(UnknownBlock)),
            ("proxyd", Some(429), -32016, "over rate limit", THROTTLED),
            ("proxyd", Some(429), -32017, "sender is over rate limit", no(SenderLimit)),
            ("proxyd", Some(503), -32011, "no backends available for method", BACKEND_FAILURE),
            ("proxyd", Some(503), -32011, "backend is tired", BACKEND_FAILURE),
            ("proxyd", Some(429), -32012, "over capacity", BACKEND_FAILURE),
            ("proxyd", Some(504), -32015, "gateway timeout", failed(EndpointFault::Timeout)),
            ("Base's nodes", None, -32000,
                r#"429 Too Many Requests: {"jsonrpc":"2.0","error":{"code":-32016}}"#, THROTTLED),
            ("Alchemy", Some(429), 429, "Your app has exceeded its compute units per second capacity.", THROTTLED),
            ("Alchemy", None, 429, "slow down", THROTTLED),
            ("Infura", Some(429), -32005, "project ID request rate exceeded", THROTTLED),
            ("QuickNode", None, -32007, "100/second request limit reached - reduce calls per second", THROTTLED),
            ("QuickNode", None, -32012, "credits limited to 6000/sec", THROTTLED),
            ("any", None, -32601, "the method does not exist", no(Other)),
            ("any", Some(400), -32602, "invalid params", no(Other)),
            ("Alchemy", Some(401), -32600, "Must be authenticated!", failed(EndpointFault::Status(401))),
            ("Infura", Some(403), -32002, "rejected due to project ID settings", failed(EndpointFault::Status(403))),
            ("any", Some(500), -32000, "something", failed(EndpointFault::Status(500))),
            ("any", None, -32603, "something else", BACKEND_FAILURE),
        ]
    }

    #[test]
    fn the_messages_of_each_client_are_classified() {
        for (client, status, code, message, expected) in rows() {
            assert_eq!(classify_message(status, code, message), expected, "{client} {status:?} {code} {message}");
        }
    }

    #[test]
    fn an_http_status_without_a_json_rpc_error_is_classified_alone() {
        let bare = |status, retry_after| classify(&RawError { status: Some(status), retry_after, payload: None });
        let wait = Some(Duration::from_secs(7));
        let after = |retry_after| Classification::Failed(EndpointFault::Throttled { retry_after });
        assert_eq!(bare(429, None), THROTTLED);
        assert_eq!(bare(429, wait), after(wait));
        assert_eq!(bare(503, wait), after(wait));
        for status in [400, 404, 413, 500, 502, 503] {
            assert_eq!(bare(status, None), Classification::Failed(EndpointFault::Status(status)));
        }
        assert_eq!(bare(402, None), after(Some(DAILY_QUOTA_RETRY_AFTER)));
    }

    #[test]
    fn the_retry_delay_comes_from_header_data_or_message() {
        let data = serde_json::value::to_raw_value(&serde_json::json!({ "rate": { "backoff_seconds": 30 } })).unwrap();
        let infura = ErrorPayload { code: -32005, message: "daily request count exceeded".into(), data: Some(data) };
        let phrase = ErrorPayload { code: 429, message: "try again in 4s".into(), data: None };
        for (payload, header, expected) in [
            (&infura, None, Some(30)),
            (&phrase, None, Some(4)),
            (&infura, Some(2), Some(2)),
            (&phrase, Some(9), Some(9)),
        ] {
            let retry_after = header.map(Duration::from_secs);
            let answer = RawError { status: Some(429), retry_after, payload: Some(payload) };
            let retry_after = expected.map(Duration::from_secs);
            assert_eq!(classify(&answer), Classification::Failed(EndpointFault::Throttled { retry_after }));
        }
    }
}
