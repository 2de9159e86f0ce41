//! Simultaneous outages of endpoints, and endpoints that flap.

use crate::harness::{
    CASE, Fault, LoadScenario, StackBuilder,
    load_scenario::{
        ENDPOINT_1, ENDPOINT_2, ENDPOINT_3, LogLine, all_endpoints_unavailable, endpoints_available_again, failback,
        healthy, unhealthy,
    },
    proxy::InjectedFault,
    retry_timing,
};
use std::time::Duration;
use tokio::time::Instant;

const A_SECOND: Duration = Duration::from_secs(1);

/// Endpoints in front of one node with Base's block time.
fn endpoints(count: usize) -> StackBuilder {
    StackBuilder::block_time(0.2).endpoints(count)
}

fn inject(scenario: &LoadScenario, numbers: &[usize], fault: Fault) -> Vec<InjectedFault> {
    numbers.iter().map(|number| scenario.stack.proxies()[*number].inject_all(fault)).collect()
}

fn failovers(scenario: &LoadScenario) -> usize {
    [LogLine::new("WARN", "RPC failover"), LogLine::new("INFO", "RPC failover")]
        .iter()
        .map(|line| scenario.count(line))
        .sum()
}

#[tokio::test]
async fn two_simultaneous_outages_of_three_fail_over_to_the_third() {
    for fault in [Fault::RefuseConnections, Fault::Hang] {
        let (scenario, _injected) =
            LoadScenario::run_with_load(endpoints(3), async |scenario| inject(scenario, &[0, 1], fault)).await;
        scenario.expect_log([unhealthy(ENDPOINT_1), LogLine::new("WARN", "RPC failover").with("to", ENDPOINT_3)]).await;
        scenario.expect_log([unhealthy(ENDPOINT_2)]).await;
        scenario.assert_no_warning_for(ENDPOINT_3);
        assert!(!scenario.stack.proxies()[2].sent().is_empty());
        assert_eq!(scenario.count(&all_endpoints_unavailable()), 0);
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn a_failing_backup_is_detected_without_failover() {
    let (scenario, _injected) =
        LoadScenario::run_with_load(endpoints(2), async |scenario| inject(scenario, &[1], Fault::RefuseConnections))
            .await;
    scenario.expect_log([unhealthy(ENDPOINT_2)]).await;
    scenario.wait_for_state(ENDPOINT_2, "down").await;
    scenario.assert_no_warning_for(ENDPOINT_1);
    assert_eq!(failovers(&scenario), 0);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn an_outage_of_all_endpoints_for_twenty_seconds_loses_no_registration() {
    let (scenario, ()) = LoadScenario::run_with_load(endpoints(2), async |scenario| {
        let injected = inject(scenario, &[0, 1], Fault::RefuseConnections);
        scenario.expect_log([all_endpoints_unavailable()]).await;
        tokio::time::sleep(20 * A_SECOND).await;
        drop(injected);
    })
    .await;
    scenario.expect_log([all_endpoints_unavailable(), endpoints_available_again()]).await;
    scenario.expect_log([unhealthy(ENDPOINT_1), healthy(ENDPOINT_1)]).await;
    scenario.expect_log([unhealthy(ENDPOINT_2), healthy(ENDPOINT_2)]).await;
    assert_eq!(
        (scenario.count(&all_endpoints_unavailable()), scenario.count(&endpoints_available_again())),
        (1, 1),
        "each is logged once"
    );
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn an_outage_of_all_endpoints_ends_within_seconds_of_recovery() {
    let (scenario, ()) = LoadScenario::run_with_load(endpoints(2), async |scenario| {
        let mut expected = Vec::new();
        // While none is available, all endpoints are probed every second.
        retry_timing("the end of the outage", async || {
            let injected = inject(scenario, &[0, 1], Fault::Hang);
            expected.push(all_endpoints_unavailable());
            scenario.expect_log(expected.clone()).await;
            drop(injected);
            let started = Instant::now();
            expected.push(endpoints_available_again());
            scenario.expect_log(expected.clone()).await;
            let took = started.elapsed();
            if took < 5 * A_SECOND { Ok(()) } else { Err(format!("after {took:?}")) }
        })
        .await;
    })
    .await;
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_primary_that_flaps_every_second_causes_few_failovers() {
    let (scenario, ()) = LoadScenario::run_with_load(endpoints(2), async |scenario| {
        let over = std::cell::Cell::new(false);
        let flapping = async {
            scenario.primary().flap(Fault::RefuseConnections, A_SECOND, 4).await;
            over.set(true);
        };
        // Registrations are made throughout.
        let working = async {
            for number in 100.. {
                if over.get() {
                    break;
                }
                scenario.register(number..number + 1).await;
            }
        };
        tokio::join!(flapping, working);
    })
    .await;
    scenario.expect_log([unhealthy(ENDPOINT_1)]).await;
    scenario.assert_no_warning_for(ENDPOINT_2);
    let changes = failovers(&scenario);
    assert!((1..=4).contains(&changes), "the primary changed {changes} times in four outages of a second");
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_primary_that_hangs_repeatedly_causes_few_failovers() {
    let (scenario, ()) = LoadScenario::run_with_load(endpoints(2), async |scenario| {
        // Long enough for a read to time out, and then for the endpoint to be trusted again.
        scenario.primary().flap(Fault::Hang, Duration::from_millis(2500), 3).await;
    })
    .await;
    let unsteady = unhealthy(ENDPOINT_1).with("state", "degraded").with("reason", "unsteady");
    scenario.expect_log([unhealthy(ENDPOINT_1).with("state", "suspect"), unsteady]).await;
    scenario.assert_no_warning_for(ENDPOINT_2);
    assert!(failovers(&scenario) <= 4, "the primary changed {} times", failovers(&scenario));
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn endpoints_that_fail_alternately_lose_no_registration() {
    let (scenario, ()) = LoadScenario::run_with_load(endpoints(2), async |scenario| {
        for _ in 0..3 {
            for number in [0, 1] {
                scenario.stack.proxies()[number].inject_all(Fault::Reset).hold_for(A_SECOND).await;
            }
        }
    })
    .await;
    for endpoint in [ENDPOINT_1, ENDPOINT_2] {
        scenario.expect_call_outcome(endpoint, "lost").await;
    }
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_recovered_primary_is_returned_to_once() {
    let (scenario, injected) =
        LoadScenario::run_with_load(endpoints(3), async |scenario| inject(scenario, &[0], Fault::RefuseConnections))
            .await;
    scenario.wait_for_state(ENDPOINT_1, "down").await;
    drop(injected);
    scenario.expect_log([unhealthy(ENDPOINT_1), healthy(ENDPOINT_1), failback(ENDPOINT_1)]).await;

    // Later probes and registrations change nothing.
    for number in 100..110 {
        scenario.register(number..number + 1).await;
    }

    assert_eq!(failovers(&scenario), 2, "one failover and one failback");
    for endpoint in [ENDPOINT_1, ENDPOINT_2, ENDPOINT_3] {
        assert_eq!(scenario.state(endpoint).await, "healthy");
    }
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_crash_during_an_outage_of_the_primary_loses_no_registration() {
    for fault in [Fault::RefuseConnections, Fault::Hang] {
        let mut scenario = LoadScenario::new(endpoints(2).start().await);
        let _away = inject(&scenario, &[0], fault);
        for number in 0..50 {
            scenario.stack.client.accept(number, CASE).await;
        }

        scenario.stack.crash().await;

        // The callers repeat their requests.
        scenario.register(0..50).await;
        scenario.expect_log([unhealthy(ENDPOINT_1)]).await;
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn a_service_exits_in_time_while_its_primary_hangs() {
    let mut scenario = LoadScenario::new(endpoints(2).set("REGISTRAR_SHUTDOWN_GRACE", "10s").start().await);
    for number in 0..10 {
        scenario.stack.client.accept(number, CASE).await;
    }
    let injected = inject(&scenario, &[0], Fault::Hang);
    injected[0].until_hit().await;

    let started = Instant::now();
    scenario.stack.service.terminate();
    assert_eq!(scenario.stack.service.exit_code().await, 0);

    assert!(started.elapsed() < 20 * A_SECOND, "exited after {:?}", started.elapsed());
    scenario.stack.restart().await;
    scenario.register(0..10).await;
    scenario.assert_invariants().await;
}
