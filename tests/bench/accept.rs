//! Time from a request to the answer that it is durably accepted, at a steady rate.

use crate::{
    harness::WaitFor,
    load,
    report::{Bar, Report, percentile, progress},
    stack::{BenchChain, BenchStack},
};
use std::time::Duration;

/// 200 requests a second for ten seconds.
const PERIOD: Duration = Duration::from_millis(5);
const REQUESTS: u64 = 2_000;
/// The first second is not counted: it includes opening connections and filling caches.
const WARM_UP: u64 = 200;

pub async fn measure(report: &mut Report) {
    let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[]).await;
    progress(format!("{REQUESTS} requests, one every {PERIOD:?}"));
    load::open_loop(&stack, 0..WARM_UP, PERIOD, WaitFor::Accepted, |_, _| ()).await;
    let numbers = WARM_UP..WARM_UP + REQUESTS;
    let (mut took, outcome) =
        load::open_loop(&stack, numbers, PERIOD, WaitFor::Accepted, |started, _| started.elapsed().as_secs_f64() * 1e3)
            .await;
    took.sort_by(f64::total_cmp);
    report.bar("accept at 200/s, p95", percentile(&took, 0.95), "ms", Bar::AtMost(2.0));
    report.figure("accept at 200/s, p50", percentile(&took, 0.5), "ms");
    report.figure("accept at 200/s, p99", percentile(&took, 0.99), "ms");
    report.figure("accept at 200/s, slowest", percentile(&took, 1.0), "ms");
    if !outcome.errors.is_empty() {
        report.note(format!("errors at 200/s: {}", outcome.errors()));
    }
    stack.note_warnings("accept", report);
}
