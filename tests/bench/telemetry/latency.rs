//! Latency at ten requests a second, with and without telemetry.

use super::{Receivers, Sampling, stack, turns};
use crate::{
    harness::WaitFor,
    load,
    report::{Bar, Report, listed, median, percentile, progress},
};
use std::time::Duration;

/// About ten requests a second. A period of exactly half a block would place every request at the same offset in a
/// block, and the result would depend on that offset.
const PERIOD: Duration = Duration::from_millis(97);
/// 97 and 200 are coprime, so the requests cover every millisecond of a block.
const REQUESTS: u64 = 200;
const WARM_UP: u64 = 20;

pub async fn measure(report: &mut Report, rounds: usize) {
    let (mut more, mut accepting) = (Vec::new(), Vec::new());
    let (mut confirmed_off, mut accepted_off) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut of_round = [(0.0, 0.0); 2];
        for sampling in turns([Sampling::Off, Sampling::OnePercent], round) {
            of_round[usize::from(sampling != Sampling::Off)] = turn(sampling, report).await;
        }
        let [(off, off_accept), (on, on_accept)] = of_round;
        more.push(100.0 * (on / off - 1.0));
        accepting.push(on_accept - off_accept);
        confirmed_off.push(off);
        accepted_off.push(off_accept);
    }
    report.bar("latency added at 10/s, 1% kept, to confirmed, mean", median(&more), "%", Bar::AtMost(5.0));
    report.figure("latency without telemetry, to confirmed, mean", median(&confirmed_off), "ms");
    report.figure("latency added at 10/s, 1% kept, to accepted, p50", median(&accepting), "ms");
    report.figure("latency without telemetry, to accepted, p50", median(&accepted_off), "ms");
    report.note(format!("latency added to confirmed, each turn in %: {}", listed(&more, 1)));
}

/// Mean time to confirmation and median time to acceptance, in milliseconds.
async fn turn(sampling: Sampling, report: &mut Report) -> (f64, f64) {
    let receivers = Receivers::start();
    let stack = stack(sampling, &receivers).await;
    load::open_loop(&stack, 0..WARM_UP, PERIOD, WaitFor::Confirmed, |_, _| ()).await;
    let mut next = WARM_UP;
    let mut took = Vec::new();
    for (wait_for, requests) in [(WaitFor::Confirmed, REQUESTS), (WaitFor::Accepted, REQUESTS / 4)] {
        let numbers = next..next + requests;
        next += requests;
        let (mut times, outcome) =
            load::open_loop(&stack, numbers, PERIOD, wait_for, |started, _| started.elapsed().as_secs_f64() * 1e3)
                .await;
        if !outcome.errors.is_empty() {
            report.note(format!("latency, {sampling}: {}", outcome.errors()));
        }
        times.sort_by(f64::total_cmp);
        took.push(times);
    }
    let [confirmed, accepted] = &took[..] else { return Default::default() };
    let mean = confirmed.iter().sum::<f64>() / confirmed.len().max(1) as f64;
    let accepted_median = percentile(accepted, 0.5);
    progress(format!("{sampling}: confirmed after {mean:.1} ms on average, accepted after {accepted_median:.2} ms"));
    (mean, accepted_median)
}
