//! Placeholder until the redactor is merged.
use std::borrow::Cow;
/// As it came.
pub fn redact(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}
/// As it came.
pub fn redact_json(_value: &mut serde_json::Value) {}
