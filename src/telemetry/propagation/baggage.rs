//! `baggage` (<https://www.w3.org/TR/baggage/>): the members that Sentry's SDKs write, the dynamic sampling context
//! (<https://develop.sentry.dev/sdk/telemetry/traces/dynamic-sampling-context/>).

use super::{
    sample_rand::{self, SAMPLE_RAND_MEMBER},
    wire::{BAGGAGE_HEADER, trim_ows},
};
use crate::{
    registration::TraceId,
    telemetry::{redact, user_id},
};
use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::{borrow::Cow, collections::BTreeMap};

/// It is stored with each registration, and Sentry's SDKs write less than 1 KiB. (The W3C rules require that platforms
/// forward 8 KiB of all vendors together.)
pub(super) const MAX_BAGGAGE_BYTES: usize = 2 * 1024;
const SENTRY_PREFIX: &str = "sentry-";
pub(super) const TRACE_ID_MEMBER: &str = "trace_id";
pub(super) const ORG_ID_MEMBER: &str = "org_id";
/// User ids, which older SDKs send.
const USER_MEMBERS: [&str; 3] = ["user", "user_id", "user_segment"];
/// All but the unreserved characters of RFC 3986, section 2.3.
const PERCENT_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The `sentry-` members of all headers in order, unchanged. Left out are malformed members, and those with which the
/// result would exceed 2 KiB; shorter ones behind them still count.
pub(super) fn read(headers: &HeaderMap) -> String {
    let mut kept = String::new();
    // By bytes, because a member that is not UTF-8 must not invalidate the others.
    for text in headers.get_all(BAGGAGE_HEADER).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let Some(text) = std::str::from_utf8(text).ok().map(trim_ows) else { continue };
        let comma = usize::from(!kept.is_empty());
        if sentry_member(text).is_some() && kept.len() + comma + text.len() <= MAX_BAGGAGE_BYTES {
            kept.push_str(if kept.is_empty() { "" } else { "," });
            kept.push_str(text);
        }
    }
    kept
}

/// The members if they belong to this trace, else nothing: Sentry would sample by the wrong dynamic sampling context. A
/// missing `sample_rand` is added, as the SDK rules require, so that all services behind us decide alike
/// (<https://develop.sentry.dev/sdk/telemetry/traces/#propagated-random-value>).
pub(super) fn for_trace(baggage: String, trace_id: TraceId, sampled: Option<bool>) -> String {
    let Some(context) = dynamic_sampling_context(&baggage) else { return baggage };
    if context.get(TRACE_ID_MEMBER).is_some_and(|id| id.parse() != Ok(trace_id)) {
        return String::new();
    }
    if context.contains_key(SAMPLE_RAND_MEMBER) {
        return baggage;
    }
    let rate = context.get("sample_rate").and_then(|rate| rate.parse().ok());
    let rand = sample_rand::format(sample_rand::for_decision(trace_id, sampled, rate));
    let member = write([(SAMPLE_RAND_MEMBER, rand)]);
    if baggage.len() + 1 + member.len() > MAX_BAGGAGE_BYTES { baggage } else { format!("{baggage},{member}") }
}

/// The `sentry-` members without the prefix, percent-decoded; of a repeated name the last one, as in Sentry's SDKs.
/// `None` without a trace id: then no service before us has decided about sampling.
pub(in crate::telemetry) fn dynamic_sampling_context(baggage: &str) -> Option<BTreeMap<String, String>> {
    let context = sentry_members(baggage);
    context.contains_key(TRACE_ID_MEMBER).then_some(context)
}

pub(super) fn sentry_members(baggage: &str) -> BTreeMap<String, String> {
    let members = baggage.split(',').filter_map(sentry_member);
    members.map(|(name, value)| (name.to_owned(), decode(value))).collect()
}

pub(super) fn write<'a>(members: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let member =
        |(name, value): (_, String)| format!("{SENTRY_PREFIX}{name}={}", utf8_percent_encode(&value, PERCENT_ENCODED));
    members.into_iter().map(member).collect::<Vec<_>>().join(",")
}

/// The name without the prefix and the unchanged value of a well-formed `sentry-` member.
fn sentry_member(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.split(';');
    let (key, value) = parts.next()?.split_once('=')?;
    let name = trim_ows(key).strip_prefix(SENTRY_PREFIX)?;
    let value = trim_ows(value);
    (may_forward(name, value) && is_token(name) && is_value(value) && parts.all(is_property)).then_some((name, value))
}

/// Rejects values that redaction would change, and user ids where user ids are exported as hashes.
fn may_forward(name: &str, value: &str) -> bool {
    let is_hidden_user = user_id::is_pseudonymized() && USER_MEMBERS.contains(&name);
    !is_hidden_user && matches!(redact(&decode(value)), Cow::Borrowed(_))
}

/// Properties have no meaning here. Empty ones are allowed, because Sentry's own example ends with one.
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

/// Invalid UTF-8 becomes U+FFFD, as the W3C rules require.
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
        read(&values.iter().map(value).collect())
    }

    fn context(baggage: &str) -> Vec<(String, String)> {
        dynamic_sampling_context(baggage).unwrap_or_default().into_iter().collect()
    }

    #[test]
    fn the_example_of_sentrys_documentation_is_read() {
        let baggage = format!(
            "other-vendor-value-1=foo;bar;baz, sentry-trace_id={TRACE}, \
             sentry-public_key=49d0f7386ad645858ae85020e393bef3, sentry-sample_rate=0.01337, \
             sentry-user_id=Am%C3%A9lie, other-vendor-value-2=foo;bar;"
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
        assert_eq!(context(&baggage), context(&kept), "the unfiltered header gives the same context");
    }

    #[test]
    fn malformed_members_are_left_out_and_others_are_unchanged() {
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
    fn members_beyond_2_kib_are_left_out_and_shorter_ones_behind_them_still_count() {
        let fits = format!("sentry-a={}", "x".repeat(MAX_BAGGAGE_BYTES - 9 - 11));
        assert_eq!(read_values(&[format!("{fits},sentry-b=2").as_bytes()]), format!("{fits},sentry-b=2"));
        assert_eq!(read_values(&[format!("{fits},sentry-b=2").as_bytes()]).len(), MAX_BAGGAGE_BYTES);
        assert_eq!(read_values(&[format!("{fits}x,sentry-b=2,sentry-c=").as_bytes()]), format!("{fits}x,sentry-c="));
        let foreign = format!("x={},sentry-b=2", "x".repeat(MAX_BAGGAGE_BYTES));
        assert_eq!(read_values(&[foreign.as_bytes()]), "sentry-b=2", "members of other systems do not count");
    }

    #[test]
    fn baggage_of_another_trace_is_dropped() {
        let own = |baggage: &str| for_trace(baggage.to_owned(), TRACE.parse().unwrap(), None);
        let other = "1".repeat(32);
        assert_eq!(own(&format!("sentry-trace_id={other},sentry-release=1")), "");
        assert_eq!(own("sentry-trace_id=garbage,sentry-release=1"), "");
        let kept = format!("sentry-trace_id={TRACE},sentry-release=1,sentry-sample_rand=0.5");
        assert_eq!(own(&kept), kept);
    }

    #[test]
    fn a_missing_sample_rand_is_added_that_agrees_with_the_decision() {
        for (members, sampled, least, below) in [
            ("sentry-sample_rate=0.25", Some(true), 0.0, 0.25),
            ("sentry-sample_rate=0.25", Some(false), 0.25, 1.0),
            ("sentry-sample_rate=much", Some(true), 0.0, 1.0),
            ("sentry-release=1", Some(false), 0.0, 1.0),
            ("sentry-sample_rate=1", Some(true), 0.0, 1.0),
            ("sentry-sample_rate=0.25", None, 0.0, 1.0),
        ] {
            for last in 0..=255_u8 {
                let trace = format!("{}{last:02x}{}", &TRACE[..16], &TRACE[18..]);
                let baggage = format!("sentry-trace_id={trace},{members}");
                let completed = for_trace(baggage.clone(), trace.parse().unwrap(), sampled);
                assert!(completed.starts_with(&format!("{baggage},sentry-sample_rand=0.")), "{completed}");
                let rand: f64 = dynamic_sampling_context(&completed).unwrap()["sample_rand"].parse().unwrap();
                assert!((least..below).contains(&rand), "{rand} with {members} {sampled:?}");
            }
        }
        let foreign = "sentry-release=1";
        assert_eq!(for_trace(foreign.to_owned(), TRACE.parse().unwrap(), Some(true)), foreign, "no sampling context");
    }

    #[test]
    fn baggage_without_a_trace_id_is_no_sampling_context() {
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
    fn written_baggage_is_read_back() {
        let members = [("trace_id", TRACE.to_owned()), ("release", "a b,c;d=e%\"\\é\u{1f512}".to_owned())];
        let written = write(members.clone());
        assert!(written.is_ascii() && read_values(&[written.as_bytes()]) == written, "{written}");
        let expected = [members[1].clone(), members[0].clone()].map(|(name, value)| (name.to_owned(), value));
        assert_eq!(context(&written), expected);
    }
}
