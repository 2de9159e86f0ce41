//! Several endpoints at once, and endpoints that come and go.

use crate::harness::{
    Fault, Plan, Story, in_one_of,
    proxy::Trap,
    story::{CASE, FIRST, Line, SECOND, THIRD, all_unavailable, available_again, healthy, return_to, unhealthy},
};
use std::time::Duration;
use tokio::time::Instant;

const A_SECOND: Duration = Duration::from_secs(1);

/// So many endpoints before one node with Base's block time.
fn endpoints(count: usize) -> Plan {
    Plan::block_time(0.2).endpoints(count)
}

/// Does this to these endpoints.
fn trap(story: &Story, numbers: &[usize], fault: Fault) -> Vec<Trap> {
    numbers.iter().map(|number| story.stack.proxies()[*number].trap_all(fault)).collect()
}

fn failovers(story: &Story) -> usize {
    [Line::new("WARN", "RPC failover"), Line::new("INFO", "RPC failover")].iter().map(|line| story.count(line)).sum()
}

#[tokio::test]
async fn two_of_three_endpoints_at_once_are_left_for_the_third() {
    for fault in [Fault::Refuse, Fault::Hang] {
        let (story, _traps) = Story::of(endpoints(3), async |story| trap(story, &[0, 1], fault)).await;
        story.tells([unhealthy(FIRST), Line::new("WARN", "RPC failover").with("to", THIRD)]).await;
        story.tells([unhealthy(SECOND)]).await;
        story.nothing_bad_of(THIRD);
        assert!(!story.stack.proxies()[2].sent().is_empty());
        assert_eq!(story.count(&all_unavailable()), 0);
        story.ends().await;
    }
}

#[tokio::test]
async fn a_backup_that_fails_is_noticed_by_itself_and_changes_nothing() {
    let (story, _traps) = Story::of(endpoints(2), async |story| trap(story, &[1], Fault::Refuse)).await;
    story.tells([unhealthy(SECOND)]).await;
    story.becomes(SECOND, "down").await;
    story.nothing_bad_of(FIRST);
    assert_eq!(failovers(&story), 0);
    story.ends().await;
}

#[tokio::test]
async fn an_outage_of_all_endpoints_for_twenty_seconds_costs_time_and_nothing_else() {
    let (story, ()) = Story::of(endpoints(2), async |story| {
        let traps = trap(story, &[0, 1], Fault::Refuse);
        story.tells([all_unavailable()]).await;
        tokio::time::sleep(20 * A_SECOND).await;
        drop(traps);
    })
    .await;
    story.tells([all_unavailable(), available_again()]).await;
    story.tells([unhealthy(FIRST), healthy(FIRST)]).await;
    story.tells([unhealthy(SECOND), healthy(SECOND)]).await;
    assert_eq!((story.count(&all_unavailable()), story.count(&available_again())), (1, 1), "each is said once");
    story.ends().await;
}

#[tokio::test]
async fn an_outage_of_all_endpoints_ends_within_a_few_seconds_of_the_first_that_is_back() {
    let (story, ()) = Story::of(endpoints(2), async |story| {
        let mut told = Vec::new();
        // When there is no other, all are asked each second.
        in_one_of("an end that is noticed", async || {
            let traps = trap(story, &[0, 1], Fault::Hang);
            told.push(all_unavailable());
            story.tells(told.clone()).await;
            drop(traps);
            let begun = Instant::now();
            told.push(available_again());
            story.tells(told.clone()).await;
            let took = begun.elapsed();
            if took < 5 * A_SECOND { Ok(()) } else { Err(format!("after {took:?}")) }
        })
        .await;
    })
    .await;
    story.ends().await;
}

#[tokio::test]
async fn a_primary_that_comes_and_goes_each_second_is_not_run_after() {
    let (story, ()) = Story::of(endpoints(2), async |story| {
        let over = std::cell::Cell::new(false);
        let flapping = async {
            story.primary().flap(Fault::Refuse, A_SECOND, 4).await;
            over.set(true);
        };
        // There is something to do all the time.
        let working = async {
            for number in 100.. {
                if over.get() {
                    break;
                }
                story.register(number..number + 1).await;
            }
        };
        tokio::join!(flapping, working);
    })
    .await;
    story.tells([unhealthy(FIRST)]).await;
    story.nothing_bad_of(SECOND);
    let changes = failovers(&story);
    assert!((1..=4).contains(&changes), "what is asked first changed {changes} times in four outages of a second");
    story.ends().await;
}

#[tokio::test]
async fn a_primary_that_hangs_again_and_again_is_not_run_after() {
    let (story, ()) = Story::of(endpoints(2), async |story| {
        // Each time long enough for a read to time out, and then long enough for it to be trusted again.
        story.primary().flap(Fault::Hang, Duration::from_millis(2500), 3).await;
    })
    .await;
    let unsteady = unhealthy(FIRST).with("state", "degraded").with("reason", "unsteady");
    story.tells([unhealthy(FIRST).with("state", "suspect"), unsteady]).await;
    story.nothing_bad_of(SECOND);
    assert!(failovers(&story) <= 4, "what is asked first changed {} times", failovers(&story));
    story.ends().await;
}

#[tokio::test]
async fn two_endpoints_that_take_turns_in_failing_cost_nobody_a_registration() {
    let (story, ()) = Story::of(endpoints(2), async |story| {
        for _ in 0..3 {
            for number in [0, 1] {
                story.stack.proxies()[number].trap_all(Fault::Reset).during(A_SECOND).await;
            }
        }
    })
    .await;
    for endpoint in [FIRST, SECOND] {
        story.felt(endpoint, "lost").await;
    }
    story.ends().await;
}

#[tokio::test]
async fn a_primary_that_is_back_is_returned_to_once() {
    let (story, traps) = Story::of(endpoints(3), async |story| trap(story, &[0], Fault::Refuse)).await;
    story.becomes(FIRST, "down").await;
    drop(traps);
    story.tells([unhealthy(FIRST), healthy(FIRST), return_to(FIRST)]).await;

    // The next probes, and work, change nothing any more.
    for number in 100..110 {
        story.register(number..number + 1).await;
    }

    assert_eq!(failovers(&story), 2, "there and back");
    for endpoint in [FIRST, SECOND, THIRD] {
        assert_eq!(story.state(endpoint).await, "healthy");
    }
    story.ends().await;
}

#[tokio::test]
async fn a_crash_while_the_primary_is_away_loses_nothing() {
    for fault in [Fault::Refuse, Fault::Hang] {
        let mut story = Story::on(endpoints(2).start().await);
        let _away = trap(&story, &[0], fault);
        for number in 0..50 {
            story.stack.client.accept(number, CASE).await;
        }

        story.stack.crash().await;

        // The same callers ask again, and the same work is finished.
        story.register(0..50).await;
        story.tells([unhealthy(FIRST)]).await;
        story.ends().await;
    }
}

#[tokio::test]
async fn a_service_that_is_stopped_while_its_primary_hangs_ends_in_time() {
    let mut story = Story::on(endpoints(2).set("REGISTRAR_SHUTDOWN_GRACE", "10s").start().await);
    for number in 0..10 {
        story.stack.client.accept(number, CASE).await;
    }
    let traps = trap(&story, &[0], Fault::Hang);
    traps[0].sprung().await;

    let begun = Instant::now();
    story.stack.service.terminate();
    assert_eq!(story.stack.service.exit_code().await, 0);

    assert!(begun.elapsed() < 20 * A_SECOND, "it took {:?}", begun.elapsed());
    story.stack.start_again().await;
    story.register(0..10).await;
    story.ends().await;
}
