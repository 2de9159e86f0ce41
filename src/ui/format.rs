//! Numbers, times and hashes as people read them.

use crate::registration::Timestamp;
use std::time::{Duration, UNIX_EPOCH};

const WEI_PER_ETH: f64 = 1e18;
/// Of a shortened hash, at either end.
const SHORT_HASH_DIGITS: usize = 8;

/// With three significant digits, or two units.
pub(super) fn duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.as_secs_f64() * 1000.0);
    match seconds {
        0 if millis < 10.0 => format!("{millis:.1} ms"),
        0 => format!("{millis:.0} ms"),
        1..10 => format!("{:.2} s", duration.as_secs_f64()),
        10..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        86_400.. => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// In whole seconds, for what changes with every reading.
pub(super) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { duration(age) }
}

/// As `2026-11-30 17:20:11 UTC`.
pub(super) fn time(at: Timestamp) -> String {
    let text = rfc3339(at);
    format!("{} UTC", text.trim_end_matches('Z').replace('T', " "))
}

/// As [`time`], with milliseconds.
pub(super) fn exact_time(at: Timestamp) -> String {
    let text = humantime::format_rfc3339_millis(UNIX_EPOCH + since_epoch(at)).to_string();
    format!("{} UTC", text.trim_end_matches('Z').replace('T', " "))
}

/// For the attribute `datetime`.
pub(super) fn rfc3339(at: Timestamp) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch(at)).to_string()
}

/// Up to the year 9999, the last that the format has.
fn since_epoch(at: Timestamp) -> Duration {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    Duration::from_micros(u64::try_from(at.micros()).unwrap_or(0)).min(LAST)
}

/// With thousands separated.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Enough digits to see a change, and not more.
pub(super) fn eth(wei: f64) -> String {
    let ether = wei / WEI_PER_ETH;
    match ether {
        _ if ether <= 0.0 => "0 ETH".to_owned(),
        _ if ether < 0.000_001 => "< 0.000001 ETH".to_owned(),
        _ if ether < 0.1 => format!("{ether:.6} ETH"),
        _ if ether < 1_000.0 => format!("{ether:.4} ETH"),
        _ => format!("{} ETH", count(ether as u64)),
    }
}

/// Enough digits to compare it with another fee.
pub(super) fn gwei(wei: u128) -> String {
    let gwei = wei as f64 / 1e9;
    let text = match gwei {
        _ if gwei >= 1.0 => format!("{gwei:.3}"),
        _ if gwei >= 0.000_001 => format!("{gwei:.6}"),
        _ => format!("{gwei:.9}"),
    };
    format!("{} gwei", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The first and the last digits of a hash or an address.
pub(super) fn short(hash: &impl ToString) -> String {
    let text = hash.to_string();
    let (prefix, digits) = text.split_once("0x").map_or(("", text.as_str()), |(_, digits)| ("0x", digits));
    // Hashes are ASCII.
    if digits.len() <= 2 * SHORT_HASH_DIGITS || !digits.is_ascii() {
        return text;
    }
    format!("{prefix}{}…{}", &digits[..SHORT_HASH_DIGITS], &digits[digits.len() - SHORT_HASH_DIGITS..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_digits_that_say_something() {
        for (micros, text) in [
            (0, "0.0 ms"),
            (420, "0.4 ms"),
            (12_300, "12 ms"),
            (1_234_000, "1.23 s"),
            (59_960_000, "60.0 s"),
            (75_000_000, "1 min 15 s"),
            (7_380_000_000, "2 h 3 min"),
            (180_000_000_000, "2 d 2 h"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), text);
        }
        assert_eq!(age(Duration::from_millis(1_900)), "1 s");
    }

    #[test]
    fn counts_amounts_hashes_and_times_are_readable() {
        let counted = [0, 999, 1_000, 1_234_567].map(count);
        assert_eq!(counted, ["0", "999", "1,000", "1,234,567"]);
        let amounts = [0.0, 1e10, 1.5e16, 2.5e18, 1.23456e22].map(eth);
        assert_eq!(amounts, ["0 ETH", "< 0.000001 ETH", "0.015000 ETH", "2.5000 ETH", "12,345 ETH"]);
        let fees = [0, 7, 1_150_672, 2_500_000_000, 23_019_112_917, 100_000_000_000].map(gwei);
        let expected =
            ["0 gwei", "0.000000007 gwei", "0.001151 gwei", "2.5 gwei", "23.019 gwei", "100 gwei"].map(str::to_owned);
        assert_eq!(fees, expected);
        let hash = alloy::primitives::B256::repeat_byte(0xab);
        assert_eq!(short(&hash), "0xabababab…abababab");
        assert_eq!((short(&"2cf24dba"), short(&"é".repeat(40)).chars().count()), ("2cf24dba".to_owned(), 40));
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        assert_eq!((time(at).as_str(), rfc3339(at).as_str()), ("2023-11-14 22:13:20 UTC", "2023-11-14T22:13:20Z"));
        assert_eq!(exact_time(at), "2023-11-14 22:13:20.123 UTC");
        assert_eq!(time(Timestamp::from_micros(i64::MAX)), "9999-12-31 23:59:59 UTC");
    }
}
