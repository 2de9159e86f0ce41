//! A pending batch above a lowered block gas limit.

use super::{CASE, assert_registered, mine_until_confirmed, sent_transactions, stalled_chain};
use crate::harness::{Registration, StackBuilder, State, eventually};
use alloy::consensus::Transaction;
use futures_util::future::join_all;

const COUNT: u64 = 20;

#[tokio::test]
async fn a_batch_above_the_block_gas_limit_is_split() {
    let stack = stalled_chain(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 2)).await;
    // They are queued while the signer has no funds and are sent as one batch.
    let unpaid = stack.anvil.balance(crate::harness::account(1)).await;
    stack.anvil.set_balance(crate::harness::account(1), 0).await;
    let accepted = join_all((0..COUNT).map(|number| stack.client.accept(number, CASE))).await;
    // One that is claimed before the others are accepted would be sent without them.
    let is_blocked = |seen: &Registration| !seen.blocked_reason.is_empty();
    join_all(accepted.iter().map(|one| stack.client.wait_until(&one.id, "a reason to wait", is_blocked))).await;
    stack.anvil.set_balance(crate::harness::account(1), unpaid.to()).await;
    let submitted = join_all(accepted.iter().map(|one| stack.client.wait_for_state(&one.id, State::Submitted))).await;
    let largest = submitted.iter().map(|one| one.transaction.as_ref().unwrap().batch_size).max().unwrap();
    assert!(largest > 12, "a batch of {largest}");

    // Room for about ten registrations.
    stack.anvil.set_block_gas(300_000).await;
    stack.anvil.mine(1).await;
    eventually("a smaller replacement", async || {
        sent_transactions(&stack).iter().any(|version| version.gas_limit() <= 300_000).then_some(())
    })
    .await;

    for one in &accepted {
        mine_until_confirmed(&stack, &one.id).await;
    }
    assert_registered(&stack, 0..COUNT).await;
    let confirmed = join_all(accepted.iter().map(|one| stack.client.get(&one.id))).await;
    let nonces: std::collections::BTreeSet<_> =
        confirmed.into_iter().map(|one| one.unwrap().transaction.unwrap().nonce.unwrap()).collect();
    assert!(nonces.len() > 1, "the rest of the batch has no nonce of its own: {nonces:?}");
    assert_eq!(nonces.len() as u64, stack.anvil.nonce(crate::harness::account(1)).await, "a nonce was filled");
}
