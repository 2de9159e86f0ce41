//! SIGTERM: no new work is accepted, no work is lost, every caller is answered, exit code 0.

use crate::harness::{CASE, Client, Fault, StackBuilder, State, WaitFor, client, document, register_request, within};
use futures_util::{future::join_all, stream};
use registrar::api::proto::{RegisterDocumentRequest, RegisterDocumentResponse};
use std::time::Duration;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};
use tonic::{Code, Request, client::Grpc, codegen::http::uri::PathAndQuery};

/// The default `REGISTRAR_SHUTDOWN_GRACE`.
const GRACE: Duration = Duration::from_secs(20);
/// Additional time for a busy machine.
const EXIT_TOLERANCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn waiting_callers_are_answered_and_their_work_continues_after_the_restart() {
    let mut stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let waiting: Vec<_> = (0..5)
        .map(|number| {
            let client = stack.client.clone();
            tokio::spawn(async move { client.register(register_request(number, CASE, WaitFor::Confirmed)).await })
        })
        .collect();
    let mut ids = Vec::new();
    for number in 0..5 {
        let known = async || stack.client.get_pair(&document(number), CASE).await.ok();
        ids.push(crate::harness::eventually("acceptance", known).await.id);
    }
    let started = Instant::now();

    stack.service.terminate();

    for (call, id) in waiting.into_iter().zip(&ids) {
        let error = within("the answer", call).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), (Code::Unavailable, "SHUTTING_DOWN"));
        assert_eq!(error.registration_id.as_ref(), Some(id));
        assert_eq!(error.registration().id, *id);
    }
    assert_eq!(stack.service.exit_code().await, 0);
    assert!(started.elapsed() < GRACE, "it used the whole grace period: {:?}", started.elapsed());

    stack.restart().await;
    stack.anvil.mine_on_demand().await;
    for id in &ids {
        stack.client.wait_for_state(id, State::Confirmed).await;
    }
    stack.registry.assert_registered_exactly((0..5).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn an_idle_service_exits_at_once() {
    let mut stack = StackBuilder::on_demand().start().await;
    let started = Instant::now();

    stack.service.terminate();

    assert_eq!(stack.service.exit_code().await, 0);
    assert!(started.elapsed() < GRACE, "it used the whole grace period: {:?}", started.elapsed());
}

#[tokio::test]
async fn a_hanging_node_does_not_delay_the_exit_beyond_the_grace_period() {
    // Longer than the service's RPC timeouts.
    let mut stack = StackBuilder::on_demand().through_proxy().set("REGISTRAR_SHUTDOWN_GRACE", "8s").start().await;
    let injected = stack.proxy().inject_all(Fault::HoldRequest);
    let accepted = stack.client.accept(1, CASE).await;
    injected.until_hit().await;
    let started = Instant::now();

    stack.service.terminate();

    assert_eq!(stack.service.exit_code().await, 0);
    assert!(started.elapsed() < Duration::from_secs(8) + EXIT_TOLERANCE, "{:?}", started.elapsed());
    injected.release();
    stack.restart().await;
    stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_shutdown_under_load_loses_no_registration() {
    const COUNT: u64 = 200;
    let mut stack = StackBuilder::block_time(0.2).signers(2).start().await;
    let clients = join_all((0..4).map(|_| Client::connect(stack.service.grpc))).await;
    let calls: Vec<_> = (0..COUNT)
        .map(|number| {
            let client = clients[usize::try_from(number).unwrap() % clients.len()].clone();
            tokio::spawn(async move {
                client.stub().register_document(register_request(number, CASE, WaitFor::Confirmed)).await
            })
        })
        .collect();
    let enough = async || (stack.registry.events().await.len() >= 20).then_some(());
    crate::harness::eventually("the first registrations on chain", enough).await;

    stack.service.terminate();

    let mut accepted = Vec::new();
    for (number, call) in (0..).zip(calls) {
        match within("an answer", call).await.unwrap() {
            Ok(_) => accepted.push(number),
            // A call that the server had not started has no answer of the service.
            Err(status) if status.metadata().contains_key("x-registration-id") => accepted.push(number),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
    assert_eq!(stack.service.exit_code().await, 0);
    stack.restart().await;

    assert!(!accepted.is_empty());
    for number in accepted {
        let id = stack.client.get_pair(&document(number), CASE).await.unwrap().id;
        stack.client.wait_for_state(&id, State::Confirmed).await;
    }
    for answer in join_all((0..COUNT).map(|number| stack.client.confirm(number, CASE))).await {
        assert_eq!(answer.state(), State::Confirmed);
    }
    stack.registry.assert_registered_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_exit() {
    let mut stack = StackBuilder::on_demand().set("REGISTRAR_SHUTDOWN_GRACE", "3s").start().await;
    let silent = TcpStream::connect(stack.service.grpc).await.unwrap();
    let mut deaf = TcpStream::connect(stack.service.grpc).await.unwrap();
    // An HTTP/2 client that sends its preface and empty settings, and then reads nothing, not even GOAWAY.
    deaf.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let http = TcpStream::connect(stack.service.admin).await.unwrap();
    stack.client.confirm(1, CASE).await;

    stack.service.terminate();

    assert_eq!(stack.service.exit_code().await, 0);
    drop((silent, deaf, http));
}

#[tokio::test]
async fn a_stalled_request_does_not_delay_the_exit_beyond_the_grace_period() {
    let grace = Duration::from_secs(4);
    let mut stack = StackBuilder::on_demand().set("REGISTRAR_SHUTDOWN_GRACE", "4s").start().await;
    let channel = client::channel(stack.service.grpc).await;
    let stalled = tokio::spawn(async move {
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<RegisterDocumentRequest, RegisterDocumentResponse>::default();
        let path = PathAndQuery::from_static("/registrar.v1.RegistrarService/RegisterDocument");
        grpc.client_streaming(Request::new(stream::pending()), path, codec).await.map(drop)
    });
    // When this call is answered, the server has started the other one.
    stack.client.info().await;
    let started = Instant::now();

    stack.service.terminate();

    assert_eq!(stack.service.exit_code().await, 0);
    assert!(started.elapsed() < grace + EXIT_TOLERANCE, "exited after {:?}", started.elapsed());
    within("the call to end", stalled).await.unwrap().unwrap_err();
}
