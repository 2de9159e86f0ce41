//! Sending when it is not clear whether a node took the bytes, and reading from an endpoint that does not know yet: the same
//! bytes go out again, wherever they are taken, and what one endpoint does not know is asked of another.

use crate::harness::{
    Fault, Plan, Proxy, Story, eventually,
    proxy::dialects::{ALREADY_KNOWN, NONCE_TOO_LOW, OTHER_CHAIN, SENDER_LIMIT, UNHEARD_OF, UNKNOWN_BLOCK},
    story::{FIRST, ONLY, SECOND, failover, unhealthy},
};
use std::{collections::BTreeSet, time::Duration};

const SEND: &str = "eth_sendRawTransaction";
const A_WHILE: Duration = Duration::from_secs(2);

/// Two endpoints before one node with Base's block time.
fn two_endpoints() -> Plan {
    Plan::block_time(0.2).endpoints(2)
}

fn sent(proxy: &Proxy) -> BTreeSet<String> {
    proxy.sent().into_iter().collect()
}

/// In the middle of fifty registrations the primary begins to do this to what is sent to it; the second endpoint gets the very
/// bytes that the first one got.
async fn goes_out_elsewhere_as_the_same_bytes(fault: Fault, reason: &str) -> Story {
    let (story, trap) = Story::of(two_endpoints(), async |story| story.primary().trap(SEND, fault)).await;

    assert!(trap.caught() > 0, "nothing was sent to the primary");
    let (first, second) = (story.primary(), story.backup());
    // What is sent may be confirmed before its send is given up.
    eventually("the second endpoint to get what the first one got", async || {
        (!sent(first).is_disjoint(&sent(second))).then_some(())
    })
    .await;
    assert!(story.moved(FIRST, SECOND, reason).await >= 1.0);
    story.nothing_bad_of(SECOND);
    story
}

#[tokio::test]
async fn a_send_whose_answer_is_lost_after_the_node_took_it_goes_out_elsewhere_as_the_same_bytes() {
    goes_out_elsewhere_as_the_same_bytes(Fault::LoseAnswer, "lost").await.ends().await;
}

#[tokio::test]
async fn a_send_that_never_reaches_its_node_goes_out_elsewhere_as_the_same_bytes() {
    goes_out_elsewhere_as_the_same_bytes(Fault::LoseRequest, "lost").await.ends().await;
}

#[tokio::test]
async fn a_send_whose_answer_hangs_is_settled_by_the_chain() {
    let (story, trap) = Story::of(two_endpoints(), async |story| story.primary().trap(SEND, Fault::HoldAnswer)).await;
    assert!(trap.caught() > 0, "nothing was sent to the primary");
    story.nothing_bad_of(SECOND);
    story.ends().await;
}

#[tokio::test]
async fn a_send_that_hangs_before_its_node_goes_out_elsewhere_as_the_same_bytes() {
    goes_out_elsewhere_as_the_same_bytes(Fault::Hang, "timeout").await.ends().await;
}

#[tokio::test]
async fn a_send_that_the_gateway_breaks_off_goes_out_elsewhere_as_the_same_bytes() {
    goes_out_elsewhere_as_the_same_bytes(Fault::status(502), "status").await.ends().await;
}

#[tokio::test]
async fn a_send_that_is_taken_goes_to_the_primary_alone() {
    let (story, ()) = Story::of(two_endpoints(), async |_| ()).await;
    let (first, second) = (story.primary(), story.backup());
    assert!(!first.sent().is_empty());
    assert_eq!(second.sent(), Vec::<String>::new());
    for endpoint in [FIRST, SECOND] {
        story.nothing_bad_of(endpoint);
        assert_eq!(story.state(endpoint).await, "healthy");
    }
    assert_eq!(story.count(&failover(FIRST, SECOND)), 0);
    story.ends().await;
}

#[tokio::test]
async fn a_node_that_has_the_bytes_already_has_them_in_whatever_words_it_says_so() {
    for error in ALREADY_KNOWN {
        // Nothing reaches the node while it says so: what goes out again afterwards is what it did not have.
        let (story, ()) = Story::of(Plan::block_time(0.2).endpoints(1), async |story| {
            story.primary().trap(SEND, Fault::Error(error)).during_from_the_first(A_WHILE).await;
        })
        .await;
        story.felt(ONLY, "refused").await;
        story.nothing_bad_of(ONLY);
        story.ends().await;
    }
}

#[tokio::test]
async fn a_node_that_takes_a_nonce_for_consumed_is_not_believed_before_the_chain_shows_it() {
    for error in NONCE_TOO_LOW {
        let (story, ()) = Story::of(two_endpoints(), async |story| {
            story.primary().trap(SEND, Fault::Error(error)).during_from_the_first(A_WHILE).await;
        })
        .await;
        story.felt(FIRST, "refused").await;
        story.nothing_bad_of(FIRST);
        story.ends().await;
    }
}

#[tokio::test]
async fn a_limit_on_the_sender_is_waited_for_because_no_other_endpoint_would_help() {
    for error in SENDER_LIMIT {
        let (story, ()) = Story::of(two_endpoints(), async |story| {
            story.primary().trap(SEND, Fault::Error(error)).during_from_the_first(A_WHILE).await;
        })
        .await;
        story.felt(FIRST, "refused").await;
        assert_eq!(story.backup().sent(), Vec::<String>::new(), "{error:?}: one sequencer serves them all");
        assert_eq!(story.count(&failover(FIRST, SECOND)), 0);
        story.nothing_bad_of(FIRST);
        story.ends().await;
    }
}

#[tokio::test]
async fn a_node_of_another_chain_refuses_the_bytes_and_another_endpoint_takes_them() {
    for error in OTHER_CHAIN {
        let (story, _trap) =
            Story::of(two_endpoints(), async |story| story.primary().trap(SEND, Fault::Error(error))).await;
        assert!(!story.backup().sent().is_empty());
        story.nothing_bad_of(SECOND);
        story.ends().await;
    }
}

#[tokio::test]
async fn receipts_that_the_primary_does_not_have_are_asked_of_another() {
    let (story, trap) =
        Story::of(two_endpoints(), async |story| story.primary().trap("eth_getTransactionReceipt", Fault::NULL)).await;
    assert!(trap.caught() > 0, "the primary was asked for no receipt");
    assert!(story.backup().count("eth_getTransactionReceipt") > 0);
    story.nothing_bad_of(SECOND);
    story.ends().await;
}

#[tokio::test]
async fn a_primary_that_does_not_know_the_block_it_is_asked_about_costs_nobody_a_registration() {
    for error in UNKNOWN_BLOCK {
        let (story, trap) =
            Story::of(two_endpoints(), async |story| story.primary().trap("eth_call", Fault::Error(error))).await;
        assert!(trap.caught() > 0, "the primary was not called");
        assert!(story.moved(FIRST, SECOND, "behind").await >= 1.0);
        story.nothing_bad_of(SECOND);
        story.ends().await;
    }
}

#[tokio::test]
async fn a_primary_that_refuses_in_words_that_nobody_knows_costs_nobody_a_registration() {
    for error in UNHEARD_OF {
        for method in [SEND, "eth_call", "eth_getBalance"] {
            let (story, trap) =
                Story::of(two_endpoints(), async |story| story.primary().trap(method, Fault::Error(error))).await;
            assert!(trap.caught() > 0, "{method} was not asked of the primary");
            assert!(story.moved(FIRST, SECOND, "refused").await >= 1.0, "{method}: {error:?}");
            for endpoint in [FIRST, SECOND] {
                story.nothing_bad_of(endpoint);
            }
            story.ends().await;
        }
    }
}

#[tokio::test]
async fn one_method_that_hangs_is_asked_of_another_endpoint() {
    let methods = ["eth_call", "eth_getTransactionReceipt", "eth_getBlockByNumber", "eth_getTransactionCount"];
    for method in methods {
        let (story, trap) = Story::of(two_endpoints(), async |story| story.primary().trap(method, Fault::Hang)).await;
        assert!(trap.caught() > 0, "{method} was not asked of the primary");
        assert!(story.moved(FIRST, SECOND, "").await >= 1.0, "{method}");
        assert_eq!(story.count(&unhealthy(SECOND)), 0);
        story.ends().await;
    }
}
