//! Callers' questions about the chain do not slow registrations down, and an outage is reported once.

use crate::harness::{CASE, Fault, Proxy, SentryStore, StackBuilder, document, eventually, proxy::HttpAnswer};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn upstream(proxy: &Proxy) -> usize {
    proxy.all().len()
}

#[tokio::test]
async fn concurrent_verifications_share_calls_and_repeated_ones_answers() {
    // The node mines for each transaction only, so that the pipeline makes few calls of its own.
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    stack.client.confirm(1, CASE).await;
    let asked = |proxy: &Proxy| proxy.count("eth_call") + proxy.count("eth_getLogs");

    let before = asked(stack.proxy());
    let all = join_all((0..200).map(|number| {
        let client = stack.client.clone();
        async move { client.verify(&document(number), CASE).await.unwrap().registered }
    }))
    .await;
    let calls = asked(stack.proxy()) - before;

    assert_eq!(all.iter().filter(|registered| **registered).count(), 1);
    assert!(calls <= 20, "{calls} calls for 200 concurrent verifications");

    let before = upstream(stack.proxy());
    for _ in 0..100 {
        assert!(stack.client.verify(&document(1), CASE).await.unwrap().registered);
    }
    let calls = upstream(stack.proxy()) - before;
    assert!(calls <= 100, "{calls} calls for 100 verifications of one document");
}

#[tokio::test]
async fn verifications_leave_a_providers_rate_limit_to_registrations() {
    let limit = Fault::RateLimit { per_second: 40, answer: HttpAnswer::status(429) };
    let stack = StackBuilder::block_time(0.2).through_proxy().start().await;
    let _limited = stack.proxy().inject_all(limit);
    let timed = async |number: u64| {
        let started = Instant::now();
        stack.client.confirm(number, CASE).await;
        started.elapsed()
    };
    timed(0).await;
    let quiet = timed(1).await;

    let stop = CancellationToken::new();
    let client = Arc::new(stack.client.clone());
    let loops: Vec<_> = (0..8)
        .map(|caller| {
            let (client, stop) = (client.clone(), stop.clone());
            tokio::spawn(async move {
                let mut asked = 0_u64;
                while !stop.is_cancelled() {
                    // Within the rate limit it may fail; only registrations are measured.
                    let _ = client.verify(&document(1_000 + caller * 1_000 + asked % 1_000), CASE).await;
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut flooded = Duration::ZERO;
    for number in 2..5 {
        flooded = flooded.max(timed(number).await);
    }
    stop.cancel();
    let asked: u64 = join_all(loops).await.into_iter().map(Result::unwrap).sum();

    assert!(asked > 8, "{asked} verifications");
    assert!(flooded < quiet + Duration::from_secs(5), "{flooded:?} instead of {quiet:?} beside {asked} verifications");
}

#[tokio::test]
async fn an_outage_is_reported_once_and_not_with_each_verification() {
    let sentry = SentryStore::start();
    let mut stack = StackBuilder::on_demand().sentry(&sentry).through_proxy().start().await;
    let away = stack.proxy().inject_all(Fault::LoseRequest);
    let name = "registrar.v1.RegistrarService/VerifyDocument";

    for number in 0..30 {
        stack.client.verify(&document(number), CASE).await.unwrap_err();
    }

    let warnings = stack
        .service
        .log()
        .into_iter()
        .filter(|line| line["message"].as_str().is_some_and(|text| text.contains("cannot be verified")));
    assert_eq!(warnings.count(), 1);
    away.release();
    eventually("an answer", async || stack.client.verify(&document(0), CASE).await.ok()).await;
    stack.service.wait_for_log("the end", |line| line["message"] == "documents can be verified again").await;
    stack.service.terminate();
    stack.service.exit_code().await;
    let failed = sentry.transactions().into_iter().filter(|transaction| {
        transaction["transaction"] == name && transaction["contexts"]["trace"]["status"] == "unavailable"
    });
    assert_eq!(failed.count(), 1);
}
