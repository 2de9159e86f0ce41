//! One endpoint's word: what is not believed on it alone, and what is not taken for more than it is.

use crate::harness::{
    Fault, Plan, State, Story, WaitFor, document, eventually,
    proxy::dialects::NodeError,
    registering, seconds, stays_pending,
    story::{CASE, FIRST, Line, SECOND, failover, unhealthy},
};
use std::time::Duration;

fn endpoints(count: usize) -> Plan {
    Plan::block_time(0.2).endpoints(count)
}

async fn shown(story: &Story, endpoint: &str) -> f64 {
    story.stack.service.metrics().await.value("registrar_rpc_endpoint_head", &[("endpoint", endpoint)])
}

#[tokio::test]
async fn a_block_that_the_other_endpoint_does_not_show_is_not_confirmed_on_one_word() {
    let story = Story::on(endpoints(2).start().await);
    // It is as fresh as the first one, and knows no block by its number: as a node on a fork that does not have ours.
    let denied = story.backup().trap_about("eth_getBlockByNumber", "0x", Fault::NULL);
    let accepted = story.stack.client.accept(1, CASE).await;
    story.stack.client.reaches(&accepted.id, State::Included).await;
    let mut request = registering(1, CASE, WaitFor::Confirmed);
    request.wait_timeout = seconds(30);

    let mut confirmed = Box::pin(story.stack.client.register(request));
    assert!(stays_pending(&mut confirmed, Duration::from_secs(1)).await, "confirmed on one word");
    denied.release();

    assert_eq!(confirmed.await.unwrap().state(), State::Confirmed);
    story.stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_backup_that_lags_is_no_fallen_chain_when_it_is_the_only_one_left() {
    let mut story = Story::on(endpoints(2).start().await);
    story.stack.anvil.mine(60).await;
    // Eight seconds behind, and from the start on: this service has never seen it higher.
    let _behind = story.backup().trap_all(Fault::Behind(40));
    story.stack.crash().await;
    story.tells([unhealthy(SECOND).with("state", "degraded")]).await;
    let confirmed = story.stack.client.confirm(1, CASE).await;
    let head = story.stack.anvil.head().await;

    let _gone = story.primary().trap_all(Fault::Refuse);
    story.tells([failover(FIRST, SECOND)]).await;
    let caught_up = async || (shown(&story, SECOND).await >= head as f64).then_some(());
    eventually("the backup to show what was confirmed", caught_up).await;

    assert_eq!(story.count(&Line::new("ERROR", "a confirmed transaction was reorged out")), 0);
    let fell = story.stack.service.log().iter().filter(|line| line["message"] == "the chain's head fell").count();
    assert_eq!(fell, 0, "it was only behind");
    assert_eq!(story.stack.client.get(&confirmed.id).await.unwrap().state(), State::Confirmed);
}

#[tokio::test]
async fn a_nonce_that_one_endpoint_alone_shows_leaves_no_gap() {
    let story = Story::on(endpoints(2).start().await);
    let _lie = story.primary().trap("eth_getTransactionCount", Fault::Result("\"0x5\""));

    let confirmed = story.stack.client.confirm(1, CASE).await;

    assert_eq!(confirmed.transaction.unwrap().nonce, Some(0));
}

#[tokio::test]
async fn a_backup_that_refuses_a_question_does_not_stand_against_the_primarys_no() {
    let story = Story::on(endpoints(2).start().await);
    let unknown = NodeError { code: -32601, message: "the method is not part of your plan", data: None };
    let _refuses = story.backup().trap("eth_call", Fault::Error(unknown));

    let verified = story.stack.client.verify(&document(1), CASE).await.unwrap();

    assert!(!verified.registered, "{verified:?}");
}

#[tokio::test]
async fn an_endpoint_that_refuses_every_question_is_left() {
    let switched_off = NodeError { code: -32000, message: "project disabled", data: None };
    let (story, _trap) =
        Story::of(endpoints(2), async |story| story.primary().trap_all(Fault::Error(switched_off))).await;

    story.tells([unhealthy(FIRST), failover(FIRST, SECOND)]).await;
    story.nothing_bad_of(SECOND);
    story.ends().await;
}
