//! What cannot succeed as it stands fails with its reason, and can be registered again.

use crate::harness::{Fault, Plan, Stack, State, WaitFor, document, registering};
use alloy::primitives::Bytes;
use serde_json::json;
use tonic::Code;

const CASE: &str = "case-1";
/// Reverts whatever it is asked: PUSH1 0, PUSH1 0, REVERT.
const ALWAYS_REVERTS: &str = "0x60006000fd";

async fn replace_code(stack: &Stack, code: &str) -> String {
    let address = stack.registry.address;
    let before: Bytes = stack.anvil.rpc().call("eth_getCode", json!([address, "latest"])).await;
    stack.anvil.rpc().run("anvil_setCode", json!([address, code])).await;
    before.to_string()
}

#[tokio::test]
async fn what_the_contract_refuses_fails_with_its_reason_and_can_be_registered_again_under_the_same_id() {
    let stack = Plan::on_demand().start().await;
    let code = replace_code(&stack, ALWAYS_REVERTS).await;

    let refusal = stack.client.register(registering(1, CASE, WaitFor::Confirmed)).await.unwrap_err();

    assert_eq!(refusal.kind(), (Code::FailedPrecondition, "REJECTED_BY_CONTRACT"));
    let failed = refusal.registration();
    assert_eq!(failed.state(), State::Failed);
    assert_eq!(failed.failure.as_ref().unwrap().reason, "REJECTED_BY_CONTRACT");
    assert!(!failed.failure.as_ref().unwrap().message.is_empty());
    assert!(failed.fail_time.is_some());
    assert_eq!(&stack.client.get(&failed.id).await.unwrap(), failed);

    replace_code(&stack, &code).await;
    let again = stack.client.confirm(1, CASE).await;
    assert_eq!(again.id, failed.id);
    assert_eq!((&again.failure, again.fail_time), (&None, None), "the failure is history");
    assert!(again.revision > failed.revision);
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_failed_registration_ends_its_watchers_streams_with_the_failure() {
    let stack = Plan::on_demand().start().await;
    replace_code(&stack, ALWAYS_REVERTS).await;
    let accepted = stack.client.accept(1, CASE).await;

    let seen = stack.client.watch(&accepted.id, WaitFor::Finalized, 0).await.unwrap().rest().await;

    assert_eq!(seen.last().unwrap().state(), State::Failed);
}

#[tokio::test]
async fn what_reverts_in_a_block_though_it_went_well_in_the_simulation_fails_with_a_reason() {
    let stack = Plan::on_demand().through_proxy().start().await;
    let trap = stack.proxy().trap("eth_sendRawTransaction", Fault::HoldRequest);
    let accepted = stack.client.accept(1, CASE).await;
    trap.sprung().await;
    let code = replace_code(&stack, ALWAYS_REVERTS).await;
    trap.release();

    let failed = stack.client.reaches(&accepted.id, State::Failed).await;

    let reason = failed.failure.unwrap().reason;
    assert!(["REJECTED_BY_CONTRACT", "TRANSACTION_REVERTED"].contains(&reason.as_str()), "{reason}");
    replace_code(&stack, &code).await;
    assert_eq!(stack.client.confirm(1, CASE).await.id, accepted.id);
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}
