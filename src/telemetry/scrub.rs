//! Redacts spans, events, breadcrumbs and logs before they are exported.

use super::redact::{redact, redact_json};
use opentelemetry::{Array, KeyValue, StringValue, Value, trace::Status};
use opentelemetry_sdk::trace::SpanData;
use sentry::protocol::{Breadcrumb, Event, Log};
use std::borrow::Cow;

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
    if let Value::String(text) = &mut attribute.value {
        string(text);
    } else if let Value::Array(Array::String(all)) = &mut attribute.value {
        all.iter_mut().for_each(string);
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

/// By way of JSON, so that no field is forgotten.
pub(super) fn event(event: Event<'static>) -> Option<Event<'static>> {
    let redacted = serde_json::to_value(&event).ok().and_then(|mut json| {
        redact_json(&mut json);
        serde_json::from_value(json).ok()
    });
    // If the JSON cannot be read back, a minimal event is sent.
    redacted.or_else(|| {
        let message = event.message.as_deref().map(|message| redact(message).into_owned());
        let trace = event.contexts.get("trace").cloned().map(|trace| ("trace".to_owned(), trace));
        Some(Event {
            event_id: event.event_id,
            level: event.level,
            message,
            contexts: trace.into_iter().collect(),
            ..Event::default()
        })
    })
}

pub(super) fn breadcrumb(mut breadcrumb: Breadcrumb) -> Option<Breadcrumb> {
    if let Some(Cow::Owned(redacted)) = breadcrumb.message.as_deref().map(redact) {
        breadcrumb.message = Some(redacted);
    }
    breadcrumb.data.values_mut().for_each(redact_json);
    Some(breadcrumb)
}

pub(super) fn log(mut log: Log) -> Option<Log> {
    if let Cow::Owned(redacted) = redact(&log.body) {
        log.body = redacted;
    }
    log.attributes.values_mut().for_each(|attribute| redact_json(&mut attribute.0));
    Some(log)
}
