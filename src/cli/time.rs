//! Times and durations for people.

use prost_types::Timestamp;
use std::time::{Duration, SystemTime};

pub(super) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Zero if the clock went backward.
pub(super) fn elapsed_between(start: &Timestamp, end: &Timestamp) -> Duration {
    let nanos = |time: &Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    u64::try_from(nanos(end) - nanos(start)).map_or(Duration::ZERO, Duration::from_nanos)
}

/// About three digits: `12 ms`, `1.93 s`, `2 m 05 s`, `1 h 02 m`.
pub(super) fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = duration.as_secs();
    match millis {
        0 if duration.is_zero() => "0 ms".to_owned(),
        0 => "<1 ms".to_owned(),
        1..1_000 => format!("{millis} ms"),
        1_000..9_995 => format!("{:.2} s", duration.as_secs_f64()),
        9_995..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        60_000..3_600_000 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
    }
}

/// UTC, to the second.
pub(super) fn format_timestamp(time: &Timestamp) -> String {
    SystemTime::try_from(*time)
        .map(|time| humantime::format_rfc3339_seconds(time).to_string())
        .unwrap_or_else(|_| "out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_about_three_digits() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_930, "1.93 s"),
            (9_999, "10.0 s"),
            (59_900, "59.9 s"),
            (125_000, "2 m 05 s"),
            (3_720_000, "1 h 02 m"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(format_duration(Duration::from_nanos(1)), "<1 ms");
    }

    #[test]
    fn a_clock_that_went_backward_gives_zero() {
        let time = |seconds, nanos| Timestamp { seconds, nanos };
        assert_eq!(elapsed_between(&time(10, 0), &time(9, 5)), Duration::ZERO);
        assert_eq!(elapsed_between(&time(9, 900_000_000), &time(10, 100_000_000)), Duration::from_millis(200));
    }
}
