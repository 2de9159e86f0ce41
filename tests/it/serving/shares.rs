//! What one connection can take from the others.

use crate::harness::{
    CASE, Client, StackBuilder, State, TestStack, WaitFor, account, document, eventually, register_request, within,
};
use alloy::primitives::B256;
use futures_util::future::join_all;
use std::sync::atomic::{AtomicBool, Ordering};
use tonic::Code;

#[tokio::test]
async fn one_connection_cannot_take_all_places_of_the_queue() {
    const LIMIT: usize = 100;
    let stack = StackBuilder::on_demand().set("REGISTRAR_QUEUE_LIMIT", LIMIT).start().await;
    stack.anvil.stop_mining().await;
    let register = |number| stack.client.register(register_request(number, CASE, WaitFor::Accepted));
    let answers = join_all((0..150).map(register)).await;
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(accepted, LIMIT / 2);
    let error = answers.into_iter().find_map(Result::err).unwrap();
    assert_eq!(error.kind(), (Code::ResourceExhausted, "QUEUE_FULL"));
    assert!(error.retry_after.is_some(), "{error:?}");
    // What is accepted is found again, and others are accepted.
    let known = stack.client.list(Default::default()).await.unwrap().registrations.remove(0);
    let again = stack.client.register(registrar::api::proto::RegisterDocumentRequest {
        document_hash: known.document_hash,
        case_id: CASE.into(),
        wait_for: WaitFor::Accepted.into(),
        ..Default::default()
    });
    assert_eq!(again.await.unwrap().id, known.id);
    Client::connect(stack.service.grpc).await.accept(1_000, CASE).await;

    stack.anvil.mine_on_demand().await;
    Client::connect(stack.service.grpc).await.confirm(1_001, CASE).await;
    for number in 2_000..2_030 {
        stack.client.confirm(number, CASE).await;
    }
}

#[tokio::test]
async fn one_connection_cannot_take_all_places_to_wait() {
    const LIMIT: usize = 60;
    let stack = StackBuilder::on_demand().set("REGISTRAR_MAX_WAITERS", LIMIT).start().await;
    stack.anvil.stop_mining().await;
    let id = stack.client.accept(1, CASE).await.id;
    let mut watches = Vec::new();
    let refused = loop {
        match stack.client.watch(&id, WaitFor::Confirmed, 0).await {
            Ok(watch) => watches.push(watch),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), (Code::ResourceExhausted, "TOO_MANY_WAITERS"));
    assert_eq!(watches.len(), LIMIT / 2);
    let other = Client::connect(stack.service.grpc).await;
    let waiting = tokio::spawn(async move { other.confirm(2, CASE).await });
    let known = async || stack.client.get_pair(&document(2), CASE).await.ok();
    eventually("acceptance", known).await;

    stack.anvil.mine_on_demand().await;
    within("the waiting call", waiting).await.unwrap();
}

#[tokio::test]
async fn the_thousands_of_one_connection_do_not_delay_the_registrations_of_another() {
    const FLOOD: u64 = 2_500;
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.set_balance(account(1), 0).await;
    let calls = (0..FLOOD).map(|number| stack.client.register(register_request(number, CASE, WaitFor::Accepted)));
    join_all(calls).await.into_iter().for_each(|answer| drop(answer.unwrap()));
    let other = Client::connect(stack.service.grpc).await;
    let last = other.accept(FLOOD, CASE).await;
    assert_eq!(last.state(), State::Queued);

    stack.anvil.set_balance(account(1), 1_000_000_000_000_000_000_000).await;

    other.wait_for_state(&last.id, State::Confirmed).await;
    let confirmed = stack.registry.events().await.len();
    assert!(confirmed < 2_000, "{confirmed} of {FLOOD} were registered before the last one");
}

/// Counts transactions, not seconds: what was signed before the other caller's registration was accepted comes first, and
/// that is at most what one signer may have pending.
#[tokio::test]
async fn a_live_flood_of_one_connection_delays_the_registrations_of_another_by_what_is_pending() {
    const PENDING_LIMIT: usize = 15;
    let stack = StackBuilder::block_time(0.2).set("REGISTRAR_DAILY_BUDGET_ETH", 1_000).start().await;
    let (flooding, is_over) = (Client::connect(stack.service.grpc).await, AtomicBool::new(false));
    let flood = async |first: u64| {
        for number in first.. {
            if is_over.load(Ordering::Relaxed) {
                return number - first;
            }
            // A full queue refuses it, which is part of the flood.
            let _ = flooding.register(register_request(number, CASE, WaitFor::Accepted)).await;
        }
        unreachable!("the numbers do not end")
    };
    let measure = async {
        let other = Client::connect(stack.service.grpc).await;
        eventually("the flood", async || (stack.registry.events().await.len() > 500).then_some(())).await;
        let mut waited = Vec::new();
        for number in 0..5 {
            let accepted = other.accept(number, "other").await;
            let before = transactions(&stack).await.len();
            let confirmed = other.wait_for_state(&accepted.id, State::Confirmed).await.transaction.unwrap();
            let all = transactions(&stack).await;
            let own = all.iter().position(|transaction| transaction.to_string() == confirmed.hash).unwrap();
            waited.push((own + 1).saturating_sub(before));
        }
        is_over.store(true, Ordering::Relaxed);
        waited
    };
    let floods = join_all((1..=32).map(|task| flood(task * 1_000_000)));

    let (waited, sent) = tokio::join!(measure, floods);

    let sent: u64 = sent.iter().sum();
    assert!(waited.iter().all(|waited| *waited <= PENDING_LIMIT + 2), "{waited:?} transactions beside {sent} calls");
    assert!(sent > 300, "{sent} calls are no flood");
}

/// In the order of the chain.
async fn transactions(stack: &TestStack) -> Vec<B256> {
    let mut all: Vec<_> = stack.registry.events().await.into_iter().map(|event| event.transaction).collect();
    all.dedup();
    all
}
