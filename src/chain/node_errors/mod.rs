//! Classifies the errors of nodes, and of the gateways in front of them, by their words. Codes alone say little: geth
//! uses -32000 for everything, and providers use the same codes for different things.

#[cfg(test)]
mod gateway_tests;
mod table;
#[cfg(test)]
mod tests;

use super::{
    fault::{EndpointFault, RejectReason},
    json_rpc::data_text,
};
use alloy::{
    primitives::Bytes,
    rpc::json_rpc::ErrorPayload,
    transports::{
        TransportError,
        layers::{RateLimitRetryPolicy, RetryPolicy},
    },
};
use serde_json::{Value, value::RawValue};
use std::{ops::RangeInclusive, time::Duration};
pub(super) use table::Classification;
use table::{
    BACKEND_FAILURE, CODE_RULES, GATEWAY_RULES, LOG_CODES, LOG_RULES, POOL_RULES, POOL_WORDS, QUOTA_SPENT, READ_RULES,
    REVERT_WORDS, Rule, THROTTLED,
};

#[derive(Clone, Debug)]
pub(super) struct RawError<'a> {
    /// Unless it was a success.
    pub(super) status: Option<u16>,
    pub(super) retry_after: Option<Duration>,
    pub(super) payload: Option<&'a ErrorPayload>,
    /// Whether the error names our request by its id. Without an id it says nothing about the request.
    pub(super) addressed: bool,
}

/// The API key or path is wrong, not the request: another endpoint may accept it. Alchemy and Infura return these with
/// a JSON-RPC error in the body.
const ENDPOINT_CONFIG_STATUSES: [u16; 3] = [401, 403, 404];

/// geth, reth and anvil: a revert with data.
const REVERT_CODE: i64 = 3;
/// dRPC's own; what its nodes say has their codes.
const DRPC_CODES: RangeInclusive<i64> = 1..=99;

const LOGS_METHOD: &str = "eth_getLogs";
const SEND_METHOD: &str = "eth_sendRawTransaction";

pub(super) fn classify(method: &str, answer: &RawError<'_>) -> Classification {
    let classified = answer.payload.and_then(|payload| classify_payload(method, payload));
    let by_status = || match answer.status {
        Some(503) if answer.retry_after.is_some() => with_delay(answer, THROTTLED),
        Some(413) if method == LOGS_METHOD => Classification::Failed(EndpointFault::TooLarge),
        Some(status) => match classify_status(status) {
            Some(classification) => with_delay(answer, classification),
            None if answer.payload.is_none() => Classification::Failed(EndpointFault::Status(status)),
            // A JSON-RPC error with an unknown message, whatever the HTTP status.
            None => Classification::Rejected(RejectReason::Other),
        },
        None => Classification::Rejected(RejectReason::Other),
    };
    match classified {
        Some(failed @ Classification::Failed(_)) => with_delay(answer, failed),
        Some(rejected @ Classification::Rejected(_)) if answer.addressed => rejected,
        Some(Classification::Rejected(_)) | None => match by_status() {
            Classification::Rejected(_) if !answer.addressed => Classification::Failed(EndpointFault::Unreadable),
            classification @ (Classification::Rejected(_) | Classification::Failed(_)) => classification,
        },
    }
}

/// `None` for a status that says nothing about the endpoint.
fn classify_status(status: u16) -> Option<Classification> {
    match status {
        402 => Some(QUOTA_SPENT),
        429 => Some(THROTTLED),
        408 | 504 => Some(Classification::Failed(EndpointFault::Timeout)),
        _ if status >= 500 || ENDPOINT_CONFIG_STATUSES.contains(&status) => {
            Some(Classification::Failed(EndpointFault::Status(status)))
        }
        _ => None,
    }
}

/// For messages that are in no table.
fn classify_code(code: i64) -> Option<Classification> {
    let by_table = CODE_RULES.iter().find(|(known, _)| *known == code).map(|(_, found)| found.clone());
    let is_of_drpc = DRPC_CODES.contains(&code) && code != REVERT_CODE;
    by_table.or_else(|| classify_status(http_status(code)?)).or_else(|| is_of_drpc.then_some(BACKEND_FAILURE))
}

/// Gateways have HTTP statuses as codes, as they are (408, 500), or below -32000 (-32429, -32503). JSON-RPC 2.0 has none
/// of these.
fn http_status(code: i64) -> Option<u16> {
    let status = if code < 0 { -32_000 - code } else { code };
    u16::try_from(status).ok().filter(|status| (400..600).contains(status))
}

fn classify_payload(method: &str, payload: &ErrorPayload) -> Option<Classification> {
    let text = payload.message.to_lowercase();
    // geth, reth and anvil use code 3 for a revert with data; without data only the message shows it. anvil repeats the
    // data in the message, which therefore must not be matched against the table.
    let revert = payload.as_revert_data();
    if revert.is_some() || (payload.code == REVERT_CODE && text.contains("revert")) {
        return Some(Classification::Rejected(RejectReason::Reverted(revert.unwrap_or_default())));
    }
    let data = payload.data.as_deref().map(data_text).unwrap_or_default();
    // A gateway's message is about its last attempt or about all of them; what its nodes said is in its data.
    let by_gateway = classify_gateway(&text);
    let by_data = || classify_request(method, &data).or_else(|| classify_gateway(&data.to_lowercase()));
    match classify_request(method, &payload.message).or_else(|| by_gateway.clone()) {
        Some(Classification::Rejected(RejectReason::UnknownMethod))
            if by_data().is_some_and(|it| is_throttling(&it)) =>
        {
            by_data()
        }
        Some(BACKEND_FAILURE) => by_data().or(by_gateway),
        Some(classification) => Some(classification),
        None => by_data()
            .or_else(|| {
                let by_range = method == LOGS_METHOD && LOG_CODES.contains(&payload.code);
                by_range.then_some(Classification::Rejected(RejectReason::LogRange))
            })
            .or_else(|| classify_code(payload.code))
            // alloy knows further throttling messages of providers.
            .or_else(|| payload.is_retry_err().then_some(THROTTLED)),
    }
}

/// What a node says of the request.
fn classify_request(method: &str, text: &str) -> Option<Classification> {
    let by_words = || (method == SEND_METHOD).then(|| classify_words(&split_words(text))).flatten();
    classify_text(method, &text.to_lowercase()).or_else(by_words)
}

fn classify_text(method: &str, text: &str) -> Option<Classification> {
    let find = |rules: &[Rule]| rules.iter().find(|(known, _)| text.contains(known)).map(|(_, found)| found.clone());
    if method == LOGS_METHOD {
        let by_gateway = find(GATEWAY_RULES).filter(|found| is_throttling(found) && !text.contains("limit exceeded"));
        return by_gateway.or_else(|| find(READ_RULES)).or_else(|| find(LOG_RULES));
    }
    find(POOL_RULES).or_else(|| find(READ_RULES)).or_else(|| {
        let reverted = REVERT_WORDS.iter().any(|words| text.contains(words));
        reverted.then(|| Classification::Rejected(RejectReason::Reverted(Bytes::new())))
    })
}

fn classify_gateway(text: &str) -> Option<Classification> {
    GATEWAY_RULES.iter().find(|(known, _)| text.contains(known)).map(|(_, found)| found.clone())
}

/// After the phrases: clients whose words are in no table still use the same ones.
fn classify_words(words: &[String]) -> Option<Classification> {
    let has_any = |group: &&[&str]| group.iter().any(|known| words.iter().any(|word| word == known));
    POOL_WORDS.iter().find(|(groups, _)| groups.iter().all(has_any)).map(|(_, found)| found.clone())
}

/// In lower case; `txErrorNonceGap` and `NONCE_GAP` have the words of `nonce gap`.
fn split_words(message: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for letter in message.chars() {
        let begins_word = letter.is_uppercase() && after_lower;
        if (begins_word || !letter.is_alphanumeric()) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
        after_lower = letter.is_lowercase() || letter.is_ascii_digit();
    }
    words
}

fn is_throttling(classification: &Classification) -> bool {
    use EndpointFault::{QuotaSpent, Throttled};
    matches!(classification, Classification::Failed(Throttled { .. } | QuotaSpent { .. }))
}

/// Chainstack's `try_again_in`, and what other gateways call it: seconds, perhaps as text.
fn named_delay(data: &RawValue) -> Option<Duration> {
    const NAMES: [&str; 3] = ["try_again_in", "retry_after", "retryAfter"];
    let data: Value = serde_json::from_str(data.get()).ok()?;
    let delay = NAMES.iter().find_map(|name| data.get(name))?;
    let text = delay.as_str().map(|text| text.trim_end_matches('s'));
    let seconds = delay.as_f64().or_else(|| text?.parse().ok())?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The delay comes from the header, or from Infura's `data.rate.backoff_seconds` or phrases such as "try again in 4ms"
/// (both parsed by alloy).
fn with_delay(answer: &RawError<'_>, classification: Classification) -> Classification {
    let hint = || RateLimitRetryPolicy::default().backoff_hint(&TransportError::ErrorResp(answer.payload?.clone()));
    let named = || answer.payload?.data.as_deref().and_then(named_delay);
    let retry_after = || answer.retry_after.or_else(named).or_else(hint);
    Classification::Failed(match classification {
        Classification::Failed(EndpointFault::Throttled { .. }) => {
            EndpointFault::Throttled { retry_after: retry_after() }
        }
        Classification::Failed(EndpointFault::QuotaSpent { .. }) => {
            EndpointFault::QuotaSpent { retry_after: retry_after() }
        }
        Classification::Failed(fault) => fault,
        rejected @ Classification::Rejected(_) => return rejected,
    })
}
