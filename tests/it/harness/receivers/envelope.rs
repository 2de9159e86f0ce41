//! Parses Sentry envelopes (<https://develop.sentry.dev/sdk/data-model/envelopes/>).

use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Envelope {
    /// Includes the dynamic sampling context under `trace`.
    pub header: Value,
    pub items: Vec<Item>,
    /// Headers of the HTTP request.
    pub http: http::HeaderMap,
    pub project: String,
}

#[derive(Clone, Debug)]
pub struct Item {
    /// `type`, and optionally `length`, `item_count` and `content_type`.
    pub header: Value,
    /// The service sends only JSON payloads.
    pub payload: Value,
}

impl Item {
    /// `event`, `transaction`, …
    pub fn kind(&self) -> &str {
        self.header["type"].as_str().unwrap_or_default()
    }
}

/// Parses an envelope into its header and items.
///
/// # Errors
/// How the envelope violates the specification.
pub fn parse(body: &[u8]) -> Result<(Value, Vec<Item>), String> {
    let (header, mut rest) = line(body);
    let header = object(header, "the envelope's header")?;
    let mut items = Vec::new();
    while !rest.is_empty() {
        let (line_of_header, after) = line(rest);
        if line_of_header.is_empty() {
            // Newlines may follow the last item.
            rest = after;
            continue;
        }
        let header = object(line_of_header, "an item's header")?;
        let kind = header["type"].as_str().ok_or_else(|| format!("an item without a type: {header}"))?;
        let (payload, after) = match header.get("length") {
            None => line(after),
            Some(length) => {
                let length = length.as_u64().ok_or_else(|| format!("a length that is no number: {header}"))? as usize;
                let payload = after.get(..length).ok_or_else(|| format!("{kind} breaks off before its length"))?;
                let after = &after[length..];
                match after.strip_prefix(b"\n") {
                    Some(after) => (payload, after),
                    None if after.is_empty() => (payload, after),
                    None => return Err(format!("{kind} continues after its length")),
                }
            }
        };
        let payload = serde_json::from_slice(payload).map_err(|error| format!("{kind} is no JSON: {error}"))?;
        items.push(Item { header, payload });
        rest = after;
    }
    Ok((header, items))
}

fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

fn object(line: &[u8], what: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("{what} is no JSON: {error}"))?;
    if value.is_object() { Ok(value) } else { Err(format!("{what} is no object: {value}")) }
}

#[test]
fn envelopes_are_parsed_with_and_without_item_lengths() {
    let body = b"{\"event_id\":\"1\",\"trace\":{\"trace_id\":\"2\"}}\n\
        {\"type\":\"event\",\"length\":9}\n{\"a\":\n1}\n\n\
        {\"type\":\"transaction\"}\n{\"b\":2}\n\
        {\"type\":\"log\",\"item_count\":1,\"length\":12}\n{\"items\":[]}";
    let (header, items) = parse(body).unwrap();
    assert_eq!(header["trace"]["trace_id"], "2");
    let read: Vec<_> = items.iter().map(|item| (item.kind(), item.payload.to_string())).collect();
    let expected = [("event", "{\"a\":1}"), ("transaction", "{\"b\":2}"), ("log", "{\"items\":[]}")];
    assert_eq!(read, expected.map(|(kind, payload)| (kind, payload.to_owned())));
}

#[test]
fn invalid_envelopes_are_rejected_with_a_reason() {
    for (body, problem) in [
        ("", "the envelope's header is no JSON"),
        ("[]", "the envelope's header is no object"),
        ("{}\n{}\n{}", "an item without a type"),
        ("{}\n{\"type\":\"event\",\"length\":9}\n{}", "event breaks off before its length"),
        ("{}\n{\"type\":\"event\",\"length\":2}\n{}{}", "event continues after its length"),
        ("{}\n{\"type\":\"event\"}\nno", "event is no JSON"),
    ] {
        let error = parse(body.as_bytes()).unwrap_err();
        assert!(error.starts_with(problem), "{error} for {body}");
    }
}
