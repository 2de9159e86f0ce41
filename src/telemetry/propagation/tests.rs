//! Combinations of headers: which one names the trace, and what is forwarded with it.

use super::{wire::*, *};
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const OTHER: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "b7ad6b7169203331";

type Row<'a> = (&'static str, &'a str);

fn extract_from(headers: &[Row<'_>]) -> TraceContext {
    extract(&headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect())
}

#[test]
fn sentry_trace_wins_over_traceparent_and_a_malformed_one_is_ignored() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let w3c_no = format!("00-{TRACE}-{SPAN}-00");
    let sentry = format!("{OTHER}-{SPAN}");
    let sentry_no = format!("{OTHER}-{SPAN}-0");
    for (headers, trace, sampled) in [
        (vec![("traceparent", w3c.as_str())], Some(TRACE), Some(true)),
        (vec![("traceparent", &w3c_no)], Some(TRACE), Some(false)),
        (vec![("sentry-trace", &sentry)], Some(OTHER), None),
        (vec![("traceparent", &w3c), ("sentry-trace", &sentry)], Some(OTHER), None),
        (vec![("sentry-trace", &sentry_no), ("traceparent", &w3c)], Some(OTHER), Some(false)),
        (vec![("traceparent", &w3c), ("sentry-trace", "garbage")], Some(TRACE), Some(true)),
        (vec![("traceparent", &w3c), ("sentry-trace", "")], Some(TRACE), Some(true)),
        (vec![("traceparent", "garbage"), ("sentry-trace", &sentry)], Some(OTHER), None),
        (vec![("traceparent", "garbage"), ("sentry-trace", "garbage")], None, None),
        // test_traceparent_duplicated, and the same of Sentry's.
        (vec![("traceparent", &w3c), ("traceparent", &w3c_no)], None, None),
        (vec![("traceparent", &w3c), ("traceparent", &w3c)], None, None),
        (vec![("traceparent", &w3c), ("traceparent", &w3c_no), ("sentry-trace", &sentry)], None, None),
        (vec![("traceparent", &w3c), ("traceparent", "garbage")], None, None),
        (vec![("traceparent", &format!("{w3c}, {w3c_no}"))], None, None),
        (vec![("sentry-trace", &sentry), ("sentry-trace", &sentry_no), ("traceparent", &w3c)], None, None),
        (vec![("sentry-trace", &sentry), ("sentry-trace", &sentry)], None, None),
        // test_traceparent_header_name
        (vec![("trace-parent", &w3c)], None, None),
        (vec![("x-trace-id", TRACE)], None, None),
        (vec![], None, None),
    ] {
        let context = extract_from(&headers);
        match trace {
            Some(trace) => assert_eq!(context.trace_id.to_string(), trace, "{headers:?}"),
            None => assert!(![TRACE, OTHER].contains(&context.trace_id.to_string().as_str()), "{headers:?}"),
        }
        assert_eq!(context.parent.map(|span| span.to_string()).as_deref(), trace.map(|_| SPAN), "{headers:?}");
        assert_eq!(context.sampled, sampled, "{headers:?}");
    }
    assert_ne!(extract_from(&[]).trace_id, extract_from(&[]).trace_id, "new traces differ");
}

#[test]
fn tracestate_is_kept_only_with_its_traceparent() {
    let w3c = format!("00-{TRACE}-{SPAN}-00");
    let same = format!("{TRACE}-{SPAN}-1");
    let other = format!("{OTHER}-{SPAN}-1");
    for (headers, expected) in [
        (vec![("traceparent", w3c.as_str()), ("tracestate", "foo=1"), ("tracestate", "bar=2")], "foo=1,bar=2"),
        (vec![("traceparent", &w3c), ("tracestate", "foo=1"), ("sentry-trace", &same)], "foo=1"),
        (vec![("traceparent", &w3c), ("tracestate", "foo=1"), ("sentry-trace", &other)], ""),
        (vec![("sentry-trace", &same), ("tracestate", "foo=1")], ""),
        (vec![("traceparent", "garbage"), ("tracestate", "foo=1")], ""),
        // test_tracestate_included_traceparent_missing
        (vec![("tracestate", "foo=1,bar=2")], ""),
        // test_tracestate_header_name
        (vec![("traceparent", &w3c), ("trace-state", "foo=1")], ""),
        (vec![("traceparent", &w3c)], ""),
    ] {
        assert_eq!(extract_from(&headers).tracestate, expected, "{headers:?}");
    }
    let malformed = extract_from(&[("traceparent", &w3c), ("tracestate", "foo=1,BAR=2")]);
    assert_eq!((malformed.trace_id.to_string().as_str(), malformed.tracestate.as_str()), (TRACE, ""));
}

#[test]
fn baggage_is_kept_only_with_its_trace() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let sentry = format!("{OTHER}-{SPAN}-1");
    let own = format!("sentry-trace_id={TRACE},sentry-sample_rate=0.5,sentry-sample_rand=0.25");
    let both = format!("userId=alice,{own}");
    for (headers, expected) in [
        (vec![("traceparent", w3c.as_str()), ("baggage", &both)], own.as_str()),
        (vec![("traceparent", &w3c), ("baggage", "userId=alice"), ("baggage", &own)], &own),
        (vec![("traceparent", &w3c), ("sentry-trace", &sentry), ("baggage", &both)], ""),
        (vec![("traceparent", "garbage"), ("baggage", &both)], ""),
        (vec![("baggage", &both)], ""),
    ] {
        assert_eq!(extract_from(&headers).baggage, expected, "{headers:?}");
    }
}

#[test]
fn a_trace_of_another_sentry_organization_is_not_continued() {
    let sentry = format!("{TRACE}-{SPAN}-1");
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let of = |org: &str| format!("sentry-trace_id={TRACE},sentry-org_id={org}");
    for (baggage, own, is_continued) in [
        (of("1"), Some("1"), true),
        (of("2"), Some("1"), false),
        (of("2"), None, true),
        (of(""), Some("1"), true),
        (format!("sentry-trace_id={TRACE}"), Some("1"), true),
        (format!("sentry-trace_id={OTHER},sentry-org_id=2"), Some("1"), false),
        ("sentry-org_id=2".to_owned(), Some("1"), false),
        (format!("{},{}", of("2"), of("1")), Some("1"), true),
        ("userId=2,org_id=2".to_owned(), Some("1"), true),
    ] {
        for (name, value) in [(SENTRY_TRACE_HEADER, &sentry), (TRACEPARENT_HEADER, &w3c)] {
            let headers = [(name, value.as_str()), (TRACESTATE_HEADER, "a=1"), (BAGGAGE_HEADER, &baggage)];
            let header = |(name, value): (&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
            let context = extract_for(&headers.map(header).into_iter().collect(), own);
            assert_eq!(context.trace_id.to_string() == TRACE, is_continued, "{baggage} {own:?} {name}");
            if !is_continued {
                assert_eq!((context.parent, context.sampled), (None, None), "{baggage} {own:?} {name}");
                assert_eq!((context.tracestate.as_str(), context.baggage.as_str()), ("", ""), "{baggage} {own:?}");
            }
        }
    }
}

#[test]
fn a_callers_sample_rand_counts_if_it_is_one() {
    let value = |rand: &str| {
        let baggage = format!("sentry-trace_id={TRACE},sentry-sample_rand={rand}");
        caller_sample_rand(&TraceContext { trace_id: TRACE.parse().unwrap(), baggage, ..new_trace() })
    };
    assert_eq!(value("0.125"), 0.125);
    for invalid in ["1", "-0.1", "NaN", "much", ""] {
        assert!((value(invalid) - 0.516_737).abs() < 1e-5, "{invalid}");
    }
}

#[test]
fn ids_of_other_systems_are_recorded_unchanged() {
    let long = "x".repeat(65);
    let ids = |headers: &[Row<'_>]| {
        let header = |(name, value): &Row<'_>| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        foreign_ids(&headers.iter().map(header).collect())
    };
    let all = [("x-parent-span-id", "c/3"), ("x-trace-id", &long[1..]), ("x-span-id", "{b:2}"), ("x-request-id", "d")];
    assert_eq!(
        ids(&all),
        [
            ("caller.x_trace_id", long[1..].to_owned()),
            ("caller.x_span_id", "{b:2}".to_owned()),
            ("caller.x_parent_span_id", "c/3".to_owned())
        ]
    );
    for refused in ["", "a b", "a\tb", "é", &long] {
        assert_eq!(ids(&[("x-trace-id", refused)]), [], "{refused:?}");
    }
    assert_eq!(ids(&[("x-trace-id", "a"), ("x-trace-id", "b")]), []);
}

/// Arbitrary or almost valid header values.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "[0-9a-fA-F]{0,3}-?[0-9a-f]{30,33}-[0-9a-f]{15,17}(-[0-9a-f]{0,3})?(-.{0,3})?".prop_map(String::into_bytes),
        "[ \t]?(00-)?0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331(-[01]{1,2})?".prop_map(String::into_bytes),
        "(sentry-)?[a-z@_ ]{0,9}=?[ -~]{0,20}(,[ -~]{0,20}){0,40}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn any_headers_name_a_trace_or_start_one(
        headers in prop::collection::vec((0_usize..7, value()), 0..8),
    ) {
        let names = [
            TRACEPARENT_HEADER,
            TRACESTATE_HEADER,
            SENTRY_TRACE_HEADER,
            BAGGAGE_HEADER,
            "x-trace-id",
            "x-span-id",
            "x-parent-span-id",
        ];
        let headers: HeaderMap = headers
            .iter()
            .filter_map(|(name, value)| {
                Some((HeaderName::from_static(names[*name]), HeaderValue::from_bytes(value).ok()?))
            })
            .collect();
        let contains = |name: &str, text: &str| {
            headers.get_all(name).iter().any(|value| value.to_str().is_ok_and(|value| value.contains(text)))
        };
        let again = extract(&headers);
        let context = extract(&headers);
        match context.parent {
            Some(parent) => {
                let (trace, span) = (context.trace_id.to_string(), parent.to_string());
                let named = [TRACEPARENT_HEADER, SENTRY_TRACE_HEADER]
                    .into_iter()
                    .any(|name| contains(name, &format!("{trace}-{span}")));
                prop_assert!(named, "{:?} from {:?}", context, headers);
                prop_assert_eq!(&again, &context);
            }
            None => {
                prop_assert_eq!(context.sampled, None);
                prop_assert_eq!((context.tracestate.as_str(), context.baggage.as_str()), ("", ""));
                prop_assert!(names.iter().all(|name| !contains(name, &context.trace_id.to_string())));
                prop_assert_ne!(again.trace_id, context.trace_id);
            }
        }
        prop_assert!(context.tracestate.len() <= 512 && context.baggage.len() <= baggage::MAX_BAGGAGE_BYTES);
        prop_assert!(context.tracestate.split(',').count() <= 32);
        for (_, id) in foreign_ids(&headers) {
            prop_assert!(!id.is_empty() && id.len() <= MAX_FOREIGN_ID_LEN && id.is_ascii());
        }
    }
}
