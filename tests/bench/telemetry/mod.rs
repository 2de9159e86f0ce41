//! What telemetry costs: the same service, with everything that it says of registrations on its way to a Sentry and to a
//! collector, beside itself with `TRACING_ENABLED=false`.
//!
//! A machine has other things to do now and then, so the two take turns, and the median of the turns is what counts.

mod cost;
mod latency;
mod memory;

pub use cost::{cpu, throughput};
pub use latency::measure as latency;
pub use memory::measure as memory;

use crate::{
    harness::{OtlpStore, SentryStore},
    report::percentile,
    stack::{Ground, Stack},
};
use std::fmt;

/// How much of what goes well is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// No telemetry at all.
    Off,
    /// One in a hundred, as it is unless somebody sets it.
    OnePercent,
    /// Everything.
    All,
}

impl Kept {
    fn rate(self) -> &'static str {
        match self {
            Self::Off => "0",
            Self::OnePercent => "0.01",
            Self::All => "1",
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "no telemetry",
            Self::OnePercent => "1% kept",
            Self::All => "100% kept",
        })
    }
}

/// Where telemetry goes.
struct Receivers {
    sentry: SentryStore,
    otlp: OtlpStore,
}

impl Receivers {
    fn start() -> Self {
        Self { sentry: SentryStore::start(), otlp: OtlpStore::start() }
    }
}

/// A new service on a new chain with five blocks a second: what telemetry adds is the same on a slower one, and it is known to
/// a fifth of a second when the last registration was on chain.
async fn stack(kept: Kept, receivers: &Receivers) -> Stack {
    let (dsn, endpoint) = (receivers.sentry.dsn(), receivers.otlp.endpoint());
    let telemetry = [
        ("SENTRY_DSN", &*dsn),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("TRACE_SAMPLE_RATE", kept.rate()),
    ];
    let settings = if kept == Kept::Off { &[("TRACING_ENABLED", "false")][..] } else { &telemetry[..] };
    Stack::start(Ground::mining_every(0.2).await, settings).await
}

/// Those that take turns, in the order of this round: whoever comes first finds another machine than whoever comes last.
fn turns<const N: usize>(mut all: [Kept; N], round: usize) -> [Kept; N] {
    all.rotate_left(round % N);
    all
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        even if even.is_multiple_of(2) => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
        _ => percentile(&sorted, 0.5),
    }
}

/// Every turn's value, for a note.
fn listed(values: &[f64], digits: usize) -> String {
    values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(", ")
}
