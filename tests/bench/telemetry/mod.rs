//! Cost of telemetry: the service that exports to Sentry and a collector, compared with `TRACING_ENABLED=false`.
//!
//! The two variants alternate, and the median counts, because the machine's other load varies.

mod cost;
mod latency;
mod memory;

pub use cost::{cpu, throughput};
pub use latency::measure as latency;
pub use memory::measure as memory;

use crate::{
    harness::{OtlpStore, SentryStore},
    stack::{BenchChain, BenchStack},
};
use std::fmt;

/// Share of traces without a failure that are sampling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sampling {
    Off,
    /// The default.
    OnePercent,
    All,
}

impl Sampling {
    fn rate(self) -> &'static str {
        match self {
            Self::Off => "0",
            Self::OnePercent => "0.01",
            Self::All => "1",
        }
    }
}

impl fmt::Display for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "no telemetry",
            Self::OnePercent => "1% kept",
            Self::All => "100% kept",
        })
    }
}

struct Receivers {
    sentry: SentryStore,
    otlp: OtlpStore,
}

impl Receivers {
    fn start() -> Self {
        Self { sentry: SentryStore::start(), otlp: OtlpStore::start() }
    }
}

/// A new service on a new chain with five blocks a second. The cost of telemetry does not depend on the block time, and
/// short blocks measure the end of a run to 200 ms.
async fn stack(sampling: Sampling, receivers: &Receivers) -> BenchStack {
    let (dsn, endpoint) = (receivers.sentry.dsn(), receivers.otlp.endpoint());
    let telemetry = [
        ("SENTRY_DSN", &*dsn),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("TRACE_SAMPLE_RATE", sampling.rate()),
    ];
    let settings = if sampling == Sampling::Off { &[("TRACING_ENABLED", "false")][..] } else { &telemetry[..] };
    BenchStack::start(BenchChain::with_block_time(0.2).await, settings).await
}

/// The variants in this round's order; it rotates, because the position in a round affects the result.
fn turns<const N: usize>(mut all: [Sampling; N], round: usize) -> [Sampling; N] {
    all.rotate_left(round % N);
    all
}
