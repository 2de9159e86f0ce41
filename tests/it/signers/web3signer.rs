//! A remote signer that answers wrongly, slowly or not at all: nothing is lost, nothing is registered twice, and no node
//! gets what was not asked for.

use crate::harness::{
    CASE, Cause, Service, StackBuilder, State, TestStack, account,
    certificates::Authority,
    document,
    remote_signer::{Listed, RemoteSigner, Signing},
    service::FailedStart,
    tls_front::TlsFront,
};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::Instant;

fn with(signer: &RemoteSigner) -> StackBuilder {
    StackBuilder::on_demand().set("REGISTRAR_SIGNER_KEYS", "").set("REGISTRAR_SIGNERS", signer.uri())
}

async fn blocked(stack: &TestStack, id: &str, reason: &str) {
    let blocked = stack.client.wait_until(id, reason, |registration| registration.blocked_reason == reason).await;
    assert_eq!(blocked.state(), State::Queued);
}

/// Registers a document, waits until the signer blocks it, and returns its diagnosis.
async fn assert_blocks(stack: &TestStack, number: u64, reason: &str) -> (String, String) {
    let id = stack.client.accept(number, CASE).await.id;
    blocked(stack, &id, reason).await;
    let diagnosis = stack.client.diagnose(&id).await.unwrap().diagnosis.unwrap();
    assert_eq!((diagnosis.cause(), &*diagnosis.evidence["blockedReason"]), (Cause::Pending, reason), "{diagnosis:?}");
    (id, diagnosis.explanation)
}

#[tokio::test]
async fn a_wrong_answer_is_not_used_and_the_work_continues_after_the_signer_answers_right() {
    let signer = RemoteSigner::start(1);
    let stack = with(&signer).start().await;
    let (unavailable, throttled) = ("SIGNER_UNAVAILABLE", "SIGNER_THROTTLED");
    let mut number = 0;
    for (signing, reason, says) in [
        (Signing::OtherNonce, unavailable, "answered with another nonce than it was asked to sign"),
        (Signing::OtherCalldata, unavailable, "answered with another calldata than it was asked to sign"),
        (Signing::OtherKey, unavailable, "signed with the key of 0x"),
        (Signing::HighS, unavailable, "high s"),
        (Signing::Garbage, unavailable, "no JSON-RPC answer"),
        (Signing::NotBytes, unavailable, "no JSON-RPC answer"),
        (Signing::Refuses, unavailable, "it refuses: signing is locked (code -32000)"),
        (Signing::InternalError, unavailable, "HTTP status 500"),
        (Signing::RefusesConnections, unavailable, "no connection"),
        (Signing::Silence, unavailable, "did not answer in time"),
        (Signing::TooManyRequests, throttled, "limits the rate"),
        (Signing::LimitExceeded, throttled, "limits the rate"),
    ] {
        number += 1;
        signer.set(signing);
        let (id, explanation) = assert_blocks(&stack, number, reason).await;
        assert!(explanation.contains(says), "{signing:?}: {explanation}");
        assert_eq!(stack.anvil.nonce(account(1)).await, number - 1, "{signing:?}: a node got a transaction");

        signer.set(Signing::Right);
        let confirmed = stack.client.wait_for_state(&id, State::Confirmed).await;
        assert_eq!(confirmed.blocked_reason, "");
        assert_eq!(confirmed.transaction.unwrap().nonce, Some(number - 1), "{signing:?}: a nonce was lost");
    }
    stack.registry.assert_registered_exactly((1..=number).map(|number| (document(number), CASE.into()))).await;
    let metrics = stack.service.metrics().await;
    for outcome in ["ok", "wrong_answer", "unreadable", "refused", "http_status", "unreachable", "timeout", "throttled"]
    {
        let labels = [("backend", "web3signer"), ("outcome", outcome)];
        assert!(metrics.value("registrar_signer_sign_duration_seconds_count", &labels) > 0.0, "{outcome}");
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_or_meets_an_error_is_tried_three_times() {
    let signer = RemoteSigner::start(1);
    let stack = with(&signer).start().await;
    signer.set(Signing::InternalError);
    let id = stack.client.accept(1, CASE).await.id;
    blocked(&stack, &id, "SIGNER_UNAVAILABLE").await;
    let asked = signer.requests("eth_signTransaction").len();
    assert!(asked >= 3, "{asked}");

    signer.set(Signing::Slow(Duration::from_millis(1_500)));
    stack.client.wait_for_state(&id, State::Confirmed).await;
}

#[tokio::test]
async fn the_work_of_a_dead_signer_is_done_by_another_one() {
    let signer = RemoteSigner::start(1);
    let builder = StackBuilder::block_time(0.2).signers(2).set("REGISTRAR_SIGNER_KEYS", crate::harness::anvil::KEYS[2]);
    let stack = builder.set("REGISTRAR_SIGNERS", signer.uri()).start().await;
    signer.set(Signing::Silence);

    let answers = join_all((0..20).map(|number| stack.client.confirm(number, CASE))).await;

    for registration in answers {
        assert_eq!(registration.transaction.unwrap().from_address, account(2).to_string());
    }
    // From now on at most one of them waits for the next attempt of the dead signer, which takes 6 s.
    let start = Instant::now();
    for number in 20..25 {
        stack.client.confirm(number, CASE).await;
    }
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    stack.registry.assert_registered_exactly((0..25).map(|number| (document(number), CASE.into()))).await;
}

#[tokio::test]
async fn a_pending_transaction_that_needs_a_replacement_waits_for_the_signer() {
    let signer = RemoteSigner::start(1);
    let stack = with(&signer).start().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    signer.set(Signing::Refuses);
    // Above what the transaction offers.
    stack.anvil.set_base_fee(3).await;
    stack.anvil.mine(1).await;
    let reason = "SIGNER_UNAVAILABLE";
    stack.client.wait_until(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;

    signer.set(Signing::Right);
    stack.anvil.mine_on_demand().await;
    stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_crash_while_the_signer_is_silent_loses_nothing() {
    let signer = RemoteSigner::start(1);
    let mut stack = with(&signer).start().await;
    signer.set(Signing::Silence);
    let ids: Vec<_> = join_all((1..=3).map(|number| stack.client.accept(number, CASE))).await;
    stack.crash().await;
    signer.set(Signing::Right);
    for accepted in ids {
        stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    }
    stack.registry.assert_registered_exactly((1..=3).map(|number| (document(number), CASE.into()))).await;
}

#[tokio::test]
async fn a_start_ends_when_the_signer_does_not_have_the_key_or_is_silent() {
    let signer = RemoteSigner::start(1);
    let (dependencies, settings) = with(&signer).prepare().await;
    let start =
        async |uris: &str| Service::expect_start_failure(&settings.clone().set("REGISTRAR_SIGNERS", uris)).await;
    let says = |failed: &FailedStart, code: i32, words: &str| {
        assert_eq!(failed.code, code, "{}", failed.output);
        assert!(failed.output.contains(words), "{words} is missing in {}", failed.output);
    };
    let uri = signer.uri();
    says(&start(&format!("{uri},{uri}")).await, 64, "entry 2 repeats an earlier signer");
    signer.set_listed(Listed::Other);
    let failed = start(&uri).await;
    says(&failed, 64, &format!("{} does not have the key of this address; it has {}", account(1), account(8)));

    signer.set(Signing::RefusesConnections);
    let began = Instant::now();
    let failed = start(&uri).await;
    says(&failed, 1, "is not usable after 10s: it cannot be reached (no connection)");
    let took = began.elapsed();
    assert!((Duration::from_secs(7)..Duration::from_secs(15)).contains(&took), "{took:?}");

    // op-signer does not list accounts, and machines that start together do not become ready in order.
    signer.set_listed(Listed::NoMethod);
    let starting = crate::harness::Starting::new(&settings);
    tokio::time::sleep(Duration::from_secs(1)).await;
    signer.set(Signing::Right);
    let service = starting.until_serving().await;
    let client = crate::harness::Client::connect(service.grpc).await;
    client.confirm(1, CASE).await;
    dependencies.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_signer_is_reached_by_mutual_tls_and_never_by_plaintext_from_another_machine() {
    let (signer, authority) = (RemoteSigner::start(1), Authority::new());
    let front = TlsFront::start(signer.address(), &authority, false);
    let uri = format!("web3signer:https://{}/#{}", front.address(), account(1));
    let client = authority.sign_client();
    let ca = authority.root().display().to_string();
    let builder = with(&signer).set("REGISTRAR_SIGNERS", &uri).set("REGISTRAR_SIGNER_TLS_CA_FILE", &ca);
    let (dependencies, settings) = builder.prepare().await;
    let complete = settings
        .clone()
        .set("REGISTRAR_SIGNER_TLS_CERT_FILE", client.certificate.display())
        .set("REGISTRAR_SIGNER_TLS_KEY_FILE", client.key.display());

    for (settings, code, words) in [
        (complete.clone().set("REGISTRAR_SIGNER_TLS_KEY_FILE", ""), 64, "needs its private key"),
        (
            complete.clone().set("REGISTRAR_SIGNER_TLS_CA_FILE", client.key.display()),
            64,
            "has no valid certificate (PEM)",
        ),
        (settings, 1, "TLS fails: see REGISTRAR_SIGNER_TLS_CA_FILE"),
        (complete.clone().set("REGISTRAR_SIGNER_TLS_CA_FILE", ""), 1, "TLS fails: see REGISTRAR_SIGNER_TLS_CA_FILE"),
        (
            complete.clone().set("REGISTRAR_SIGNERS", format!("web3signer:http://192.0.2.1/#{}", account(1))),
            64,
            "use https://",
        ),
    ] {
        let failed = Service::expect_start_failure(&settings).await;
        assert!(failed.code == code && failed.output.contains(words), "{words}: {failed:?}");
    }
    let stack = dependencies.start(complete).await;
    stack.client.confirm(1, CASE).await;
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_signature_has_a_span_in_the_trace_of_its_batch() {
    let (signer, otlp) = (RemoteSigner::start(1), crate::harness::OtlpStore::start());
    let stack = with(&signer).otlp(&otlp, crate::harness::Protocol::Grpc).start().await;
    stack.client.confirm(1, CASE).await;
    let spans =
        otlp.spans_where(1, "the span of the signature", |span| *span.get("sentry.op") == "blockchain.sign").await;
    assert_eq!((spans[0].get("backend"), spans[0].get("outcome")), (&"web3signer".into(), &"ok".into()));
    let batches = otlp.spans_where(1, "the batch", |span| Some(&span.ids.span) == spans[0].ids.parent.as_ref()).await;
    assert_eq!(*batches[0].get("sentry.op"), "blockchain.batch");
}
