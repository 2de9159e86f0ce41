//! A batch for which blocks have become too small.

use super::{CASE, holds, mined, standstill, versions};
use crate::harness::{Plan, State, eventually};
use alloy::consensus::Transaction;
use futures_util::future::join_all;

const COUNT: u64 = 20;

#[tokio::test]
async fn a_batch_that_no_block_holds_any_more_is_split_and_the_rest_goes_another_way() {
    let stack = standstill(Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 2)).await;
    // They gather behind one that is alone, and go together.
    let unpaid = stack.anvil.balance(crate::harness::account(1)).await;
    stack.anvil.set_balance(crate::harness::account(1), 0).await;
    let accepted = join_all((0..COUNT).map(|number| stack.client.accept(number, CASE))).await;
    stack.anvil.set_balance(crate::harness::account(1), unpaid.to()).await;
    let submitted = join_all(accepted.iter().map(|one| stack.client.reaches(&one.id, State::Submitted))).await;
    let largest = submitted.iter().map(|one| one.transaction.as_ref().unwrap().batch_size).max().unwrap();
    assert!(largest > 12, "a batch of {largest}");

    // About ten registrations.
    stack.anvil.set_block_gas(300_000).await;
    stack.anvil.mine(1).await;
    eventually("a smaller version", async || {
        versions(&stack).iter().any(|version| version.gas_limit() <= 300_000).then_some(())
    })
    .await;

    for one in &accepted {
        mined(&stack, &one.id).await;
    }
    holds(&stack, 0..COUNT).await;
    let confirmed = join_all(accepted.iter().map(|one| stack.client.get(&one.id))).await;
    let nonces: std::collections::BTreeSet<_> =
        confirmed.into_iter().map(|one| one.unwrap().transaction.unwrap().nonce.unwrap()).collect();
    assert!(nonces.len() > 1, "the rest has another nonce: {nonces:?}");
    assert_eq!(nonces.len() as u64, stack.anvil.nonce(crate::harness::account(1)).await, "no nonce is a filler");
}
