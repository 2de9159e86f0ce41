//! Reorgs: registrations of orphaned blocks are confirmed again, and none is lost.

use crate::harness::{
    CASE, Fault, Finality, Registration, StackBuilder, State, TestStack, WaitFor, document, eventually,
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_reorg_reverts_an_inclusion_and_the_same_transaction_is_confirmed_later() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 3).start().await;
    let accepted = stack.client.accept(1, CASE).await;
    let included = stack.client.wait_for_state(&accepted.id, State::Included).await;
    stack.anvil.stop_mining().await;
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Confirmed, included.revision).await.unwrap();

    // Replaces the newest block with an empty one and adds two: as deep as a confirmation, which must not happen.
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.mine(2).await;
    assert_eq!(stack.registry.events().await, [], "the reorg did not remove the registration");

    let reverted = loop {
        let seen = watch.next().await.unwrap().unwrap();
        if seen.state() != State::Included {
            break seen;
        }
    };
    assert_eq!(reverted.state(), State::Submitted);
    stack.anvil.mine_on_demand().await;
    let again = |seen: &Registration| seen.state() == State::Included && seen.revision > reverted.revision;
    stack.client.wait_until(&accepted.id, "another inclusion", again).await;
    stack.anvil.mine(2).await;
    let confirmed = watch.rest().await.pop().unwrap();
    assert_eq!(confirmed.state(), State::Confirmed);
    let before = included.transaction.unwrap();
    let after = confirmed.transaction.unwrap();
    assert_eq!(after.hash, before.hash, "the same transaction was rebroadcast");
    assert_ne!(after.block_hash, before.block_hash);
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_reverted_confirmation_is_confirmed_again() {
    // Blocks are checked again when they become safe, two blocks behind the head.
    let stack = StackBuilder::on_demand().anvil(&["--slots-in-an-epoch", "2"]).start().await;
    let confirmed = stack.client.confirm(1, CASE).await;
    let mut watch = stack.client.watch(&confirmed.id, WaitFor::Finalized, confirmed.revision).await.unwrap();

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.mine(5).await;

    let before = confirmed.transaction.unwrap();
    let again = loop {
        let seen = watch.next().await.unwrap().unwrap();
        let after = seen.transaction.as_ref().unwrap();
        if seen.state() == State::Confirmed && after.block_hash != before.block_hash {
            break seen;
        }
    };
    assert_eq!(again.transaction.unwrap().hash, before.hash, "the same transaction was rebroadcast");
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_transaction_of_a_missing_block_is_included_again() {
    let builder = StackBuilder::on_demand().anvil(&["--slots-in-an-epoch", "2"]).set("REGISTRAR_CONFIRMATIONS", 2);
    let stack = builder.through_proxy().start().await;
    let accepted = stack.client.accept(1, CASE).await;
    let included = stack.client.wait_for_state(&accepted.id, State::Included).await;
    stack.anvil.stop_mining().await;
    let before = included.transaction.unwrap();

    // As on anvil when a block is mined during the reorg: the orphaned block's number has no block.
    let number = format!("\"{:#x}\"", before.block_number.unwrap());
    let _hole = stack.proxy().inject_matching("eth_getBlockByNumber", &number, Fault::NULL);
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.mine(2).await;

    let reverted = |seen: &Registration| seen.state() == State::Submitted;
    stack.client.wait_until(&accepted.id, "the reverted inclusion", reverted).await;
    stack.anvil.mine_on_demand().await;
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Finalized, 0).await.unwrap();
    let again = loop {
        let seen = watch.next().await.unwrap().unwrap();
        if seen.state() == State::Included {
            break seen.transaction.unwrap();
        }
    };
    stack.anvil.mine(6).await;
    let done = watch.rest().await.pop().unwrap();
    assert_eq!((done.state(), done.finality()), (State::Confirmed, Finality::Finalized));
    assert_eq!(again.hash, before.hash, "the same transaction was rebroadcast");
    assert!(again.block_number > before.block_number);
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

/// Registers documents, each in its own transaction and block.
async fn confirm_some(stack: &TestStack) -> Vec<Registration> {
    let mut confirmed = Vec::new();
    for number in 1..=4 {
        confirmed.push(stack.client.confirm(number, CASE).await);
    }
    confirmed
}

/// Asserts that each is confirmed in another block, by the same transaction.
async fn assert_confirmed_again(stack: &TestStack, before: &[Registration]) {
    // While a caller waits for finality, the service polls it every second.
    let _watch = stack.client.watch(&before[0].id, WaitFor::Finalized, 0).await.unwrap();
    for one in before {
        let old = one.transaction.clone().unwrap();
        let again = eventually("the confirmation in another block", async || {
            let seen = stack.client.get(&one.id).await.unwrap();
            let new = seen.transaction.clone()?;
            (seen.state() == State::Confirmed && new.block_hash != old.block_hash).then_some(new)
        });
        assert_eq!(again.await.hash, old.hash, "the same transaction was rebroadcast");
    }
}

#[tokio::test]
async fn a_deep_reorg_of_confirmed_work_is_logged_as_errors_and_confirmed_again() {
    let stack = StackBuilder::on_demand().signers(2).start().await;
    let confirmed = confirm_some(&stack).await;

    stack.anvil.rpc().run("anvil_reorg", json!([4, []])).await;

    assert_confirmed_again(&stack, &confirmed).await;
    let log = stack.service.log();
    let is_reorg_error = |line: &&Value| line["level"] == "ERROR" && line.to_string().contains("was reorged out");
    assert_eq!(log.iter().filter(is_reorg_error).count(), 4, "{log:?}");
    stack.registry.assert_registered_exactly((1..=4).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn a_reorg_while_the_service_is_down_is_detected_at_start() {
    let mut stack = StackBuilder::on_demand().start().await;
    let confirmed = confirm_some(&stack).await;
    stack.service.kill();

    stack.anvil.rpc().run("anvil_reorg", json!([3, []])).await;
    stack.restart().await;

    assert_confirmed_again(&stack, &confirmed[1..]).await;
    let first = stack.client.get(&confirmed[0].id).await.unwrap();
    assert_eq!(first.revision, confirmed[0].revision, "an unaffected registration was changed");
    stack.registry.assert_registered_exactly((1..=4).map(|number| (document(number), CASE.to_owned()))).await;
}
