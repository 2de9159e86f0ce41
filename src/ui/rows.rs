//! A registration in a list.

use super::format;
use crate::registration::{Registration, State, Timestamp};

pub(super) struct RegistrationRow {
    pub(super) link: String,
    pub(super) document: String,
    pub(super) full_document: String,
    pub(super) case_id: String,
    pub(super) state: &'static str,
    /// A blocked reason, a failure or nothing.
    pub(super) note: &'static str,
    pub(super) caller: String,
    pub(super) accepted: String,
    pub(super) accepted_rfc3339: String,
    pub(super) age: String,
}

impl RegistrationRow {
    pub(super) fn new(registration: &Registration, at: Timestamp) -> Self {
        let (pair, created) = (&registration.request.pair, registration.times.created);
        let failure = registration.failure.as_ref().filter(|_| registration.state == State::Failed);
        let blocked = registration.blocked_reason.map(|reason| reason.code());
        Self {
            link: format!("/ui/registrations/{}", registration.id),
            document: format::short(&pair.document_hash),
            full_document: pair.document_hash.to_string(),
            case_id: pair.case_id.to_string(),
            state: registration.state.code(),
            note: failure.map(|failure| failure.reason.code()).or(blocked).unwrap_or_default(),
            caller: registration.request.caller.as_ref().map(ToString::to_string).unwrap_or_default(),
            accepted: format::time(created),
            accepted_rfc3339: format::rfc3339(created),
            age: format::age(at.since(created)),
        }
    }
}
