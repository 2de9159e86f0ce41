//! What a primary costs that dies or hangs under load, and what having several endpoints costs when none does.

use crate::{
    harness::{Fault, Proxy, WaitFor},
    load,
    report::{Bar, Report, percentile, progress},
    rpc_calls::RpcCalls,
    stack::{Ground, Stack},
};
use alloy::{
    primitives::{Address, U256},
    rpc::client::RpcClient,
};
use registrar::chain::{Chain, EndpointUrl, Settings};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// 40 requests a second, each waiting until a node has its transaction.
const PERIOD: Duration = Duration::from_millis(25);
/// Requests before the primary fails, and in all.
const BEFORE: u64 = 200;
const REQUESTS: u64 = 600;
/// The first calls pay for connections and cold caches; a second of them is not counted.
const WARM_UP: u64 = 40;
/// What a send may take: the longest of the service's timeouts.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often the overhead of one call is measured.
const CALLS: usize = 3_000;

/// Measures it.
pub async fn measure(report: &mut Report) {
    let alone = calls_of_one(report).await;
    for (what, fault) in [("dead", Fault::Refuse), ("hung", Fault::Hang)] {
        outage(report, what, fault, alone).await;
    }
    overhead(report).await;
}

/// How a request went: when it began, from the first one on, and how long it took.
type Took = (Duration, Duration);

/// The same load on one endpoint that does not fail: its RPC calls.
async fn calls_of_one(report: &mut Report) -> f64 {
    let ground = Ground::mining_every(0.2).await;
    let proxy = Proxy::before(ground.anvil.url()).await;
    let stack = Stack::start(ground, &[("REGISTRAR_RPC_URLS", proxy.url())]).await;
    let (_, calls) = run(&stack, async {}).await;
    report.figure("RPC calls of one endpoint under the same load", calls, "");
    calls
}

/// 600 requests at a steady rate while `fault` happens; returns how each went, and the calls they made.
async fn run(stack: &Stack, fault: impl Future<Output = ()>) -> (Vec<Took>, f64) {
    load::open_loop(stack, 0..WARM_UP, PERIOD, WaitFor::Submitted, |_, _| ()).await;
    let earlier = RpcCalls::of(&stack.service).await;
    let start = Instant::now();
    let numbers = WARM_UP..WARM_UP + REQUESTS;
    let requests =
        load::open_loop(stack, numbers, PERIOD, WaitFor::Submitted, move |begun, _| (begun - start, begun.elapsed()));
    let ((took, outcome), ()) = tokio::join!(requests, fault);
    let calls = RpcCalls::of(&stack.service).await.since(&earlier).total();
    assert!(outcome.errors.is_empty() || took.len() < REQUESTS as usize, "{}", outcome.errors());
    (took, calls)
}

/// The first of three endpoints fails in the middle of the load.
async fn outage(report: &mut Report, what: &str, fault: Fault, alone: f64) {
    progress(format!(
        "{REQUESTS} requests, one every {PERIOD:?}, on three endpoints; the first one is {what} from {BEFORE} on"
    ));
    let ground = Ground::mining_every(0.2).await;
    let mut proxies = Vec::new();
    for _ in 0..3 {
        proxies.push(Proxy::before(ground.anvil.url()).await);
    }
    let urls = proxies.iter().map(Proxy::url).collect::<Vec<_>>().join(",");
    let stack = Stack::start(ground, &[("REGISTRAR_RPC_URLS", &urls)]).await;
    let at = PERIOD * BEFORE as u32;
    let ended = CancellationToken::new();
    let fails = async {
        sleep(at).await;
        let trap = proxies[0].trap_all(fault);
        sleep(PERIOD * (REQUESTS - BEFORE) as u32).await;
        drop(trap);
        ended.cancel();
    };
    let (took, calls) = run(&stack, fails).await;

    let millis = |which: &dyn Fn(&Took) -> bool| {
        let mut millis: Vec<f64> =
            took.iter().filter(|took| which(took)).map(|(_, took)| took.as_secs_f64() * 1e3).collect();
        millis.sort_by(f64::total_cmp);
        millis
    };
    let before = millis(&|(begun, took)| *begun + *took < at);
    let hit = millis(&|(begun, took)| *begun + *took >= at && *begun < at + TIMEOUT);
    let later = millis(&|(begun, _)| *begun >= at + TIMEOUT);
    let extra = |sorted: &[f64], share| percentile(sorted, share) - percentile(&before, share);
    let name = |row: &str| format!("{what} primary: {row}");
    let failed = REQUESTS as f64 - took.len() as f64;
    report.bar(name("failed requests"), failed, "", Bar::AtMost(0.0));
    let slowest = percentile(&hit, 1.0) - percentile(&before, 0.5);
    report.bar(name("slowest when it fails, extra"), slowest, "ms", Bar::AtMost(TIMEOUT.as_secs_f64() * 1e3));
    report.bar(name("later requests, extra at p50"), extra(&later, 0.5), "ms", Bar::AtMost(10.0));
    report.bar(name("later requests, extra at p95"), extra(&later, 0.95), "ms", Bar::AtMost(10.0));
    report.figure(name("before it, p50"), percentile(&before, 0.5), "ms");
    report.bar(name("RPC calls, times those of one endpoint"), calls / alone, "", Bar::AtMost(1.3));
}

/// The same call through the pool of three and through alloy's plain client, in turn.
async fn overhead(report: &mut Report) {
    let ground = Ground::mining_every(1.0).await;
    let url = ground.anvil.url();
    let endpoints = (0..3).map(|_| EndpointUrl::parse(url).unwrap()).collect();
    let contract = ground.registry.address;
    let settings = Settings {
        chain_id: crate::harness::anvil::CHAIN_ID,
        endpoints,
        signers: Vec::new(),
        contract,
        max_fee_per_gas: 1,
    };
    let chain = Chain::new(&settings).unwrap();
    chain.prove_chain().await.unwrap();
    let plain = RpcClient::new_http(url.parse().unwrap());
    let (mut pooled, mut direct) = (Vec::with_capacity(CALLS), Vec::with_capacity(CALLS));
    progress(format!("{CALLS} calls through the pool, and as many without it"));
    for _ in 0..CALLS {
        let begun = Instant::now();
        chain.balance(Address::ZERO).await.unwrap();
        pooled.push(begun.elapsed().as_secs_f64() * 1e6);
        let begun = Instant::now();
        let _: U256 = plain.request("eth_getBalance", (Address::ZERO, "latest")).await.unwrap();
        direct.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    pooled.sort_by(f64::total_cmp);
    direct.sort_by(f64::total_cmp);
    let extra = percentile(&pooled, 0.5) - percentile(&direct, 0.5);
    report.bar("pool of three, overhead per call, p50", extra, "us", Bar::AtMost(50.0));
    report.figure("the same call without the pool, p50", percentile(&direct, 0.5), "us");
}
