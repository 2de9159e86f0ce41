//! Sending when it is unknown whether a node has the transaction, and reading from an endpoint that lacks an answer:
//! the same transaction is sent to another endpoint, and reads fail over.

use crate::harness::{
    Fault, LoadScenario, Proxy, StackBuilder, eventually,
    load_scenario::{ENDPOINT_1, ENDPOINT_2, SINGLE_ENDPOINT, failover, unhealthy},
    proxy::node_errors::{ALREADY_KNOWN, NONCE_TOO_LOW, OTHER_CHAIN, SENDER_LIMIT, UNKNOWN_BLOCK, UNKNOWN_ERRORS},
};
use std::{collections::BTreeSet, time::Duration};

const SEND: &str = "eth_sendRawTransaction";
const MEDIUM_WAIT: Duration = Duration::from_secs(2);

/// Two endpoints in front of one node with Base's block time.
fn two_endpoints() -> StackBuilder {
    StackBuilder::block_time(0.2).endpoints(2)
}

fn sent(proxy: &Proxy) -> BTreeSet<String> {
    proxy.sent().into_iter().collect()
}

/// The primary has this fault for sends during fifty registrations; the backup gets a transaction that the primary got.
async fn resends_through_backup(fault: Fault, reason: &str) -> LoadScenario {
    let (scenario, injected) =
        LoadScenario::run_with_load(two_endpoints(), async |scenario| scenario.primary().inject(SEND, fault)).await;

    assert!(injected.hits() > 0, "nothing was sent to the primary");
    let (first, second) = (scenario.primary(), scenario.backup());
    // A transaction may be confirmed before its send times out.
    eventually("the backup to get a transaction of the primary", async || {
        (!sent(first).is_disjoint(&sent(second))).then_some(())
    })
    .await;
    assert!(scenario.failover_count(ENDPOINT_1, ENDPOINT_2, reason).await >= 1.0);
    scenario.assert_no_warning_for(ENDPOINT_2);
    scenario
}

#[tokio::test]
async fn a_send_whose_answer_is_lost_is_repeated_through_the_backup() {
    resends_through_backup(Fault::LoseResponse, "lost").await.assert_invariants().await;
}

#[tokio::test]
async fn a_send_that_never_reaches_the_node_is_repeated_through_the_backup() {
    resends_through_backup(Fault::LoseRequest, "lost").await.assert_invariants().await;
}

#[tokio::test]
async fn a_send_whose_answer_hangs_is_confirmed_by_the_chain() {
    let (scenario, injected) = LoadScenario::run_with_load(two_endpoints(), async |scenario| {
        scenario.primary().inject(SEND, Fault::HoldResponse)
    })
    .await;
    assert!(injected.hits() > 0, "nothing was sent to the primary");
    scenario.assert_no_warning_for(ENDPOINT_2);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_send_that_hangs_before_the_node_is_repeated_through_the_backup() {
    resends_through_backup(Fault::Hang, "timeout").await.assert_invariants().await;
}

#[tokio::test]
async fn a_send_that_the_gateway_rejects_is_repeated_through_the_backup() {
    resends_through_backup(Fault::status(502), "status").await.assert_invariants().await;
}

#[tokio::test]
async fn an_accepted_send_goes_to_the_primary_only() {
    let (scenario, ()) = LoadScenario::run_with_load(two_endpoints(), async |_| ()).await;
    let (first, second) = (scenario.primary(), scenario.backup());
    assert!(!first.sent().is_empty());
    assert_eq!(second.sent(), Vec::<String>::new());
    for endpoint in [ENDPOINT_1, ENDPOINT_2] {
        scenario.assert_no_warning_for(endpoint);
        assert_eq!(scenario.state(endpoint).await, "healthy");
    }
    assert_eq!(scenario.count(&failover(ENDPOINT_1, ENDPOINT_2)), 0);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn every_wording_of_already_known_counts_as_sent() {
    for error in ALREADY_KNOWN {
        // The node gets no transaction during the fault; the service has to rebroadcast afterwards.
        let (scenario, ()) =
            LoadScenario::run_with_load(StackBuilder::block_time(0.2).endpoints(1), async |scenario| {
                scenario.primary().inject(SEND, Fault::Error(error)).hold_after_first_hit(MEDIUM_WAIT).await;
            })
            .await;
        scenario.expect_call_outcome(SINGLE_ENDPOINT, "refused").await;
        scenario.assert_no_warning_for(SINGLE_ENDPOINT);
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn nonce_too_low_is_not_trusted_until_the_chain_shows_the_nonce() {
    for error in NONCE_TOO_LOW {
        let (scenario, ()) = LoadScenario::run_with_load(two_endpoints(), async |scenario| {
            scenario.primary().inject(SEND, Fault::Error(error)).hold_after_first_hit(MEDIUM_WAIT).await;
        })
        .await;
        scenario.expect_call_outcome(ENDPOINT_1, "refused").await;
        scenario.assert_no_warning_for(ENDPOINT_1);
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn a_sender_limit_is_waited_for_without_failover() {
    for error in SENDER_LIMIT {
        let (scenario, ()) = LoadScenario::run_with_load(two_endpoints(), async |scenario| {
            scenario.primary().inject(SEND, Fault::Error(error)).hold_after_first_hit(MEDIUM_WAIT).await;
        })
        .await;
        scenario.expect_call_outcome(ENDPOINT_1, "refused").await;
        assert_eq!(
            scenario.backup().sent(),
            Vec::<String>::new(),
            "{error:?}: the sequencer's limit applies to every endpoint"
        );
        assert_eq!(scenario.count(&failover(ENDPOINT_1, ENDPOINT_2)), 0);
        scenario.assert_no_warning_for(ENDPOINT_1);
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn a_wrong_chain_id_error_fails_over_to_another_endpoint() {
    for error in OTHER_CHAIN {
        let (scenario, _injected) = LoadScenario::run_with_load(two_endpoints(), async |scenario| {
            scenario.primary().inject(SEND, Fault::Error(error))
        })
        .await;
        assert!(!scenario.backup().sent().is_empty());
        scenario.assert_no_warning_for(ENDPOINT_2);
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn receipts_missing_at_the_primary_are_read_from_the_backup() {
    let (scenario, injected) = LoadScenario::run_with_load(two_endpoints(), async |scenario| {
        scenario.primary().inject("eth_getTransactionReceipt", Fault::NULL)
    })
    .await;
    assert!(injected.hits() > 0, "no receipt was requested from the primary");
    assert!(scenario.backup().count("eth_getTransactionReceipt") > 0);
    scenario.assert_no_warning_for(ENDPOINT_2);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn an_unknown_block_error_fails_over() {
    for error in UNKNOWN_BLOCK {
        let (scenario, injected) = LoadScenario::run_with_load(two_endpoints(), async |scenario| {
            scenario.primary().inject("eth_call", Fault::Error(error))
        })
        .await;
        assert!(injected.hits() > 0, "the primary was not called");
        assert!(scenario.failover_count(ENDPOINT_1, ENDPOINT_2, "behind").await >= 1.0);
        scenario.assert_no_warning_for(ENDPOINT_2);
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn an_unknown_error_fails_over() {
    for error in UNKNOWN_ERRORS {
        for method in [SEND, "eth_call", "eth_getBalance"] {
            let (scenario, injected) = LoadScenario::run_with_load(two_endpoints(), async |scenario| {
                scenario.primary().inject(method, Fault::Error(error))
            })
            .await;
            assert!(injected.hits() > 0, "{method} was not sent to the primary");
            assert!(scenario.failover_count(ENDPOINT_1, ENDPOINT_2, "refused").await >= 1.0, "{method}: {error:?}");
            for endpoint in [ENDPOINT_1, ENDPOINT_2] {
                scenario.assert_no_warning_for(endpoint);
            }
            scenario.assert_invariants().await;
        }
    }
}

#[tokio::test]
async fn a_hanging_method_fails_over() {
    let methods = ["eth_call", "eth_getTransactionReceipt", "eth_getBlockByNumber", "eth_getTransactionCount"];
    for method in methods {
        let (scenario, injected) = LoadScenario::run_with_load(two_endpoints(), async |scenario| {
            scenario.primary().inject(method, Fault::Hang)
        })
        .await;
        assert!(injected.hits() > 0, "{method} was not sent to the primary");
        assert!(scenario.failover_count(ENDPOINT_1, ENDPOINT_2, "").await >= 1.0, "{method}");
        assert_eq!(scenario.count(&unhealthy(ENDPOINT_2)), 0);
        scenario.assert_invariants().await;
    }
}
