//! Clients in Python and Node that use only the proto and their standard gRPC library.

use crate::harness::{CASE, StackBuilder, document, language_client::Language};
use serde_json::json;

async fn assert_registers_a_document(language: Language) {
    let stack = StackBuilder::block_time(0.2).start().await;
    let request = json!({ "documentHash": document(1), "caseId": CASE, "waitFor": "WAIT_FOR_CONFIRMED" });

    let outcome = language.register(stack.service.grpc, &request, 30.0).await;

    assert_eq!(outcome["code"], "OK", "{outcome}");
    let registration = &outcome["registration"];
    assert_eq!(registration["state"], "STATE_CONFIRMED", "{outcome}");
    let hash = |name| registration[name].as_str();
    assert_eq!(hash("documentHash"), Some(document(1).as_str()), "{outcome}");
    let trace_id = outcome["metadata"]["x-trace-id"].as_str();
    assert_eq!(hash("traceId"), trace_id, "{outcome}");
    let events = stack.registry.events().await;
    assert_eq!(registration["transaction"]["hash"], events[0].transaction.to_string(), "{outcome}");
}

async fn assert_invalid_request_is_rejected(language: Language) -> serde_json::Value {
    let stack = StackBuilder::on_demand().start().await;
    let request = json!({ "documentHash": "0x12", "caseId": "no case" });

    let outcome = language.register(stack.service.grpc, &request, 30.0).await;

    assert_eq!(outcome["code"], "INVALID_ARGUMENT", "{outcome}");
    assert!(!outcome["message"].as_str().unwrap().is_empty(), "{outcome}");
    assert_eq!(outcome["metadata"]["x-error-reason"], "INVALID_FIELD", "{outcome}");
    assert_eq!(outcome["metadata"].get("x-registration-id"), None, "{outcome}");
    outcome
}

#[tokio::test]
async fn python_registers_a_document() {
    assert_registers_a_document(Language::Python).await;
}

#[tokio::test]
async fn node_registers_a_document() {
    assert_registers_a_document(Language::Node).await;
}

#[tokio::test]
async fn python_gets_every_invalid_field() {
    let outcome = assert_invalid_request_is_rejected(Language::Python).await;
    let violations = outcome["details"]["BadRequest"]["fieldViolations"].as_array().unwrap();
    let mut fields: Vec<_> = violations.iter().map(|violation| violation["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["case_id", "document_hash"]);
}

#[tokio::test]
async fn node_gets_the_reason_of_an_invalid_request() {
    assert_invalid_request_is_rejected(Language::Node).await;
}
