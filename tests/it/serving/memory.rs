//! Memory that one caller can make the service use.

use crate::harness::{
    CASE, Client, StackBuilder, State, TestStack, WaitFor, eventually,
    http2::{Http2, frame, raw_frame},
    register_all_request, register_request, within,
};
use futures_util::future::join_all;
use h2::client::Builder;
use registrar::api::proto::{ListRegistrationsRequest, WatchChangesRequest, WatchRegistrationRequest};
use std::collections::BTreeSet;
use tokio::{io::AsyncWriteExt, net::TcpSocket};

const MIB: f64 = 1024.0 * 1024.0;

async fn resident(stack: &TestStack) -> f64 {
    stack.service.metrics().await.value("process_resident_memory_bytes", &[]) / MIB
}

#[tokio::test]
async fn unfinished_messages_use_little_memory_and_no_place_of_others() {
    let stack = StackBuilder::on_demand().start().await;
    stack.client.confirm(1, CASE).await;
    let before = resident(&stack).await;
    let mut attackers = Vec::new();
    let mut refused = 0;
    for _ in 0..4 {
        let mut http2 = Http2::connect(stack.service.grpc).await;
        let mut calls = Vec::new();
        for _ in 0..500 {
            let mut call = http2.call("/registrar.v1.RegistrarService/RegisterDocument").await.unwrap();
            let unfinished = raw_frame(0, &vec![b'x'; 60_000]).slice(..50_000);
            call.body.send_data(unfinished, false).unwrap();
            calls.push(call);
        }
        // The first ones hold the places of this connection, the last ones are refused.
        let answer = calls.pop().unwrap().answered().await;
        assert_eq!((answer.grpc, answer.reason.as_deref()), (Some(8), Some("TOO_MANY_CALLS")), "{answer:?}");
        refused += 1;
        attackers.push((http2, calls));
    }
    assert_eq!(refused, 4);
    let after = resident(&stack).await;
    assert!(after - before < 30.0, "{before} MiB -> {after} MiB");
    Client::connect(stack.service.grpc).await.confirm(2, CASE).await;
}

#[tokio::test]
async fn pages_that_nobody_reads_use_little_memory_and_leave_lists_to_others() {
    let stack = StackBuilder::block_time(0.5).start().await;
    let accepted = (0..500).map(|number| stack.client.register(register_request(number, CASE, WaitFor::Accepted)));
    for answer in join_all(accepted).await {
        answer.unwrap();
    }
    let request = ListRegistrationsRequest { page_size: 500, ..Default::default() };
    assert_eq!(stack.client.list(request.clone()).await.unwrap().registrations.len(), 500);
    let before = resident(&stack).await;
    let mut attackers = Vec::new();
    for window in [0, 1, 16_384] {
        let mut http2 = Http2::connect_with(stack.service.grpc, Builder::new().initial_window_size(window)).await;
        let mut calls = Vec::new();
        for _ in 0..300 {
            let mut call = http2.call("/registrar.v1.RegistrarService/ListRegistrations").await.unwrap();
            call.body.send_data(frame(&request), true).unwrap();
            calls.push(call.answer);
        }
        let heads = within("answers", join_all(calls)).await;
        let refused = |head: &Result<http::Response<_>, _>| {
            head.as_ref().unwrap().headers().get("x-error-reason").is_some_and(|reason| reason == "TOO_MANY_CALLS")
        };
        let refused = heads.iter().filter(|head| refused(head)).count();
        assert!(refused > 200, "{refused} of 300 were refused");
        attackers.push((http2, heads));
    }
    let after = resident(&stack).await;
    assert!(after - before < 60.0, "{before} MiB -> {after} MiB");
    let other = Client::connect(stack.service.grpc).await;
    let page = eventually("a page", async || other.list(request.clone()).await.ok()).await;
    assert_eq!(page.registrations.len(), 500);
}

#[tokio::test]
async fn thousands_of_watches_that_open_at_once_use_little_memory() {
    // Longer than the test: a timeout would be one more change to all of them.
    let stack = StackBuilder::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "5m").start().await;
    stack.anvil.stop_mining().await;
    let id = stack.client.accept(1, CASE).await.id;
    let request = frame(&WatchRegistrationRequest { id, until: WaitFor::Confirmed.into(), after_revision: 0 });
    let before = resident(&stack).await;
    let mut watching = Vec::new();
    for _ in 0..4 {
        let windows = Builder::new().initial_connection_window_size(4 * 1024 * 1024).clone();
        let mut http2 = Http2::connect_with(stack.service.grpc, &windows).await;
        let mut calls = Vec::new();
        for _ in 0..500 {
            let mut call = http2.call("/registrar.v1.RegistrarService/WatchRegistration").await.unwrap();
            call.body.send_data(request.clone(), true).unwrap();
            calls.push(call.answer);
        }
        let heads = within("answers", join_all(calls)).await;
        let refused: Vec<_> = heads
            .iter()
            .map(|head| head.as_ref().unwrap().headers())
            .filter(|headers| headers.contains_key("grpc-status"))
            .collect();
        assert!(refused.is_empty(), "{} refused, the first with {:?}", refused.len(), refused[0]);
        watching.push((http2, heads));
    }
    let after = resident(&stack).await;
    assert!(after - before < 20.0, "{before} MiB -> {after} MiB");
    Client::connect(stack.service.grpc).await.info().await;
}

#[tokio::test]
async fn readers_that_take_no_metrics_use_little_memory_and_leave_them_to_others() {
    let stack = StackBuilder::block_time(0.5).start().await;
    stack.client.confirm(1, CASE).await;
    let page = stack.service.http("/metrics").await.1.len();
    let before = resident(&stack).await;
    let mut stalled = Vec::new();
    // More than the connections of this port.
    for _ in 0..200 {
        let socket = TcpSocket::new_v4().unwrap();
        // Smaller than a page.
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(stack.service.admin).await.unwrap();
        let requests = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20);
        stream.write_all(requests.as_bytes()).await.unwrap();
        stalled.push(stream);
    }

    let grown = resident(&stack).await - before;

    assert!(grown < 30.0, "{grown} MiB for unread pages of {page} bytes");
    Client::connect(stack.service.grpc).await.confirm(2, CASE).await;
}

#[tokio::test]
async fn readers_that_take_no_changes_use_little_memory_and_leave_them_to_others() {
    const PATH: &str = "/registrar.v1.RegistrarService/WatchChanges";
    let stack = StackBuilder::block_time(0.5).start().await;
    let accepted = stack.client.register_all(register_all_request(0..1_000)).await.unwrap();
    let request = frame(&WatchChangesRequest { from_beginning: true, ..Default::default() });
    let before = resident(&stack).await;
    let mut stalled = Vec::new();
    for window in [0, 1, 16_384] {
        let mut http2 = Http2::connect_with(stack.service.grpc, Builder::new().initial_window_size(window)).await;
        let mut calls = Vec::new();
        for _ in 0..300 {
            let mut call = http2.call(PATH).await.unwrap();
            call.body.send_data(request.clone(), true).unwrap();
            calls.push(call.answer);
        }
        let heads = within("answers", join_all(calls)).await;
        for head in &heads {
            let headers = head.as_ref().unwrap().headers();
            assert!(!headers.contains_key("grpc-status"), "{headers:?}");
        }
        stalled.push((http2, heads));
    }

    // Each of them changes several times meanwhile: 900 readers of 1,000 registrations.
    let (mut changes, mut confirmed) = (stack.client.all_changes().await, BTreeSet::new());
    while confirmed.len() < accepted.len() {
        let changed = changes.next_change().await;
        if changed.state() == State::Confirmed {
            confirmed.insert(changed.id);
        }
    }

    let grown = resident(&stack).await - before;
    assert!(grown < 60.0, "{grown} MiB");
    drop(stalled);
}
