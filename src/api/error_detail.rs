//! What an error says about the registration it concerns.

use super::{encode::ProtoEncoder, proto};
use crate::registration::{Diagnosis, Registration, diagnosis};
use prost::Message;

/// The limit of a failure's message in the short form of the details.
const MAX_SHORT_FAILURE_BYTES: usize = 300;

pub(super) fn explanation(registration: &Registration) -> &str {
    registration.diagnosis.as_ref().map_or("", |diagnosis| &diagnosis.explanation)
}

/// Empty if it is not blocked.
pub(super) fn blocked_reason(registration: &Registration) -> String {
    registration.blocked_reason.map_or("", |blocked| blocked.code()).to_owned()
}

pub(super) fn cause_metadata(registration: &Registration) -> Vec<(&'static str, String)> {
    let cause = registration.diagnosis.as_ref().map_or("pending", |diagnosis| diagnosis.cause.code());
    let explanation = explanation(registration).chars().take(diagnosis::MAX_EXPLANATION_CHARS).collect();
    vec![("cause", cause.to_owned()), ("explanation", explanation)]
}

pub(super) fn state_name(registration: &Registration, encoder: &ProtoEncoder) -> &'static str {
    encoder.state(registration.state).as_str_name().trim_start_matches("STATE_")
}

/// The registration's own diagnosis is left out where another is given; the `short` form leaves out what is long and
/// available from `GetRegistration`.
pub(super) fn error_detail(
    registration: &Registration,
    diagnosis: Option<&Diagnosis>,
    short: bool,
    encoder: &ProtoEncoder,
) -> prost_types::Any {
    let mut message = encoder.registration(registration);
    let mut diagnosis = diagnosis.map(|diagnosis| encoder.diagnosis(diagnosis));
    if diagnosis.is_some() || short {
        message.diagnosis = None;
    }
    if short {
        message.submitted_as.clear();
        message.warning.clear();
        if let Some(diagnosis) = &mut diagnosis {
            diagnosis.evidence.clear();
        }
        if let Some(failure) = &mut message.failure {
            failure.message.truncate(failure.message.floor_char_boundary(MAX_SHORT_FAILURE_BYTES));
        }
    }
    let detail = proto::RegistrationErrorDetail { registration: Some(message), diagnosis };
    prost_types::Any {
        type_url: "type.googleapis.com/registrar.v1.RegistrationErrorDetail".to_owned(),
        value: detail.encode_to_vec(),
    }
}
