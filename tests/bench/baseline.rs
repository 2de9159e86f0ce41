//! The built service compared with another build of it, such as that of an earlier commit.
//!
//! The two alternate, and the median of the rounds' ratios counts, because the machine's other load varies.

use crate::{
    harness::service::{command, command_of},
    report::{Bar, Report, listed, median, progress},
    stack::{BenchChain, BenchStack},
    throughput::{Loaded, under_load},
};
use std::{path::Path, process::Command};

/// Lost throughput or added processor time that is still explained by noise.
const TOLERANCE: f64 = 0.03;

/// Throughput and processor time per registration at full load without telemetry, as ratios to `baseline`.
///
/// The file has to be named `registrar`: the process is found by that name.
pub async fn measure(report: &mut Report, baseline: &Path, rounds: usize) {
    let (mut rates, mut cpus) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // The position in a round affects the result.
        let baseline_first = round.is_multiple_of(2);
        let first = if baseline_first { command_of(baseline) } else { command() };
        let second = if baseline_first { command() } else { command_of(baseline) };
        let (first, second) = (turn(first, report).await, turn(second, report).await);
        let (before, after) = if baseline_first { (first, second) } else { (second, first) };
        rates.push(after.rate / before.rate);
        cpus.push(cpu(&after) / cpu(&before));
        progress(format!(
            "round {round}: throughput {:.3}, CPU {:.3} of the baseline",
            after.rate / before.rate,
            cpu(&after) / cpu(&before)
        ));
    }
    report.bar("throughput / baseline", median(&rates), "", Bar::AtLeast(1.0 - TOLERANCE));
    report.bar("CPU per registration / baseline", median(&cpus), "", Bar::AtMost(1.0 + TOLERANCE));
    report.note(format!("throughput / baseline, each round: {}", listed(&rates, 3)));
    report.note(format!("CPU per registration / baseline, each round: {}", listed(&cpus, 3)));
}

async fn turn(command: Command, report: &mut Report) -> Loaded {
    let program = command.get_program().display().to_string();
    progress(format!("full load on {program}"));
    let chain = BenchChain::with_block_time(0.2).await;
    let stack = BenchStack::start_with(command, chain, &[("TRACING_ENABLED", "false")]).await;
    under_load(&stack, &format!("{program}: "), report).await
}

/// In seconds per registration; NaN without /proc.
fn cpu(loaded: &Loaded) -> f64 {
    loaded.cpu.map_or(f64::NAN, |cpu| cpu.service.as_secs_f64() / loaded.registered as f64)
}
