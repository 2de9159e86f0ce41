//! `sentry-trace` (<https://develop.sentry.dev/sdk/telemetry/traces/#header-sentry-trace>):
//! `<trace>-<span>[-<sampled>]`.

use super::wire::{RemoteParent, is_hex, trim_ows};
use crate::registration::{SpanId, TraceId};

/// Without a flag the sampling decision is ours. Sentry's SDKs write ids in lower case, and most read no others.
pub(super) fn read(text: &str) -> Option<RemoteParent> {
    let mut parts = trim_ows(text).split('-');
    let (trace, span, flag) = (parts.next()?, parts.next()?, parts.next());
    if !is_hex(trace, 32) || !is_hex(span, 16) || parts.next().is_some() {
        return None;
    }
    let sampled = match flag {
        None | Some("") => None,
        Some("1") => Some(true),
        Some("0") => Some(false),
        Some(_) => return None,
    };
    Some(RemoteParent { trace_id: trace.parse().ok()?, parent: span.parse().ok()?, sampled })
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
            assert_eq!((parent.trace_id.to_string(), parent.parent.to_string()), (TRACE.into(), SPAN.into()));
            assert_eq!(parent.sampled, sampled, "{text:?}");
        }
        assert_eq!(write(TRACE.parse().unwrap(), SPAN.parse().unwrap(), false), format!("{TRACE}-{SPAN}-0"));
    }

    #[test]
    fn other_formats_are_rejected() {
        for text in [
            String::new(),
            "1".to_owned(),
            TRACE.to_owned(),
            format!("{TRACE}-"),
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
