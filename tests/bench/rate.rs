//! Accept latency of a caller within its rate while another one sends ten times its own.

use crate::{
    auth::{CallersFile, token},
    harness::{Client, WaitFor, client::Stub},
    load,
    report::{Bar, Report, listed, median, percentile, progress},
    stack::{BenchChain, BenchStack},
};
use std::{net::SocketAddr, ops::Range, thread, time::Duration};
use tokio::time::sleep;

/// Limits of the caller that exceeds its rate: per second, and ...
const LIMITS: &str = "rate = 100";
/// ... what it sends: 1,000 a second.
const EXCESS_PERIOD: Duration = Duration::from_millis(1);
/// 50 requests a second for ten seconds.
const PERIOD: Duration = Duration::from_millis(20);
const REQUESTS: u64 = 500;
/// Not counted: includes opening connections and filling caches.
const WARM_UP: u64 = 100;
/// Longer than one measurement and its margins.
const EXCESS_SECONDS: u64 = 12;
/// For the limited caller to use up its burst.
const BUILD_UP: Duration = Duration::from_secs(1);
/// Numbers that the caller within its rate does not use.
const EXCESS_FIRST: u64 = 1_000_000;

pub async fn measure(report: &mut Report, rounds: usize) {
    let callers = CallersFile::new(&[("limited", LIMITS), ("other", "")]);
    let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &callers.settings()).await;
    let other = clients(stack.service.grpc, "other", 2).await;
    accept_p95(&other, 0..WARM_UP, report).await;
    let (mut before, mut during, mut accepted) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds as u64 {
        progress(format!(
            "accepts at 50/s without, then beside another caller's 1,000/s, round {} of {rounds}",
            round + 1
        ));
        let first = WARM_UP + round * 2 * REQUESTS;
        before.push(accept_p95(&other, first..first + REQUESTS, report).await);
        let excess = start_excess(stack.service.grpc, EXCESS_FIRST * (round + 1));
        sleep(BUILD_UP).await;
        during.push(accept_p95(&other, first + REQUESTS..first + 2 * REQUESTS, report).await);
        accepted.push(excess.join().unwrap() as f64 / EXCESS_SECONDS as f64);
    }
    report.bar(
        "caller at ten times its rate: accept p95 of another, of before",
        median(&during) / median(&before),
        "",
        Bar::AtMost(1.2),
    );
    report.figure("accept p95 at 50/s, before", median(&before), "ms");
    report.figure("accept p95 at 50/s, during", median(&during), "ms");
    report.figure("accepted of the caller with rate = 100", median(&accepted), "/s");
    report.note(format!("rate: accept p95 in ms, before {}; during {}", listed(&before, 2), listed(&during, 2)));
    stack.note_warnings("rate", report);
}

/// In milliseconds.
async fn accept_p95(clients: &[Stub], numbers: Range<u64>, report: &mut Report) -> f64 {
    let elapsed = |started: tokio::time::Instant, _: &_| started.elapsed().as_secs_f64() * 1e3;
    let (mut took, outcome) = load::open_loop_on(clients, numbers, PERIOD, WaitFor::Accepted, elapsed).await;
    if !outcome.errors.is_empty() {
        report.note(format!("rate: errors of the caller within its rate: {}", outcome.errors()));
    }
    took.sort_by(f64::total_cmp);
    percentile(&took, 0.95)
}

/// On a thread of its own, so that it does not delay the other caller within this program; returns how many of its
/// requests were accepted.
fn start_excess(address: SocketAddr, first: u64) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let limited = clients(address, "limited", 1).await;
            let numbers = first..first + EXCESS_SECONDS * 1_000;
            let sent = load::open_loop_on(&limited, numbers, EXCESS_PERIOD, WaitFor::Accepted, |_, _| ()).await;
            sent.0.len()
        })
    })
}

/// Each with a connection of its own.
async fn clients(address: SocketAddr, caller: &str, count: usize) -> Vec<Stub> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::connect(address).await.with_token(&token(caller)).stub());
    }
    clients
}
