//! What is removed after a while is never needed again, and what people ask for stays.

use crate::harness::{Finality, Plan, Registration, Stack, State, WaitFor, document, eventually};

const CASE: &str = "case-1";
const PRUNED: (&str, &[(&str, &str)]) = ("registrar_transactions_total", &[("result", "pruned")]);

/// A registration but for its depth, which grows.
async fn as_it_is(stack: &Stack, id: &str) -> Registration {
    let mut registration = stack.client.get(id).await.unwrap();
    registration.transaction.as_mut().unwrap().confirmations = None;
    registration
}

async fn pruned(stack: &Stack) -> f64 {
    stack.service.metrics().await.value(PRUNED.0, PRUNED.1)
}

#[tokio::test]
async fn signed_bytes_of_final_transactions_are_removed_and_nothing_else_changes() {
    let plan = Plan::on_demand().anvil(&["--slots-in-an-epoch", "2"]).set("REGISTRAR_KEEP_SIGNED_BYTES", "1s");
    let mut stack = plan.start().await;
    let old = stack.client.confirm(1, CASE).await;
    stack.anvil.mine(10).await;
    let mut watch = stack.client.watch(&old.id, WaitFor::Finalized, 0).await.unwrap();
    watch.rest().await;
    let last = as_it_is(&stack, &old.id).await;
    assert_eq!(last.finality(), Finality::Finalized);
    eventually("its bytes to be removed", async || (pruned(&stack).await == 1.0).then_some(())).await;
    // This one is not final, and stays whole.
    let young = stack.client.confirm(2, CASE).await;

    stack.crash().await;

    assert_eq!(as_it_is(&stack, &old.id).await, last, "as it was, with its hash, its fees and its block");
    // A reorg takes back what is not final, and its bytes are there to be sent again.
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
    assert_eq!(again.transaction.unwrap().hash, before.hash, "the same bytes went out again");
    assert_eq!(as_it_is(&stack, &old.id).await, last);
    stack.registry.holds_exactly([1, 2].map(|number| (document(number), CASE.into()))).await;
}

#[tokio::test]
async fn what_never_becomes_final_keeps_its_bytes_however_old_it_is() {
    // On this chain nothing is final before 64 blocks.
    let stack = Plan::on_demand().set("REGISTRAR_KEEP_SIGNED_BYTES", "10ms").start().await;
    let old = stack.client.confirm(1, CASE).await;
    stack.client.confirm(2, CASE).await;

    stack.anvil.rpc().run("anvil_reorg", serde_json::json!([2, []])).await;
    stack.anvil.mine(2).await;

    let repaired = async || (stack.registry.events().await.len() == 2).then_some(());
    eventually("both to be sent again", repaired).await;
    assert_eq!(pruned(&stack).await, 0.0);
    assert!(stack.client.get(&old.id).await.is_ok());
}
