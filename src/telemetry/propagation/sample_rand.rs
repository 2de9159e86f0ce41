//! `sample_rand`: the random value in [0, 1) that all services of a trace compare their rate with
//! (<https://develop.sentry.dev/sdk/telemetry/traces/#propagated-random-value>).
//!
//! Ours is a function of the trace id, as the rules recommend: the same that the `TraceIdRatioBased` sampler compares
//! (<https://opentelemetry.io/docs/specs/otel/trace/sdk/#traceidratiobased>), so that all processes decide alike, also
//! after a restart.

use crate::registration::TraceId;

pub(super) const SAMPLE_RAND_MEMBER: &str = "sample_rand";
/// Six decimals, rounded down, as Sentry's SDKs write it.
const DECIMALS: f64 = 1e6;

/// The lower eight bytes of the id, without the lowest bit, as a share of their range.
pub(in crate::telemetry) fn of_trace_id(trace_id: [u8; 16]) -> f64 {
    let [.., a, b, c, d, e, f, g, h] = trace_id;
    let lower = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
    // The highest values would be rounded to 1.
    (lower as f64 / (1_u64 << 63) as f64).min(1.0_f64.next_down())
}

/// For a caller that decided with this rate: below the rate if it sampled the trace, else not below it.
pub(super) fn for_decision(trace_id: TraceId, sampled: Option<bool>, rate: Option<f64>) -> f64 {
    let rand = of_trace_id(trace_id.to_bytes());
    match (sampled, rate.filter(|rate| (0.0..=1.0).contains(rate))) {
        (Some(true), Some(rate)) => rand * rate,
        (Some(false), Some(rate)) if rate < 1.0 => (rate + rand * (1.0 - rate)).min(1.0_f64.next_down()),
        (Some(_) | None, _) => rand,
    }
}

pub(in crate::telemetry) fn format(rand: f64) -> String {
    format!("{:.6}", (rand * DECIMALS).floor() / DECIMALS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_an_id_is_below_1_and_is_written_rounded_down() {
        let of = |id: &str| of_trace_id(id.parse::<TraceId>().unwrap().to_bytes());
        for (id, expected) in [
            ("f".repeat(32), "0.999999"),
            (format!("{}{}", "0".repeat(15), "1".repeat(17)), "0.066666"),
            (format!("1{}", "0".repeat(31)), "0.000000"),
            (format!("{}8{}", "1".repeat(16), "0".repeat(15)), "0.500000"),
        ] {
            assert!((0.0..1.0).contains(&of(&id)), "{id}");
            assert_eq!(format(of(&id)), expected, "{id}");
        }
    }
}
