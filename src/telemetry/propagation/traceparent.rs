//! `traceparent` (<https://www.w3.org/TR/trace-context-2/#traceparent-header>): `00-<trace>-<parent>-<flags>`.

use super::wire::{RemoteParent, is_hex, trim_ows};
use crate::registration::{SpanId, TraceId};

/// The length in version 00, and the minimum in later ones.
const TRACEPARENT_LEN: usize = 55;
const SAMPLED_FLAG: u8 = 1;

/// A later version may have more fields behind a further dash; they are ignored
/// (<https://www.w3.org/TR/trace-context-2/#versioning-of-traceparent>). Version ff is forbidden.
pub(super) fn read(text: &str) -> Option<RemoteParent> {
    let text = trim_ows(text);
    let field = |from: usize, length: usize| text.get(from..from + length).filter(|field| is_hex(field, length));
    let is_dash = |at: usize| text.as_bytes().get(at) == Some(&b'-');
    let version = field(0, 2)?;
    let has_valid_end = text.len() == TRACEPARENT_LEN || (version != "00" && is_dash(TRACEPARENT_LEN));
    if version == "ff" || !has_valid_end || ![2, 35, 52].into_iter().all(is_dash) {
        return None;
    }
    let flags = u8::from_str_radix(field(53, 2)?, 16).ok()?;
    Some(RemoteParent {
        trace_id: field(3, 32)?.parse().ok()?,
        parent: Some(field(36, 16)?.parse().ok()?),
        sampled: Some(flags & SAMPLED_FLAG != 0),
    })
}

/// In version 00, with undefined flags zero.
pub(super) fn write(trace_id: TraceId, span: SpanId, sampled: bool) -> String {
    format!("00-{trace_id}-{span}-{:02x}", u8::from(sampled))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "12345678901234567890123456789012";
    const PARENT: &str = "1234567890123456";

    fn valid(text: &str) -> (String, bool) {
        (text.to_owned(), true)
    }

    fn invalid(text: &str) -> (String, bool) {
        (text.to_owned(), false)
    }

    fn check(rows: impl IntoIterator<Item = (String, bool)>) {
        for (text, expected) in rows {
            let parent = read(&text).map(|parent| (parent.trace_id.to_string(), parent.parent.unwrap().to_string()));
            assert_eq!(parent, expected.then(|| (TRACE.to_owned(), PARENT.to_owned())), "{text:?}");
        }
    }

    /// Rows of <https://github.com/w3c/trace-context/blob/main/test/test.py>, by the names they have there.
    #[test]
    fn versions_are_accepted_and_rejected_as_by_the_w3c_suite() {
        let good = format!("{TRACE}-{PARENT}");
        check([
            // test_traceparent_included_tracestate_missing
            valid(&format!("00-{good}-01")),
            // test_traceparent_version_0x00
            invalid(&format!("00-{good}-01.")),
            invalid(&format!("00-{good}-01-what-the-future-will-be-like")),
            invalid(&format!("00-{good}-01-")),
            // test_traceparent_version_0xcc
            valid(&format!("cc-{good}-01")),
            valid(&format!("cc-{good}-01-what-the-future-will-be-like")),
            valid(&format!("01-{good}-01-")),
            valid(&format!("fe-{good}-01")),
            invalid(&format!("cc-{good}-01.what-the-future-will-be-like")),
            invalid(&format!("cc-{good}-012")),
            invalid(&format!("cc-{good}-0")),
            invalid(&format!("cc-{good}")),
            // test_traceparent_version_0xff
            invalid(&format!("ff-{good}-01")),
            invalid(&format!("ff-{good}-01-x")),
            // test_traceparent_version_illegal_characters
            invalid(&format!(".0-{good}-01")),
            invalid(&format!("0.-{good}-01")),
            invalid(&format!("CC-{good}-01")),
            // test_traceparent_version_too_long, _too_short
            invalid(&format!("000-{good}-01")),
            invalid(&format!("0000-{good}-01")),
            invalid(&format!("0-{good}-01")),
        ]);
    }

    /// Rows of the same suite, and of the specification's text.
    #[test]
    fn ids_and_flags_are_accepted_and_rejected_as_by_the_w3c_suite() {
        let good = format!("{TRACE}-{PARENT}");
        let zero_trace = format!("00-{}-{PARENT}-01", "0".repeat(32));
        let zero_parent = format!("00-{TRACE}-{}-01", "0".repeat(16));
        check([
            // test_traceparent_trace_id_*
            invalid(&zero_trace),
            invalid(&format!("00-.{}-{PARENT}-01", &TRACE[1..])),
            invalid(&format!("00-{}.-{PARENT}-01", &TRACE[1..])),
            invalid(&format!("00-{TRACE}3-{PARENT}-01")),
            invalid(&format!("00-{}-{PARENT}-01", &TRACE[1..])),
            invalid(&format!("00-{}-{PARENT}-01", "A".repeat(32))),
            // test_traceparent_parent_id_*
            invalid(&zero_parent),
            invalid(&format!("00-{TRACE}-.{}-01", &PARENT[1..])),
            invalid(&format!("00-{TRACE}-{}.-01", &PARENT[1..])),
            invalid(&format!("00-{TRACE}-{PARENT}7-01")),
            invalid(&format!("00-{TRACE}-{}-01", &PARENT[1..])),
            invalid(&format!("00-{TRACE}-{}-01", "A".repeat(16))),
            // test_traceparent_trace_flags_*
            invalid(&format!("00-{good}-.0")),
            invalid(&format!("00-{good}-0.")),
            invalid(&format!("00-{good}-0A")),
            invalid(&format!("00-{good}-001")),
            invalid(&format!("00-{good}-1")),
            invalid(&format!("00-{good}-+1")),
            // test_traceparent_ows_handling
            valid(&format!(" 00-{good}-01")),
            valid(&format!("\t00-{good}-01")),
            valid(&format!("00-{good}-01 ")),
            valid(&format!("00-{good}-01\t")),
            valid(&format!("\t 00-{good}-01 \t")),
            invalid(&format!("00 -{good}-01")),
            invalid(&format!("00-{good}-01,00-{good}-01")),
            // The specification: positions of the dashes.
            invalid(&format!("00_{good}-01")),
            invalid(&format!("00-{TRACE}_{PARENT}-01")),
            invalid(&format!("00-{good}_01")),
            invalid(""),
            invalid("-"),
            invalid("00"),
        ]);
    }

    #[test]
    fn only_the_sampled_flag_is_read_and_written() {
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true), ("09", true), ("ff", true)] {
            let parent = read(&format!("00-{TRACE}-{PARENT}-{flags}")).unwrap();
            assert_eq!(parent.sampled, Some(sampled), "{flags}");
            let written = write(parent.trace_id, parent.parent.unwrap(), sampled);
            assert_eq!(written, format!("00-{TRACE}-{PARENT}-0{}", u8::from(sampled)));
        }
    }
}
