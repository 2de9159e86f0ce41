//! Throttling: a throttled endpoint is left alone for as long as it requests and stays healthy.

use crate::harness::{
    CASE, Fault, HttpAnswer, LoadScenario, StackBuilder, State,
    client::health,
    eventually,
    load_scenario::{ENDPOINT_1, ENDPOINT_2, LogLine, SINGLE_ENDPOINT, failover, unhealthy},
    proxy::node_errors::{MONTH_SPENT, OVER_RATE_LIMIT, PROXYD_OVER_RATE_LIMIT},
};
use std::time::Duration;
use tonic_health::pb::health_check_response::ServingStatus;

/// `Retry-After` in seconds.
const RETRY_AFTER_SECONDS: u64 = 3;
const MEDIUM_WAIT: Duration = Duration::from_secs(2);

/// Two endpoints in front of one node with Base's block time.
fn two_endpoints() -> StackBuilder {
    StackBuilder::block_time(0.2).endpoints(2)
}

fn throttled(endpoint: &str) -> LogLine {
    unhealthy(endpoint).with("state", "throttled")
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

/// The primary's plan is used up, or it asks for a long pause: it is reported once, and the backup takes over.
#[tokio::test]
async fn an_endpoint_that_throttles_for_long_is_replaced_and_reported_once() {
    for fault in [
        Fault::status(402),
        Fault::Http(THROTTLED.with_error(MONTH_SPENT)),
        Fault::Error(MONTH_SPENT),
        Fault::Http(THROTTLED.retry_after(u64::MAX)),
    ] {
        let (scenario, injected) =
            LoadScenario::run_with_load(two_endpoints(), async |scenario| scenario.primary().inject_all(fault)).await;
        scenario.expect_log([throttled(ENDPOINT_1), failover(ENDPOINT_1, ENDPOINT_2)]).await;
        assert_eq!(scenario.state(ENDPOINT_1).await, "throttled", "{fault:?}");
        assert_eq!(scenario.count(&unhealthy(ENDPOINT_1)), 1, "{fault:?}");
        // What was under way when the first was throttled.
        assert!(injected.hits() < 20, "{} calls: {fault:?}", injected.hits());
        scenario.assert_no_warning_for(ENDPOINT_2);
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn the_only_endpoint_is_asked_again_soon_although_it_throttles_for_long() {
    for fault in [Fault::Error(MONTH_SPENT), Fault::Http(THROTTLED.retry_after(3600))] {
        let scenario = LoadScenario::new(StackBuilder::block_time(0.2).endpoints(1).start().await);
        let injected = scenario.primary().inject_all(fault);
        scenario.expect_log([throttled(SINGLE_ENDPOINT)]).await;
        let chain_health = async || health(scenario.stack.service.grpc, "chain").await;
        let unhealthy_chain = async || (chain_health().await == Ok(ServingStatus::NotServing)).then_some(());
        eventually("the chain to be unhealthy", unhealthy_chain).await;
        let accepted = scenario.stack.client.accept(1, CASE).await;
        eventually("an early probe", async || (injected.hits() > 1).then_some(())).await;
        assert!(injected.hits() < 10, "{} calls", injected.hits());
        injected.release();
        scenario.stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
        assert_eq!(chain_health().await, Ok(ServingStatus::Serving));
        assert_eq!(scenario.count(&unhealthy(SINGLE_ENDPOINT)), 1, "{fault:?}");
    }
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
