//! Endpoints whose head is frozen, behind or invented; and chains whose head stalls or falls, which is no endpoint's
//! fault.

use crate::harness::{
    Fault, LoadScenario, StackBuilder, State, eventually,
    load_scenario::{ENDPOINT_1, ENDPOINT_2, ENDPOINT_3, LogLine, SINGLE_ENDPOINT, failover, healthy, unhealthy},
};
use serde_json::json;
use std::time::Duration;

/// Endpoints in front of one node with Base's block time.
fn endpoints(count: usize) -> StackBuilder {
    StackBuilder::block_time(0.2).endpoints(count)
}

async fn head(scenario: &LoadScenario, endpoint: &str) -> f64 {
    scenario.stack.service.metrics().await.value("registrar_rpc_endpoint_head", &[("endpoint", endpoint)])
}

/// The primary's head freezes during fifty registrations. It is detected and does not delay the others.
async fn assert_frozen_primary_fails_over(count: usize) {
    let (scenario, (injected, frozen)) = LoadScenario::run_with_load(endpoints(count), async |scenario| {
        let head = scenario.stack.anvil.head().await;
        (scenario.primary().inject_all(Fault::FrozenAt(head)), head)
    })
    .await;

    scenario.expect_log([unhealthy(ENDPOINT_1).with("state", "degraded"), failover(ENDPOINT_1, ENDPOINT_2)]).await;
    scenario.assert_no_warning_for(ENDPOINT_2);
    let moved_on = async || (head(&scenario, ENDPOINT_2).await > frozen as f64 + 5.0).then_some(());
    eventually("the backup's head to advance", moved_on).await;
    assert!(head(&scenario, ENDPOINT_1).await <= frozen as f64, "the primary's head advanced");
    injected.release();
    scenario.expect_log([failover(ENDPOINT_1, ENDPOINT_2), healthy(ENDPOINT_1).with("from", "degraded")]).await;
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_frozen_primary_fails_over_with_two_endpoints() {
    assert_frozen_primary_fails_over(2).await;
}

#[tokio::test]
async fn a_frozen_primary_fails_over_with_three_endpoints() {
    assert_frozen_primary_fails_over(3).await;
}

#[tokio::test]
async fn a_single_endpoint_with_a_frozen_head_is_waited_for() {
    let (scenario, ()) = LoadScenario::run_with_load(endpoints(1), async |scenario| {
        let head = scenario.stack.anvil.head().await;
        scenario.primary().inject_all(Fault::FrozenAt(head)).hold_for(Duration::from_secs(5)).await;
    })
    .await;
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_primary_six_seconds_behind_fails_over() {
    let (scenario, _injected) = LoadScenario::run_with_load(endpoints(2), async |scenario| {
        scenario.stack.anvil.mine(30).await;
        scenario.primary().inject_all(Fault::Behind(30))
    })
    .await;
    scenario.expect_log([unhealthy(ENDPOINT_1).with("state", "degraded"), failover(ENDPOINT_1, ENDPOINT_2)]).await;
    scenario.assert_no_warning_for(ENDPOINT_2);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn an_endpoint_a_few_blocks_behind_stays_healthy() {
    for number in [0, 1] {
        let (scenario, injected) = LoadScenario::run_with_load(endpoints(2), async |scenario| {
            scenario.stack.proxies()[number].inject_all(Fault::Behind(3))
        })
        .await;
        assert!(injected.hits() > 0, "no call was answered by a lagging node");
        // No caller sees a block and then its absence, whichever endpoint answers.
        scenario.register(100..105).await;
        for endpoint in [ENDPOINT_1, ENDPOINT_2] {
            scenario.assert_no_warning_for(endpoint);
        }
        scenario.assert_invariants().await;
    }
}

/// Asserts that no block was reverted because an endpoint merely knew less.
fn assert_no_reorg(scenario: &LoadScenario) {
    for line in [
        LogLine::new("WARN", "chain head regressed"),
        LogLine::new("WARN", "the block of the transaction is no longer canonical"),
        LogLine::new("ERROR", "confirmed transaction was reorged out"),
    ] {
        assert_eq!(scenario.count(&line), 0, "{line:?}");
    }
}

#[tokio::test]
async fn a_load_balancer_with_lagging_nodes_is_not_taken_for_a_reorg() {
    for (count, numbers) in [(1, &[0][..]), (2, &[0]), (2, &[0, 1])] {
        let (scenario, injected) = LoadScenario::run_with_load(endpoints(count), async |scenario| {
            let inject = |number: &usize| scenario.stack.proxies()[*number].inject_all(Fault::AlternatelyBehind(3));
            numbers.iter().map(inject).collect::<Vec<_>>()
        })
        .await;
        scenario.register(100..110).await;
        assert!(injected.iter().all(|injected| injected.hits() > 1), "no call was answered by a lagging node");
        assert_no_reorg(&scenario);
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn a_frozen_backup_alone_is_not_taken_for_a_reorg() {
    let scenario = LoadScenario::new(endpoints(2).start().await);
    let head = scenario.stack.anvil.head().await;
    let _frozen = scenario.backup().inject_all(Fault::FrozenAt(head));
    scenario.expect_log([unhealthy(ENDPOINT_2).with("state", "degraded")]).await;
    scenario.register(100..110).await;

    let away = async |scenario: &LoadScenario| {
        scenario.primary().inject_all(Fault::RefuseConnections).hold_for(Duration::from_secs(6)).await;
    };
    scenario.register_during(away).await;

    assert_no_reorg(&scenario);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_backup_that_reports_an_invented_head_is_not_believed_when_it_is_the_only_one_left() {
    let builder = endpoints(2).set("REGISTRAR_CONFIRMATIONS", 3);
    let (scenario, _invented) = LoadScenario::run_with_load(builder, async |scenario| {
        let invented = scenario.backup().inject_all(Fault::Ahead { blocks: 1000, seconds: 0 });
        scenario.primary().inject_all(Fault::RefuseConnections).hold_for(Duration::from_secs(4)).await;
        invented
    })
    .await;
    assert_no_reorg(&scenario);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_load_balancer_switching_to_a_lagging_node_is_not_taken_for_a_reorg() {
    let scenario = LoadScenario::new(endpoints(1).start().await);
    scenario.stack.anvil.mine(40).await;
    scenario.register(0..3).await;
    let seen = scenario.stack.anvil.head().await;

    // Six seconds behind and catching up.
    let _behind = scenario.primary().inject_all(Fault::Behind(30));
    let caught_up = async || (head(&scenario, SINGLE_ENDPOINT).await > seen as f64).then_some(());
    eventually("the lagging node to catch up", caught_up).await;

    assert_no_reorg(&scenario);
    scenario.register(3..6).await;
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn two_permanently_frozen_endpoints_of_three_fail_over_to_the_third() {
    let builder = endpoints(3).set("REGISTRAR_CONFIRMATION_TIMEOUT", "60s");
    let (scenario, _frozen) = LoadScenario::run_with_load(builder, async |scenario| {
        let head = scenario.stack.anvil.head().await;
        [0, 1].map(|number| scenario.stack.proxies()[number].inject_all(Fault::FrozenAt(head)))
    })
    .await;
    scenario.expect_log([unhealthy(ENDPOINT_1).with("reason", "behind")]).await;
    scenario.expect_log([unhealthy(ENDPOINT_2).with("reason", "behind")]).await;
    scenario.assert_no_warning_for(ENDPOINT_3);
    assert_no_reorg(&scenario);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn two_temporarily_frozen_endpoints_of_three_lose_no_registration() {
    // One endpoint against two is not enough to confirm anything; confirmations wait until the two advance again.
    let (scenario, ()) = LoadScenario::run_with_load(endpoints(3), async |scenario| {
        let head = scenario.stack.anvil.head().await;
        let _frozen = [0, 1].map(|number| scenario.stack.proxies()[number].inject_all(Fault::FrozenAt(head)));
        tokio::time::sleep(Duration::from_secs(6)).await;
    })
    .await;
    scenario.assert_no_warning_for(ENDPOINT_3);
    assert_no_reorg(&scenario);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_syncing_primary_is_not_preferred() {
    let (dependencies, settings) = endpoints(2).prepare().await;
    let _syncing = dependencies.proxies[0].inject("eth_syncing", Fault::SYNCING);
    let scenario = LoadScenario::new(dependencies.start(settings).await);
    let reason = unhealthy(ENDPOINT_1).with("state", "degraded").with("reason", "syncing");
    scenario.expect_log([reason, failover(ENDPOINT_1, ENDPOINT_2)]).await;

    scenario.register_during(async |_| ()).await;

    assert_eq!(scenario.primary().sent(), Vec::<String>::new());
    scenario.assert_invariants().await;
}

/// This endpoint starts to report an invented head during fifty registrations. It is not trusted: no call fails, no
/// confirmation is early, and no correct endpoint becomes unhealthy.
async fn assert_invented_head_is_not_trusted(count: usize, faulty: usize) {
    for seconds in [0, 86_400] {
        let builder = endpoints(count).set("REGISTRAR_CONFIRMATIONS", 4);
        let fault = Fault::Ahead { blocks: 1000, seconds };
        let (scenario, injected) =
            LoadScenario::run_with_load(builder, async |scenario| scenario.stack.proxies()[faulty].inject_all(fault))
                .await;
        scenario.register(100..105).await;
        assert!(injected.hits() > 0, "the faulty endpoint got no call");
        for (number, endpoint) in [ENDPOINT_1, ENDPOINT_2, ENDPOINT_3].into_iter().enumerate().take(count) {
            if number != faulty {
                scenario.assert_no_warning_for(endpoint);
            }
        }
        assert_eq!(scenario.count(&LogLine::new("WARN", "chain stalled")), 0);
        injected.release();
        scenario.register(105..110).await;
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn a_primary_that_reports_an_invented_head_does_not_lead_with_two_endpoints() {
    assert_invented_head_is_not_trusted(2, 0).await;
}

#[tokio::test]
async fn a_backup_that_reports_an_invented_head_does_not_lead_with_two_endpoints() {
    assert_invented_head_is_not_trusted(2, 1).await;
}

#[tokio::test]
async fn a_primary_that_reports_an_invented_head_does_not_lead_with_three_endpoints() {
    assert_invented_head_is_not_trusted(3, 0).await;
}

#[tokio::test]
async fn a_backup_that_reports_an_invented_head_does_not_lead_with_three_endpoints() {
    assert_invented_head_is_not_trusted(3, 2).await;
}

/// A head that really regresses: registrations of the lost blocks are registered again, and later ones are confirmed.
async fn assert_rollback_is_followed(count: usize) {
    let scenario = LoadScenario::new(StackBuilder::on_demand().endpoints(count).start().await);
    for number in 0..4 {
        scenario.register(number..number + 1).await;
    }

    scenario.stack.anvil.rpc().run("anvil_rollback", json!([3])).await;

    assert_eq!(scenario.stack.registry.events().await.len(), 1, "the rollback did not remove three registrations");
    scenario.register(10..13).await;
    let all_registered = async || (scenario.stack.registry.events().await.len() == 7).then_some(());
    eventually("the lost registrations to be registered again", all_registered).await;
    for number in 0..4 {
        let id = scenario.stack.client.get_pair(&crate::harness::document(number), "case-1").await.unwrap().id;
        scenario.stack.client.wait_for_state(&id, State::Confirmed).await;
    }
    let regressed = LogLine::new("WARN", "chain head regressed");
    scenario.expect_log([regressed.clone()]).await;
    assert_eq!(scenario.count(&regressed), 1);
    let logged =
        scenario.stack.service.log().into_iter().find(|line| line["message"] == "chain head regressed").unwrap();
    assert!(logged["from_block"].as_u64() > logged["to_block"].as_u64(), "{logged}");
    for endpoint in if count == 1 { &["127.0.0.1"][..] } else { &[ENDPOINT_1, ENDPOINT_2] } {
        scenario.assert_no_warning_for(endpoint);
    }
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_rolled_back_chain_is_followed_with_one_endpoint() {
    assert_rollback_is_followed(1).await;
}

#[tokio::test]
async fn a_rolled_back_chain_is_followed_with_two_endpoints() {
    assert_rollback_is_followed(2).await;
}

#[tokio::test]
async fn a_stalled_chain_is_logged_once_and_no_endpoint_becomes_unhealthy() {
    const BASE_SEPOLIA: u64 = 84532;
    let id = BASE_SEPOLIA.to_string();
    let builder = endpoints(2).anvil(&["--chain-id", &id]).set("REGISTRAR_CHAIN_ID", BASE_SEPOLIA);
    let (stalled, moves) = (LogLine::new("WARN", "chain stalled"), LogLine::new("INFO", "chain resumed"));

    let (scenario, ()) = LoadScenario::run_with_load(builder, async |scenario| {
        scenario.stack.anvil.stop_mining().await;
        scenario.expect_log([stalled.clone()]).await;
        scenario.stack.anvil.rpc().run("evm_setIntervalMining", json!([1])).await;
        scenario.expect_log([stalled.clone(), moves.clone()]).await;
    })
    .await;

    assert_eq!((scenario.count(&stalled), scenario.count(&moves)), (1, 1), "each is logged once");
    let logged = scenario.stack.service.log().into_iter().find(|line| line["message"] == "chain stalled").unwrap();
    assert!(logged["block_number"].as_u64().unwrap() > 0, "{logged}");
    assert!(logged["seconds"].as_u64().unwrap() >= 5, "{logged}");
    for endpoint in [ENDPOINT_1, ENDPOINT_2] {
        scenario.assert_no_warning_for(endpoint);
        assert_eq!(scenario.state(endpoint).await, "healthy");
    }
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_local_chain_that_mines_on_demand_is_not_reported_as_stalled() {
    let scenario = LoadScenario::new(StackBuilder::on_demand().endpoints(2).start().await);

    scenario.expect_log([LogLine::new("INFO", "no new block; expected on a local chain that mines on demand")]).await;
    scenario.register(0..10).await;

    assert_eq!(scenario.count(&LogLine::new("WARN", "chain stalled")), 0);
    for endpoint in [ENDPOINT_1, ENDPOINT_2] {
        scenario.assert_no_warning_for(endpoint);
    }
    scenario.assert_invariants().await;
}
