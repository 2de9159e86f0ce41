//! Many documents in one call: all of them are accepted, or none.

use crate::harness::{
    CASE, CallError, Client, Registration, StackBuilder, State, TestStack, WaitFor, document, eventually,
    http2::{Http2, frame, raw_frame},
    register_all_request, register_request, within,
};
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use registrar::api::proto::{DocumentKey, ListRegistrationsRequest, RegisterDocumentsRequest};
use std::collections::BTreeSet;
use tonic::{Code, codec::CompressionEncoding::Gzip};

const MAX_DOCUMENTS: u64 = 1_000;

fn ids(registrations: &[Registration]) -> Vec<&str> {
    registrations.iter().map(|registration| registration.id.as_str()).collect()
}

async fn stored(stack: &TestStack) -> usize {
    let (mut request, mut count) = (ListRegistrationsRequest { page_size: 500, ..Default::default() }, 0);
    loop {
        let page = stack.client.list(request.clone()).await.unwrap();
        count += page.registrations.len();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return count;
        }
    }
}

#[tokio::test]
async fn every_document_of_a_call_is_answered_in_its_order_and_registered_once() {
    let stack = StackBuilder::on_demand().start().await;
    let known = stack.client.confirm(3, CASE).await;
    let numbers: Vec<u64> = (0..300).rev().chain([7, 7, 3]).collect();
    let request = RegisterDocumentsRequest { user_id: "user-1".into(), ..register_all_request(numbers.clone()) };
    let registrations = stack.client.register_all(request).await.unwrap();
    let hashes: Vec<_> = registrations.iter().map(|registration| registration.document_hash.clone()).collect();
    assert_eq!(hashes, numbers.iter().map(|number| document(*number)).collect::<Vec<_>>());
    assert_eq!(ids(&registrations).into_iter().collect::<BTreeSet<_>>().len(), 300, "repeats are one registration");
    for (number, registration) in numbers.iter().zip(&registrations) {
        if *number == 3 {
            assert_eq!((registration.id.as_str(), registration.state()), (known.id.as_str(), State::Confirmed));
        } else {
            assert_eq!(registration.state(), State::Queued);
        }
    }
    // Registering one of them again waits for it.
    assert_eq!(stack.client.confirm(7, CASE).await.id, registrations[300].id);
    for registration in &registrations {
        stack.client.wait_for_state(&registration.id, State::Confirmed).await;
    }
    stack.registry.assert_registered_exactly((0..300).map(|number| (document(number), CASE.to_owned()))).await;
    let again = stack.client.register_all(register_all_request(numbers)).await.unwrap();
    assert_eq!(ids(&again), ids(&registrations));
    assert!(again.iter().all(|registration| registration.state() == State::Confirmed));
}

#[tokio::test]
async fn the_largest_call_is_accepted_and_a_larger_one_changes_nothing() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let longest = |number: u64| DocumentKey {
        document_hash: format!("sha256:{}", document(number).trim_start_matches("0x")),
        case_id: format!("{number:C>64}"),
    };
    let user_id = "u".repeat(128);
    let request =
        |count| RegisterDocumentsRequest { documents: (0..count).map(longest).collect(), user_id: user_id.clone() };
    let error = stack.client.register_all(request(MAX_DOCUMENTS + 1)).await.unwrap_err();
    assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_FIELD"));
    assert_eq!(error.field_names(), ["documents"]);
    assert_eq!(error.message, "documents has 1001 documents, at most 1000 are allowed in one call");
    let error = stack.client.register_all(request(0)).await.unwrap_err();
    assert_eq!(error.message, "documents is empty: name 1 to 1000 documents");
    assert_eq!(stored(&stack).await, 0);

    let accepted = stack.client.register_all(request(MAX_DOCUMENTS)).await.unwrap();
    assert_eq!(accepted.len(), MAX_DOCUMENTS as usize);
    assert_eq!(stored(&stack).await, MAX_DOCUMENTS as usize);
    let compressed = stack.client.stub().send_compressed(Gzip).register_documents(request(MAX_DOCUMENTS)).await;
    assert_eq!(ids(&compressed.unwrap().into_inner().registrations), ids(&accepted));
}

#[tokio::test]
async fn one_bad_document_in_a_thousand_is_named_and_nothing_is_accepted() {
    let stack = StackBuilder::on_demand().start().await;
    let mut request = register_all_request(0..MAX_DOCUMENTS);
    request.documents[567].document_hash.pop();
    let error = stack.client.register_all(request.clone()).await.unwrap_err();
    assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_FIELD"));
    assert_eq!(error.field_names(), ["documents[567].document_hash"]);
    assert!(error.message.contains("documents[567].document_hash has 63 hex digits"), "{}", error.message);

    // Every fault is named, as far as an error has room.
    request.user_id = "a@b.example".into();
    request.documents[3].case_id = "a b".into();
    request.documents[9] = DocumentKey::default();
    let error = stack.client.register_all(request.clone()).await.unwrap_err();
    let fields = [
        "documents[3].case_id",
        "documents[567].document_hash",
        "documents[9].case_id",
        "documents[9].document_hash",
        "user_id",
    ];
    assert_eq!(error.field_names(), fields);
    for document in &mut request.documents[100..] {
        document.case_id = "ä".into();
    }
    let error = stack.client.register_all(request).await.unwrap_err();
    let (last, listed) = error.fields.split_last().unwrap();
    assert_eq!(last.0, "documents");
    let others = 905 - listed.len();
    assert!(last.1.starts_with(&format!("has {others} more invalid fields: case_id of 1")), "{}", last.1);
    assert!(last.1.contains("-999") && last.1.contains("document_hash of 567"), "{}", last.1);
    assert_eq!(stored(&stack).await, 0);
}

#[tokio::test]
async fn a_call_that_does_not_fit_into_the_queue_changes_nothing() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_QUEUE_LIMIT", 10).start().await;
    stack.anvil.stop_mining().await;
    stack.client.register_all(register_all_request(0..8)).await.unwrap();
    let error = stack.client.register_all(register_all_request(8..11)).await.unwrap_err();
    assert_eq!(error.kind(), (Code::ResourceExhausted, "QUEUE_FULL"));
    assert!(error.retry_after.is_some(), "{error:?}");
    assert_eq!(stored(&stack).await, 8);
    // Known pairs need no room.
    assert_eq!(stack.client.register_all(register_all_request(0..10)).await.unwrap().len(), 10);
    assert_eq!(stack.client.register_all(register_all_request(0..10)).await.unwrap().len(), 10);
    assert_eq!(stack.client.register_all(register_all_request(9..11)).await.unwrap_err().reason, "QUEUE_FULL");
}

#[tokio::test]
async fn one_connection_fills_half_of_the_queue_with_large_calls_too() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_QUEUE_LIMIT", 1_000).start().await;
    stack.anvil.stop_mining().await;
    let answers =
        join_all((0..12).map(|call| stack.client.register_all(register_all_request(call * 100..(call + 1) * 100))))
            .await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 5);
    let refused = answers.into_iter().find_map(Result::err).unwrap();
    assert_eq!(refused.kind(), (Code::ResourceExhausted, "QUEUE_FULL"));
    assert_eq!(stored(&stack).await, 500);
    Client::connect(stack.service.grpc).await.register_all(register_all_request(5_000..5_200)).await.unwrap();
}

#[tokio::test]
async fn concurrent_calls_with_the_same_documents_register_each_once() {
    let stack = StackBuilder::on_demand().postgres().start().await;
    let (_replica, other) = stack.replica().await;
    let clients = [stack.client.clone(), other];
    let calls = (0..16).map(|call| {
        let numbers: Vec<u64> = if call % 4 < 2 { (0..120).collect() } else { (0..120).rev().collect() };
        let client = &clients[call % 2];
        async move { (call % 4 < 2, client.register_all(register_all_request(numbers)).await.unwrap()) }
    });
    let mut answers = Vec::new();
    for (is_forward, registrations) in join_all(calls).await {
        let mut ids: Vec<_> = registrations.into_iter().map(|registration| registration.id).collect();
        if !is_forward {
            ids.reverse();
        }
        answers.push(ids);
    }
    assert!(answers.iter().all(|ids| *ids == answers[0]));
    assert_eq!(stored(&stack).await, 120);
    stack.client.confirm(119, CASE).await;
    for id in &answers[0] {
        stack.client.wait_for_state(id, State::Confirmed).await;
    }
    stack.registry.assert_registered_exactly((0..120).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn only_a_call_with_many_documents_may_have_a_large_message() {
    let stack = StackBuilder::on_demand().start().await;
    let long = |bytes| register_request_with_spaces(bytes);
    let kind = |status: tonic::Status| {
        let error = CallError::from(status);
        (error.code, error.reason)
    };
    let too_large = || (Code::OutOfRange, "MESSAGE_TOO_LARGE".to_owned());
    for compressed in [false, true] {
        let mut stub = stack.client.stub();
        if compressed {
            stub = stub.send_compressed(Gzip);
        }
        let single = stub.register_document(long(100_000)).await.unwrap_err();
        assert_eq!(kind(single), too_large(), "compressed: {compressed}");
        let many = |bytes| RegisterDocumentsRequest {
            documents: vec![DocumentKey { document_hash: long(bytes).document_hash, case_id: CASE.into() }],
            user_id: String::new(),
        };
        assert_eq!(stub.register_documents(many(200_000)).await.unwrap().into_inner().registrations.len(), 1);
        let larger = stub.register_documents(many(300_000)).await.unwrap_err();
        assert_eq!(larger.message(), "the message has more than 262144 bytes, the limit of this method");
        assert_eq!(kind(larger), too_large(), "compressed: {compressed}");
    }
}

fn register_request_with_spaces(bytes: usize) -> registrar::api::proto::RegisterDocumentRequest {
    let request = register_request(1, CASE, WaitFor::Accepted);
    let document_hash = format!("{}{}", " ".repeat(bytes), request.document_hash);
    registrar::api::proto::RegisterDocumentRequest { document_hash, ..request }
}

#[tokio::test]
async fn large_calls_that_never_end_use_little_memory_and_leave_room_for_others() {
    const PATH: &str = "/registrar.v1.RegistrarService/RegisterDocuments";
    let stack = StackBuilder::on_demand().start().await;
    stack.client.confirm(1, CASE).await;
    let resident = async || stack.service.metrics().await.value("process_resident_memory_bytes", &[]) / 1_048_576.0;
    let before = resident().await;
    let mut attackers = Vec::new();
    for _ in 0..3 {
        let mut http2 = Http2::connect(stack.service.grpc).await;
        let mut calls = FuturesUnordered::new();
        // One connection gets sixteen places, and 32 of its calls may wait for one.
        for _ in 0..60 {
            let mut call = http2.call(PATH).await.unwrap();
            let unfinished = raw_frame(0, &vec![b'x'; 200_000]).slice(..60_000);
            call.body.send_data(unfinished, false).unwrap();
            calls.push(call.answered());
        }
        // The others are refused at once, whichever they are.
        let answer = within("an answer", calls.next()).await.unwrap();
        assert_eq!((answer.grpc, answer.reason.as_deref()), (Some(8), Some("TOO_MANY_CALLS")), "{answer:?}");
        attackers.push((http2, calls));
    }
    let after = resident().await;
    assert!(after - before < 30.0, "{before} MiB -> {after} MiB");
    // Calls with one document need none of these places.
    let other = Client::connect(stack.service.grpc).await;
    other.confirm(2, CASE).await;
    drop(attackers);
    let accepted = async || other.register_all(register_all_request(10..20)).await.ok();
    eventually("a call with many documents", accepted).await;
}

#[tokio::test]
async fn a_call_whose_message_is_cut_off_accepts_nothing() {
    let stack = StackBuilder::on_demand().start().await;
    let mut http2 = Http2::connect(stack.service.grpc).await;
    let message = frame(&register_all_request(0..500));
    let mut call = http2.call("/registrar.v1.RegistrarService/RegisterDocuments").await.unwrap();
    // A prefix of the message is a valid message with fewer documents.
    call.body.send_data(message.slice(..message.len() / 2), true).unwrap();
    let answer = within("an answer", call.answered()).await;
    assert_eq!((answer.grpc, answer.reason.as_deref()), (Some(3), Some("MALFORMED_REQUEST")), "{answer:?}");
    assert_eq!(stored(&stack).await, 0);
}
