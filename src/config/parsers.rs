//! Parsers of single values. Their errors continue a sentence that begins with the value.

use std::time::Duration;

const PRIVATE_KEY_HEX_DIGITS: usize = 64;
/// No setting needs more, and sums of durations stay far from overflow.
const MAX_DURATION_SETTING: Duration = Duration::from_secs(24 * 60 * 60);

/// The entries of a list separated by commas or line breaks.
pub(super) fn split_list(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty())
}

pub(super) fn parse_bool(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is not a boolean; use true or false"),
    }
}

pub(super) fn parse_integer_in(min: u64, max: u64) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        text.parse()
            .ok()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| format!("is not an integer from {min} to {max}"))
    }
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "is not a duration; use for example 30s, 1m 30s or 500ms")
}

pub(super) fn parse_duration_setting(text: &str) -> Result<Duration, &'static str> {
    parse_duration_up_to(MAX_DURATION_SETTING, "is longer than the maximum of one day")(text)
}

pub(super) fn parse_duration_up_to(
    max: Duration,
    too_long: &'static str,
) -> impl Fn(&str) -> Result<Duration, &'static str> {
    move |text| match parse_duration(text)? {
        duration if duration.is_zero() => Err("is zero; use for example 30s or 5m"),
        duration if duration > max => Err(too_long),
        duration => Ok(duration),
    }
}

/// Whether the text contains as many hex digits in a row as a private key has.
pub(crate) fn may_contain_private_key(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_hexdigit()).any(|digits| digits.len() >= PRIVATE_KEY_HEX_DIGITS)
}
