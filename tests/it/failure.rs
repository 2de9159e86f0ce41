//! Registrations that cannot succeed fail with their reason and can be registered again.

use crate::harness::{CASE, Fault, StackBuilder, State, TestStack, WaitFor, document, register_request};
use alloy::primitives::Bytes;
use serde_json::json;
use tonic::Code;

/// Contract code that reverts every call: PUSH1 0, PUSH1 0, REVERT.
const ALWAYS_REVERTS: &str = "0x60006000fd";

async fn replace_code(stack: &TestStack, code: &str) -> String {
    let address = stack.registry.address;
    let before: Bytes = stack.anvil.rpc().call("eth_getCode", json!([address, "latest"])).await;
    stack.anvil.rpc().run("anvil_setCode", json!([address, code])).await;
    before.to_string()
}

#[tokio::test]
async fn a_registration_that_the_contract_rejects_fails_and_can_be_registered_again() {
    let stack = StackBuilder::on_demand().start().await;
    let code = replace_code(&stack, ALWAYS_REVERTS).await;

    let error = stack.client.register(register_request(1, CASE, WaitFor::Confirmed)).await.unwrap_err();

    assert_eq!(error.kind(), (Code::FailedPrecondition, "REJECTED_BY_CONTRACT"));
    let failed = error.registration();
    assert_eq!(failed.state(), State::Failed);
    assert_eq!(failed.failure.as_ref().unwrap().reason, "REJECTED_BY_CONTRACT");
    assert!(!failed.failure.as_ref().unwrap().message.is_empty());
    assert!(failed.fail_time.is_some());
    assert_eq!(&stack.client.get(&failed.id).await.unwrap(), failed);

    replace_code(&stack, &code).await;
    let again = stack.client.confirm(1, CASE).await;
    assert_eq!(again.id, failed.id);
    assert_eq!((&again.failure, again.fail_time), (&None, None), "the failure is cleared");
    assert!(again.revision > failed.revision);
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_failed_registration_ends_its_watch_streams() {
    let stack = StackBuilder::on_demand().start().await;
    replace_code(&stack, ALWAYS_REVERTS).await;
    let accepted = stack.client.accept(1, CASE).await;

    let seen = stack.client.watch(&accepted.id, WaitFor::Finalized, 0).await.unwrap().rest().await;

    assert_eq!(seen.last().unwrap().state(), State::Failed);
}

#[tokio::test]
async fn a_transaction_that_reverts_after_a_successful_preflight_fails_with_a_reason() {
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    let injected = stack.proxy().inject("eth_sendRawTransaction", Fault::HoldRequest);
    let accepted = stack.client.accept(1, CASE).await;
    injected.until_hit().await;
    let code = replace_code(&stack, ALWAYS_REVERTS).await;
    injected.release();

    let failed = stack.client.wait_for_state(&accepted.id, State::Failed).await;

    // The revert in the block queues the registration again, and its next preflight is rejected. TRANSACTION_REVERTED
    // needs preflights that succeed throughout.
    assert_eq!(failed.failure.unwrap().reason, "REJECTED_BY_CONTRACT");
    replace_code(&stack, &code).await;
    assert_eq!(stack.client.confirm(1, CASE).await.id, accepted.id);
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}
