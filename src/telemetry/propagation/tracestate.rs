//! `tracestate` (<https://www.w3.org/TR/trace-context-2/#tracestate-header>): state of the tracing systems on the way,
//! the latest first. We add none and forward it.

use super::wire::{TRACESTATE_HEADER, trim_ows};
use http::HeaderMap;

/// A longer list is malformed.
const MAX_MEMBERS: usize = 32;
/// The minimum that must be forwarded.
const MAX_TRACESTATE_LEN: usize = 512;
/// Longer members are removed first.
const LARGE_MEMBER_LEN: usize = 128;
const MAX_KEY_LEN: usize = 256;
const MAX_VALUE_LEN: usize = 256;

/// Joins the headers in order, without white space around members and without empty ones. Empty if one member is
/// malformed.
///
/// A repeated key keeps its first value, which is the latest. The suite allows that and keeping both; in earlier years
/// it required dropping the whole list.
pub(super) fn read(headers: &HeaderMap) -> String {
    let mut members: Vec<(&str, &str)> = Vec::new();
    let mut count = 0;
    for value in headers.get_all(TRACESTATE_HEADER) {
        let Ok(text) = value.to_str() else { return String::new() };
        for text in text.split(',').map(trim_ows).filter(|text| !text.is_empty()) {
            count += 1;
            let Some(member) = parse_member(text).filter(|_| count <= MAX_MEMBERS) else { return String::new() };
            if members.iter().all(|(key, _)| *key != member.0) {
                members.push(member);
            }
        }
    }
    truncate_members(members.into_iter().map(|(key, value)| format!("{key}={value}")).collect())
}

fn parse_member(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').filter(|(key, value)| is_key(key) && is_value(value))
}

/// Level 2 allows `@` anywhere; Level 1 had it once, between a tenant and a system
/// Level 2 has made `@` a character as any other; before, it stood once, between a tenant and a system
/// (<https://github.com/w3c/trace-context/issues/583>).
fn is_key(key: &str) -> bool {
    let starts_valid = key.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    starts_valid && key.len() <= MAX_KEY_LEN && key.bytes().all(allowed)
}

/// White space at the end is already trimmed; at the start it belongs to the value.
fn is_value(value: &str) -> bool {
    let allowed = |byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=MAX_VALUE_LEN).contains(&value.len()) && value.bytes().all(allowed)
}

/// Removes whole members until the rest is short enough: large ones first, then from the end
/// (<https://www.w3.org/TR/trace-context-2/#tracestate-limits>).
fn truncate_members(mut members: Vec<String>) -> String {
    let length = |members: &[String]| members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
    while length(&members) > MAX_TRACESTATE_LEN {
        let large = members.iter().rposition(|member| member.len() > LARGE_MEMBER_LEN);
        members.remove(large.unwrap_or(members.len() - 1));
    }
    members.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read_values(values: &[&str]) -> String {
        read(
            &values
                .iter()
                .map(|value| (http::HeaderName::from_static(TRACESTATE_HEADER), value.parse().unwrap()))
                .collect(),
        )
    }

    /// `bar01=01,bar02=02,…`, as the suite counts members.
    fn bars(first: usize, last: usize) -> String {
        (first..=last).map(|n| format!("bar{n:02}={n:02}")).collect::<Vec<_>>().join(",")
    }

    /// Rows of <https://github.com/w3c/trace-context/blob/main/test/test.py>, by the names they have there, and of the
    /// specification's text.
    #[test]
    fn the_w3c_suite_forwards_the_same_members() {
        let chars = |from: char, to: char| (from..=to).collect::<String>();
        let key = format!("{}0123456789_-*/@", chars('a', 'z'));
        let value = format!("{}{}{}", chars(' ', '+'), chars('-', '<'), chars('>', '~'));
        let all = format!("{key}={value}");
        let (z256, z257) = (format!("{}=1", "z".repeat(256)), format!("{}=1", "z".repeat(257)));
        let long_tenant = format!("{}@v=1", "t".repeat(242));
        let long_system = format!("t@{}=1", "v".repeat(15));
        let (v256, v257) = (format!("foo={}", "x".repeat(256)), format!("foo={}", "x".repeat(257)));
        let rows: Vec<(Vec<&str>, String)> = vec![
            // test_tracestate_included_traceparent_included
            (vec!["foo=1,bar=2"], "foo=1,bar=2".into()),
            // test_tracestate_empty_header
            (vec![""], String::new()),
            (vec!["foo=1", ""], "foo=1".into()),
            (vec!["", "foo=1"], "foo=1".into()),
            (vec![" ,\t, foo=1,,"], "foo=1".into()),
            // test_tracestate_multiple_headers_different_keys
            (vec!["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3".into()),
            // test_tracestate_duplicated_keys
            (vec!["foo=1,foo=1"], "foo=1".into()),
            (vec!["foo=1,bar=3,foo=2"], "foo=1,bar=3".into()),
            (vec!["foo=1", "foo=2"], "foo=1".into()),
            // test_tracestate_all_allowed_characters
            (vec![&all], all.clone()),
            // test_tracestate_ows_handling
            (vec!["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3".into()),
            (vec!["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3".into()),
            (vec!["\t foo=1 \t"], "foo=1".into()),
            (vec!["foo=  1 2 "], "foo=  1 2".into()),
            // test_tracestate_key_illegal_characters
            (vec!["foo =1"], String::new()),
            (vec!["FOO=1"], String::new()),
            (vec!["foo.bar=1"], String::new()),
            (vec!["_foo=1"], String::new()),
            (vec!["1foo=1"], "1foo=1".into()),
            // test_tracestate_key_illegal_vendor_format
            (vec!["foo@=1,bar=2"], "foo@=1,bar=2".into()),
            (vec!["@foo=1,bar=2"], String::new()),
            (vec!["foo@@bar=1,bar=2"], "foo@@bar=1,bar=2".into()),
            (vec!["foo@bar@baz=1,bar=2"], "foo@bar@baz=1,bar=2".into()),
            // test_tracestate_key_length_limit
            (vec!["foo=1", &z256], format!("foo=1,{z256}")),
            (vec!["foo=1", &z257], String::new()),
            (vec!["foo=1", &long_tenant], format!("foo=1,{long_tenant}")),
            (vec!["foo=1", &long_system], format!("foo=1,{long_system}")),
            // test_tracestate_value_illegal_characters
            (vec!["foo=bar=baz"], String::new()),
            (vec!["foo=,bar=3"], String::new()),
            (vec!["foo=a\tb"], String::new()),
            (vec![&v256], v256.clone()),
            (vec![&v257], String::new()),
            // One malformed member invalidates the list.
            (vec!["foo=1", "bar"], String::new()),
            (vec!["foo=1,=2"], String::new()),
        ];
        for (values, expected) in rows {
            assert_eq!(read_values(&values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_list_of_more_than_32_members_is_malformed() {
        assert_eq!(read_values(&[&bars(1, 10), &bars(11, 20), &bars(21, 32)]), bars(1, 32));
        assert_eq!(read_values(&[&bars(1, 10), &bars(11, 20), &bars(21, 33)]), "");
        assert_eq!(read_values(&[&bars(1, 32), "bar01=1"]), "", "a repeated member counts twice");
        assert_eq!(read_values(&[&bars(1, 32), ",, ,"]), bars(1, 32), "empty members do not count");
    }

    #[test]
    fn a_long_list_loses_large_members_first_and_then_the_last_ones() {
        let large = |key: &str| format!("{key}={}", "x".repeat(200));
        let small = |key: &str| format!("{key}={}", "x".repeat(100));
        let kept = read_values(&[&[small("a"), large("b"), small("c"), large("d")].join(",")]);
        assert_eq!(kept, [small("a"), large("b"), small("c")].join(","));
        let kept =
            read_values(&[&[small("a"), small("b"), small("c"), small("d"), small("e"), "f=1".into()].join(",")]);
        assert_eq!(kept, [small("a"), small("b"), small("c"), small("d")].join(","));
        let exact = [large("a"), large("b"), format!("c={}", "x".repeat(512 - 2 * 203 - 2))].join(",");
        assert_eq!((exact.len(), read_values(&[&exact])), (512, exact.clone()));
        assert_eq!(read_values(&[&format!("{exact}x")]), [large("a"), format!("c={}", "x".repeat(105))].join(","));
    }

    #[test]
    fn a_list_with_invalid_utf_8_is_malformed() {
        let headers = [b"foo=1".as_slice(), b"bar=\xff"].map(|value| HeaderValue::from_bytes(value).unwrap());
        let name = http::HeaderName::from_static(TRACESTATE_HEADER);
        assert_eq!(read(&headers.into_iter().map(|value| (name.clone(), value)).collect()), "");
    }
}
