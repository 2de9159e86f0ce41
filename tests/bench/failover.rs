//! Cost of a primary endpoint that dies or hangs under load, and overhead of several endpoints when none fails.

use crate::{
    harness::{Fault, Proxy, WaitFor},
    load,
    report::{Bar, Report, percentile, progress},
    rpc_calls::RpcCalls,
    stack::{BenchChain, BenchStack},
};
use alloy::{
    primitives::{Address, U256},
    rpc::client::RpcClient,
};
use registrar::chain::{Chain, EndpointUrl, Settings, SignerSettings};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// 40 requests a second, each waiting until its transaction is submitted.
const PERIOD: Duration = Duration::from_millis(25);
/// Number of requests before the primary fails, and in total.
const BEFORE: u64 = 200;
const REQUESTS: u64 = 600;
/// The first second is not counted: it includes opening connections and filling caches.
const WARM_UP: u64 = 40;
/// The longest of the service's RPC timeouts.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Number of calls per variant for the overhead.
const CALLS: usize = 3_000;

pub async fn measure(report: &mut Report) {
    let alone = calls_of_one(report).await;
    for (what, fault) in [("dead", Fault::RefuseConnections), ("hung", Fault::Hang)] {
        outage(report, what, fault, alone).await;
    }
    overhead(report).await;
}

/// When a request began, relative to the first, and how long it took.
type Took = (Duration, Duration);

/// The RPC calls of the same load on one endpoint without a fault.
async fn calls_of_one(report: &mut Report) -> f64 {
    let chain = BenchChain::with_block_time(0.2).await;
    let proxy = Proxy::before(chain.anvil.url()).await;
    let stack = BenchStack::start(chain, &[("REGISTRAR_RPC_URLS", proxy.url())]).await;
    let (_, calls) = run(&stack, async {}).await;
    report.figure("RPC calls of one endpoint under the same load", calls, "");
    calls
}

/// Sends requests at a steady rate while `fault` runs; returns their timings and the number of RPC calls.
async fn run(stack: &BenchStack, fault: impl Future<Output = ()>) -> (Vec<Took>, f64) {
    load::open_loop(stack, 0..WARM_UP, PERIOD, WaitFor::Submitted, |_, _| ()).await;
    let earlier = RpcCalls::read(&stack.service).await;
    let start = Instant::now();
    let numbers = WARM_UP..WARM_UP + REQUESTS;
    let requests = load::open_loop(stack, numbers, PERIOD, WaitFor::Submitted, move |started, _| {
        (started - start, started.elapsed())
    });
    let ((took, outcome), ()) = tokio::join!(requests, fault);
    let calls = RpcCalls::read(&stack.service).await.since(&earlier).total();
    assert!(outcome.errors.is_empty() || took.len() < REQUESTS as usize, "{}", outcome.errors());
    (took, calls)
}

/// The first of three endpoints fails during the load.
async fn outage(report: &mut Report, what: &str, fault: Fault, alone: f64) {
    progress(format!(
        "{REQUESTS} requests, one every {PERIOD:?}, on three endpoints; the first one is {what} from {BEFORE} on"
    ));
    let chain = BenchChain::with_block_time(0.2).await;
    let mut proxies = Vec::new();
    for _ in 0..3 {
        proxies.push(Proxy::before(chain.anvil.url()).await);
    }
    let urls = proxies.iter().map(Proxy::url).collect::<Vec<_>>().join(",");
    let stack = BenchStack::start(chain, &[("REGISTRAR_RPC_URLS", &urls)]).await;
    let at = PERIOD * BEFORE as u32;
    let ended = CancellationToken::new();
    let fails = async {
        sleep(at).await;
        let injected = proxies[0].inject_all(fault);
        sleep(PERIOD * (REQUESTS - BEFORE) as u32).await;
        drop(injected);
        ended.cancel();
    };
    let (took, calls) = run(&stack, fails).await;

    let millis = |which: &dyn Fn(&Took) -> bool| {
        let mut millis: Vec<f64> =
            took.iter().filter(|took| which(took)).map(|(_, took)| took.as_secs_f64() * 1e3).collect();
        millis.sort_by(f64::total_cmp);
        millis
    };
    let before = millis(&|(started, took)| *started + *took < at);
    let hit = millis(&|(started, took)| *started + *took >= at && *started < at + TIMEOUT);
    let later = millis(&|(started, _)| *started >= at + TIMEOUT);
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

/// Alternates the same call through the pool of three endpoints and through alloy's plain client.
async fn overhead(report: &mut Report) {
    let chain = BenchChain::with_block_time(1.0).await;
    let url = chain.anvil.url();
    let endpoints = (0..3).map(|_| EndpointUrl::parse(url).unwrap()).collect();
    let contract = chain.registry.address;
    let settings = Settings {
        chain_id: crate::harness::anvil::CHAIN_ID,
        endpoints,
        signers: SignerSettings::default(),
        contract,
        max_fee_per_gas: 1,
    };
    let chain = Chain::new(&settings).unwrap();
    chain.verify_chain_id().await.unwrap();
    let plain = RpcClient::new_http(url.parse().unwrap());
    let (mut pooled, mut direct) = (Vec::with_capacity(CALLS), Vec::with_capacity(CALLS));
    progress(format!("{CALLS} calls through the pool, and as many without it"));
    for _ in 0..CALLS {
        let started = Instant::now();
        chain.balance(Address::ZERO).await.unwrap();
        pooled.push(started.elapsed().as_secs_f64() * 1e6);
        let started = Instant::now();
        let _: U256 = plain.request("eth_getBalance", (Address::ZERO, "latest")).await.unwrap();
        direct.push(started.elapsed().as_secs_f64() * 1e6);
    }
    pooled.sort_by(f64::total_cmp);
    direct.sort_by(f64::total_cmp);
    let extra = percentile(&pooled, 0.5) - percentile(&direct, 0.5);
    report.bar("pool of three, overhead per call, p50", extra, "us", Bar::AtMost(50.0));
    report.figure("the same call without the pool, p50", percentile(&direct, 0.5), "us");
}
