//! The redactor at every door through which something leaves: spans, events, breadcrumbs, logs.

use super::redact::{redact, redact_json};
use opentelemetry::{Array, KeyValue, StringValue, Value, trace::Status};
use opentelemetry_sdk::trace::SpanData;
use sentry::protocol::{Breadcrumb, Event, Log};
use std::borrow::Cow;

/// A span that is kept.
pub(super) fn span(span: &mut SpanData) {
    cow(&mut span.name);
    span.attributes.iter_mut().for_each(attribute);
    for event in &mut span.events.events {
        cow(&mut event.name);
        event.attributes.iter_mut().for_each(attribute);
    }
    if let Status::Error { description } = &mut span.status {
        cow(description);
    }
}

fn attribute(attribute: &mut KeyValue) {
    match &mut attribute.value {
        Value::String(text) => string(text),
        Value::Array(Array::String(all)) => all.iter_mut().for_each(string),
        _ => {}
    }
}

fn string(text: &mut StringValue) {
    if let Cow::Owned(redacted) = redact(text.as_str()) {
        *text = redacted.into();
    }
}

fn cow(text: &mut Cow<'static, str>) {
    if let Cow::Owned(redacted) = redact(text) {
        *text = redacted.into();
    }
}

/// An event, through its JSON, so that no field is forgotten. One that cannot be read back is not sent.
pub(super) fn event(event: Event<'static>) -> Option<Event<'static>> {
    let mut json = serde_json::to_value(&event).ok()?;
    redact_json(&mut json);
    serde_json::from_value(json).ok()
}

/// A breadcrumb.
pub(super) fn breadcrumb(mut breadcrumb: Breadcrumb) -> Option<Breadcrumb> {
    if let Some(Cow::Owned(redacted)) = breadcrumb.message.as_deref().map(redact) {
        breadcrumb.message = Some(redacted);
    }
    breadcrumb.data.values_mut().for_each(redact_json);
    Some(breadcrumb)
}

/// A log.
pub(super) fn log(mut log: Log) -> Option<Log> {
    if let Cow::Owned(redacted) = redact(&log.body) {
        log.body = redacted;
    }
    log.attributes.values_mut().for_each(|attribute| redact_json(&mut attribute.0));
    Some(log)
}
