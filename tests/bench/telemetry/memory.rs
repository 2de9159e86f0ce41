//! Memory of telemetry while every trace is sampling and neither Sentry nor the collector accepts anything.

use super::{Receivers, Sampling, stack};
use crate::{
    harness::{Behavior, WaitFor},
    load, process,
    report::{Bar, Report, progress},
};
use std::time::Duration;

/// 200 registrations a second for 15 seconds: the queues to receivers that accept nothing are full before.
const PERIOD: Duration = Duration::from_millis(5);
const REQUESTS: u64 = 3_000;

pub async fn measure(report: &mut Report) {
    let Some((without, peak)) = turn(Sampling::Off, Behavior::RefuseConnections, report).await else {
        report.note("memory of telemetry is not measured: this system has no /proc");
        return;
    };
    for (behavior, name) in [(Behavior::RefuseConnections, "refuse"), (Behavior::Hang, "hang")] {
        if let Some((with, with_peak)) = turn(Sampling::All, behavior, report).await {
            let name = format!("telemetry memory, Sentry and collector {name} for 15 s");
            report.bar(name.clone(), with - without, "MiB", Bar::AtMost(50.0));
            report.bar(format!("{name}, peak"), with_peak - peak, "MiB", Bar::AtMost(50.0));
        }
    }
    report.figure("memory after 15 s at 200/s, no telemetry", without, "MiB");
}

/// Current and peak memory of the service after the requests, in MiB.
async fn turn(sampling: Sampling, behavior: Behavior, report: &mut Report) -> Option<(f64, f64)> {
    let receivers = Receivers::start();
    receivers.sentry.set_behavior(behavior.clone());
    receivers.otlp.set_behavior(behavior.clone());
    let stack = stack(sampling, &receivers).await;
    progress(format!("{sampling}, receivers {behavior:?}: {REQUESTS} requests, one every {PERIOD:?}"));
    let (_, outcome) = load::open_loop(&stack, 0..REQUESTS, PERIOD, WaitFor::Accepted, |_, _| ()).await;
    let memory = process::memory(process::child("registrar")?);
    if !outcome.errors.is_empty() {
        report.note(format!("memory, {sampling}, {behavior:?}: {}", outcome.errors()));
    }
    if let Some((now, peak)) = memory {
        progress(format!("{sampling}, receivers {behavior:?}: {now:.1} MiB, at most {peak:.1} MiB"));
    }
    memory
}
