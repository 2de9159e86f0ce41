//! `baggage` (<https://www.w3.org/TR/baggage/>): of it, what Sentry's SDKs write, the dynamic sampling context
//! (<https://develop.sentry.dev/sdk/telemetry/traces/dynamic-sampling-context/>).

use super::{BAGGAGE_HEADER, trim_ows};
use crate::{
    registration::TraceId,
    telemetry::{redact, user_id},
};
use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::{borrow::Cow, collections::BTreeMap};

/// As much of it is kept; the W3C rules ask for no more.
pub(super) const MAX_BAGGAGE_BYTES: usize = 8 * 1024;
const SENTRY_PREFIX: &str = "sentry-";
const TRACE_ID_MEMBER: &str = "trace_id";
/// What older SDKs say of users there.
const USER_MEMBERS: [&str; 3] = ["user", "user_id", "user_segment"];
/// What stays as it is in a value we write: the unreserved characters of RFC 3986, section 2.3.
const PERCENT_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The `sentry-` members of all headers in order, each as it came. Left out are members that are malformed, and a member that
/// would make the whole longer than 8 KiB; those behind it stay when they fit. Empty when they are about another trace than
/// this one: a dynamic sampling context holds for one trace, and Sentry would sample by the wrong one.
pub(super) fn read(headers: &HeaderMap, trace_id: TraceId) -> String {
    let mut kept = String::new();
    // By bytes, for one member that is no text must not take the others with it.
    for text in headers.get_all(BAGGAGE_HEADER).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let Some(text) = std::str::from_utf8(text).ok().map(trim_ows) else { continue };
        let comma = usize::from(!kept.is_empty());
        if sentry_member(text).is_some() && kept.len() + comma + text.len() <= MAX_BAGGAGE_BYTES {
            kept.push_str(if kept.is_empty() { "" } else { "," });
            kept.push_str(text);
        }
    }
    let other =
        |named: BTreeMap<String, String>| named.get(TRACE_ID_MEMBER).is_some_and(|id| id.parse() != Ok(trace_id));
    if dynamic_sampling_context(&kept).is_some_and(other) { String::new() } else { kept }
}

/// The dynamic sampling context in some baggage: its `sentry-` members without the prefix, percent-decoded; of a name that
/// stands twice the last one, as Sentry's SDKs read it. `None` when no trace id is among them: then nobody before us has
/// decided, and the head of the trace does.
pub fn dynamic_sampling_context(baggage: &str) -> Option<BTreeMap<String, String>> {
    let members = baggage.split(',').filter_map(sentry_member);
    let found: BTreeMap<_, _> = members.map(|(name, value)| (name.to_owned(), decode(value))).collect();
    found.contains_key(TRACE_ID_MEMBER).then_some(found)
}

/// Members of ours, as `sentry-` baggage.
pub(super) fn write<'a>(members: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let members = members.into_iter();
    let texts =
        members.map(|(name, value)| format!("{SENTRY_PREFIX}{name}={}", utf8_percent_encode(&value, PERCENT_ENCODED)));
    texts.collect::<Vec<_>>().join(",")
}

/// A well-formed `sentry-` member: its name without the prefix, and its value as it stands there.
fn sentry_member(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.split(';');
    let (key, value) = parts.next()?.split_once('=')?;
    let name = trim_ows(key).strip_prefix(SENTRY_PREFIX)?;
    let value = trim_ows(value);
    (may_forward(name, value) && is_token(name) && is_value(value) && parts.all(is_property)).then_some((name, value))
}

/// No e-mail address or the like leaves, and nobody's id as it is where ids leave as a hash.
fn may_forward(name: &str, value: &str) -> bool {
    let hashed = user_id::is_pseudonymized() && USER_MEMBERS.contains(&name);
    !hashed && matches!(redact(&decode(value)), Cow::Borrowed(_))
}

/// Nothing has a meaning here; an empty one, as Sentry's own example ends, does no harm.
fn is_property(text: &str) -> bool {
    match text.split_once('=') {
        Some((key, value)) => is_token(trim_ows(key)) && is_value(trim_ows(value)),
        None => trim_ows(text).is_empty() || is_token(trim_ows(text)),
    }
}

/// A token (<https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2>).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Visible ASCII without `"`, `,`, `;` and `\`, and each `%` followed by two hex digits.
fn is_value(text: &str) -> bool {
    let is_octet = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    text.bytes().all(is_octet) && text.split('%').skip(1).all(is_escape)
}

/// What is no UTF-8 becomes U+FFFD, as the W3C rules say.
fn decode(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    const TRACE: &str = "771a43a4192642f0b136d5159a501700";

    fn read_values(values: &[&[u8]]) -> String {
        let value = |value: &&[u8]| (HeaderName::from_static(BAGGAGE_HEADER), HeaderValue::from_bytes(value).unwrap());
        read(&values.iter().map(value).collect(), TRACE.parse().unwrap())
    }

    fn context(baggage: &str) -> Vec<(String, String)> {
        dynamic_sampling_context(baggage).unwrap_or_default().into_iter().collect()
    }

    #[test]
    fn sentrys_own_example_reads_as_it_says() {
        let baggage = format!(
            "other-vendor-value-1=foo;bar;baz, sentry-trace_id={TRACE}, sentry-public_key=49d0f7386ad645858ae85020e393bef3, \
             sentry-sample_rate=0.01337, sentry-user_id=Am%C3%A9lie, other-vendor-value-2=foo;bar;"
        );
        let kept = read_values(&[baggage.as_bytes()]);
        assert_eq!(
            kept,
            format!(
                "sentry-trace_id={TRACE},sentry-public_key=49d0f7386ad645858ae85020e393bef3,sentry-sample_rate=0.01337,\
                 sentry-user_id=Am%C3%A9lie"
            )
        );
        let expected = [
            ("public_key", "49d0f7386ad645858ae85020e393bef3"),
            ("sample_rate", "0.01337"),
            ("trace_id", TRACE),
            ("user_id", "Amélie"),
        ];
        assert_eq!(context(&kept), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(context(&baggage), context(&kept), "the whole header reads the same");
    }

    #[test]
    fn garbage_is_left_out_and_the_rest_stays_as_it_came() {
        for (values, expected) in [
            (vec![b"".as_slice()], ""),
            (vec![b"userId=alice,isProduction=false"], ""),
            (vec![b"sentry-a=1", b"x=1,sentry-b=2"], "sentry-a=1,sentry-b=2"),
            (vec![b" \tsentry-a \t=\t 1 \t,, sentry-b=2 ; p ; q = r "], "sentry-a \t=\t 1,sentry-b=2 ; p ; q = r"),
            (vec![b"sentry-a=b=c=="], "sentry-a=b=c=="),
            (vec![b"sentry-a=,sentry-b=2"], "sentry-a=,sentry-b=2"),
            (vec![b"sentry-a,sentry-=1,sentry-b=2"], "sentry-b=2"),
            (vec![b"sentry-a=1 2,sentry-b=\"2\",sentry-c=\\,sentry-d=4"], "sentry-d=4"),
            (vec![b"sentry-a=%,sentry-b=%4,sentry-c=%zz,sentry-d=%e9"], "sentry-d=%e9"),
            (vec![b"sentry-a(b)=1,sentry-c=1;(,sentry-d=1;e=%"], ""),
            (vec![b"sentry-a=\xff\xfe,sentry-b=2"], "sentry-b=2"),
            (vec![b"sentry-a=\xc3\xa9,sentry-b=2"], "sentry-b=2"),
            (vec![b"SENTRY-A=1,sentryb=2, sentry-c=3"], "sentry-c=3"),
        ] {
            assert_eq!(read_values(&values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_member_that_makes_it_too_long_is_left_out_and_those_behind_it_stay_when_they_fit() {
        let fits = format!("sentry-a={}", "x".repeat(MAX_BAGGAGE_BYTES - 9 - 11));
        assert_eq!(read_values(&[format!("{fits},sentry-b=2").as_bytes()]), format!("{fits},sentry-b=2"));
        assert_eq!(read_values(&[format!("{fits},sentry-b=2").as_bytes()]).len(), MAX_BAGGAGE_BYTES);
        assert_eq!(read_values(&[format!("{fits}x,sentry-b=2,sentry-c=").as_bytes()]), format!("{fits}x,sentry-c="));
        let strangers = format!("x={},sentry-b=2", "x".repeat(MAX_BAGGAGE_BYTES));
        assert_eq!(read_values(&[strangers.as_bytes()]), "sentry-b=2", "others' members take no room");
    }

    #[test]
    fn baggage_of_another_trace_is_dropped() {
        let other = "1".repeat(32);
        assert_eq!(read_values(&[format!("sentry-trace_id={other},sentry-release=1").as_bytes()]), "");
        assert_eq!(read_values(&[b"sentry-trace_id=garbage,sentry-release=1"]), "");
        let own = format!("sentry-trace_id={TRACE},sentry-release=1");
        assert_eq!(read_values(&[own.as_bytes()]), own);
    }

    #[test]
    fn without_a_trace_id_nobody_has_decided() {
        for baggage in ["", "sentry-release=1,sentry-sample_rate=1", "trace_id=1", "sentry-trace_id"] {
            assert_eq!(dynamic_sampling_context(baggage), None, "{baggage}");
        }
    }

    #[test]
    fn values_are_percent_decoded_once_and_the_last_of_a_name_counts() {
        let text = "sentry-trace_id=1,sentry-a=%25%32%35;p=%41,sentry-b=a+b%20c,sentry-c=%ff,sentry-d=1,sentry-d=2";
        let expected = [("a", "%25"), ("b", "a+b c"), ("c", "\u{fffd}"), ("d", "2"), ("trace_id", "1")];
        assert_eq!(context(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let members = [("trace_id", TRACE.to_owned()), ("release", "a b,c;d=e%\"\\é\u{1f512}".to_owned())];
        let written = write(members.clone());
        assert!(written.is_ascii() && read_values(&[written.as_bytes()]) == written, "{written}");
        let expected = [members[1].clone(), members[0].clone()].map(|(name, value)| (name.to_owned(), value));
        assert_eq!(context(&written), expected);
    }
}
