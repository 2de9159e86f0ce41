//! SIGTERM: no new work, no lost work, every caller answered, exit code 0.

use crate::harness::{Client, Fault, Plan, State, WaitFor, client, document, registering, within};
use futures_util::{future::join_all, stream};
use registrar::api::proto::{RegisterDocumentRequest, RegisterDocumentResponse};
use std::time::Duration;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};
use tonic::{Code, Request, client::Grpc, codegen::http::uri::PathAndQuery};

const CASE: &str = "case-1";
/// How long the service takes at most by default for what goes on when it is told to end.
const GRACE: Duration = Duration::from_secs(20);
/// What a busy machine may take to end when the grace is over.
const TO_END: Duration = Duration::from_secs(10);

#[tokio::test]
async fn waiting_callers_are_told_and_their_work_is_finished_after_the_next_start() {
    let mut stack = Plan::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let waiting: Vec<_> = (0..5)
        .map(|number| {
            let client = stack.client.clone();
            tokio::spawn(async move { client.register(registering(number, CASE, WaitFor::Confirmed)).await })
        })
        .collect();
    let mut ids = Vec::new();
    for number in 0..5 {
        let known = async || stack.client.get_pair(&document(number), CASE).await.ok();
        ids.push(crate::harness::eventually("acceptance", known).await.id);
    }
    let began = Instant::now();

    stack.service.terminate();

    for (call, id) in waiting.into_iter().zip(&ids) {
        let refusal = within("the answer", call).await.unwrap().unwrap_err();
        assert_eq!(refusal.kind(), (Code::Unavailable, "SHUTTING_DOWN"));
        assert_eq!(refusal.registration_id.as_ref(), Some(id));
        assert_eq!(refusal.registration().id, *id);
    }
    assert_eq!(stack.service.exit_code().await, 0);
    assert!(began.elapsed() < GRACE, "it took its whole grace: {:?}", began.elapsed());

    stack.start_again().await;
    stack.anvil.mine_on_demand().await;
    for id in &ids {
        stack.client.reaches(id, State::Confirmed).await;
    }
    stack.registry.holds_exactly((0..5).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn an_idle_service_ends_at_once() {
    let mut stack = Plan::on_demand().start().await;
    let began = Instant::now();

    stack.service.terminate();

    assert_eq!(stack.service.exit_code().await, 0);
    assert!(began.elapsed() < GRACE, "it took its whole grace: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_node_that_does_not_answer_cannot_keep_the_service_beyond_its_grace() {
    // Longer than the service waits for a node that has taken its question.
    let mut stack = Plan::on_demand().through_proxy().set("REGISTRAR_SHUTDOWN_GRACE", "8s").start().await;
    let trap = stack.proxy().trap_all(Fault::HoldRequest);
    let accepted = stack.client.accept(1, CASE).await;
    trap.sprung().await;
    let began = Instant::now();

    stack.service.terminate();

    assert_eq!(stack.service.exit_code().await, 0);
    assert!(began.elapsed() < Duration::from_secs(8) + TO_END, "{:?}", began.elapsed());
    trap.release();
    stack.start_again().await;
    stack.client.reaches(&accepted.id, State::Confirmed).await;
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn shutting_down_in_the_middle_of_a_flood_loses_nothing() {
    const COUNT: u64 = 200;
    let mut stack = Plan::block_time(0.2).signers(2).start().await;
    let clients = join_all((0..4).map(|_| Client::connect(stack.service.grpc))).await;
    let flood: Vec<_> = (0..COUNT)
        .map(|number| {
            let client = clients[usize::try_from(number).unwrap() % clients.len()].clone();
            tokio::spawn(
                async move { client.stub().register_document(registering(number, CASE, WaitFor::Confirmed)).await },
            )
        })
        .collect();
    let enough = async || (stack.registry.events().await.len() >= 20).then_some(());
    crate::harness::eventually("the flood to flow", enough).await;

    stack.service.terminate();

    let mut accepted = Vec::new();
    for (number, call) in (0..).zip(flood) {
        match within("an answer", call).await.unwrap() {
            Ok(_) => accepted.push(number),
            // A call that had not begun when the server ended has no answer of ours.
            Err(status) if status.metadata().contains_key("x-registration-id") => accepted.push(number),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
    assert_eq!(stack.service.exit_code().await, 0);
    stack.start_again().await;

    assert!(!accepted.is_empty());
    for number in accepted {
        let id = stack.client.get_pair(&document(number), CASE).await.unwrap().id;
        stack.client.reaches(&id, State::Confirmed).await;
    }
    for answer in join_all((0..COUNT).map(|number| stack.client.confirm(number, CASE))).await {
        assert_eq!(answer.state(), State::Confirmed);
    }
    stack.registry.holds_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn connections_that_say_nothing_and_never_close_cannot_keep_the_service() {
    let mut stack = Plan::on_demand().set("REGISTRAR_SHUTDOWN_GRACE", "3s").start().await;
    let silent = TcpStream::connect(stack.service.grpc).await.unwrap();
    let mut deaf = TcpStream::connect(stack.service.grpc).await.unwrap();
    // An HTTP/2 client that sends its preface and empty settings, and then reads nothing, not even the farewell.
    deaf.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let http = TcpStream::connect(stack.service.admin).await.unwrap();
    stack.client.confirm(1, CASE).await;

    stack.service.terminate();

    assert_eq!(stack.service.exit_code().await, 0);
    drop((silent, deaf, http));
}

#[tokio::test]
async fn a_caller_that_stalls_in_the_middle_of_its_request_cannot_keep_the_service_beyond_its_grace() {
    let grace = Duration::from_secs(4);
    let mut stack = Plan::on_demand().set("REGISTRAR_SHUTDOWN_GRACE", "4s").start().await;
    let channel = client::channel(stack.service.grpc).await;
    let stalled = tokio::spawn(async move {
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<RegisterDocumentRequest, RegisterDocumentResponse>::default();
        let path = PathAndQuery::from_static("/registrar.v1.RegistrarService/RegisterDocument");
        grpc.client_streaming(Request::new(stream::pending()), path, codec).await.map(drop)
    });
    // The server has begun with the other call when it answers this one.
    stack.client.info().await;
    let began = Instant::now();

    stack.service.terminate();

    assert_eq!(stack.service.exit_code().await, 0);
    assert!(began.elapsed() < grace + TO_END, "it took {:?}", began.elapsed());
    within("the call to end", stalled).await.unwrap().unwrap_err();
}
