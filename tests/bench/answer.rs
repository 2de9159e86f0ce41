//! Time from the confirming block, as a fast observer sees it, to the caller's answer.

use crate::{
    harness::WaitFor,
    load,
    observer::Observer,
    report::{Bar, Report, percentile, progress},
    stack::{BenchChain, BenchStack},
};
use std::time::Duration;
use tokio::time::Instant;

/// 25 requests a second, for six seconds.
const PERIOD: Duration = Duration::from_millis(40);
const REQUESTS: u64 = 150;
const OBSERVER_INTERVAL: Duration = Duration::from_millis(5);
/// The service may see a block slightly before the observer. An answer that precedes the observation by more than this
/// was sent too early.
const EARLY_TOLERANCE: Duration = Duration::from_millis(50);

/// With a block every second, and every 200 ms as on Base.
pub async fn measure(report: &mut Report) {
    for (block_time, depth) in [(1.0, 1), (1.0, 2), (0.2, 1), (0.2, 2)] {
        at(block_time, depth, report).await;
    }
}

async fn at(block_time: f64, depth: u64, report: &mut Report) {
    let name = format!("{block_time} s blocks, depth {depth}");
    progress(format!("{REQUESTS} requests wait for their confirmation: {name}"));
    let settings = [("REGISTRAR_CONFIRMATIONS", &*depth.to_string())];
    let stack = BenchStack::start(BenchChain::with_block_time(block_time).await, &settings).await;
    let mut observer = Observer::start(&stack.chain.anvil, OBSERVER_INTERVAL).await;
    let (answers, outcome) = load::open_loop(&stack, 0..REQUESTS, PERIOD, WaitFor::Confirmed, |_, registration| {
        let block = registration.transaction.as_ref().and_then(|transaction| transaction.block_number);
        (Instant::now(), block)
    })
    .await;
    // The last answers may precede the observation of their block.
    observer.next().await;
    let (mut took, mut early, mut unknown) = (Vec::new(), 0, 0);
    for (answered, block) in answers {
        let Some(seen) = block.and_then(|block| observer.seen(block + depth - 1)) else {
            unknown += 1;
            continue;
        };
        early += u64::from(seen.saturating_duration_since(answered) > EARLY_TOLERANCE);
        took.push(answered.saturating_duration_since(seen).as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    if early + unknown > 0 || !outcome.errors.is_empty() {
        let errors = outcome.errors();
        report.note(format!("{name}: {early} answers before their block, {unknown} without a block seen; {errors}"));
    }
    report.bar(format!("block to answer, {name}, p95"), percentile(&took, 0.95), "ms", Bar::AtMost(100.0));
    report.figure(format!("block to answer, {name}, p50"), percentile(&took, 0.5), "ms");
    stack.note_warnings(&name, report);
}
