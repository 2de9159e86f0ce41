//! Times of breadcrumbs as text. The SDK writes seconds as a number, which Spotlight takes for milliseconds; Sentry reads
//! RFC 3339 as well (<https://develop.sentry.dev/sdk/data-model/event-payloads/breadcrumbs/>).

use serde_json::{Map, Value};
use std::time::{Duration, UNIX_EPOCH};

/// The envelope with the times of its events' breadcrumbs as text; unchanged where it cannot be read.
pub(super) fn with_text_times(envelope: Vec<u8>) -> Vec<u8> {
    rewrite(&envelope).unwrap_or(envelope)
}

/// `None` if no event has breadcrumbs.
fn rewrite(envelope: &[u8]) -> Option<Vec<u8>> {
    let (envelope_header, mut rest) = split_line(envelope)?;
    let mut bytes = [envelope_header, b"\n"].concat();
    let mut is_changed = false;
    while !rest.is_empty() {
        let (header, after) = split_line(rest)?;
        let mut header: Map<String, Value> = serde_json::from_slice(header).ok()?;
        let length = usize::try_from(header.get("length")?.as_u64()?).ok()?;
        let (payload, after) = after.split_at_checked(length)?;
        let rewritten = if header.get("type")? == "event" { rewrite_event(payload) } else { None };
        is_changed |= rewritten.is_some();
        let payload = rewritten.as_deref().unwrap_or(payload);
        header.insert("length".to_owned(), payload.len().into());
        serde_json::to_writer(&mut bytes, &header).ok()?;
        bytes.extend_from_slice(&[b"\n", payload, b"\n"].concat());
        rest = after.strip_prefix(b"\n").unwrap_or(after);
    }
    is_changed.then_some(bytes)
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn rewrite_event(payload: &[u8]) -> Option<Vec<u8>> {
    let mut event: Value = serde_json::from_slice(payload).ok()?;
    for breadcrumb in event.pointer_mut("/breadcrumbs/values")?.as_array_mut()? {
        let timestamp = breadcrumb.get_mut("timestamp")?;
        let since_epoch = Duration::try_from_secs_f64(timestamp.as_f64()?).ok()?;
        *timestamp = humantime::format_rfc3339_micros(UNIX_EPOCH.checked_add(since_epoch)?).to_string().into();
    }
    serde_json::to_vec(&event).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentry::{
        Breadcrumb, Envelope,
        protocol::{Event, Log, LogLevel, Map},
    };
    use std::time::SystemTime;

    fn bytes(envelope: &Envelope) -> Vec<u8> {
        let mut bytes = Vec::new();
        envelope.to_writer(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_times_of_breadcrumbs_are_text_and_the_rest_is_unchanged() {
        let breadcrumb = |millis| Breadcrumb {
            timestamp: UNIX_EPOCH + Duration::from_millis(millis),
            message: Some(format!("step {millis}")),
            ..Breadcrumb::default()
        };
        let event = Event {
            breadcrumbs: vec![breadcrumb(1_764_424_800_125), breadcrumb(1_764_424_801_000)].into(),
            ..Event::default()
        };
        let envelope: Envelope = event.clone().into();

        let rewritten = with_text_times(bytes(&envelope));

        let lines: Vec<_> = rewritten.split(|byte| *byte == b'\n').collect();
        let (header, payload) = (lines[1], lines[2]);
        let header: Value = serde_json::from_slice(header).unwrap();
        assert_eq!((&header["type"], header["length"].as_u64()), (&"event".into(), Some(payload.len() as u64)));
        let payload: Value = serde_json::from_slice(payload).unwrap();
        let times = payload["breadcrumbs"]["values"].as_array().unwrap().iter().map(|one| &one["timestamp"]);
        assert_eq!(Vec::from_iter(times), ["2025-11-29T14:00:00.125000Z", "2025-11-29T14:00:01.000000Z"]);
        assert_eq!(payload["event_id"], event.event_id.simple().to_string());
    }

    #[test]
    fn an_envelope_without_breadcrumbs_is_unchanged() {
        let log = Log {
            level: LogLevel::Warn,
            body: "text".to_owned(),
            trace_id: None,
            timestamp: SystemTime::now(),
            severity_number: None,
            attributes: Map::new(),
        };
        let logs: Envelope = vec![log].into();
        for envelope in [logs, Event::default().into()] {
            assert_eq!(with_text_times(bytes(&envelope)), bytes(&envelope));
        }
        assert_eq!(with_text_times(b"no envelope".to_vec()), b"no envelope");
    }
}
