//! A primary that fails in the middle of the work, in every way in which a node or what stands before it fails: nobody who
//! calls notices, nothing is registered twice, and the log tells what happened.

use crate::harness::{
    Fault, HttpAnswer, Plan, Story,
    proxy::{
        Trap,
        dialects::{BAD_KEY, NO_BACKEND, PROXYD_NO_BACKEND},
    },
    story::{FIRST, ONLY, SECOND, failover, healthy, return_to, unhealthy},
};
use std::time::Duration;

/// Two endpoints before one node with Base's block time.
fn two_endpoints() -> Plan {
    Plan::block_time(0.2).endpoints(2)
}

/// In the middle of fifty registrations the primary begins to suffer this, and the other endpoint takes over: calls move to it
/// for one of these reasons.
async fn is_taken_over(fault: Fault, reasons: &[&str]) -> (Story, Trap) {
    let (story, trap) = Story::of(two_endpoints(), async |story| story.primary().trap_all(fault)).await;

    story.tells([unhealthy(FIRST), failover(FIRST, SECOND)]).await;
    let mut moved = 0.0;
    for reason in reasons {
        moved += story.moved(FIRST, SECOND, reason).await;
    }
    assert!(moved >= 1.0, "no call moved on because of {reasons:?}");
    assert_ne!(story.state(FIRST).await, "healthy");
    story.nothing_bad_of(SECOND);
    (story, trap)
}

/// And it is down in the end.
async fn is_taken_over_and_down(fault: Fault, reasons: &[&str]) {
    let (story, _trap) = is_taken_over(fault, reasons).await;
    story.becomes(FIRST, "down").await;
    // What comes later does not ask the primary; only whether it is back is asked, and that seldom.
    let before = story.primary().counts();
    story.register(100..110).await;
    let after = story.primary().counts();
    let asked = |method: &str| after.get(method).unwrap_or(&0) - before.get(method).unwrap_or(&0);
    for method in ["eth_sendRawTransaction", "eth_call", "eth_getTransactionCount", "eth_getTransactionReceipt"] {
        assert_eq!(asked(method), 0, "{method} is asked of an endpoint that is down");
    }
    let asked: u64 = after.keys().map(|method| asked(method)).sum();
    assert!(asked <= 5, "{asked} calls of an endpoint that is down: {before:?}, {after:?}");
    story.ends().await;
}

#[tokio::test]
async fn a_primary_that_nobody_listens_on_is_left_and_returned_to_when_it_is_back() {
    let (story, trap) = is_taken_over(Fault::Refuse, &["connect", "lost"]).await;
    story.becomes(FIRST, "down").await;

    trap.release();

    let there_and_back =
        [unhealthy(FIRST), failover(FIRST, SECOND), healthy(FIRST).with("from", "down"), return_to(FIRST)];
    story.tells(there_and_back).await;
    assert_eq!(story.state(FIRST).await, "healthy");
    let sent = story.backup().sent().len();
    story.register(100..101).await;
    assert_eq!(story.backup().sent().len(), sent, "what comes now goes to the primary alone");
    story.ends().await;
}

#[tokio::test]
async fn a_primary_that_hangs_is_left_and_returned_to_when_it_is_back() {
    let (story, trap) = is_taken_over(Fault::Hang, &["timeout", "hedge"]).await;

    trap.release();

    story.tells([unhealthy(FIRST), failover(FIRST, SECOND), healthy(FIRST), return_to(FIRST)]).await;
    story.ends().await;
}

#[tokio::test]
async fn a_primary_that_hangs_for_good_is_down_and_what_comes_later_does_not_wait_for_it() {
    is_taken_over_and_down(Fault::Hang, &["timeout", "hedge"]).await;
}

#[tokio::test]
async fn a_primary_that_resets_its_connections_is_left() {
    is_taken_over_and_down(Fault::Reset, &["lost"]).await;
}

#[tokio::test]
async fn a_primary_that_closes_its_connections_is_left() {
    is_taken_over_and_down(Fault::LoseRequest, &["lost"]).await;
}

#[tokio::test]
async fn a_primary_that_does_what_it_is_told_and_never_answers_is_left() {
    is_taken_over_and_down(Fault::LoseAnswer, &["lost"]).await;
}

#[tokio::test]
async fn a_primary_whose_answers_break_off_is_left() {
    is_taken_over_and_down(Fault::BreakOffAnswer, &["lost"]).await;
}

#[tokio::test]
async fn a_primary_with_an_internal_error_is_left() {
    is_taken_over_and_down(Fault::status(500), &["status"]).await;
}

#[tokio::test]
async fn a_primary_behind_a_gateway_with_a_page_for_people_is_left() {
    is_taken_over_and_down(Fault::Http(HttpAnswer::status(502).html()), &["status"]).await;
}

#[tokio::test]
async fn a_primary_that_answers_every_call_with_a_page_for_people_is_left() {
    is_taken_over_and_down(Fault::Http(HttpAnswer::status(200).html()), &["unreadable"]).await;
}

#[tokio::test]
async fn a_primary_that_does_not_want_our_key_is_left() {
    for status in [401, 403] {
        is_taken_over(Fault::Http(HttpAnswer::status(status).saying(BAD_KEY)), &["status"]).await.0.ends().await;
    }
}

#[tokio::test]
async fn a_primary_whose_gateway_has_no_node_is_left_whatever_status_it_gives_that() {
    for fault in [Fault::Http(HttpAnswer::status(503).saying(PROXYD_NO_BACKEND)), Fault::Error(PROXYD_NO_BACKEND)] {
        is_taken_over(fault, &["backend"]).await.0.ends().await;
    }
}

#[tokio::test]
async fn a_primary_whose_gateway_cannot_reach_its_node_costs_nobody_a_registration() {
    for error in NO_BACKEND {
        let (story, _trap) =
            Story::of(two_endpoints(), async |story| story.primary().trap_all(Fault::Error(error))).await;
        assert!(story.moved(FIRST, SECOND, "").await >= 1.0, "{error:?}");
        story.nothing_bad_of(SECOND);
        story.ends().await;
    }
}

#[tokio::test]
async fn a_primary_that_is_slow_is_routed_around() {
    let slow = Fault::Slow(Duration::from_millis(1500));
    let (story, _trap) = is_taken_over(slow, &["hedge"]).await;
    story.becomes(FIRST, "degraded").await;
    story.ends().await;
}

#[tokio::test]
async fn a_primary_that_is_a_little_slow_stays_the_primary() {
    let slow = Fault::Slow(Duration::from_millis(60));
    let (story, trap) = Story::of(two_endpoints(), async |story| story.primary().trap_all(slow)).await;
    assert!(trap.caught() > 0, "no call was slow");
    story.nothing_bad_of(FIRST);
    story.nothing_bad_of(SECOND);
    assert_eq!(story.count(&failover(FIRST, SECOND)), 0);
    story.ends().await;
}

#[tokio::test]
async fn a_primary_that_loses_every_second_answer_costs_nobody_a_registration() {
    let fault = Fault::LoseEverySecondAnswer;
    let (story, _trap) = Story::of(two_endpoints(), async |story| story.primary().trap_all(fault)).await;
    assert!(story.moved(FIRST, SECOND, "lost").await >= 1.0);
    story.nothing_bad_of(SECOND);
    story.ends().await;
}

#[tokio::test]
async fn a_way_that_doubles_every_call_is_no_fault_of_the_endpoint() {
    let (story, trap) = Story::of(two_endpoints(), async |story| story.primary().trap_all(Fault::Twice)).await;
    assert!(trap.caught() > 0, "no call was doubled");
    story.nothing_bad_of(FIRST);
    assert_eq!(story.moved(FIRST, SECOND, "refused").await, 0.0, "a node that has the bytes already is a success");
    assert_eq!(story.backup().sent(), Vec::<String>::new());
    story.ends().await;
}

#[tokio::test]
async fn nothing_of_an_endpoints_url_is_told_even_to_who_asks_for_every_line() {
    for fault in
        [Fault::Refuse, Fault::Hang, Fault::Reset, Fault::Http(HttpAnswer::status(502).html()), Fault::Error(BAD_KEY)]
    {
        let plan = two_endpoints().set("RUST_LOG", "trace");
        // The harness looks at every line, every error and every metric.
        let (story, ()) = Story::of(plan, async |story| {
            story.primary().trap_all(fault).during(Duration::from_secs(1)).await;
        })
        .await;
        story.ends().await;
    }
}

/// The only endpoint suffers this for a time: work waits for it, and is finished.
async fn is_waited_for(fault: Fault, outcome: &str) {
    let (story, ()) = Story::of(Plan::block_time(0.2).endpoints(1), async |story| {
        story.primary().trap_all(fault).during(Duration::from_secs(3)).await;
    })
    .await;
    story.felt(ONLY, outcome).await;
    story.ends().await;
}

#[tokio::test]
async fn the_only_endpoint_is_waited_for_while_nobody_listens() {
    is_waited_for(Fault::Refuse, "connect").await;
}

#[tokio::test]
async fn the_only_endpoint_is_waited_for_while_it_hangs() {
    is_waited_for(Fault::Hang, "timeout").await;
}

#[tokio::test]
async fn the_only_endpoint_is_waited_for_while_its_gateway_has_only_pages_for_people() {
    is_waited_for(Fault::Http(HttpAnswer::status(502).html()), "status").await;
    is_waited_for(Fault::Http(HttpAnswer::status(200).html()), "unreadable").await;
}

#[tokio::test]
async fn the_only_endpoint_is_used_though_every_second_answer_is_lost() {
    is_waited_for(Fault::LoseEverySecondAnswer, "lost").await;
}
