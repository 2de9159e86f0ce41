//! Limits: queue, waiting calls, message size, pending transactions, and a full disk.

use crate::harness::{
    CASE, Client, Service, StackBuilder, State, WaitFor, assert_pending, client::channel, document, eventually,
    register_request, within,
};
use futures_util::future::join_all;
use std::{process::Command, time::Duration};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

#[tokio::test]
async fn a_full_queue_rejects_new_work_with_a_retry_delay() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_QUEUE_LIMIT", 3).start().await;
    stack.anvil.stop_mining().await;
    for number in 0..3 {
        stack.client.accept(number, CASE).await;
    }

    let error = stack.client.register(register_request(3, CASE, WaitFor::Accepted)).await.unwrap_err();

    assert_eq!(error.kind(), (Code::ResourceExhausted, "QUEUE_FULL"));
    assert!(error.retry_after.is_some(), "{error:?}");
    assert_eq!(error.registration_id, None, "nothing was accepted");
    let unknown = stack.client.get_pair(&document(3), CASE).await.unwrap_err();
    assert_eq!(unknown.kind(), (Code::NotFound, "REGISTRATION_NOT_FOUND"));
    let known = stack.client.accept(2, CASE).await;
    assert_eq!(known.document_hash, document(2), "a queued pair is found despite the full queue");

    stack.anvil.mine_on_demand().await;
    let answers = join_all((0..3).map(|number| stack.client.confirm(number, CASE))).await;
    assert_eq!(answers.len(), 3);
    stack.client.confirm(3, CASE).await;
}

#[tokio::test]
async fn concurrent_requests_do_not_exceed_the_queue_limit() {
    const LIMIT: usize = 10;
    let stack = StackBuilder::on_demand().set("REGISTRAR_QUEUE_LIMIT", LIMIT).start().await;
    stack.anvil.stop_mining().await;

    let answers =
        join_all((0..100).map(|number| stack.client.register(register_request(number, CASE, WaitFor::Accepted)))).await;

    let (accepted, rejected): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(accepted.len(), LIMIT);
    assert!(rejected.into_iter().all(|answer| answer.unwrap_err().reason == "QUEUE_FULL"));
}

#[tokio::test]
async fn at_most_fifteen_transactions_of_a_signer_are_pending() {
    // Nodes keep 16 transactions per sender and reject even a replacement when all are used.
    const MAX_PENDING: u64 = 15;
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    for number in 0..MAX_PENDING {
        let accepted = stack.client.accept(number, CASE).await;
        stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    }
    assert_eq!(stack.anvil.pending().await, MAX_PENDING, "each registration has its own transaction");

    let mut waiting = Vec::new();
    for number in MAX_PENDING..MAX_PENDING + 5 {
        waiting.push(stack.client.accept(number, CASE).await);
    }
    let mut sixteenth = Box::pin(eventually("one more transaction", async || {
        (stack.anvil.pending().await > MAX_PENDING).then_some(())
    }));
    assert_pending("sending one more transaction", &mut sixteenth, Duration::from_millis(500)).await;
    for registration in &waiting {
        assert_eq!(stack.client.get(&registration.id).await.unwrap().state(), State::Queued);
    }

    stack.anvil.mine_on_demand().await;
    for registration in &waiting {
        stack.client.wait_for_state(&registration.id, State::Confirmed).await;
    }
    stack
        .registry
        .assert_registered_exactly((0..MAX_PENDING + 5).map(|number| (document(number), CASE.to_owned())))
        .await;
}

/// Asserts that another waiting call is rejected.
async fn assert_one_more_is_rejected(client: &Client) {
    let error = client.register(register_request(7, CASE, WaitFor::Confirmed)).await.unwrap_err();
    assert_eq!(error.kind(), (Code::ResourceExhausted, "TOO_MANY_WAITERS"));
    assert!(error.retry_after.is_some(), "{error:?}");
    let unknown = client.get_pair(&document(7), CASE).await.unwrap_err();
    assert_eq!(unknown.reason, "REGISTRATION_NOT_FOUND", "nothing was accepted");
}

#[tokio::test]
async fn calls_beyond_the_waiter_limit_are_rejected() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_MAX_WAITERS", 2).start().await;
    stack.anvil.stop_mining().await;
    let waiting: Vec<_> = (0..2)
        .map(|number| {
            let client = stack.client.clone();
            tokio::spawn(async move { client.confirm(number, CASE).await })
        })
        .collect();

    for number in 0..2 {
        let known = async || stack.client.get_pair(&document(number), CASE).await.ok();
        eventually("the call to be accepted", known).await;
    }
    assert_one_more_is_rejected(&stack.client).await;
    let watch = stack.client.watch(&stack.client.accept(0, CASE).await.id, WaitFor::Confirmed, 0).await;
    assert_eq!(
        watch.err().map(|error| error.reason).as_deref(),
        Some("TOO_MANY_WAITERS"),
        "watch streams count as waiting calls"
    );
    stack.client.accept(8, CASE).await;

    stack.anvil.mine_on_demand().await;
    for call in waiting {
        assert_eq!(within("a waiting call", call).await.unwrap().state(), State::Confirmed);
    }
    stack.client.confirm(9, CASE).await;
}

#[tokio::test]
async fn disconnected_callers_free_their_places() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_MAX_WAITERS", 2).start().await;
    stack.anvil.stop_mining().await;
    for number in 0..2 {
        let accepted = stack.client.accept(number, CASE).await;
        let mut watches = Vec::new();
        for _ in 0..2 {
            watches.push(stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap());
        }
        assert_one_more_is_rejected(&stack.client).await;
        drop(watches);
        // The service needs a moment to notice the closed streams.
        eventually("a free place", async || stack.client.watch(&accepted.id, WaitFor::Accepted, 0).await.ok()).await;
    }
}

#[tokio::test]
async fn a_message_of_4_mib_is_rejected() {
    let stack = StackBuilder::on_demand().start().await;
    let mut request = register_request(1, &"c".repeat(4 * 1024 * 1024), WaitFor::Accepted);
    request.user_id = "u".repeat(1024);

    let status = within("the answer", stack.client.stub().register_document(request)).await.unwrap_err();

    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert_eq!(status.metadata().get("x-error-reason").unwrap(), "MESSAGE_TOO_LARGE");
    assert!(status.message().len() < 1000, "{} bytes of message", status.message().len());
    assert!(stack.client.list(Default::default()).await.unwrap().registrations.is_empty());
    stack.client.confirm(2, CASE).await;
}

#[tokio::test]
async fn a_full_disk_rejects_new_work_and_keeps_accepted_work() {
    // For the service, a limit on its file sizes is a full disk; other processes are not affected.
    let (dependencies, settings) = StackBuilder::block_time(0.2).prepare().await;
    let mut limited = Command::new("sh");
    let limit = format!("trap '' XFSZ; ulimit -S -f 2048; exec '{}' \"$0\"", env!("CARGO_BIN_EXE_registrar"));
    limited.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).args(["-c", &limit]);
    let mut service = Service::start_with(limited, &settings).await;
    let client = Client::connect(service.grpc).await;

    // Callers keep sending.
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for number in 0..300 {
        match client.register(register_request(number, CASE, WaitFor::Accepted)).await {
            Ok(registration) => accepted.push((number, registration.id)),
            Err(error) => refused.push((number, error)),
        }
    }
    let is_ready = async |service: &Service, expected: (u16, f64)| {
        let up = service.metrics().await.value("registrar_store_up", &[]);
        ((service.http("/readyz").await.0, up) == expected).then_some(())
    };
    eventually("readiness to fail", async || is_ready(&service, (503, 0.0)).await).await;
    let mut health = HealthClient::new(channel(service.grpc).await);
    let status = health.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::NotServing);
    let lines = service.log().len();
    assert!(lines < 5_000, "{lines} log lines in a few seconds");
    let reports = service.log().into_iter().filter(|line| line["level"] == "ERROR").collect::<Vec<_>>();
    assert_eq!(reports.len(), 1, "one report for all calls: {reports:#?}");

    let pid = service.id().to_string();
    let freed = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().unwrap();
    assert!(freed.success(), "prlimit");
    eventually("readiness", async || is_ready(&service, (200, 1.0)).await).await;
    accepted.push((300, client.accept(300, CASE).await.id));
    service.kill();

    let service = Service::start(&settings).await;
    let client = Client::connect(service.grpc).await;
    let mut lost = Vec::new();
    for (number, id) in &accepted {
        match client.get(id).await {
            Ok(_) => _ = client.wait_for_state(id, State::Confirmed).await,
            Err(_) => lost.push(number),
        }
    }
    assert!(lost.is_empty(), "{} of {} that were accepted are lost: {lost:?}", lost.len(), accepted.len());
    assert!(!accepted.is_empty() && !refused.is_empty(), "{} accepted, {} refused", accepted.len(), refused.len());
    for (number, error) in refused {
        assert_eq!(error.kind(), (Code::Unavailable, "STORE_UNAVAILABLE"));
        assert_eq!(error.registration_id, None, "nothing was accepted");
        let unknown = client.get_pair(&document(number), CASE).await.unwrap_err();
        assert_eq!(unknown.reason, "REGISTRATION_NOT_FOUND");
    }
    dependencies
        .registry
        .assert_registered_exactly(accepted.iter().map(|(number, _)| (document(*number), CASE.to_owned())))
        .await;
}
