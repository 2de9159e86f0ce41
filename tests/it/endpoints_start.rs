//! Starting with endpoints that are away or on another chain. An endpoint of another chain never sees what is signed.

use crate::harness::{
    Anvil, Fault, Plan, Service, Story, eventually, meanwhile, stays_pending,
    story::{FIRST, Line, SECOND, failover, healthy, return_to, unhealthy},
    within,
};
use std::time::Duration;

fn quarantined(endpoint: &str) -> Line {
    unhealthy(endpoint).with("state", "quarantined")
}

/// Base's block time.
fn plan() -> Plan {
    Plan::block_time(0.2)
}

async fn another_chain() -> Anvil {
    Anvil::start(&["--chain-id", "31338", "--block-time", "0.2"]).await
}

/// The primary suffers this when the service begins; it begins with the other, and takes the primary in when it is back.
async fn a_start_works_while_the_primary(fault: Fault) {
    let (ground, settings) = plan().endpoints(2).prepare().await;
    let trap = ground.proxies[0].trap_all(fault);

    let story = Story::on(within("the start", ground.start(settings)).await);

    story.fifty(async |_| ()).await;
    story.tells([unhealthy(FIRST).with("state", "down")]).await;
    assert_eq!(story.state(FIRST).await, "down");
    story.nothing_bad_of(SECOND);
    trap.release();
    story.tells([unhealthy(FIRST), healthy(FIRST), return_to(FIRST)]).await;
    story.ends().await;
}

#[tokio::test]
async fn a_start_works_while_nobody_listens_at_the_primary() {
    a_start_works_while_the_primary(Fault::Refuse).await;
}

#[tokio::test]
async fn a_start_works_while_the_primary_hangs() {
    a_start_works_while_the_primary(Fault::Hang).await;
}

#[tokio::test]
async fn a_start_works_while_the_primarys_gateway_is_broken() {
    a_start_works_while_the_primary(Fault::status(502)).await;
}

#[tokio::test]
async fn a_start_with_all_endpoints_tells_of_no_change() {
    for _ in 0..3 {
        let story = Story::on(plan().endpoints(3).start().await);
        story.fifty(async |_| ()).await;
        for level in ["INFO", "WARN"] {
            assert_eq!(story.count(&Line::new(level, "RPC failover")), 0, "the primary was first from the beginning");
        }
        story.ends().await;
    }
}

#[tokio::test]
async fn a_start_works_while_all_but_the_last_are_away() {
    let (ground, settings) = plan().endpoints(3).prepare().await;
    let _traps = [ground.proxies[0].trap_all(Fault::Refuse), ground.proxies[1].trap_all(Fault::Hang)];

    let story = Story::on(within("the start", ground.start(settings)).await);

    story.fifty(async |_| ()).await;
    story.ends().await;
}

#[tokio::test]
async fn a_start_waits_while_all_endpoints_are_away_and_goes_on_with_the_first_that_is_back() {
    let (ground, settings) = plan().endpoints(2).prepare().await;
    let _away = ground.proxies[0].trap_all(Fault::LoseRequest);
    let back = ground.proxies[1].trap_all(Fault::LoseRequest);
    let mut starting = Box::pin(Service::start(&settings));
    // Each of them is asked.
    meanwhile(&mut starting, back.sprung()).await;
    assert!(stays_pending(&mut starting, Duration::from_secs(1)).await);

    back.release();

    let service = within("the start", starting).await;
    crate::harness::Client::connect(service.grpc).await.confirm(1, "case-1").await;
}

#[tokio::test]
async fn a_start_on_endpoints_that_are_all_on_another_chain_is_refused() {
    let other = another_chain().await;
    let (_ground, settings) = plan().endpoint_at(other.url()).endpoint_at(other.url()).prepare().await;

    let refused = Service::refused(&settings).await;

    assert_eq!(refused.code, 64, "{}", refused.said);
    for word in ["31337", "31338", "REGISTRAR_CHAIN_ID"] {
        assert!(refused.said.contains(word), "`{word}` is missing in: {}", refused.said);
    }
    assert_eq!(crate::harness::proxy::leak(&refused.said), None, "{}", refused.said);
}

#[tokio::test]
async fn a_primary_on_another_chain_is_quarantined_and_never_sees_what_is_signed() {
    let other = another_chain().await;
    let (story, ()) = Story::of(plan().endpoint_at(other.url()).endpoints(1), async |_| ()).await;

    story.tells([quarantined(FIRST)]).await;
    assert_eq!(story.state(FIRST).await, "quarantined");
    assert_eq!(story.primary().sent(), Vec::<String>::new());
    assert_eq!(story.primary().count("eth_call"), 0, "nothing is asked of it but which chain it is on");
    story.nothing_bad_of(SECOND);
    story.ends().await;
}

#[tokio::test]
async fn a_backup_on_another_chain_is_quarantined_and_never_sees_what_is_signed_however_badly_it_is_needed() {
    let other = another_chain().await;
    let (story, ()) = Story::of(plan().endpoints(1).endpoint_at(other.url()), async |story| {
        story.primary().trap_all(Fault::Refuse).during(Duration::from_secs(3)).await;
    })
    .await;

    story.tells([quarantined(SECOND)]).await;
    assert_eq!(story.backup().sent(), Vec::<String>::new());
    assert_eq!(story.count(&failover(FIRST, SECOND)), 0);
    assert_eq!(story.moved(FIRST, SECOND, "").await, 0.0);
    story.ends().await;
}

#[tokio::test]
async fn quarantine_is_for_good() {
    let (ground, settings) = plan().endpoints(2).prepare().await;
    let trap = ground.proxies[1].trap("eth_chainId", Fault::OTHER_CHAIN);
    let story = Story::on(ground.start(settings).await);
    story.tells([quarantined(SECOND)]).await;

    // It is on our chain after all, now; nobody wants to know.
    trap.release();
    let mut changes =
        Box::pin(eventually("another state", async || (story.state(SECOND).await != "quarantined").then_some(())));
    assert!(stays_pending(&mut changes, Duration::from_secs(3)).await);
    drop(changes);

    let away = async |story: &Story| {
        story.primary().trap_all(Fault::LoseRequest).during(Duration::from_secs(2)).await;
    };
    story.fifty(away).await;
    assert_eq!(story.backup().sent(), Vec::<String>::new());
    story.ends().await;
}

#[tokio::test]
async fn an_endpoint_that_comes_back_on_another_chain_is_quarantined_before_it_is_used() {
    let (story, trap) = Story::of(plan().endpoints(2), async |story| story.primary().trap_all(Fault::Refuse)).await;
    story.becomes(FIRST, "down").await;
    let _other = story.primary().trap("eth_chainId", Fault::OTHER_CHAIN);
    let sent = story.primary().sent();

    trap.release();

    story.tells([failover(FIRST, SECOND), quarantined(FIRST)]).await;
    story.register(100..110).await;
    assert_eq!(story.primary().sent(), sent, "what was signed since went elsewhere");
    story.ends().await;
}
