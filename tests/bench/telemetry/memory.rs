//! Memory that telemetry takes when it can tell nobody: everything is kept, and neither Sentry nor the collector answers.

use super::{Kept, Receivers, stack};
use crate::{
    harness::{Mood, WaitFor},
    load, process,
    report::{Bar, Report, progress},
};
use std::time::Duration;

/// 200 registrations a second for a minute.
const PERIOD: Duration = Duration::from_millis(5);
const REQUESTS: u64 = 12_000;

/// Measures it.
pub async fn measure(report: &mut Report) {
    let Some((without, peak)) = turn(Kept::Off, Mood::Refuses, report).await else {
        report.note("memory of telemetry is not measured: this system has no /proc");
        return;
    };
    for (mood, name) in [(Mood::Refuses, "refuse"), (Mood::Hangs, "hang")] {
        if let Some((with, with_peak)) = turn(Kept::All, mood, report).await {
            let name = format!("telemetry memory, Sentry and collector {name} for a minute");
            report.bar(name.clone(), with - without, "MiB", Bar::AtMost(50.0));
            report.bar(format!("{name}, peak"), with_peak - peak, "MiB", Bar::AtMost(50.0));
        }
    }
    report.figure("memory after a minute at 200/s, no telemetry", without, "MiB");
}

/// What the service holds after a minute, and the most it ever held, in MiB.
async fn turn(kept: Kept, mood: Mood, report: &mut Report) -> Option<(f64, f64)> {
    let receivers = Receivers::start();
    receivers.sentry.is(mood.clone());
    receivers.otlp.is(mood.clone());
    let stack = stack(kept, &receivers).await;
    progress(format!("{kept}, receivers {mood:?}: {REQUESTS} requests, one every {PERIOD:?}"));
    let (_, outcome) = load::open_loop(&stack, 0..REQUESTS, PERIOD, WaitFor::Accepted, |_, _| ()).await;
    let memory = process::memory(process::child("registrar")?);
    if !outcome.errors.is_empty() {
        report.note(format!("memory, {kept}, {mood:?}: {}", outcome.errors()));
    }
    if let Some((now, peak)) = memory {
        progress(format!("{kept}, receivers {mood:?}: {now:.1} MiB, at most {peak:.1} MiB"));
    }
    memory
}
