//! Pruning removes only what is never needed again.

use crate::harness::{CASE, Finality, Registration, StackBuilder, State, TestStack, WaitFor, document, eventually};

const PRUNED: (&str, &[(&str, &str)]) = ("registrar_transactions_total", &[("result", "pruned")]);

/// A registration without its confirmations, which increase.
async fn get_without_confirmations(stack: &TestStack, id: &str) -> Registration {
    let mut registration = stack.client.get(id).await.unwrap();
    registration.transaction.as_mut().unwrap().confirmations = None;
    registration
}

async fn pruned(stack: &TestStack) -> f64 {
    stack.service.metrics().await.value(PRUNED.0, PRUNED.1)
}

#[tokio::test]
async fn signed_bytes_of_final_transactions_are_pruned_and_nothing_else_changes() {
    let builder =
        StackBuilder::on_demand().anvil(&["--slots-in-an-epoch", "2"]).set("REGISTRAR_KEEP_SIGNED_BYTES", "1s");
    let mut stack = builder.start().await;
    let old = stack.client.confirm(1, CASE).await;
    stack.anvil.mine(10).await;
    let mut watch = stack.client.watch(&old.id, WaitFor::Finalized, 0).await.unwrap();
    watch.rest().await;
    let last = get_without_confirmations(&stack, &old.id).await;
    assert_eq!(last.finality(), Finality::Finalized);
    eventually("its signed bytes to be pruned", async || (pruned(&stack).await == 1.0).then_some(())).await;
    // This one is not final and is not pruned.
    let young = stack.client.confirm(2, CASE).await;

    stack.crash().await;

    assert_eq!(get_without_confirmations(&stack, &old.id).await, last, "hash, fees and block are unchanged");
    // A reorg affects only the unfinalized transaction, which is rebroadcast from its stored bytes.
    stack.anvil.rpc().run("anvil_reorg", serde_json::json!([1, []])).await;
    let before = young.transaction.unwrap();
    let mut watch = stack.client.watch(&young.id, WaitFor::Finalized, 0).await.unwrap();
    let again = loop {
        let seen = watch.next().await.unwrap().unwrap();
        let after = seen.transaction.as_ref().unwrap();
        if seen.state() == State::Confirmed && after.block_hash != before.block_hash {
            break seen;
        }
    };
    assert_eq!(again.transaction.unwrap().hash, before.hash, "the same transaction was rebroadcast");
    assert_eq!(get_without_confirmations(&stack, &old.id).await, last);
    stack.registry.assert_registered_exactly([1, 2].map(|number| (document(number), CASE.into()))).await;
}

#[tokio::test]
async fn signed_bytes_of_unfinalized_transactions_are_kept_regardless_of_age() {
    // On this chain no block is final within 64 blocks.
    let stack = StackBuilder::on_demand().set("REGISTRAR_KEEP_SIGNED_BYTES", "10ms").start().await;
    let old = stack.client.confirm(1, CASE).await;
    stack.client.confirm(2, CASE).await;

    stack.anvil.rpc().run("anvil_reorg", serde_json::json!([2, []])).await;
    stack.anvil.mine(2).await;

    let both_included = async || (stack.registry.events().await.len() == 2).then_some(());
    eventually("both to be included again", both_included).await;
    assert_eq!(pruned(&stack).await, 0.0);
    assert!(stack.client.get(&old.id).await.is_ok());
}
