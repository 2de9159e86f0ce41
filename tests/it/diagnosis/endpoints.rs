//! Late confirmations whose cause is an endpoint or the chain, not the transaction.

use super::{CASE, assert_evidence, assert_explains, assert_late, late_after, submit};
use crate::harness::{Cause, Fault, StackBuilder, State, document};

#[tokio::test]
async fn endpoints_that_fail_after_accepting_the_transaction_are_rpc_unavailable() {
    let mut stack = late_after(StackBuilder::on_demand().endpoints(2), 8).start().await;
    stack.anvil.stop_mining().await;
    submit(&stack, 1).await;
    let away: Vec<_> = stack.proxies().iter().map(|proxy| proxy.inject_all(Fault::LoseRequest)).collect();

    let diagnosis = assert_late(&mut stack, 1, Cause::RpcUnavailable).await;

    assert_explains(&diagnosis, &["127.0.0.1#1", "127.0.0.1#2", "on disk"]);
    assert_evidence(&diagnosis, &[("usableEndpoints", "0 of 2")]);
    let calls: u64 = stack.proxies().iter().map(|proxy| proxy.count("eth_getTransactionByHash")).sum();
    assert_eq!(calls, 0, "endpoints that are known to be down are not called");
    drop(away);
    stack.anvil.mine_on_demand().await;
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    stack.client.wait_for_state(&id, State::Confirmed).await;
}

#[tokio::test]
async fn a_chain_without_new_blocks_is_chain_stalled() {
    let builder = StackBuilder::on_demand().anvil(&["--chain-id", "84532"]).set("REGISTRAR_CHAIN_ID", 84532);
    let mut stack = late_after(builder, 16).start().await;
    stack.anvil.stop_mining().await;
    submit(&stack, 1).await;

    let diagnosis = assert_late(&mut stack, 1, Cause::ChainStalled).await;

    let head = stack.anvil.head().await;
    assert_evidence(&diagnosis, &[("stalledAtBlock", &head.to_string())]);
    assert_explains(&diagnosis, &["No endpoint has reported a new block", &format!("block {head}"), "not replaced"]);
    stack.anvil.mine(2).await;
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    stack.client.wait_for_state(&id, State::Confirmed).await;
}

#[tokio::test]
async fn an_anvil_that_mines_nothing_is_chain_stalled_with_advice() {
    let mut stack = late_after(StackBuilder::on_demand(), 16).start().await;
    stack.anvil.stop_mining().await;
    submit(&stack, 1).await;

    let diagnosis = assert_late(&mut stack, 1, Cause::ChainStalled).await;

    assert_explains(&diagnosis, &["this node mines only on demand", "--block-time 1"]);
}

#[tokio::test]
async fn an_endpoint_that_lacks_the_block_is_rpc_disagreement() {
    let mut stack = late_after(StackBuilder::on_demand().endpoints(2), 6).start().await;
    stack.anvil.stop_mining().await;
    submit(&stack, 1).await;
    let block = stack.anvil.head().await + 1;
    let number = format!("{block:#x}\"");
    let hides = stack.proxies()[1].inject_matching("eth_getBlockByNumber", &number, Fault::NULL);
    stack.anvil.mine(1).await;

    let diagnosis = assert_late(&mut stack, 1, Cause::RpcDisagreement).await;

    assert_evidence(
        &diagnosis,
        &[("state", "included"), ("blockShownBy", "127.0.0.1#1"), ("blockNotShownBy", "127.0.0.1#2")],
    );
    assert_explains(&diagnosis, &[&format!("127.0.0.1#1 has block {block}"), "127.0.0.1#2 does not"]);
    hides.release();
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    stack.client.wait_for_state(&id, State::Confirmed).await;
}

#[tokio::test]
async fn endpoints_that_disagree_about_a_receipt_are_rpc_disagreement() {
    let mut stack = late_after(StackBuilder::on_demand().endpoints(2), 6).start().await;
    stack.anvil.stop_mining().await;
    submit(&stack, 1).await;
    // The first endpoint's head advances, but its receipts and nonces do not, like a load balancer with a stuck node.
    let first = &stack.proxies()[0];
    let stuck = [
        first.inject("eth_getTransactionReceipt", Fault::NULL),
        first.inject("eth_getTransactionCount", Fault::Result("\"0x0\"")),
    ];
    stack.anvil.mine(1).await;

    let diagnosis = assert_late(&mut stack, 1, Cause::RpcDisagreement).await;

    let block = stack.anvil.head().await.to_string();
    assert_evidence(
        &diagnosis,
        &[("receiptFrom", "127.0.0.1#2"), ("noReceiptFrom", "127.0.0.1#1"), ("includedBlock", &block)],
    );
    assert_explains(&diagnosis, &["127.0.0.1#2 has the transaction in block", "127.0.0.1#1 does not"]);
    drop(stuck);
    stack.anvil.mine_on_demand().await;
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    stack.client.wait_for_state(&id, State::Confirmed).await;
}
