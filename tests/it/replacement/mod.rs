//! Pending transactions that cannot be included are replaced, split or unblocked without an operator.

mod bad_batch;
mod block_gas_limit;
mod budget;
mod fees;
mod nonce_gap;
mod signers;
mod split;

use crate::harness::{CASE, Registration, StackBuilder, State, TestStack, document, eventually};
use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::eip2718::Decodable2718,
    primitives::Bytes,
};

const GWEI: u128 = 1_000_000_000;

/// A service behind a proxy, on a node that mines only when the test requests it.
async fn stalled_chain(builder: StackBuilder) -> TestStack {
    let stack = builder.through_proxy().start().await;
    stack.anvil.stop_mining().await;
    stack
}

/// Registers a document and waits until its transaction is submitted.
async fn submit(stack: &TestStack, number: u64) -> Registration {
    let accepted = stack.client.accept(number, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Submitted).await
}

/// Waits until a registration's transaction has at least this many attempts.
async fn wait_for_attempts(stack: &TestStack, id: &str, times: u32) -> Registration {
    let is_it = |seen: &Registration| seen.transaction.as_ref().is_some_and(|of| of.attempts >= times);
    stack.client.wait_until(id, "another attempt", is_it).await
}

/// Every distinct transaction that was sent, in order.
fn sent_transactions(stack: &TestStack) -> Vec<TxEnvelope> {
    let mut seen: Vec<TxEnvelope> = Vec::new();
    for sent in stack.proxy().sent() {
        let raw: Bytes = sent.parse().unwrap();
        let envelope = TxEnvelope::decode_2718(&mut raw.as_ref()).unwrap();
        if !seen.iter().any(|known| known.tx_hash() == envelope.tx_hash()) {
            seen.push(envelope);
        }
    }
    seen
}

/// Asserts that each transaction replaces the one before it by the strictest node's rules, with the same content.
fn assert_replacements(sent_transactions: &[TxEnvelope]) {
    for pair in sent_transactions.windows(2) {
        let [old, new] = pair else { unreachable!() };
        assert_eq!((old.nonce(), old.input()), (new.nonce(), new.input()), "different nonce or calldata");
        let fees = |of: &TxEnvelope| [of.max_fee_per_gas(), of.max_priority_fee_per_gas().unwrap()];
        for (old, new) in fees(old).into_iter().zip(fees(new)) {
            assert!(new >= (old * 11).div_ceil(10) && new > old, "{new} does not replace {old}");
        }
    }
}

/// Mines blocks until the registration is confirmed.
async fn mine_until_confirmed(stack: &TestStack, id: &str) -> Registration {
    let id = id.to_owned();
    eventually("the confirmation", async || {
        stack.anvil.mine(1).await;
        let seen = stack.client.get(&id).await.unwrap();
        (seen.state() == State::Confirmed).then_some(seen)
    })
    .await
}

/// Asserts that exactly these documents are registered, once each.
async fn assert_registered(stack: &TestStack, numbers: impl IntoIterator<Item = u64>) {
    stack
        .registry
        .assert_registered_exactly(numbers.into_iter().map(|number| (document(number), CASE.to_owned())))
        .await;
}
