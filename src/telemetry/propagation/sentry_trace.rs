//! `sentry-trace` (<https://develop.sentry.dev/sdk/telemetry/traces/#header-sentry-trace>):
//! `<trace>-<span>[-<sampled>]`, or `<trace>-<sampled>` from a caller that reports no span of its own: the parsers of
//! Sentry's SDKs accept a header without the span, too.

use super::wire::{RemoteParent, is_hex, trim_ows};
use crate::registration::{SpanId, TraceId};

/// Without a flag the sampling decision is ours. Sentry's SDKs write ids in lower case, and most read no others.
pub(super) fn read(text: &str) -> Option<RemoteParent> {
    let mut parts = trim_ows(text).split('-');
    let (trace, span, flag) = (parts.next()?, parts.next()?, parts.next());
    if !is_hex(trace, 32) || parts.next().is_some() {
        return None;
    }
    let (parent, flag) = match (span, flag) {
        ("0" | "1", None) => (None, Some(span)),
        _ if is_hex(span, 16) => (Some(span.parse().ok()?), flag),
        _ => return None,
    };
    let sampled = match flag {
        None | Some("") => None,
        Some("1") => Some(true),
        Some("0") => Some(false),
        Some(_) => return None,
    };
    Some(RemoteParent { trace_id: trace.parse().ok()?, parent, sampled })
}

/// Of a caller that reports no span.
pub(super) fn write_without_span(trace_id: TraceId, sampled: bool) -> String {
    format!("{trace_id}-{}", u8::from(sampled))
}

pub(super) fn write(trace_id: TraceId, span: SpanId, sampled: bool) -> String {
    format!("{trace_id}-{span}-{}", u8::from(sampled))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn the_sampling_flag_is_optional() {
        for (text, sampled) in [
            (format!("{TRACE}-{SPAN}"), None),
            (format!("{TRACE}-{SPAN}-"), None),
            (format!("{TRACE}-{SPAN}-1"), Some(true)),
            (format!("{TRACE}-{SPAN}-0"), Some(false)),
            (format!(" \t{TRACE}-{SPAN}-1\t "), Some(true)),
        ] {
            let parent = read(&text).unwrap_or_else(|| panic!("{text:?}"));
            assert_eq!((parent.trace_id.to_string(), parent.parent), (TRACE.into(), SPAN.parse().ok()));
            assert_eq!(parent.sampled, sampled, "{text:?}");
        }
        assert_eq!(write(TRACE.parse().unwrap(), SPAN.parse().unwrap(), false), format!("{TRACE}-{SPAN}-0"));
    }

    #[test]
    fn the_span_is_optional_before_a_flag() {
        for sampled in [true, false] {
            let parent = read(&write_without_span(TRACE.parse().unwrap(), sampled)).unwrap();
            assert_eq!(
                (parent.trace_id.to_string(), parent.parent, parent.sampled),
                (TRACE.into(), None, Some(sampled))
            );
        }
    }

    #[test]
    fn other_formats_are_rejected() {
        for text in [
            String::new(),
            "1".to_owned(),
            TRACE.to_owned(),
            format!("{TRACE}-"),
            format!("{TRACE}--1"),
            format!("{TRACE}-2"),
            format!("{TRACE}{SPAN}-1"),
            format!("{TRACE}-{SPAN}-2"),
            format!("{TRACE}-{SPAN}-01"),
            format!("{TRACE}-{SPAN}-true"),
            format!("{TRACE}-{SPAN}-1-"),
            format!("{TRACE}-{}-1", &SPAN[1..]),
            format!("{}-{SPAN}-1", &TRACE[1..]),
            format!("{TRACE}0-{SPAN}-1"),
            format!("{}-{SPAN}-1", TRACE.to_uppercase()),
            format!("0x{}-{SPAN}-1", &TRACE[2..]),
            format!("{}-{SPAN}-1", "0".repeat(32)),
            format!("{TRACE}-{}-1", "0".repeat(16)),
            format!("00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(read(&text), None, "{text:?}");
        }
    }
}
