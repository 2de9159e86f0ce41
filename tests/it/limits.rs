//! What is bounded: the queue, the waiters, the size of a message; and the disk.

use crate::harness::{Client, Plan, Service, State, WaitFor, document, eventually, registering, stays_pending, within};
use futures_util::future::join_all;
use std::{process::Command, time::Duration};
use tonic::Code;

const CASE: &str = "case-1";

#[tokio::test]
async fn a_full_queue_refuses_new_work_says_when_to_try_again_and_takes_it_then() {
    let stack = Plan::on_demand().set("REGISTRAR_QUEUE_LIMIT", 3).start().await;
    stack.anvil.stop_mining().await;
    for number in 0..3 {
        stack.client.accept(number, CASE).await;
    }

    let refusal = stack.client.register(registering(3, CASE, WaitFor::Accepted)).await.unwrap_err();

    assert_eq!(refusal.kind(), (Code::ResourceExhausted, "QUEUE_FULL"));
    assert!(refusal.retry_after.is_some(), "{refusal:?}");
    assert_eq!(refusal.registration_id, None, "nothing was accepted");
    let unknown = stack.client.get_pair(&document(3), CASE).await.unwrap_err();
    assert_eq!(unknown.kind(), (Code::NotFound, "REGISTRATION_NOT_FOUND"));
    let known = stack.client.accept(2, CASE).await;
    assert_eq!(known.document_hash, document(2), "what is in the queue already is found there");

    stack.anvil.mine_on_demand().await;
    let answers = join_all((0..3).map(|number| stack.client.confirm(number, CASE))).await;
    assert_eq!(answers.len(), 3);
    stack.client.confirm(3, CASE).await;
}

#[tokio::test]
async fn a_flood_never_overfills_the_queue() {
    const LIMIT: usize = 10;
    let stack = Plan::on_demand().set("REGISTRAR_QUEUE_LIMIT", LIMIT).start().await;
    stack.anvil.stop_mining().await;

    let answers =
        join_all((0..100).map(|number| stack.client.register(registering(number, CASE, WaitFor::Accepted)))).await;

    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(taken.len(), LIMIT);
    assert!(refused.into_iter().all(|answer| answer.unwrap_err().reason == "QUEUE_FULL"));
}

#[tokio::test]
async fn no_more_than_fifteen_transactions_of_a_signer_wait_for_a_block_and_the_rest_follows() {
    // Nodes keep 16 of a sender, and refuse even a replacement when these are taken.
    const MOST: u64 = 15;
    let stack = Plan::on_demand().start().await;
    stack.anvil.stop_mining().await;
    for number in 0..MOST {
        let accepted = stack.client.accept(number, CASE).await;
        stack.client.reaches(&accepted.id, State::Submitted).await;
    }
    assert_eq!(stack.anvil.pending().await, MOST, "one each, for each was alone when it came");

    let mut waiting = Vec::new();
    for number in MOST..MOST + 5 {
        waiting.push(stack.client.accept(number, CASE).await);
    }
    let mut sixteenth = Box::pin(eventually("one more", async || (stack.anvil.pending().await > MOST).then_some(())));
    assert!(stays_pending(&mut sixteenth, Duration::from_millis(500)).await, "one more is sent");
    for registration in &waiting {
        assert_eq!(stack.client.get(&registration.id).await.unwrap().state(), State::Queued);
    }

    stack.anvil.mine_on_demand().await;
    for registration in &waiting {
        stack.client.reaches(&registration.id, State::Confirmed).await;
    }
    stack.registry.holds_exactly((0..MOST + 5).map(|number| (document(number), CASE.to_owned()))).await;
}

/// Calls that wait leave no room for another one.
async fn one_more_is_refused(client: &Client) {
    let refusal = client.register(registering(7, CASE, WaitFor::Confirmed)).await.unwrap_err();
    assert_eq!(refusal.kind(), (Code::ResourceExhausted, "TOO_MANY_WAITERS"));
    assert!(refusal.retry_after.is_some(), "{refusal:?}");
    let unknown = client.get_pair(&document(7), CASE).await.unwrap_err();
    assert_eq!(unknown.reason, "REGISTRATION_NOT_FOUND", "nothing was accepted");
}

#[tokio::test]
async fn too_many_waiting_calls_are_refused_and_those_that_wait_are_served() {
    let stack = Plan::on_demand().set("REGISTRAR_MAX_WAITERS", 2).start().await;
    stack.anvil.stop_mining().await;
    let waiting: Vec<_> = (0..2)
        .map(|number| {
            let client = stack.client.clone();
            tokio::spawn(async move { client.confirm(number, CASE).await })
        })
        .collect();

    for number in 0..2 {
        let known = async || stack.client.get_pair(&document(number), CASE).await.ok();
        eventually("a call to wait", known).await;
    }
    one_more_is_refused(&stack.client).await;
    let watch = stack.client.watch(&stack.client.accept(0, CASE).await.id, WaitFor::Confirmed, 0).await;
    assert_eq!(watch.err().map(|refusal| refusal.reason).as_deref(), Some("TOO_MANY_WAITERS"), "streams count too");
    stack.client.accept(8, CASE).await;

    stack.anvil.mine_on_demand().await;
    for call in waiting {
        assert_eq!(within("a waiting call", call).await.unwrap().state(), State::Confirmed);
    }
    stack.client.confirm(9, CASE).await;
}

#[tokio::test]
async fn callers_that_hang_up_make_room_for_others() {
    let stack = Plan::on_demand().set("REGISTRAR_MAX_WAITERS", 2).start().await;
    stack.anvil.stop_mining().await;
    for number in 0..2 {
        let accepted = stack.client.accept(number, CASE).await;
        let mut watches = Vec::new();
        for _ in 0..2 {
            watches.push(stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap());
        }
        one_more_is_refused(&stack.client).await;
        drop(watches);
        // The streams' ends have to travel.
        eventually("room", async || stack.client.watch(&accepted.id, WaitFor::Accepted, 0).await.ok()).await;
    }
}

#[tokio::test]
async fn a_message_of_4_mib_is_refused_and_harms_nobody() {
    let stack = Plan::on_demand().start().await;
    let mut request = registering(1, &"c".repeat(4 * 1024 * 1024), WaitFor::Accepted);
    request.user_id = "u".repeat(1024);

    let status = within("the answer", stack.client.stub().register_document(request)).await.unwrap_err();

    let codes = [Code::OutOfRange, Code::ResourceExhausted, Code::InvalidArgument];
    assert!(codes.contains(&status.code()), "{status:?}");
    assert!(status.message().len() < 1000, "{} bytes of message", status.message().len());
    assert!(stack.client.list(Default::default()).await.unwrap().registrations.is_empty());
    stack.client.confirm(2, CASE).await;
}

#[tokio::test]
async fn a_full_disk_refuses_new_work_and_keeps_what_was_accepted() {
    // A limit on the size of the files it writes is a full disk to the service, and to nobody else.
    let (ground, settings) = Plan::block_time(0.2).prepare().await;
    let mut limited = Command::new("sh");
    let limit = format!("trap '' XFSZ; ulimit -f 2048; exec '{}' \"$0\"", env!("CARGO_BIN_EXE_registrar"));
    limited.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).args(["-c", &limit]);
    let mut service = Service::start_as(limited, &settings).await;
    let client = Client::connect(service.grpc).await;

    // Callers go on trying, as callers do.
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for number in 0..300 {
        match client.register(registering(number, CASE, WaitFor::Accepted)).await {
            Ok(registration) => accepted.push((number, registration.id)),
            Err(refusal) => refused.push((number, refusal)),
        }
    }
    let lines = service.log().len();
    assert!(lines < 5_000, "{lines} lines of log in a few seconds");
    service.kill();

    let service = Service::start(&settings).await;
    let client = Client::connect(service.grpc).await;
    let mut lost = Vec::new();
    for (number, id) in &accepted {
        match client.get(id).await {
            Ok(_) => _ = client.reaches(id, State::Confirmed).await,
            Err(_) => lost.push(number),
        }
    }
    assert!(lost.is_empty(), "{} of {} that were accepted are lost: {lost:?}", lost.len(), accepted.len());
    assert!(!accepted.is_empty() && !refused.is_empty(), "{} accepted, {} refused", accepted.len(), refused.len());
    for (number, refusal) in refused {
        assert_eq!(refusal.kind(), (Code::Unavailable, "STORE_UNAVAILABLE"));
        assert_eq!(refusal.registration_id, None, "nothing was accepted");
        let unknown = client.get_pair(&document(number), CASE).await.unwrap_err();
        assert_eq!(unknown.reason, "REGISTRATION_NOT_FOUND");
    }
    ground.registry.holds_exactly(accepted.iter().map(|(number, _)| (document(*number), CASE.to_owned()))).await;
}
