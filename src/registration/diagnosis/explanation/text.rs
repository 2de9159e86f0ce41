//! The explanation under construction, its limits, and what every explanation shares.

use crate::registration::{
    diagnosis::evidence::{Evidence, Subject, SubmittedTx},
    observations::NodeRejection,
};
use std::{collections::BTreeMap, fmt::Display, time::Duration};

/// An explanation travels in the metadata of a gRPC error, whose trailers stay under 4 KiB.
pub const MAX_EXPLANATION_CHARS: usize = 300;

/// Values from nodes can be longer.
const MAX_FIELD_VALUE_CHARS: usize = 200;
const MAX_ENDPOINT_NAME_CHARS: usize = 32;
pub(super) const MAX_NODE_MESSAGE_CHARS: usize = 64;
/// A blocker's text is nearly the whole explanation.
pub(super) const MAX_BLOCKER_CHARS: usize = 170;

/// What the service does with every transaction that no block holds.
pub(super) const REBROADCAST_NOTE: &str = "It is rebroadcast to every endpoint every 3 s";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    pub text: String,
    /// The values that prove it: stable keys in camelCase, with the unit in the key where there is one.
    pub fields: BTreeMap<String, String>,
}

impl Explanation {
    /// Cut to the limit, whatever the values in it.
    pub(super) fn new(text: String) -> Self {
        Self { text: truncate_ascii(&text, MAX_EXPLANATION_CHARS), fields: BTreeMap::new() }
    }

    pub fn field(mut self, key: &str, value: impl Display) -> Self {
        let value = value.to_string().chars().take(MAX_FIELD_VALUE_CHARS).collect();
        self.fields.insert(key.to_owned(), value);
        self
    }

    pub fn field_opt(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.field(key, value),
            None => self,
        }
    }

    pub(super) fn rejection_fields(self, rejection: &NodeRejection) -> Self {
        self.field("rejectedBy", &rejection.endpoint)
            .field("rejectionCode", rejection.code)
            .field("rejectionMessage", &rejection.message)
    }
}

pub(super) fn submitted_tx(evidence: &Evidence) -> Option<&SubmittedTx> {
    match &evidence.subject {
        Subject::Submitted(submitted) => Some(submitted),
        Subject::Unsent(_) | Subject::Included { .. } => None,
    }
}

pub(super) fn tx_nonce(evidence: &Evidence) -> u64 {
    submitted_tx(evidence).map_or(0, |submitted| submitted.nonce)
}

/// What happens to a transaction that a node rejects.
pub(super) fn retry_note(evidence: &Evidence) -> String {
    match &evidence.subject {
        Subject::Submitted(_) => format!("{REBROADCAST_NOTE}."),
        Subject::Unsent(_) | Subject::Included { .. } => "It is retried every 2 s and continues by itself.".to_owned(),
    }
}

pub(super) fn quote_rejection(rejection: &NodeRejection) -> String {
    format!(
        "{} rejects it: \"{}\" (code {}).",
        endpoint_name(&rejection.endpoint),
        truncate_ascii(&rejection.message, MAX_NODE_MESSAGE_CHARS),
        rejection.code
    )
}

/// "a", "a and b", or "a, b and 3 more".
pub(super) fn join_first_two(mut all: impl Iterator<Item = String>) -> String {
    let (first, second, more) = (all.next(), all.next(), all.count());
    match (first, second, more) {
        (None, _, _) => String::new(),
        (Some(first), None, _) => first,
        (Some(first), Some(second), 0) => format!("{first} and {second}"),
        (Some(first), Some(second), more) => format!("{first}, {second} and {more} more"),
    }
}

pub(super) fn endpoint_name(endpoint: &str) -> String {
    truncate_ascii(endpoint, MAX_ENDPOINT_NAME_CHARS)
}

/// On one line and in plain ASCII, so that a character costs one byte on the wire.
pub(super) fn truncate_ascii(text: &str, max_chars: usize) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    if text.chars().count() <= max_chars {
        return text.chars().map(plain).collect();
    }
    let mut short: String = text.chars().take(max_chars - 3).map(plain).collect();
    short.push_str("...");
    short
}

pub(super) fn format_seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
