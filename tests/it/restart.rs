//! How long a start takes when very much is unfinished, and that all of it is finished.

use crate::harness::{Client, Fault, Plan, Stack, WaitFor, document, eventually, in_one_of, registering, within};
use futures_util::{StreamExt, stream};
use std::time::Duration;
use tokio::time::Instant;

const CASE: &str = "case-1";
const UNFINISHED: u64 = 10_000;
/// How many are on the way to the service at once, over a few connections.
const AT_ONCE: usize = 256;

async fn accept_all(stack: &Stack) {
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(stack.service.grpc).await);
    }
    let accepting = stream::iter(0..UNFINISHED).for_each_concurrent(AT_ONCE, async |number| {
        let client = &clients[usize::try_from(number).unwrap() % clients.len()];
        client.register(registering(number, CASE, WaitFor::Accepted)).await.unwrap();
    });
    within("all to be accepted", accepting).await;
}

/// Whether a start that began then was over in two seconds, by now.
fn soon(begun: Instant, status: u16) -> Result<(), String> {
    assert_eq!(status, 200);
    let took = begun.elapsed();
    if took < Duration::from_secs(2) { Ok(()) } else { Err(format!("it serves after {took:?}")) }
}

async fn in_flight(stack: &Stack, state: &str) -> f64 {
    stack.service.metrics().await.value("registrar_in_flight", &[("state", state)])
}

#[tokio::test]
async fn an_endpoint_that_is_slow_to_say_what_the_signers_hold_does_not_hold_up_the_start() {
    let (ground, settings) = Plan::on_demand().through_proxy().signers(3).prepare().await;
    let _slow = ground.proxies[0].trap("eth_getBalance", Fault::Hang);
    let mut stack = ground.start(settings).await;

    // A question is given up after two seconds: who waited for an answer would serve then.
    in_one_of("a start", async || {
        stack.service.kill();
        let begun = Instant::now();
        stack.start_again().await;
        soon(begun, stack.service.http("/readyz").await.0)
    })
    .await;
}

#[tokio::test]
async fn a_start_with_ten_thousand_unfinished_serves_within_two_seconds_and_finishes_all_with_few_calls() {
    let plan = Plan::on_demand().anvil(&["--gas-limit", "150000000"]).set("REGISTRAR_CONFIRMATIONS", 2);
    let mut stack = plan.through_proxy().start().await;
    stack.anvil.stop_mining().await;
    accept_all(&stack).await;
    let many = async |state: &str, least: f64| {
        eventually(state, async || (in_flight(&stack, state).await >= least).then_some(())).await;
    };
    many("submitted", 6_000.0).await;
    // About half of it is in a block, and not deep enough; the rest is sent, signed or queued.
    stack.anvil.mine(1).await;
    many("included", 1_000.0).await;
    assert!(in_flight(&stack, "submitted").await > 500.0, "in several states");

    in_one_of("a start", async || {
        stack.service.kill();
        let calls = stack.proxy().all().len();
        let begun = Instant::now();
        stack.start_again().await;
        let (status, _) = stack.service.http("/readyz").await;
        let page = stack.client.list(Default::default()).await.unwrap();
        let calls = stack.proxy().all().len() - calls;
        assert_eq!(page.registrations.len(), 50);
        assert!(calls < 100, "{calls} calls to serve");
        soon(begun, status)
    })
    .await;

    let (calls, begun) = (stack.proxy().all().len(), Instant::now());
    let finished = async || {
        stack.anvil.mine(1).await;
        let mut left = 0.0;
        for state in ["queued", "signed", "submitted", "included"] {
            left += in_flight(&stack, state).await;
        }
        (left == 0.0).then_some(())
    };
    eventually("all to be confirmed", finished).await;
    let calls = stack.proxy().all().len() - calls;
    // The follower's poll is two calls every 100 ms, however long it takes.
    let usual = usize::try_from(begun.elapsed().as_millis()).unwrap() / 100 * 2;
    assert!(calls < usual + 500, "{calls} calls for what {UNFINISHED} registrations needed, and {usual} for nothing");
    stack.registry.holds_exactly((0..UNFINISHED).map(|number| (document(number), CASE.to_owned()))).await;
}
