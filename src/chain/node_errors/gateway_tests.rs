//! What gateways put around the words of nodes: data, HTTP statuses and delays.

use super::{
    tests::{READ, SEND, failed, no},
    *,
};
use alloy::rpc::json_rpc::ErrorPayload;

fn with_data(method: &str, code: i64, message: &'static str, data: serde_json::Value) -> Classification {
    let data = serde_json::value::to_raw_value(&data).ok();
    let payload = ErrorPayload { code, message: message.into(), data };
    classify(method, &RawError { status: None, retry_after: None, payload: Some(&payload), addressed: true })
}

#[test]
fn a_message_that_is_only_in_the_data_is_found() {
    let data = serde_json::json!({ "originalError": { "message": "nonce too low" } });
    assert_eq!(with_data(SEND, -32603, "Internal JSON-RPC error.", data), no(RejectReason::NonceTooLow));
}

/// eRPC wraps what each of its nodes said into causes under `data`.
#[test]
fn what_the_nodes_behind_a_gateway_said_counts_more_than_its_summary() {
    use RejectReason::*;
    let causes = |leaf: serde_json::Value| {
        serde_json::json!({ "code": "ErrUpstreamsExhausted",
            "cause": [{ "code": "ErrUpstreamRequest", "cause": leaf }] })
    };
    let said =
        |message: &str| causes(serde_json::json!({ "code": "ErrEndpointClientSideException", "message": message }));
    let exhausted = "all upstream attempts failed";
    for (message, expected) in [
        ("replacement transaction underpriced", no(ReplacementUnderpriced)),
        (
            "Invalid params: Attempted to replace a pooled transaction with an underpriced transaction",
            no(ReplacementUnderpriced),
        ),
        ("transaction underpriced", no(FeeTooLow)),
        ("nonce too low: next nonce 5, tx nonce 4", no(NonceTooLow)),
        ("already known", no(AlreadyKnown)),
        ("insufficient funds for gas * price + value: balance 0", no(InsufficientFunds)),
        ("remote endpoint failed", table::BACKEND_FAILURE),
    ] {
        assert_eq!(with_data(SEND, -32603, exhausted, said(message)), expected, "{message}");
    }
    let unknown = "The method eth_getBlockByNumber does not exist/is not available";
    let over_capacity = causes(serde_json::json!({ "code": "ErrEndpointCapacityExceeded" }));
    assert_eq!(with_data(READ, -32601, unknown, over_capacity), THROTTLED);
    let unsupported = causes(serde_json::json!({ "code": "ErrEndpointUnsupported" }));
    assert_eq!(with_data(READ, -32601, unknown, unsupported), no(UnknownMethod));
    assert_eq!(with_data(READ, -32005, "rate limit exceeded", said("header not found")), THROTTLED);
}

#[test]
fn an_error_without_an_id_is_about_the_endpoint_and_never_about_the_request() {
    let unaddressed = |status, message: &'static str| {
        let payload = ErrorPayload { code: -32000, message: message.into(), data: None };
        classify(SEND, &RawError { status, retry_after: None, payload: Some(&payload), addressed: false })
    };
    assert_eq!(unaddressed(None, "over rate limit"), THROTTLED);
    assert_eq!(unaddressed(None, "already known"), failed(EndpointFault::Unreadable));
    assert_eq!(unaddressed(None, "parse error"), failed(EndpointFault::Unreadable));
    assert_eq!(unaddressed(Some(500), "already known"), failed(EndpointFault::Status(500)));
    assert_eq!(unaddressed(Some(429), "already known"), THROTTLED);
}

#[test]
fn an_http_status_without_a_json_rpc_error_is_classified_alone() {
    let bare = |status, retry_after| {
        classify(READ, &RawError { status: Some(status), retry_after, payload: None, addressed: false })
    };
    let wait = Some(Duration::from_secs(7));
    assert_eq!(bare(429, None), THROTTLED);
    assert_eq!(bare(429, wait), failed(EndpointFault::Throttled { retry_after: wait }));
    assert_eq!(bare(503, wait), failed(EndpointFault::Throttled { retry_after: wait }));
    for status in [400, 404, 407, 413, 500, 502, 503] {
        assert_eq!(bare(status, None), failed(EndpointFault::Status(status)));
    }
    for status in [408, 504] {
        assert_eq!(bare(status, None), failed(EndpointFault::Timeout));
    }
    assert_eq!(bare(402, None), QUOTA_SPENT);
}

#[test]
fn the_retry_delay_comes_from_header_data_or_message() {
    let data = serde_json::value::to_raw_value(&serde_json::json!({ "rate": { "backoff_seconds": 30 } })).unwrap();
    let infura = ErrorPayload { code: -32005, message: "request rate limited".into(), data: Some(data) };
    let phrase = ErrorPayload { code: 429, message: "try again in 4s".into(), data: None };
    let data = serde_json::value::to_raw_value(&serde_json::json!({ "see": "docs", "try_again_in": "7.0s" })).unwrap();
    let message = "You've exceeded the RPS limit available on the current plan.".into();
    let chainstack = ErrorPayload { code: -32005, message, data: Some(data) };
    for (payload, header, expected) in [
        (&infura, None, Some(30)),
        (&phrase, None, Some(4)),
        (&infura, Some(2), Some(2)),
        (&phrase, Some(9), Some(9)),
        (&chainstack, None, Some(7)),
    ] {
        let retry_after = header.map(Duration::from_secs);
        let answer = RawError { status: Some(429), retry_after, payload: Some(payload), addressed: true };
        let retry_after = expected.map(Duration::from_secs);
        assert_eq!(classify(READ, &answer), failed(EndpointFault::Throttled { retry_after }));
    }
}
