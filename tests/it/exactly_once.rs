//! A pair of document and case is registered once, whoever asks and however often.

use crate::harness::{
    Client, Finality, OUTSIDER, Plan, Stack, State, WaitFor, account, document, eventually, registering,
    registry::{registerDocumentCall, registerDocumentsCall},
};
use futures_util::future::join_all;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const CASE: &str = "case-1";

/// Puts the first document on chain without the service.
async fn registered_by_an_outsider(stack: &Stack) {
    let call = registerDocumentCall { documentHash: document(1).parse().unwrap(), caseId: CASE.into() };
    stack.registry.send(account(OUTSIDER), call).await;
}

#[tokio::test]
async fn the_same_request_twice_gives_one_registration_and_one_event() {
    let stack = Plan::block_time(0.2).start().await;

    let first = stack.client.confirm(1, CASE).await;
    let second = stack.client.confirm(1, CASE).await;

    assert_eq!(first.id, second.id);
    assert_eq!(first.transaction.unwrap().hash, second.transaction.unwrap().hash);
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn twenty_clients_at_once_with_the_same_document_get_one_registration_and_one_event() {
    let stack = Plan::block_time(0.2).signers(3).start().await;
    let clients = join_all((0..20).map(|_| Client::connect(stack.service.grpc))).await;

    let answers = join_all(clients.iter().map(|client| client.confirm(1, CASE))).await;

    let ids: BTreeSet<_> = answers.iter().map(|registration| &registration.id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
    assert_eq!(stack.client.list(Default::default()).await.unwrap().registrations.len(), 1);
}

#[tokio::test]
async fn the_same_document_in_every_way_of_writing_it_is_one_registration() {
    let stack = Plan::block_time(0.2).start().await;
    let hex = "c3c4733ec8affd06cf9e9ff50ffc6bcd2ec85a6170004bb709669c31de94391a";
    let texts = [
        format!("0x{hex}"),
        hex.to_owned(),
        hex.to_uppercase(),
        "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR".to_owned(),
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi".to_owned(),
    ];

    let answers = join_all(texts.iter().map(|text| {
        let mut request = registering(0, CASE, WaitFor::Confirmed);
        request.document_hash = text.clone();
        stack.client.register(request)
    }))
    .await;

    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| answer.id == answers[0].id), "{answers:#?}");
    assert!(answers.iter().all(|answer| answer.document_hash == format!("0x{hex}")));
    assert!(texts.contains(&answers[0].submitted_as), "{}", answers[0].submitted_as);
    stack.registry.holds_exactly([(format!("0x{hex}"), CASE.into())]).await;
}

#[tokio::test]
async fn the_same_document_for_two_cases_is_two_registrations() {
    let stack = Plan::block_time(0.2).start().await;

    let (one, two) = tokio::join!(stack.client.confirm(1, "case-1"), stack.client.confirm(1, "case-2"));

    assert_ne!(one.id, two.id);
    stack.registry.holds_exactly([(document(1), "case-1".into()), (document(1), "case-2".into())]).await;
}

#[tokio::test]
async fn case_ids_are_told_apart_by_their_letters_case() {
    let stack = Plan::block_time(0.2).start().await;

    let (one, two) = tokio::join!(stack.client.confirm(1, "Case"), stack.client.confirm(1, "case"));

    assert_ne!(one.id, two.id);
}

#[tokio::test]
async fn a_pair_that_another_registrar_put_on_chain_comes_back_with_its_original_transaction() {
    let stack = Plan::on_demand().start().await;
    let call = registerDocumentCall { documentHash: document(1).parse().unwrap(), caseId: CASE.into() };
    let original = stack.registry.send(account(OUTSIDER), call).await;

    let registration = stack.client.confirm(1, CASE).await;

    let transaction = registration.transaction.unwrap();
    assert_eq!(transaction.hash, original.transaction_hash.to_string());
    assert_eq!(transaction.from_address, account(OUTSIDER).to_string());
    assert_eq!(transaction.block_number, original.block_number);
    assert_eq!(transaction.block_hash, original.block_hash.unwrap().to_string());
    assert_eq!(transaction.nonce, None, "the nonce is not ours");
    assert_eq!(stack.anvil.nonce(account(1)).await, 0, "nothing was sent for it");
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn what_is_on_chain_in_the_middle_of_a_batch_harms_nobody_else() {
    let stack = Plan::block_time(0.2).start().await;
    let call = registerDocumentsCall {
        documentHashes: [3, 5].map(|number| document(number).parse().unwrap()).into(),
        caseIds: [CASE, CASE].map(str::to_owned).into(),
    };
    let original = stack.registry.send(account(OUTSIDER), call).await;

    let answers = join_all((1..=6).map(|number| stack.client.confirm(number, CASE))).await;

    for (number, registration) in (1..=6).zip(answers) {
        let found = registration.transaction.unwrap().hash == original.transaction_hash.to_string();
        assert_eq!(found, [3, 5].contains(&number), "document {number}");
    }
    stack.registry.holds_exactly((1..=6).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn a_pair_that_another_registrar_puts_on_chain_while_ours_is_in_flight_succeeds_too() {
    let stack = Plan::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let ours = stack.client.accept(1, CASE).await;
    stack.client.reaches(&ours.id, State::Submitted).await;

    // The other one pays more and is mined first, in the same block.
    let call = registerDocumentCall { documentHash: document(1).parse().unwrap(), caseId: CASE.into() };
    let theirs = stack.registry.send_at_a_premium(account(OUTSIDER), call).await;
    eventually("both", async || (stack.anvil.pending().await == 2).then_some(())).await;
    stack.anvil.mine(1).await;

    let registration = stack.client.reaches(&ours.id, State::Confirmed).await;
    let events = stack.registry.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].transaction, theirs, "the other one was mined first");
    assert_eq!(registration.transaction.unwrap().hash, theirs.to_string(), "the original transaction");
}

#[tokio::test]
async fn a_thousand_documents_at_once_over_three_signers_are_registered_once_each_without_a_gap_in_the_nonces() {
    const COUNT: u64 = 1000;
    let stack = Plan::block_time(0.2).signers(3).start().await;
    let clients = join_all((0..10).map(|_| Client::connect(stack.service.grpc))).await;

    let answers = join_all((0..COUNT).map(|number| {
        let client = &clients[usize::try_from(number).unwrap() % clients.len()];
        client.register(registering(number, CASE, WaitFor::Confirmed))
    }))
    .await;

    for answer in answers {
        assert_eq!(answer.unwrap().state(), State::Confirmed);
    }
    stack.registry.holds_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
    let mut transactions: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for event in stack.registry.events().await {
        transactions.entry(event.registrar).or_default().insert(event.transaction);
    }
    assert_eq!(transactions.len(), 3, "every signer takes part: {transactions:?}");
    let count: usize = transactions.values().map(BTreeSet::len).sum();
    assert!(count < 200, "they share transactions: there are {count}");
    for (signer, hashes) in transactions {
        // As many nonces are used as there are transactions that registered something: none is a filler, none is missing.
        assert_eq!(stack.anvil.nonce(signer).await, hashes.len() as u64, "the nonces of {signer}");
    }
    assert_eq!(stack.anvil.pending().await, 0);
}

#[tokio::test]
async fn blocks_that_hold_little_get_batches_that_fit() {
    const COUNT: u64 = 200;
    // About seventy registrations.
    let stack = Plan::block_time(0.2).anvil(&["--gas-limit", "2000000"]).start().await;

    let answers = join_all((0..COUNT).map(|number| stack.client.confirm(number, CASE))).await;

    let largest = answers.iter().map(|answer| answer.transaction.as_ref().unwrap().batch_size).max().unwrap();
    assert!(largest > 1 && largest < 75, "a batch of {largest}");
    stack.registry.holds_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn a_pair_that_was_found_on_chain_becomes_safe_and_final_too() {
    let stack = Plan::on_demand().anvil(&["--slots-in-an-epoch", "2"]).start().await;
    registered_by_an_outsider(&stack).await;
    let found = stack.client.confirm(1, CASE).await;
    assert_eq!(found.finality(), Finality::Unsafe);

    stack.anvil.mine(10).await;

    let mut watch = stack.client.watch(&found.id, WaitFor::Finalized, 0).await.unwrap();
    assert_eq!(watch.rest().await.last().unwrap().finality(), Finality::Finalized);
}

#[tokio::test]
async fn a_pair_that_was_found_on_chain_and_reorged_out_is_registered_by_us() {
    let stack = Plan::on_demand().anvil(&["--slots-in-an-epoch", "2"]).start().await;
    registered_by_an_outsider(&stack).await;
    let found = stack.client.confirm(1, CASE).await;

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    assert_eq!(stack.registry.events().await, []);
    stack.anvil.mine(10).await;

    eventually("our own event", async || stack.registry.events().await.pop()).await;
    let confirmed = stack.client.reaches(&found.id, State::Confirmed).await;
    assert_eq!(confirmed.transaction.unwrap().from_address, account(1).to_string());
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}
