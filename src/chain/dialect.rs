//! The one table that reads a node's words. Each row names who says it, and what it means for us; the first row that fits counts.
//!
//! Sources: go-ethereum `core/txpool/errors.go` and `core/error.go`, reth `rpc-eth-types/src/error`, anvil, Base's `proxyd`
//! (`proxyd/backend.go`), and the providers' documentation. Codes alone say little: geth uses -32000 for everything.

use super::{Fault, Refusal};
use alloy::{
    primitives::Bytes,
    rpc::json_rpc::ErrorPayload,
    transports::{
        TransportError,
        layers::{RateLimitRetryPolicy, RetryPolicy},
    },
};
use std::time::Duration;

/// What came instead of a result.
#[derive(Clone, Debug)]
pub(super) struct Answer<'a> {
    /// The HTTP status, where it was no success.
    pub(super) status: Option<u16>,
    /// What the header `Retry-After` said.
    pub(super) retry_after: Option<Duration>,
    /// The JSON-RPC error.
    pub(super) payload: Option<&'a ErrorPayload>,
}

/// What it means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// The node looked at our request and said no.
    Refused(Refusal),
    /// The endpoint did not do its work; another one may.
    Failed(Fault),
}

/// Too many requests: a matter of patience, never of health.
const THROTTLED: Meaning = Meaning::Failed(Fault::Throttled { retry_after: None });
/// Infura's credits come back with the next day in UTC; whether somebody paid for more is asked now and then.
const SPENT: Duration = Duration::from_secs(5 * 60);
/// A proxy found no node behind it.
const BACKEND: Meaning = Meaning::Failed(Fault::Backend);

/// It is not our request that is wrong but our key, or the path: another endpoint may take it. Alchemy and Infura put a JSON-RPC
/// error into the body.
const UNWANTED: [u16; 3] = [401, 403, 404];

const fn refused(refusal: Refusal) -> Meaning {
    Meaning::Refused(refusal)
}

/// Texts in lower case. A later row may be part of an earlier one.
const TEXTS: [(&str, Meaning); 46] = [
    ("already known", refused(Refusal::AlreadyKnown)),    // geth, reth
    ("already imported", refused(Refusal::AlreadyKnown)), // anvil
    ("nonce too low", refused(Refusal::NonceTooLow)),     // geth, reth, anvil
    ("nonce too high", refused(Refusal::NonceGap)),       // geth, for blob transactions
    ("gapped-nonce", refused(Refusal::NonceGap)),         // geth, for delegated accounts
    ("replacement transaction underpriced", refused(Refusal::ReplacementUnderpriced)), // geth, reth, anvil
    ("transaction underpriced", refused(Refusal::FeeTooLow)), // geth, reth
    ("gas price below minimum", refused(Refusal::FeeTooLow)), // geth
    ("priority fee below minimum", refused(Refusal::FeeTooLow)), // reth
    ("max fee per gas less than block base fee", refused(Refusal::FeeTooLow)), // geth, anvil
    ("higher than max fee per gas", refused(Refusal::TipAboveFee)), // geth, reth, anvil
    ("exceeds the configured cap", refused(Refusal::FeeAboveNodeCap)), // geth, reth
    ("insufficient funds", refused(Refusal::InsufficientFunds)), // geth, reth, anvil
    ("txpool is full", refused(Refusal::SenderLimit)),    // geth, reth (also its cap per sender)
    ("account limit exceeded", refused(Refusal::SenderLimit)), // geth
    ("in-flight transaction limit", refused(Refusal::SenderLimit)), // geth, reth, for delegated accounts
    ("sender is over rate limit", refused(Refusal::SenderLimit)), // proxyd -32017: one sequencer, wherever it is sent
    ("exceeds block gas limit", refused(Refusal::Gas)),   // geth, reth
    ("gas limit too high", refused(Refusal::Gas)),        // geth, reth, anvil
    ("maximum per-transaction gas limit", refused(Refusal::Gas)), // Base
    ("max transaction gas limit", refused(Refusal::Gas)), // reth
    ("intrinsic gas too", refused(Refusal::Gas)),         // geth, reth, anvil
    ("insufficient gas for floor data", refused(Refusal::Gas)), // geth
    ("invalid chain id", refused(Refusal::OtherChain)),   // geth, reth, anvil
    ("header not found", refused(Refusal::UnknownBlock)), // geth
    ("block not found", refused(Refusal::UnknownBlock)),  // reth
    ("unknown block", refused(Refusal::UnknownBlock)),    // erigon, nethermind
    ("blockoutofrange", refused(Refusal::UnknownBlock)),  // anvil
    ("transaction confirmation timeout", Meaning::Failed(Fault::Timeout)), // anvil, the synchronous send
    ("no backend is currently healthy", BACKEND),         // proxyd -32011
    ("no backends available", BACKEND),                   // proxyd -32011
    ("over capacity", BACKEND),                           // proxyd -32012
    ("gateway timeout", Meaning::Failed(Fault::Timeout)), // proxyd -32015
    ("429 too many requests", THROTTLED),                 // a node that repeats its proxy's answer as -32000
    ("over rate limit", THROTTLED),                       // proxyd -32016
    ("rate limit", THROTTLED),                            // most providers
    ("rate exceeded", THROTTLED),                         // Infura
    ("too many requests", THROTTLED),                     // most providers
    ("exceeded its compute units", THROTTLED),            // Alchemy 429
    ("credits limited", THROTTLED),                       // QuickNode -32012
    ("request limit reached", THROTTLED),                 // QuickNode -32007
    ("payment required", THROTTLED),                      // Infura 402: the day's credits are spent
    ("daily request count exceeded", THROTTLED),          // Infura
    ("capacity exceeded", THROTTLED),                     // Alchemy
    ("concurrent requests", THROTTLED),                   // several providers
    ("request timed out", Meaning::Failed(Fault::Timeout)), // several providers
];

/// proxyd's and the providers' codes, for texts that are not in the table.
const CODES: [(i64, Meaning); 7] = [
    (-32017, refused(Refusal::SenderLimit)),
    (-32016, THROTTLED),
    (-32015, Meaning::Failed(Fault::Timeout)),
    (-32012, BACKEND),
    (-32011, BACKEND),
    (-32603, BACKEND),                    // JSON-RPC 2.0: internal error
    (4, Meaning::Failed(Fault::Timeout)), // geth, reth: the synchronous send has not seen the receipt in time
];

/// What an answer that is no result means for us.
pub(super) fn meaning(answer: &Answer<'_>) -> Meaning {
    let said = answer.payload.and_then(words);
    match (said, answer.status) {
        (Some(Meaning::Failed(Fault::Throttled { .. })), status) => throttled(answer, status),
        (Some(meaning), _) => meaning,
        (None, Some(status @ (402 | 429))) => throttled(answer, Some(status)),
        (None, Some(503)) if answer.retry_after.is_some() => throttled(answer, Some(503)),
        (None, Some(status)) if status >= 500 || UNWANTED.contains(&status) || answer.payload.is_none() => {
            Meaning::Failed(Fault::Status(status))
        }
        // A refusal in words that nobody taught us, whatever the status.
        (None, _) => Meaning::Refused(Refusal::Other),
    }
}

fn words(payload: &ErrorPayload) -> Option<Meaning> {
    let data = payload.as_revert_data();
    let text = payload.message.to_lowercase();
    // Code 3 is geth's, reth's and anvil's for a revert with data; one without data says so in words. anvil repeats the data's
    // bytes in the words, so that these are not looked at.
    if data.is_some() || (payload.code == 3 && text.contains("revert")) {
        return Some(Meaning::Refused(Refusal::Reverted(data.unwrap_or_default())));
    }
    if let Some((_, meaning)) = TEXTS.iter().find(|(known, _)| text.contains(known)) {
        return Some(meaning.clone());
    }
    if text.contains("execution reverted") {
        return Some(Meaning::Refused(Refusal::Reverted(Bytes::new())));
    }
    if let Some((_, meaning)) = CODES.iter().find(|(code, _)| *code == payload.code) {
        return Some(meaning.clone());
    }
    // What alloy knows of providers beyond this table is all throttling.
    payload.is_retry_err().then_some(THROTTLED)
}

/// With the time to come back: the header's, else Infura's `data.rate.backoff_seconds` or words such as "try again in 4ms" (both
/// as alloy reads them), else a long one when the day's credits are spent (402).
fn throttled(answer: &Answer<'_>, status: Option<u16>) -> Meaning {
    let hint = || RateLimitRetryPolicy::default().backoff_hint(&TransportError::ErrorResp(answer.payload?.clone()));
    let spent = || (status == Some(402)).then_some(SPENT);
    let retry_after = answer.retry_after.or_else(hint).or_else(spent);
    Meaning::Failed(Fault::Throttled { retry_after })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who says it, HTTP status, code, text, meaning.
    type Row = (&'static str, Option<u16>, i64, &'static str, Meaning);

    fn of(status: Option<u16>, code: i64, message: &str) -> Meaning {
        let payload = ErrorPayload { code, message: message.to_owned().into(), data: None };
        meaning(&Answer { status, retry_after: None, payload: Some(&payload) })
    }

    #[rustfmt::skip]
    fn rows() -> Vec<Row> {
        use Refusal::*;
        let no = |refusal| Meaning::Refused(refusal);
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
            ("geth", None, -32000, "transaction gas price below minimum: gas tip cap 1, minimum needed 2", no(FeeTooLow)),
            ("reth", None, -32003, "transaction priority fee below minimum required priority fee 1000000", no(FeeTooLow)),
            ("anvil", None, -32003, "max fee per gas less than block base fee", no(FeeTooLow)),
            ("geth", None, -32000, "max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1, baseFee: 2", no(FeeTooLow)),
            ("geth", None, -32000, "insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1", no(InsufficientFunds)),
            ("reth", None, -32003, "insufficient funds for gas * price + value: have 0 want 1", no(InsufficientFunds)),
            ("anvil", None, -32003, "Insufficient funds for gas * price + value", no(InsufficientFunds)),
            ("geth, reth", None, -32000, "exceeds block gas limit", no(Gas)),
            ("anvil", None, -32000, "intrinsic gas too high -- CallGasCostMoreThanGasLimit", no(Gas)),
            ("geth", None, -32000, "transaction gas limit too high (cap: 16777216, tx: 20000000)", no(Gas)),
            ("reth", None, -32003, "gas limit too high", no(Gas)),
            ("reth", None, -32000, "exceeds max transaction gas limit", no(Gas)),
            ("Base", None, -32000, "exceeds maximum per-transaction gas limit", no(Gas)),
            ("geth", None, -32000, "intrinsic gas too low: gas 1, minimum needed 21000", no(Gas)),
            ("geth", None, -32000, "insufficient gas for floor data gas cost: gas 1, minimum needed 2", no(Gas)),
            ("geth", None, -32000, "max priority fee per gas higher than max fee per gas", no(TipAboveFee)),
            ("reth, anvil", None, -32003, "max priority fee per gas higher than max fee per gas", no(TipAboveFee)),
            ("geth", None, -32000, "invalid sender: invalid chain id for signer: have 1 want 2", no(OtherChain)),
            ("reth", None, -32000, "invalid chain ID", no(OtherChain)),
            ("anvil", None, -32003, "invalid chain id for signer", no(OtherChain)),
            ("geth, reth", None, -32000, "tx fee (1.20 ether) exceeds the configured cap (1.00 ether)", no(FeeAboveNodeCap)),
            ("geth", None, -32000, "txpool is full", no(SenderLimit)),
            ("reth", None, -32003, "txpool is full", no(SenderLimit)),
            ("geth", None, -32000, "account limit exceeded: pooled 16 txs", no(SenderLimit)),
            ("geth, reth", None, -32000, "in-flight transaction limit reached for delegated accounts", no(SenderLimit)),
            ("geth", None, -32000, "execution reverted", no(Reverted(Bytes::new()))),
            ("geth, reth", None, 3, "execution reverted", no(Reverted(Bytes::new()))),
            ("any", None, -32000, "state was reverted, try again", no(Other)),
            ("any", None, 3, "something else", no(Other)),
            ("geth, reth", None, 4, "The transaction was added to the mempool but wasn't processed in 2s.", Meaning::Failed(Fault::Timeout)),
            ("anvil", None, -32603, "Transaction confirmation timeout", Meaning::Failed(Fault::Timeout)),
            ("geth", None, -32000, "header not found", no(UnknownBlock)),
            ("reth", None, -32001, "block not found: 0x10", no(UnknownBlock)),
            ("anvil", None, -32602, "BlockOutOfRangeError: block height is 1 but requested was 9", no(UnknownBlock)),
            ("proxyd", Some(429), -32016, "over rate limit", THROTTLED),
            ("proxyd", Some(429), -32017, "sender is over rate limit", no(SenderLimit)),
            ("proxyd", Some(503), -32011, "no backends available for method", BACKEND),
            ("proxyd", Some(503), -32011, "backend is tired", BACKEND),
            ("proxyd", Some(429), -32012, "over capacity", BACKEND),
            ("proxyd", Some(504), -32015, "gateway timeout", Meaning::Failed(Fault::Timeout)),
            ("Base's nodes", None, -32000, r#"429 Too Many Requests: {"jsonrpc":"2.0","error":{"code":-32016}}"#, THROTTLED),
            ("Alchemy", Some(429), 429, "Your app has exceeded its compute units per second capacity.", THROTTLED),
            ("Alchemy", None, 429, "slow down", THROTTLED),
            ("Infura", Some(429), -32005, "project ID request rate exceeded", THROTTLED),
            ("QuickNode", None, -32007, "100/second request limit reached - reduce calls per second", THROTTLED),
            ("QuickNode", None, -32012, "credits limited to 6000/sec", THROTTLED),
            ("any", None, -32601, "the method does not exist", no(Other)),
            ("any", Some(400), -32602, "invalid params", no(Other)),
            ("Alchemy", Some(401), -32600, "Must be authenticated!", Meaning::Failed(Fault::Status(401))),
            ("Infura", Some(403), -32002, "rejected due to project ID settings", Meaning::Failed(Fault::Status(403))),
            ("any", Some(500), -32000, "something", Meaning::Failed(Fault::Status(500))),
            ("any", None, -32603, "something else", BACKEND),
        ]
    }

    #[test]
    fn every_dialect_is_understood() {
        for (who, status, code, message, expected) in rows() {
            assert_eq!(of(status, code, message), expected, "{who} {status:?} {code} {message}");
        }
    }

    #[test]
    fn an_http_status_without_a_json_rpc_error_speaks_for_itself() {
        let bare = |status, retry_after| meaning(&Answer { status: Some(status), retry_after, payload: None });
        let wait = Some(Duration::from_secs(7));
        let after = |retry_after| Meaning::Failed(Fault::Throttled { retry_after });
        assert_eq!(bare(429, None), THROTTLED);
        assert_eq!(bare(429, wait), after(wait));
        assert_eq!(bare(503, wait), after(wait));
        for status in [400, 404, 413, 500, 502, 503] {
            assert_eq!(bare(status, None), Meaning::Failed(Fault::Status(status)));
        }
        assert_eq!(bare(402, None), after(Some(SPENT)));
    }

    #[test]
    fn the_time_to_come_back_is_taken_from_wherever_it_stands() {
        let data = serde_json::value::to_raw_value(&serde_json::json!({ "rate": { "backoff_seconds": 30 } })).unwrap();
        let infura = ErrorPayload { code: -32005, message: "daily request count exceeded".into(), data: Some(data) };
        let words = ErrorPayload { code: 429, message: "try again in 4s".into(), data: None };
        for (payload, header, expected) in [
            (&infura, None, Some(30)),
            (&words, None, Some(4)),
            (&infura, Some(2), Some(2)),
            (&words, Some(9), Some(9)),
        ] {
            let retry_after = header.map(Duration::from_secs);
            let answer = Answer { status: Some(429), retry_after, payload: Some(payload) };
            let retry_after = expected.map(Duration::from_secs);
            assert_eq!(meaning(&answer), Meaning::Failed(Fault::Throttled { retry_after }));
        }
    }
}
