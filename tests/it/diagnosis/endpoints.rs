//! What is wrong with the endpoints or the chain, and with no transaction on it.

use super::{CASE, is_late, late_after, proves, says, submit};
use crate::harness::{Cause, Fault, Plan, State, document};

#[tokio::test]
async fn endpoints_that_die_after_they_took_the_transaction_are_rpc_unavailable() {
    let mut stack = late_after(Plan::on_demand().endpoints(2), 8).start().await;
    stack.anvil.stop_mining().await;
    submit(&stack, 1).await;
    let away: Vec<_> = stack.proxies().iter().map(|proxy| proxy.trap_all(Fault::LoseRequest)).collect();

    let diagnosis = is_late(&mut stack, 1, Cause::RpcUnavailable).await;

    says(&diagnosis, &["127.0.0.1#1", "127.0.0.1#2", "on disk"]);
    proves(&diagnosis, &[("usableEndpoints", "0 of 2")]);
    let asked: u64 = stack.proxies().iter().map(|proxy| proxy.count("eth_getTransactionByHash")).sum();
    assert_eq!(asked, 0, "that nobody answers is known without asking");
    drop(away);
    stack.anvil.mine_on_demand().await;
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    stack.client.reaches(&id, State::Confirmed).await;
}

#[tokio::test]
async fn a_chain_without_new_blocks_is_stalled_whatever_becomes_of_the_transaction() {
    let plan = Plan::on_demand().anvil(&["--chain-id", "84532"]).set("REGISTRAR_CHAIN_ID", 84532);
    let mut stack = late_after(plan, 16).start().await;
    stack.anvil.stop_mining().await;
    submit(&stack, 1).await;

    let diagnosis = is_late(&mut stack, 1, Cause::ChainStalled).await;

    let head = stack.anvil.head().await;
    proves(&diagnosis, &[("stalledAtBlock", &head.to_string())]);
    says(&diagnosis, &["No endpoint has shown a new block", &format!("block {head}"), "nothing is replaced"]);
    stack.anvil.mine(2).await;
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    stack.client.reaches(&id, State::Confirmed).await;
}

#[tokio::test]
async fn an_anvil_that_mines_nothing_is_stalled_too_and_the_words_say_what_to_do() {
    let mut stack = late_after(Plan::on_demand(), 16).start().await;
    stack.anvil.stop_mining().await;
    submit(&stack, 1).await;

    let diagnosis = is_late(&mut stack, 1, Cause::ChainStalled).await;

    says(&diagnosis, &["this node mines nothing", "--block-time 1"]);
}

#[tokio::test]
async fn an_endpoint_that_does_not_show_the_block_keeps_it_from_being_confirmed_and_is_named() {
    let mut stack = late_after(Plan::on_demand().endpoints(2), 6).start().await;
    stack.anvil.stop_mining().await;
    submit(&stack, 1).await;
    let block = stack.anvil.head().await + 1;
    let number = format!("{block:#x}\"");
    let hides = stack.proxies()[1].trap_about("eth_getBlockByNumber", &number, Fault::NULL);
    stack.anvil.mine(1).await;

    let diagnosis = is_late(&mut stack, 1, Cause::RpcDisagreement).await;

    proves(&diagnosis, &[("state", "included"), ("blockShownBy", "127.0.0.1#1"), ("blockNotShownBy", "127.0.0.1#2")]);
    says(&diagnosis, &[&format!("127.0.0.1#1 shows block {block}"), "127.0.0.1#2 does not"]);
    hides.release();
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    stack.client.reaches(&id, State::Confirmed).await;
}

#[tokio::test]
async fn an_endpoint_that_shows_a_receipt_and_one_that_does_not_disagree() {
    let mut stack = late_after(Plan::on_demand().endpoints(2), 6).start().await;
    stack.anvil.stop_mining().await;
    submit(&stack, 1).await;
    // The head of the first moves, and what stands behind it does not: as a load balancer with a node that is stuck.
    let first = &stack.proxies()[0];
    let stuck = [
        first.trap("eth_getTransactionReceipt", Fault::NULL),
        first.trap("eth_getTransactionCount", Fault::Result("\"0x0\"")),
    ];
    stack.anvil.mine(1).await;

    let diagnosis = is_late(&mut stack, 1, Cause::RpcDisagreement).await;

    let block = stack.anvil.head().await.to_string();
    proves(&diagnosis, &[("receiptFrom", "127.0.0.1#2"), ("noReceiptFrom", "127.0.0.1#1"), ("includedBlock", &block)]);
    says(&diagnosis, &["127.0.0.1#2 shows the transaction in block", "127.0.0.1#1 does not"]);
    drop(stuck);
    stack.anvil.mine_on_demand().await;
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    stack.client.reaches(&id, State::Confirmed).await;
}
