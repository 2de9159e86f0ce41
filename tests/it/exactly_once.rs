//! A pair of document and case is registered once, whatever requests or registrars compete.

use crate::harness::{
    CASE, Client, EXTERNAL_REGISTRAR, Finality, StackBuilder, State, TestStack, WaitFor, account, document, eventually,
    register_request,
    registry::{registerDocumentCall, registerDocumentsCall},
};
use futures_util::future::join_all;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Registers the first document from another registrar.
async fn register_externally(stack: &TestStack) {
    let call = registerDocumentCall { documentHash: document(1).parse().unwrap(), caseId: CASE.into() };
    stack.registry.send(account(EXTERNAL_REGISTRAR), call).await;
}

#[tokio::test]
async fn a_repeated_request_gives_one_registration_and_one_event() {
    let stack = StackBuilder::block_time(0.2).start().await;

    let first = stack.client.confirm(1, CASE).await;
    let second = stack.client.confirm(1, CASE).await;

    assert_eq!(first.id, second.id);
    assert_eq!(first.transaction.unwrap().hash, second.transaction.unwrap().hash);
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn twenty_concurrent_clients_with_one_document_get_one_registration() {
    let stack = StackBuilder::block_time(0.2).signers(3).start().await;
    let clients = join_all((0..20).map(|_| Client::connect(stack.service.grpc))).await;

    let answers = join_all(clients.iter().map(|client| client.confirm(1, CASE))).await;

    let ids: BTreeSet<_> = answers.iter().map(|registration| &registration.id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
    assert_eq!(stack.client.list(Default::default()).await.unwrap().registrations.len(), 1);
}

#[tokio::test]
async fn a_document_hash_in_every_encoding_is_one_registration() {
    let stack = StackBuilder::block_time(0.2).start().await;
    let hex = "c3c4733ec8affd06cf9e9ff50ffc6bcd2ec85a6170004bb709669c31de94391a";
    let texts = [
        format!("0x{hex}"),
        hex.to_owned(),
        hex.to_uppercase(),
        "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR".to_owned(),
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi".to_owned(),
    ];

    let answers = join_all(texts.iter().map(|text| {
        let mut request = register_request(0, CASE, WaitFor::Confirmed);
        request.document_hash = text.clone();
        stack.client.register(request)
    }))
    .await;

    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| answer.id == answers[0].id), "{answers:#?}");
    assert!(answers.iter().all(|answer| answer.document_hash == format!("0x{hex}")));
    assert!(texts.contains(&answers[0].submitted_as), "{}", answers[0].submitted_as);
    stack.registry.assert_registered_exactly([(format!("0x{hex}"), CASE.into())]).await;
}

#[tokio::test]
async fn one_document_for_two_cases_is_two_registrations() {
    let stack = StackBuilder::block_time(0.2).start().await;

    let (one, two) = tokio::join!(stack.client.confirm(1, "case-1"), stack.client.confirm(1, "case-2"));

    assert_ne!(one.id, two.id);
    stack.registry.assert_registered_exactly([(document(1), "case-1".into()), (document(1), "case-2".into())]).await;
}

#[tokio::test]
async fn case_ids_are_case_sensitive() {
    let stack = StackBuilder::block_time(0.2).start().await;

    let (one, two) = tokio::join!(stack.client.confirm(1, "Case"), stack.client.confirm(1, "case"));

    assert_ne!(one.id, two.id);
}

#[tokio::test]
async fn a_pair_registered_externally_is_returned_with_its_original_transaction() {
    let stack = StackBuilder::on_demand().start().await;
    let call = registerDocumentCall { documentHash: document(1).parse().unwrap(), caseId: CASE.into() };
    let original = stack.registry.send(account(EXTERNAL_REGISTRAR), call).await;

    let registration = stack.client.confirm(1, CASE).await;

    let transaction = registration.transaction.unwrap();
    assert_eq!(transaction.hash, original.transaction_hash.to_string());
    assert_eq!(transaction.from_address, account(EXTERNAL_REGISTRAR).to_string());
    assert_eq!(transaction.block_number, original.block_number);
    assert_eq!(transaction.block_hash, original.block_hash.unwrap().to_string());
    assert_eq!(transaction.nonce, None, "the nonce belongs to another account");
    assert_eq!(stack.anvil.nonce(account(1)).await, 0, "nothing was sent for it");
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn pairs_already_on_chain_do_not_affect_the_rest_of_their_batch() {
    let stack = StackBuilder::block_time(0.2).start().await;
    let call = registerDocumentsCall {
        documentHashes: [3, 5].map(|number| document(number).parse().unwrap()).into(),
        caseIds: [CASE, CASE].map(str::to_owned).into(),
    };
    let original = stack.registry.send(account(EXTERNAL_REGISTRAR), call).await;

    let answers = join_all((1..=6).map(|number| stack.client.confirm(number, CASE))).await;

    for (number, registration) in (1..=6).zip(answers) {
        let found = registration.transaction.unwrap().hash == original.transaction_hash.to_string();
        assert_eq!(found, [3, 5].contains(&number), "document {number}");
    }
    stack.registry.assert_registered_exactly((1..=6).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn a_pair_registered_externally_while_ours_is_pending_is_confirmed() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let ours = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&ours.id, State::Submitted).await;

    // The external transaction pays more and is mined first in the same block.
    let call = registerDocumentCall { documentHash: document(1).parse().unwrap(), caseId: CASE.into() };
    let theirs = stack.registry.send_with_high_fee(account(EXTERNAL_REGISTRAR), call).await;
    eventually("both transactions to be pending", async || (stack.anvil.pending().await == 2).then_some(())).await;
    stack.anvil.mine(1).await;

    let registration = stack.client.wait_for_state(&ours.id, State::Confirmed).await;
    let events = stack.registry.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].transaction, theirs, "the external transaction was mined first");
    assert_eq!(registration.transaction.unwrap().hash, theirs.to_string(), "the original transaction");
}

#[tokio::test]
async fn a_thousand_concurrent_documents_over_three_signers_are_registered_once_without_nonce_gaps() {
    const COUNT: u64 = 1000;
    let stack = StackBuilder::block_time(0.2).signers(3).start().await;
    let clients = join_all((0..10).map(|_| Client::connect(stack.service.grpc))).await;

    let answers = join_all((0..COUNT).map(|number| {
        let client = &clients[usize::try_from(number).unwrap() % clients.len()];
        client.register(register_request(number, CASE, WaitFor::Confirmed))
    }))
    .await;

    for answer in answers {
        assert_eq!(answer.unwrap().state(), State::Confirmed);
    }
    stack.registry.assert_registered_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
    let mut transactions: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for event in stack.registry.events().await {
        transactions.entry(event.registrar).or_default().insert(event.transaction);
    }
    assert_eq!(transactions.len(), 3, "not every signer is used: {transactions:?}");
    let count: usize = transactions.values().map(BTreeSet::len).sum();
    assert!(count < 200, "{count} transactions are too many for a batch");
    for (signer, hashes) in transactions {
        // Every nonce is used by a transaction that registered something: no gap and no filler.
        assert_eq!(stack.anvil.nonce(signer).await, hashes.len() as u64, "the nonces of {signer}");
    }
    assert_eq!(stack.anvil.pending().await, 0);
}

#[tokio::test]
async fn batches_fit_a_small_block_gas_limit() {
    const COUNT: u64 = 200;
    // Room for about seventy registrations.
    let stack = StackBuilder::block_time(0.2).anvil(&["--gas-limit", "2000000"]).start().await;

    let answers = join_all((0..COUNT).map(|number| stack.client.confirm(number, CASE))).await;

    let largest = answers.iter().map(|answer| answer.transaction.as_ref().unwrap().batch_size).max().unwrap();
    assert!(largest > 1 && largest < 75, "a batch of {largest}");
    stack.registry.assert_registered_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn a_pair_registered_externally_becomes_final() {
    let stack = StackBuilder::on_demand().anvil(&["--slots-in-an-epoch", "2"]).start().await;
    register_externally(&stack).await;
    let found = stack.client.confirm(1, CASE).await;
    assert_eq!(found.finality(), Finality::Unsafe);

    stack.anvil.mine(10).await;

    let mut watch = stack.client.watch(&found.id, WaitFor::Finalized, 0).await.unwrap();
    assert_eq!(watch.rest().await.last().unwrap().finality(), Finality::Finalized);
}

#[tokio::test]
async fn a_pair_registered_externally_and_reorged_out_is_registered_by_the_service() {
    let stack = StackBuilder::on_demand().anvil(&["--slots-in-an-epoch", "2"]).start().await;
    register_externally(&stack).await;
    let found = stack.client.confirm(1, CASE).await;

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    assert_eq!(stack.registry.events().await, []);
    stack.anvil.mine(10).await;

    eventually("the service's own event", async || stack.registry.events().await.pop()).await;
    let confirmed = stack.client.wait_for_state(&found.id, State::Confirmed).await;
    assert_eq!(confirmed.transaction.unwrap().from_address, account(1).to_string());
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}
