//! Too many requests is a matter of patience: the endpoint is left alone for as long as it wants, and is not called unhealthy.

use crate::harness::{
    Fault, HttpAnswer, Plan, Story, eventually,
    proxy::dialects::{OVER_RATE_LIMIT, PROXYD_OVER_RATE_LIMIT},
    story::{FIRST, ONLY, SECOND},
};
use std::time::Duration;

/// What `Retry-After` asks for below, in seconds.
const PATIENCE: u64 = 3;
const A_WHILE: Duration = Duration::from_secs(2);

/// Two endpoints before one node with Base's block time.
fn two_endpoints() -> Plan {
    Plan::block_time(0.2).endpoints(2)
}

const THROTTLED: HttpAnswer = HttpAnswer::status(429);

/// In the middle of fifty registrations the primary begins to answer this, and work goes on with the other; it stays as healthy as
/// it was.
async fn is_left_alone_and_stays_healthy(fault: Fault) {
    let (story, trap) = Story::of(two_endpoints(), async |story| story.primary().trap_all(fault)).await;
    assert!(trap.caught() > 0, "the primary was not asked");
    // Whether a call heard of it first or a probe, which moves nowhere, all that is sent from then on goes elsewhere.
    story.felt(FIRST, "throttled").await;
    assert!(!story.backup().sent().is_empty(), "{fault:?}");
    for endpoint in [FIRST, SECOND] {
        story.nothing_bad_of(endpoint);
        assert_eq!(story.state(endpoint).await, "healthy", "{fault:?}");
    }
    story.ends().await;
}

#[tokio::test]
async fn an_endpoint_that_throttles_is_left_alone_and_stays_healthy() {
    for http in [THROTTLED, THROTTLED.retry_after(PATIENCE)] {
        is_left_alone_and_stays_healthy(Fault::Http(http)).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_throttles_with_an_error_in_the_body_is_left_alone_and_stays_healthy() {
    for http in [THROTTLED, THROTTLED.retry_after(PATIENCE)] {
        is_left_alone_and_stays_healthy(Fault::Http(http.saying(PROXYD_OVER_RATE_LIMIT))).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_throttles_in_its_providers_own_words_is_left_alone_and_stays_healthy() {
    for error in OVER_RATE_LIMIT {
        is_left_alone_and_stays_healthy(Fault::Error(error)).await;
    }
}

#[tokio::test]
async fn an_endpoint_whose_credits_are_spent_is_left_alone_and_stays_healthy() {
    is_left_alone_and_stays_healthy(Fault::status(402)).await;
}

#[tokio::test]
async fn an_endpoint_that_wants_to_be_left_alone_for_ages_harms_nobody() {
    is_left_alone_and_stays_healthy(Fault::Http(THROTTLED.retry_after(u64::MAX))).await;
}

/// When the primary says how long to wait, nothing comes for that long.
async fn is_not_asked_before_its_time(fault: HttpAnswer) {
    let (story, trap) = Story::of(two_endpoints(), async |story| story.primary().trap_all(Fault::Http(fault))).await;
    story.register(100..105).await;

    // What is on its way when the first of them is answered arrives all the same. Left alone for less, it would be asked, and say so
    // again, and never be left alone for as long as it wants.
    let wanted = Duration::from_secs(PATIENCE) - Duration::from_millis(100);
    eventually("the endpoint to be left alone and asked again", async || {
        let times = story.primary().times();
        times.windows(2).any(|pair| pair[1] - pair[0] >= wanted).then_some(())
    })
    .await;
    assert!(trap.caught() > 0, "it has said how long to wait");
    story.nothing_bad_of(FIRST);
    story.ends().await;
}

#[tokio::test]
async fn retry_after_is_honoured() {
    is_not_asked_before_its_time(THROTTLED.retry_after(PATIENCE)).await;
}

#[tokio::test]
async fn retry_after_is_honoured_beside_an_error_in_the_body() {
    is_not_asked_before_its_time(THROTTLED.retry_after(PATIENCE).saying(PROXYD_OVER_RATE_LIMIT)).await;
}

#[tokio::test]
async fn the_only_endpoint_that_throttles_is_waited_for_and_stays_healthy() {
    for http in [THROTTLED, THROTTLED.retry_after(1).saying(PROXYD_OVER_RATE_LIMIT)] {
        let (story, ()) = Story::of(Plan::block_time(0.2).endpoints(1), async |story| {
            story.primary().trap_all(Fault::Http(http)).during(A_WHILE).await;
        })
        .await;
        story.felt(ONLY, "throttled").await;
        story.nothing_bad_of(ONLY);
        story.ends().await;
    }
}

#[tokio::test]
async fn when_all_endpoints_throttle_work_waits_and_none_is_called_unhealthy() {
    let (story, ()) = Story::of(two_endpoints(), async |story| {
        let traps = story.stack.proxies().iter().map(|proxy| proxy.trap_all(Fault::Http(THROTTLED.retry_after(1))));
        let traps: Vec<_> = traps.collect();
        tokio::time::sleep(A_WHILE).await;
        drop(traps);
    })
    .await;
    for endpoint in [FIRST, SECOND] {
        story.felt(endpoint, "throttled").await;
        story.nothing_bad_of(endpoint);
    }
    story.ends().await;
}
