//! Times and durations for people.

use prost_types::Timestamp;
use std::time::{Duration, SystemTime};

pub(super) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// A date, a time in UTC, or a duration before now.
///
/// # Errors
/// When it is none of these.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let date = || humantime::parse_rfc3339_weak(&format!("{text}T00:00:00"));
    let ago = || humantime::parse_duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    let time = humantime::parse_rfc3339_weak(text).or_else(|_| date()).ok().or_else(ago);
    time.map(Timestamp::from)
        .ok_or("is not a time: use 2026-11-30, 2026-11-30T08:00:00Z, or 2h for two hours ago".into())
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
    fn times_are_dates_times_or_durations_before_now() {
        let seconds = |text| parse_time(text).map(|time| time.seconds);
        assert_eq!(seconds("2026-11-30"), Ok(1_795_996_800));
        assert_eq!(seconds("2026-11-30T00:00:01Z"), Ok(1_795_996_801));
        assert_eq!(seconds("2026-11-30 00:00:01"), Ok(1_795_996_801));
        let ago = now().seconds - seconds("2h").unwrap();
        assert!((7_199..=7_201).contains(&ago), "{ago}");
        for text in ["", "yesterday", "2026-13-01", "-2h", "12"] {
            assert!(parse_time(text).unwrap_err().contains("2h for two hours ago"), "{text}");
        }
    }

    #[test]
    fn a_clock_that_went_backward_gives_zero() {
        let time = |seconds, nanos| Timestamp { seconds, nanos };
        assert_eq!(elapsed_between(&time(10, 0), &time(9, 5)), Duration::ZERO);
        assert_eq!(elapsed_between(&time(9, 900_000_000), &time(10, 100_000_000)), Duration::from_millis(200));
    }
}
