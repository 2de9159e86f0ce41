//! What a single endpoint's answer is not enough for.

use crate::harness::{
    CASE, Fault, LoadScenario, StackBuilder, State, WaitFor, assert_pending, document, eventually,
    load_scenario::{ENDPOINT_1, ENDPOINT_2, LogLine, failover, unhealthy},
    proxy::node_errors::NodeError,
    register_request, seconds,
};
use std::time::Duration;

fn endpoints(count: usize) -> StackBuilder {
    StackBuilder::block_time(0.2).endpoints(count)
}

async fn reported_head(scenario: &LoadScenario, endpoint: &str) -> f64 {
    scenario.stack.service.metrics().await.value("registrar_rpc_endpoint_head", &[("endpoint", endpoint)])
}

#[tokio::test]
async fn a_block_missing_at_the_other_endpoint_is_not_confirmed() {
    let scenario = LoadScenario::new(endpoints(2).start().await);
    // The backup's head is current, but it knows no block by number, like a node on a fork without the block.
    let denied = scenario.backup().inject_matching("eth_getBlockByNumber", "0x", Fault::NULL);
    let accepted = scenario.stack.client.accept(1, CASE).await;
    scenario.stack.client.wait_for_state(&accepted.id, State::Included).await;
    let mut request = register_request(1, CASE, WaitFor::Confirmed);
    request.wait_timeout = seconds(30);

    let mut confirmed = Box::pin(scenario.stack.client.register(request));
    assert_pending("the confirmation by one endpoint", &mut confirmed, Duration::from_secs(1)).await;
    denied.release();

    assert_eq!(confirmed.await.unwrap().state(), State::Confirmed);
    scenario.stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn silence_of_the_other_endpoint_confirms_nothing() {
    let refused = NodeError { code: 30, message: "Request timeout on the free tier, please upgrade", data: None };
    let pruned = NodeError { code: -32000, message: "missing trie node 7c1d", data: None };
    let scenario = LoadScenario::new(endpoints(2).start().await);
    for (number, silence) in
        (1..).zip([Fault::Error(refused), Fault::Error(pruned), Fault::status(408), Fault::LoseRequest, Fault::Hang])
    {
        let injected = scenario.backup().inject_matching("eth_getBlockByNumber", "0x", silence);
        let accepted = scenario.stack.client.accept(number, CASE).await;
        scenario.stack.client.wait_for_state(&accepted.id, State::Included).await;
        let mut confirmed = Box::pin(scenario.stack.client.wait_for_state(&accepted.id, State::Confirmed));

        assert_pending(&format!("the confirmation with {silence:?}"), &mut confirmed, Duration::from_secs(2)).await;
        injected.release();

        confirmed.await;
    }
}

#[tokio::test]
async fn receipts_that_contradict_the_chain_are_settled_by_another_endpoint() {
    let scenario = LoadScenario::new(endpoints(2).start().await);
    let _wrong = scenario.primary().inject("eth_getTransactionReceipt", Fault::WrongBlockHash);

    let confirmed = scenario.stack.client.confirm(1, CASE).await;

    assert_ne!(confirmed.transaction.unwrap().block_hash, format!("0x{}", "ab".repeat(32)));
    scenario.stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn what_only_the_first_endpoint_reports_blocks_nothing() {
    let scenario = LoadScenario::new(endpoints(2).start().await);
    let block = "eth_getBlockByNumber";
    for (number, (method, fault)) in (1..).zip([
        ("eth_getBalance", Fault::Result("\"0x0\"")),
        (block, Fault::Member("baseFeePerGas", "\"0x80000000000000000000000000000000\"")),
        (block, Fault::Member("gasLimit", "\"0x1\"")),
    ]) {
        let wrong = scenario.primary().inject(method, fault);
        let accepted = scenario.stack.client.accept(number, CASE).await;
        tokio::join!(scenario.stack.client.wait_for_state(&accepted.id, State::Confirmed), wrong.until_hit());
        wrong.release();
    }

    let blocked = scenario.stack.service.log().into_iter().find(|line| line["message"] == "registrations are blocked");
    assert_eq!(blocked, None);
}

#[tokio::test]
async fn a_lagging_backup_alone_is_not_taken_for_a_regressed_chain() {
    let mut scenario = LoadScenario::new(endpoints(2).start().await);
    scenario.stack.anvil.mine(60).await;
    // Eight seconds behind, and since the start: this process has never seen a higher head from it.
    let _behind = scenario.backup().inject_all(Fault::Behind(40));
    scenario.stack.crash().await;
    scenario.expect_log([unhealthy(ENDPOINT_2).with("state", "degraded")]).await;
    let confirmed = scenario.stack.client.confirm(1, CASE).await;
    let head = scenario.stack.anvil.head().await;

    let _gone = scenario.primary().inject_all(Fault::RefuseConnections);
    scenario.expect_log([failover(ENDPOINT_1, ENDPOINT_2)]).await;
    let caught_up = async || (reported_head(&scenario, ENDPOINT_2).await >= head as f64).then_some(());
    eventually("the backup to reach the confirmed block", caught_up).await;

    assert_eq!(scenario.count(&LogLine::new("ERROR", "confirmed transaction was reorged out")), 0);
    let regressions =
        scenario.stack.service.log().iter().filter(|line| line["message"] == "chain head regressed").count();
    assert_eq!(regressions, 0, "a lagging backup was taken for a regressed chain");
    assert_eq!(scenario.stack.client.get(&confirmed.id).await.unwrap().state(), State::Confirmed);
}

#[tokio::test]
async fn a_nonce_reported_by_one_endpoint_only_causes_no_gap() {
    let scenario = LoadScenario::new(endpoints(2).start().await);
    let _invented = scenario.primary().inject("eth_getTransactionCount", Fault::Result("\"0x5\""));

    let confirmed = scenario.stack.client.confirm(1, CASE).await;

    assert_eq!(confirmed.transaction.unwrap().nonce, Some(0));
}

#[tokio::test]
async fn an_error_of_the_backup_does_not_outweigh_the_primarys_answer() {
    let scenario = LoadScenario::new(endpoints(2).start().await);
    let unknown = NodeError { code: -32601, message: "the method is not part of your builder", data: None };
    let _refuses = scenario.backup().inject("eth_call", Fault::Error(unknown));

    let verified = scenario.stack.client.verify(&document(1), CASE).await.unwrap();

    assert!(!verified.registered, "{verified:?}");
}

#[tokio::test]
async fn an_endpoint_that_rejects_every_call_fails_over() {
    let switched_off = NodeError { code: -32000, message: "project disabled", data: None };
    let (scenario, _injected) = LoadScenario::run_with_load(endpoints(2), async |scenario| {
        scenario.primary().inject_all(Fault::Error(switched_off))
    })
    .await;

    scenario.expect_log([unhealthy(ENDPOINT_1), failover(ENDPOINT_1, ENDPOINT_2)]).await;
    scenario.assert_no_warning_for(ENDPOINT_2);
    scenario.assert_invariants().await;
}
