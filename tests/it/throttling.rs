//! Throttling: a throttled endpoint is left alone for as long as it requests and stays healthy.

use crate::harness::{
    Fault, HttpAnswer, LoadScenario, StackBuilder, eventually,
    load_scenario::{ENDPOINT_1, ENDPOINT_2, SINGLE_ENDPOINT},
    proxy::node_errors::{OVER_RATE_LIMIT, PROXYD_OVER_RATE_LIMIT},
};
use std::time::Duration;

/// `Retry-After` in seconds.
const RETRY_AFTER_SECONDS: u64 = 3;
const MEDIUM_WAIT: Duration = Duration::from_secs(2);

/// Two endpoints in front of one node with Base's block time.
fn two_endpoints() -> StackBuilder {
    StackBuilder::block_time(0.2).endpoints(2)
}

const THROTTLED: HttpAnswer = HttpAnswer::status(429);

/// The primary is throttled during fifty registrations; the backup takes over, and both stay healthy.
async fn assert_left_alone_and_healthy(fault: Fault) {
    let (scenario, injected) =
        LoadScenario::run_with_load(two_endpoints(), async |scenario| scenario.primary().inject_all(fault)).await;
    assert!(injected.hits() > 0, "the primary got no call");
    // Whether a call or a probe was throttled first, all later sends go to the backup.
    scenario.expect_call_outcome(ENDPOINT_1, "throttled").await;
    assert!(!scenario.backup().sent().is_empty(), "{fault:?}");
    for endpoint in [ENDPOINT_1, ENDPOINT_2] {
        scenario.assert_no_warning_for(endpoint);
        assert_eq!(scenario.state(endpoint).await, "healthy", "{fault:?}");
    }
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_throttled_endpoint_is_left_alone_and_stays_healthy() {
    for http in [THROTTLED, THROTTLED.retry_after(RETRY_AFTER_SECONDS)] {
        assert_left_alone_and_healthy(Fault::Http(http)).await;
    }
}

#[tokio::test]
async fn an_endpoint_throttled_with_an_error_body_is_left_alone_and_stays_healthy() {
    for http in [THROTTLED, THROTTLED.retry_after(RETRY_AFTER_SECONDS)] {
        assert_left_alone_and_healthy(Fault::Http(http.with_error(PROXYD_OVER_RATE_LIMIT))).await;
    }
}

#[tokio::test]
async fn every_providers_throttling_error_is_recognized() {
    for error in OVER_RATE_LIMIT {
        assert_left_alone_and_healthy(Fault::Error(error)).await;
    }
}

#[tokio::test]
async fn an_endpoint_without_credits_is_left_alone_and_stays_healthy() {
    assert_left_alone_and_healthy(Fault::status(402)).await;
}

#[tokio::test]
async fn an_extreme_retry_after_is_survived() {
    assert_left_alone_and_healthy(Fault::Http(THROTTLED.retry_after(u64::MAX))).await;
}

/// The primary gets no call for as long as its `Retry-After` says.
async fn assert_retry_after_respected(fault: HttpAnswer) {
    let (scenario, injected) = LoadScenario::run_with_load(two_endpoints(), async |scenario| {
        scenario.primary().inject_all(Fault::Http(fault))
    })
    .await;
    scenario.register(100..105).await;

    // Calls that are in flight when the first is throttled still arrive. If the endpoint were left alone for a shorter
    // time, each call would be throttled again and no such pause would occur.
    let pause = Duration::from_secs(RETRY_AFTER_SECONDS) - Duration::from_millis(100);
    eventually("a pause as long as Retry-After", async || {
        let times = scenario.primary().times();
        times.windows(2).any(|pair| pair[1] - pair[0] >= pause).then_some(())
    })
    .await;
    assert!(injected.hits() > 0, "the primary was not throttled");
    scenario.assert_no_warning_for(ENDPOINT_1);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn retry_after_is_respected() {
    assert_retry_after_respected(THROTTLED.retry_after(RETRY_AFTER_SECONDS)).await;
}

#[tokio::test]
async fn retry_after_is_respected_beside_an_error_body() {
    assert_retry_after_respected(THROTTLED.retry_after(RETRY_AFTER_SECONDS).with_error(PROXYD_OVER_RATE_LIMIT)).await;
}

#[tokio::test]
async fn a_throttled_single_endpoint_is_waited_for_and_stays_healthy() {
    for http in [THROTTLED, THROTTLED.retry_after(1).with_error(PROXYD_OVER_RATE_LIMIT)] {
        let (scenario, ()) =
            LoadScenario::run_with_load(StackBuilder::block_time(0.2).endpoints(1), async |scenario| {
                scenario.primary().inject_all(Fault::Http(http)).hold_for(MEDIUM_WAIT).await;
            })
            .await;
        scenario.expect_call_outcome(SINGLE_ENDPOINT, "throttled").await;
        scenario.assert_no_warning_for(SINGLE_ENDPOINT);
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn work_waits_while_all_endpoints_throttle_and_all_stay_healthy() {
    let (scenario, ()) = LoadScenario::run_with_load(two_endpoints(), async |scenario| {
        let injected =
            scenario.stack.proxies().iter().map(|proxy| proxy.inject_all(Fault::Http(THROTTLED.retry_after(1))));
        let injected: Vec<_> = injected.collect();
        tokio::time::sleep(MEDIUM_WAIT).await;
        drop(injected);
    })
    .await;
    for endpoint in [ENDPOINT_1, ENDPOINT_2] {
        scenario.expect_call_outcome(endpoint, "throttled").await;
        scenario.assert_no_warning_for(endpoint);
    }
    scenario.assert_invariants().await;
}
