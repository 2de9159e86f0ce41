//! What a log event holds.

use serde_json::Value;
use std::{collections::BTreeMap, fmt};
use tracing::{Event, field};

#[derive(Default)]
pub(super) struct EventFields {
    pub(super) message: String,
    /// Texts, whole numbers and flags.
    pub(super) fields: BTreeMap<&'static str, Value>,
}

impl EventFields {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }
}

impl field::Visit for EventFields {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.insert(field.name(), text.into());
        }
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.fields.insert(field.name(), value.into());
        }
    }

    fn record_i64(&mut self, field: &field::Field, value: i64) {
        self.fields.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &field::Field, value: u64) {
        self.fields.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &field::Field, value: bool) {
        self.fields.insert(field.name(), value.into());
    }
}
