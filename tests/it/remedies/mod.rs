//! What keeps a transaction out of blocks is mended without a person.

mod budget;
mod fees;
mod gap;
mod poison;
mod signers;
mod split;
mod too_large;

use crate::harness::{Plan, Registration, Stack, State, document, eventually};
use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::eip2718::Decodable2718,
    primitives::Bytes,
};

const CASE: &str = "case-1";
const GWEI: u128 = 1_000_000_000;

/// A service behind a proxy on a node that takes transactions and mines a block only when it is told to.
async fn standstill(plan: Plan) -> Stack {
    let stack = plan.through_proxy().start().await;
    stack.anvil.stop_mining().await;
    stack
}

/// Registers a document, whose transaction a node takes and no block does.
async fn submit(stack: &Stack, number: u64) -> Registration {
    let accepted = stack.client.accept(number, CASE).await;
    stack.client.reaches(&accepted.id, State::Submitted).await
}

/// Waits until a registration's transaction is signed for the so-manieth time; a reader that is slow may see a later one.
async fn signed_again(stack: &Stack, id: &str, times: u32) -> Registration {
    let is_it = |seen: &Registration| seen.transaction.as_ref().is_some_and(|of| of.attempts >= times);
    stack.client.sees(id, "another version", is_it).await
}

/// Every different transaction that was sent, in order.
fn versions(stack: &Stack) -> Vec<TxEnvelope> {
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

/// Fails unless each replaces the one before by the rules of the strictest node, for the same purpose.
fn are_replacements(versions: &[TxEnvelope]) {
    for pair in versions.windows(2) {
        let [old, new] = pair else { unreachable!() };
        assert_eq!((old.nonce(), old.input()), (new.nonce(), new.input()), "another purpose");
        let fees = |of: &TxEnvelope| [of.max_fee_per_gas(), of.max_priority_fee_per_gas().unwrap()];
        for (old, new) in fees(old).into_iter().zip(fees(new)) {
            assert!(new >= (old * 11).div_ceil(10) && new > old, "{new} does not replace {old}");
        }
    }
}

/// Mines blocks until the node's pool is empty and the registration is confirmed.
async fn mined(stack: &Stack, id: &str) -> Registration {
    let id = id.to_owned();
    eventually("the confirmation", async || {
        stack.anvil.mine(1).await;
        let seen = stack.client.get(&id).await.unwrap();
        (seen.state() == State::Confirmed).then_some(seen)
    })
    .await
}

/// Fails unless exactly these documents are registered, once each.
async fn holds(stack: &Stack, numbers: impl IntoIterator<Item = u64>) {
    stack.registry.holds_exactly(numbers.into_iter().map(|number| (document(number), CASE.to_owned()))).await;
}
