//! Time of a start with many unfinished registrations, and that all of them are confirmed.

use crate::harness::{
    CASE, Fault, StackBuilder, TestStack, account, document, eventually, register_all_request, retry_timing,
};
use std::time::Duration;
use tokio::time::Instant;

const UNFINISHED: u64 = 10_000;

async fn accept_all(stack: &TestStack) {
    // The most that one call may have.
    for first in (0..UNFINISHED).step_by(1_000) {
        let accepted = stack.client.register_all(register_all_request(first..first + 1_000)).await.unwrap();
        assert_eq!(accepted.len(), 1_000);
    }
}

/// `Err` when the service needed as many seconds to serve.
fn served_within(seconds: u64, started: Instant, status: u16) -> Result<(), String> {
    assert_eq!(status, 200);
    let took = started.elapsed();
    if took < Duration::from_secs(seconds) { Ok(()) } else { Err(format!("served after {took:?}")) }
}

async fn in_flight(stack: &TestStack, state: &str) -> f64 {
    stack.service.metrics().await.value("registrar_in_flight", &[("state", state)])
}

#[tokio::test]
async fn a_slow_balance_query_does_not_delay_the_start() {
    let (dependencies, settings) = StackBuilder::on_demand().through_proxy().signers(3).prepare().await;
    let _slow = dependencies.proxies[0].inject("eth_getBalance", Fault::Hang);
    let mut stack = dependencies.start(settings).await;

    // An RPC call times out after two seconds; a start that waited for it would take longer.
    retry_timing("the start", async || {
        stack.service.kill();
        let started = Instant::now();
        stack.restart().await;
        served_within(2, started, stack.service.http("/readyz").await.0)
    })
    .await;
}

#[tokio::test]
async fn a_start_with_ten_thousand_unfinished_registrations_serves_soon() {
    let builder = StackBuilder::on_demand().anvil(&["--gas-limit", "150000000"]).set("REGISTRAR_CONFIRMATIONS", 2);
    let mut stack = builder.through_proxy().start().await;
    stack.anvil.stop_mining().await;
    // They are queued while the signer cannot pay, so that its 15 transactions are full whatever the machine does.
    let funds = stack.anvil.balance(account(1)).await;
    stack.anvil.set_balance(account(1), 0).await;
    accept_all(&stack).await;
    stack.anvil.set_balance(account(1), funds.to()).await;
    let at_least = async |state: &str, min: f64| {
        eventually(state, async || (in_flight(&stack, state).await >= min).then_some(())).await;
    };
    at_least("submitted", 6_000.0).await;
    // About half of them are included but not confirmed; the rest is submitted, signed or queued.
    stack.anvil.mine(1).await;
    at_least("included", 1_000.0).await;
    assert!(in_flight(&stack, "submitted").await > 500.0, "too few are still submitted");

    retry_timing("the start", async || {
        stack.service.kill();
        let calls = stack.proxy().all().len();
        let started = Instant::now();
        stack.restart().await;
        let (status, _) = stack.service.http("/readyz").await;
        let page = stack.client.list(Default::default()).await.unwrap();
        let calls = stack.proxy().all().len() - calls;
        assert_eq!(page.registrations.len(), 50);
        assert!(calls < 100, "{calls} RPC calls during the start");
        // `make bench` measures it on an optimised build: a start takes 0.1 s.
        served_within(5, started, status)
    })
    .await;

    let (calls, started) = (stack.proxy().all().len(), Instant::now());
    let finished = async || {
        stack.anvil.mine(1).await;
        let mut unfinished = 0.0;
        for state in ["queued", "signed", "submitted", "included"] {
            unfinished += in_flight(&stack, state).await;
        }
        (unfinished == 0.0).then_some(())
    };
    eventually("all to be confirmed", finished).await;
    let calls = stack.proxy().all().len() - calls;
    // The follower polls with two calls every 100 ms.
    let polling = usize::try_from(started.elapsed().as_millis()).unwrap() / 100 * 2;
    assert!(calls < polling + 500, "{calls} RPC calls for {UNFINISHED} registrations, of which {polling} are polls");
    stack.registry.assert_registered_exactly((0..UNFINISHED).map(|number| (document(number), CASE.to_owned()))).await;
}
