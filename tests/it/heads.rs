//! Heads that are not the chain's: of an endpoint that stands still, is behind, or lies. And a chain's head that stands still
//! or falls, which is no endpoint's fault.

use crate::harness::{
    Fault, Plan, State, Story, eventually,
    story::{FIRST, Line, ONLY, SECOND, THIRD, failover, healthy, unhealthy},
};
use serde_json::json;
use std::time::Duration;

/// So many endpoints before one node with Base's block time.
fn endpoints(count: usize) -> Plan {
    Plan::block_time(0.2).endpoints(count)
}

async fn head(story: &Story, endpoint: &str) -> f64 {
    story.stack.service.metrics().await.value("registrar_rpc_endpoint_head", &[("endpoint", endpoint)])
}

/// In the middle of fifty registrations the primary's head stands still. It is found out, and does not hold up the others.
async fn a_frozen_primary_is_left(count: usize) {
    let (story, (trap, frozen)) = Story::of(endpoints(count), async |story| {
        let head = story.stack.anvil.head().await;
        (story.primary().trap_all(Fault::FrozenAt(head)), head)
    })
    .await;

    story.tells([unhealthy(FIRST).with("state", "degraded"), failover(FIRST, SECOND)]).await;
    story.nothing_bad_of(SECOND);
    let further = async || (head(&story, SECOND).await > frozen as f64 + 5.0).then_some(());
    eventually("the other's head to move on", further).await;
    assert!(head(&story, FIRST).await <= frozen as f64, "the primary's head stands still");
    trap.release();
    story.tells([failover(FIRST, SECOND), healthy(FIRST).with("from", "degraded")]).await;
    story.ends().await;
}

#[tokio::test]
async fn a_primary_whose_head_stands_still_is_left_with_two_endpoints() {
    a_frozen_primary_is_left(2).await;
}

#[tokio::test]
async fn a_primary_whose_head_stands_still_is_left_with_three_endpoints() {
    a_frozen_primary_is_left(3).await;
}

#[tokio::test]
async fn the_only_endpoint_whose_head_stands_still_for_some_seconds_is_waited_for() {
    let (story, ()) = Story::of(endpoints(1), async |story| {
        let head = story.stack.anvil.head().await;
        story.primary().trap_all(Fault::FrozenAt(head)).during(Duration::from_secs(5)).await;
    })
    .await;
    story.ends().await;
}

#[tokio::test]
async fn a_primary_that_is_six_seconds_behind_is_left() {
    let (story, _trap) = Story::of(endpoints(2), async |story| {
        story.stack.anvil.mine(30).await;
        story.primary().trap_all(Fault::Behind(30))
    })
    .await;
    story.tells([unhealthy(FIRST).with("state", "degraded"), failover(FIRST, SECOND)]).await;
    story.nothing_bad_of(SECOND);
    story.ends().await;
}

#[tokio::test]
async fn an_endpoint_that_is_a_few_blocks_behind_is_as_good_as_any() {
    for number in [0, 1] {
        let (story, trap) =
            Story::of(endpoints(2), async |story| story.stack.proxies()[number].trap_all(Fault::Behind(3))).await;
        assert!(trap.caught() > 0, "no call was answered from behind");
        // Whoever is asked first, nobody is told of a block and then of its absence.
        story.register(100..105).await;
        for endpoint in [FIRST, SECOND] {
            story.nothing_bad_of(endpoint);
        }
        story.ends().await;
    }
}

/// That no block was taken back for the word of an endpoint that merely knows less.
fn nothing_was_taken_back(story: &Story) {
    for line in [
        Line::new("WARN", "the chain's head fell"),
        Line::new("WARN", "the block of the transaction is no longer canonical"),
        Line::new("ERROR", "a confirmed transaction was reorged out"),
    ] {
        assert_eq!(story.count(&line), 0, "{line:?}");
    }
}

#[tokio::test]
async fn a_load_balancer_before_nodes_that_lag_is_no_reorg() {
    for (count, numbers) in [(1, &[0][..]), (2, &[0]), (2, &[0, 1])] {
        let (story, traps) = Story::of(endpoints(count), async |story| {
            let trap = |number: &usize| story.stack.proxies()[*number].trap_all(Fault::BehindEverySecondTime(3));
            numbers.iter().map(trap).collect::<Vec<_>>()
        })
        .await;
        story.register(100..110).await;
        assert!(traps.iter().all(|trap| trap.caught() > 1), "no call was answered from behind");
        nothing_was_taken_back(&story);
        story.ends().await;
    }
}

#[tokio::test]
async fn a_backup_whose_head_stands_still_is_no_reorg_when_it_is_the_only_one_left() {
    let story = Story::on(endpoints(2).start().await);
    let head = story.stack.anvil.head().await;
    let _frozen = story.backup().trap_all(Fault::FrozenAt(head));
    story.tells([unhealthy(SECOND).with("state", "degraded")]).await;
    story.register(100..110).await;

    let away = async |story: &Story| {
        story.primary().trap_all(Fault::Refuse).during(Duration::from_secs(6)).await;
    };
    story.fifty(away).await;

    nothing_was_taken_back(&story);
    story.ends().await;
}

#[tokio::test]
async fn a_backup_that_lies_about_the_head_is_not_believed_when_it_is_the_only_one_left() {
    let plan = endpoints(2).set("REGISTRAR_CONFIRMATIONS", 3);
    let (story, _lie) = Story::of(plan, async |story| {
        let lie = story.backup().trap_all(Fault::Ahead { blocks: 1000, seconds: 0 });
        story.primary().trap_all(Fault::Refuse).during(Duration::from_secs(4)).await;
        lie
    })
    .await;
    nothing_was_taken_back(&story);
    story.ends().await;
}

#[tokio::test]
async fn a_load_balancer_that_moves_on_to_a_node_behind_takes_nothing_back() {
    let story = Story::on(endpoints(1).start().await);
    story.stack.anvil.mine(40).await;
    story.register(0..3).await;
    let seen = story.stack.anvil.head().await;

    // Six seconds behind, and catching up.
    let _behind = story.primary().trap_all(Fault::Behind(30));
    let caught_up = async || (head(&story, ONLY).await > seen as f64).then_some(());
    eventually("the node behind to catch up", caught_up).await;

    nothing_was_taken_back(&story);
    story.register(3..6).await;
    story.ends().await;
}

#[tokio::test]
async fn two_of_three_endpoints_whose_heads_stand_still_for_good_are_left_for_the_third() {
    let plan = endpoints(3).set("REGISTRAR_CONFIRMATION_TIMEOUT", "60s");
    let (story, _frozen) = Story::of(plan, async |story| {
        let head = story.stack.anvil.head().await;
        [0, 1].map(|number| story.stack.proxies()[number].trap_all(Fault::FrozenAt(head)))
    })
    .await;
    story.tells([unhealthy(FIRST).with("reason", "behind")]).await;
    story.tells([unhealthy(SECOND).with("reason", "behind")]).await;
    story.nothing_bad_of(THIRD);
    nothing_was_taken_back(&story);
    story.ends().await;
}

#[tokio::test]
async fn two_of_three_endpoints_whose_heads_stand_still_take_nothing_back_and_cost_nobody_a_registration() {
    // The word of one against two is not enough to confirm anything: it waits until they move again.
    let (story, ()) = Story::of(endpoints(3), async |story| {
        let head = story.stack.anvil.head().await;
        let _frozen = [0, 1].map(|number| story.stack.proxies()[number].trap_all(Fault::FrozenAt(head)));
        tokio::time::sleep(Duration::from_secs(6)).await;
    })
    .await;
    story.nothing_bad_of(THIRD);
    nothing_was_taken_back(&story);
    story.ends().await;
}

#[tokio::test]
async fn a_primary_that_is_still_syncing_is_used_after_the_others() {
    let (ground, settings) = endpoints(2).prepare().await;
    let _syncing = ground.proxies[0].trap("eth_syncing", Fault::SYNCING);
    let story = Story::on(ground.start(settings).await);
    let reason = unhealthy(FIRST).with("state", "degraded").with("reason", "syncing");
    story.tells([reason, failover(FIRST, SECOND)]).await;

    story.fifty(async |_| ()).await;

    assert_eq!(story.primary().sent(), Vec::<String>::new());
    story.ends().await;
}

/// In the middle of fifty registrations this endpoint begins to show a head that nobody has. It is not believed: no call fails,
/// no confirmation is given early, and no endpoint that tells the truth is called unhealthy.
async fn a_liar_does_not_lead(count: usize, liar: usize) {
    for seconds in [0, 86_400] {
        let plan = endpoints(count).set("REGISTRAR_CONFIRMATIONS", 4);
        let fault = Fault::Ahead { blocks: 1000, seconds };
        let (story, trap) = Story::of(plan, async |story| story.stack.proxies()[liar].trap_all(fault)).await;
        story.register(100..105).await;
        assert!(trap.caught() > 0, "the liar was not asked");
        for (number, endpoint) in [FIRST, SECOND, THIRD].into_iter().enumerate().take(count) {
            if number != liar {
                story.nothing_bad_of(endpoint);
            }
        }
        assert_eq!(story.count(&Line::new("WARN", "chain stalled")), 0);
        trap.release();
        story.register(105..110).await;
        story.ends().await;
    }
}

#[tokio::test]
async fn a_primary_that_lies_about_the_head_does_not_lead_with_two_endpoints() {
    a_liar_does_not_lead(2, 0).await;
}

#[tokio::test]
async fn a_backup_that_lies_about_the_head_does_not_lead_with_two_endpoints() {
    a_liar_does_not_lead(2, 1).await;
}

#[tokio::test]
async fn a_primary_that_lies_about_the_head_does_not_lead_with_three_endpoints() {
    a_liar_does_not_lead(3, 0).await;
}

#[tokio::test]
async fn a_backup_that_lies_about_the_head_does_not_lead_with_three_endpoints() {
    a_liar_does_not_lead(3, 2).await;
}

/// A head that really falls: what was in the blocks that are gone is registered again, and what comes then is confirmed.
async fn a_rolled_back_chain_is_followed(count: usize) {
    let story = Story::on(Plan::on_demand().endpoints(count).start().await);
    for number in 0..4 {
        story.register(number..number + 1).await;
    }

    story.stack.anvil.rpc().run("anvil_rollback", json!([3])).await;

    assert_eq!(story.stack.registry.events().await.len(), 1, "three are gone");
    story.register(10..13).await;
    let all_back = async || (story.stack.registry.events().await.len() == 7).then_some(());
    eventually("what is gone to be registered again", all_back).await;
    for number in 0..4 {
        let id = story.stack.client.get_pair(&crate::harness::document(number), "case-1").await.unwrap().id;
        story.stack.client.reaches(&id, State::Confirmed).await;
    }
    let fell = Line::new("WARN", "the chain's head fell");
    story.tells([fell.clone()]).await;
    assert_eq!(story.count(&fell), 1);
    let said = story.stack.service.log().into_iter().find(|line| line["message"] == "the chain's head fell").unwrap();
    assert!(said["from_block"].as_u64() > said["to_block"].as_u64(), "{said}");
    for endpoint in if count == 1 { &["127.0.0.1"][..] } else { &[FIRST, SECOND] } {
        story.nothing_bad_of(endpoint);
    }
    story.ends().await;
}

#[tokio::test]
async fn a_rolled_back_chain_is_followed_with_one_endpoint() {
    a_rolled_back_chain_is_followed(1).await;
}

#[tokio::test]
async fn a_rolled_back_chain_is_followed_with_two_endpoints() {
    a_rolled_back_chain_is_followed(2).await;
}

#[tokio::test]
async fn a_chain_that_stands_still_is_said_once_and_is_no_endpoints_fault() {
    const BASE_SEPOLIA: u64 = 84532;
    let id = BASE_SEPOLIA.to_string();
    let plan = endpoints(2).anvil(&["--chain-id", &id]).set("REGISTRAR_CHAIN_ID", BASE_SEPOLIA);
    let (stalled, moves) = (Line::new("WARN", "chain stalled"), Line::new("INFO", "chain moves again"));

    let (story, ()) = Story::of(plan, async |story| {
        story.stack.anvil.stop_mining().await;
        story.tells([stalled.clone()]).await;
        story.stack.anvil.rpc().run("evm_setIntervalMining", json!([1])).await;
        story.tells([stalled.clone(), moves.clone()]).await;
    })
    .await;

    assert_eq!((story.count(&stalled), story.count(&moves)), (1, 1), "each is said once");
    let said = story.stack.service.log().into_iter().find(|line| line["message"] == "chain stalled").unwrap();
    assert!(said["block_number"].as_u64().unwrap() > 0, "{said}");
    assert!(said["seconds"].as_u64().unwrap() >= 5, "{said}");
    for endpoint in [FIRST, SECOND] {
        story.nothing_bad_of(endpoint);
        assert_eq!(story.state(endpoint).await, "healthy");
    }
    story.ends().await;
}

#[tokio::test]
async fn a_local_chain_that_mines_on_demand_is_not_called_stalled() {
    let story = Story::on(Plan::on_demand().endpoints(2).start().await);

    story.tells([Line::new("INFO", "the chain's head does not move: it mines on demand")]).await;
    story.register(0..10).await;

    assert_eq!(story.count(&Line::new("WARN", "chain stalled")), 0);
    for endpoint in [FIRST, SECOND] {
        story.nothing_bad_of(endpoint);
    }
    story.ends().await;
}
