//! Listing: newest first, stable while rows are added, filtered, with page tokens bound to the filter.

use crate::harness::{Client, Registration, StackBuilder, State, WaitFor, account, cli, document, register_request};
use registrar::api::proto::{ListOrder, ListRegistrationsRequest, RegisterDocumentRequest};
use std::collections::BTreeSet;
use tonic::Code;

/// The ids on all pages, starting at the request's token.
async fn pages(client: &Client, mut request: ListRegistrationsRequest) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = client.list(request.clone()).await.unwrap();
        assert!(page.registrations.len() <= usize::try_from(request.page_size).unwrap());
        ids.extend(page.registrations.into_iter().map(|registration| registration.id));
        if page.next_page_token.is_empty() {
            return ids;
        }
        request.page_token = page.next_page_token;
    }
}

fn ids(registrations: Vec<Registration>) -> Vec<String> {
    registrations.into_iter().map(|registration| registration.id).collect()
}

#[tokio::test]
async fn pages_are_stable_while_registrations_are_added() {
    let stack = StackBuilder::block_time(0.2).start().await;
    let mut accepted = Vec::new();
    for number in 0..25 {
        accepted.push(stack.client.accept(number, "before").await.id);
    }
    accepted.reverse();
    let request = ListRegistrationsRequest { page_size: 10, ..Default::default() };
    let first = stack.client.list(request.clone()).await.unwrap();

    let mut later = Vec::new();
    for number in 100..110 {
        later.push(stack.client.accept(number, "after").await.id);
    }
    let rest = pages(&stack.client, ListRegistrationsRequest { page_token: first.next_page_token, ..request.clone() });
    let mut seen = ids(first.registrations);
    seen.extend(rest.await);

    assert_eq!(seen, accepted, "newest first, each once, without later registrations");
    later.reverse();
    later.extend(accepted);
    assert_eq!(pages(&stack.client, request).await, later, "a new list starts with the newest");
}

#[tokio::test]
async fn concurrently_accepted_registrations_are_listed_once_with_any_page_size() {
    let stack = StackBuilder::block_time(0.2).start().await;
    let accepted = futures_util::future::join_all((0..100).map(|number| stack.client.accept(number, "case"))).await;
    let accepted: BTreeSet<_> = accepted.into_iter().map(|registration| registration.id).collect();

    for page_size in [1, 7, 100, 500] {
        let request = ListRegistrationsRequest { page_size, ..Default::default() };
        let seen = pages(&stack.client, request).await;
        assert_eq!(seen.len(), 100, "pages of {page_size}");
        assert_eq!(seen.iter().cloned().collect::<BTreeSet<_>>(), accepted, "pages of {page_size}");
        assert!(seen.is_sorted_by(|newer, older| newer > older), "newest first, pages of {page_size}");
    }
    let default = stack.client.list(Default::default()).await.unwrap();
    assert_eq!(default.registrations.len(), 50, "the default page");
}

#[tokio::test]
async fn filters_by_state_case_and_document_are_combined() {
    let stack = StackBuilder::on_demand().start().await;
    let a1 = stack.client.confirm(1, "a").await.id;
    let b1 = stack.client.confirm(1, "b").await.id;
    stack.anvil.stop_mining().await;
    let a2 = stack.client.accept(2, "a").await.id;
    stack.client.wait_for_state(&a2, State::Submitted).await;
    let list = async |states: &[State], case: &str, hash: Option<u64>| {
        let request = ListRegistrationsRequest {
            states: states.iter().map(|state| (*state).into()).collect(),
            case_id: case.to_owned(),
            document_hash: hash.map(document).unwrap_or_default(),
            ..Default::default()
        };
        ids(stack.client.list(request).await.unwrap().registrations)
    };

    assert_eq!(list(&[], "", None).await, [a2.clone(), b1.clone(), a1.clone()]);
    assert_eq!(list(&[], "a", None).await, [a2.clone(), a1.clone()]);
    assert_eq!(list(&[], "", Some(1)).await, [b1.clone(), a1.clone()]);
    assert_eq!(list(&[State::Confirmed], "", None).await, [b1.clone(), a1.clone()]);
    assert_eq!(list(&[State::Submitted, State::Queued], "", None).await, [a2]);
    assert_eq!(list(&[State::Confirmed], "a", Some(1)).await, [a1]);
    assert_eq!(list(&[State::Failed], "", None).await, Vec::<String>::new());
    assert_eq!(list(&[], "a", Some(9)).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_user_a_time_a_blocked_reason_and_a_transaction_find_what_is_theirs_and_nothing_else() {
    let stack = StackBuilder::on_demand().start().await;
    let server = format!("http://{}", stack.service.grpc);
    let command = async |arguments: &[&str]| {
        let arguments: Vec<_> = ["list", "--json"].iter().chain(arguments).copied().collect();
        let run = cli::run(&arguments, &[("REGISTRAR_SERVER", &server)]).await;
        assert_eq!(run.code, 0, "{run:?}");
        run.json().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let accept = async |number: u64, user: &str| {
        let request =
            RegisterDocumentRequest { user_id: user.to_owned(), ..register_request(number, "a", WaitFor::Accepted) };
        stack.client.register(request).await.unwrap()
    };
    let first = accept(1, "user-1").await;
    assert_eq!(first.user_id, "user-1");
    let confirmed = stack.client.wait_for_state(&first.id, State::Confirmed).await;
    let hash = confirmed.transaction.unwrap().hash;
    stack.anvil.set_balance(account(1), 0).await;
    let second = accept(2, "user-2").await;
    let third = accept(3, "user-1").await;
    for blocked in [&second, &third] {
        let is_blocked = |registration: &Registration| registration.blocked_reason == "INSUFFICIENT_FUNDS";
        stack.client.wait_until(&blocked.id, "a blocked reason", is_blocked).await;
    }
    let list = async |request: ListRegistrationsRequest| pages(&stack.client, request).await;
    let all = || ListRegistrationsRequest { page_size: 1, ..Default::default() };
    let ids = |expected: &[&Registration]| expected.iter().map(|one| one.id.clone()).collect::<Vec<_>>();

    let of_user = ListRegistrationsRequest { user_id: "user-1".into(), ..all() };
    assert_eq!(list(of_user.clone()).await, ids(&[&third, &first]));
    assert_eq!(command(&["--user", "user-1"]).await, ids(&[&third, &first]));
    let oldest = ListRegistrationsRequest { order: ListOrder::OldestFirst.into(), ..of_user };
    assert_eq!(list(oldest).await, ids(&[&first, &third]));
    assert_eq!(command(&["--user", "user-1", "--oldest"]).await, ids(&[&first, &third]));
    let blocked = ListRegistrationsRequest { blocked_reasons: vec!["INSUFFICIENT_FUNDS".into()], ..all() };
    assert_eq!(list(blocked.clone()).await, ids(&[&third, &second]));
    assert_eq!(command(&["--blocked", "insufficient_funds,FEE_CAP"]).await, ids(&[&third, &second]));
    assert_eq!(list(ListRegistrationsRequest { user_id: "user-2".into(), ..blocked }).await, ids(&[&second]));
    let carried = ListRegistrationsRequest { transaction_hash: hash.clone(), ..all() };
    assert_eq!(list(carried).await, ids(&[&first]));
    assert_eq!(command(&["--transaction", &hash]).await, ids(&[&first]));
    let between =
        ListRegistrationsRequest { create_time_from: second.create_time, create_time_to: third.create_time, ..all() };
    assert_eq!(list(between).await, ids(&[&second]));
    assert_eq!(command(&["--since", "1h"]).await, ids(&[&third, &second, &first]));
    assert_eq!(command(&["--until", "1h"]).await, ids(&[]));
}

#[tokio::test]
async fn a_command_finds_a_registration_by_its_document_or_its_transaction() {
    let stack = StackBuilder::on_demand().start().await;
    let server = format!("http://{}", stack.service.grpc);
    let command = async |arguments: &[&str]| cli::run(arguments, &[("REGISTRAR_SERVER", &server)]).await;
    let first = stack.client.confirm(1, "a").await;
    let hash = &first.transaction.as_ref().unwrap().hash;
    for arguments in [
        vec!["watch", &first.document_hash, "--json"],
        vec!["explain", &first.document_hash, "--case", "a", "--json"],
        vec!["status", &first.document_hash, "--json"],
        vec!["status", hash, "--json"],
        vec!["watch", hash, "--json"],
    ] {
        let run = command(&arguments).await;
        assert!(run.code == 0 && run.stdout.contains(&first.id), "{arguments:?}: {run:?}");
    }
    let second = stack.client.confirm(1, "b").await;
    let ambiguous = command(&["watch", &first.document_hash]).await;
    assert_eq!(ambiguous.code, 64, "{ambiguous:?}");
    assert!(ambiguous.stderr.contains("2 registrations match") && ambiguous.stderr.contains("--case: b, a"));
    let chosen = command(&["explain", &first.document_hash, "--case", "b"]).await;
    assert!(chosen.code == 0 && chosen.stdout.contains(&second.id), "{chosen:?}");
    let unknown = command(&["explain", &document(9)]).await;
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(unknown.stderr.contains("not registered for any case"), "{unknown:?}");
}

#[tokio::test]
async fn a_filter_accepts_every_encoding_of_a_document_hash() {
    let stack = StackBuilder::on_demand().start().await;
    let id = stack.client.accept(1, "a").await.id;
    let request = ListRegistrationsRequest { document_hash: document(1)[2..].to_uppercase(), ..Default::default() };
    assert_eq!(ids(stack.client.list(request).await.unwrap().registrations), [id]);
}

#[tokio::test]
async fn a_page_token_is_bound_to_its_filter_and_an_invalid_one_is_rejected() {
    let stack = StackBuilder::on_demand().start().await;
    for number in 0..3 {
        stack.client.accept(number, "a").await;
    }
    let request = ListRegistrationsRequest { page_size: 1, case_id: "a".into(), ..Default::default() };
    let token = stack.client.list(request.clone()).await.unwrap().next_page_token;
    assert!(!token.is_empty());

    let assert_rejected = async |request: ListRegistrationsRequest| {
        let error = stack.client.list(request).await.unwrap_err();
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_FIELD"));
        assert_eq!(error.field_names(), ["page_token"]);
    };
    let with = |token: &str| ListRegistrationsRequest { page_token: token.to_owned(), ..request.clone() };
    assert_rejected(ListRegistrationsRequest { case_id: "b".into(), ..with(&token) }).await;
    assert_rejected(ListRegistrationsRequest { case_id: String::new(), ..with(&token) }).await;
    assert_rejected(ListRegistrationsRequest { states: vec![State::Queued.into()], ..with(&token) }).await;
    assert_rejected(ListRegistrationsRequest { document_hash: document(1), ..with(&token) }).await;
    assert_rejected(with("nonsense")).await;
    assert_rejected(with(&token[1..])).await;
    assert_rejected(with(&format!("{token}A"))).await;
    assert_rejected(with(&"A".repeat(60_000))).await;
    assert_rejected(with("\u{0}")).await;

    let other_size = ListRegistrationsRequest { page_size: 5, ..with(&token) };
    assert_eq!(
        stack.client.list(other_size).await.unwrap().registrations.len(),
        2,
        "the page size is not part of the filter"
    );
}

#[tokio::test]
async fn a_page_has_at_most_500_registrations() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    futures_util::future::join_all((0..502).map(|number| stack.client.accept(number, "case"))).await;

    for page_size in [500, 501, i32::MAX] {
        let request = ListRegistrationsRequest { page_size, ..Default::default() };
        let page = stack.client.list(request).await.unwrap();
        assert_eq!(page.registrations.len(), 500, "page size {page_size}");
        assert!(!page.next_page_token.is_empty());
    }
    let negative = ListRegistrationsRequest { page_size: -1, ..Default::default() };
    let error = stack.client.list(negative).await.unwrap_err();
    assert_eq!((error.kind(), error.field_names()), ((Code::InvalidArgument, "INVALID_FIELD"), vec!["page_size"]));
}

#[tokio::test]
async fn listing_continues_after_a_restart() {
    let mut stack = StackBuilder::on_demand().start().await;
    for number in 0..3 {
        stack.client.confirm(number, "a").await;
    }
    let request = ListRegistrationsRequest { page_size: 2, ..Default::default() };
    let page = stack.client.list(request.clone()).await.unwrap();

    stack.crash().await;

    let next = ListRegistrationsRequest { page_token: page.next_page_token, ..request };
    assert_eq!(stack.client.list(next).await.unwrap().registrations.len(), 1, "a page token is valid after a restart");
}
