//! Requests to domain values. An error lists every invalid field.

use super::{error::ApiError, page_token, proto};
use crate::{
    pipeline::Filter,
    registration::{
        CaseId, DocumentHash, NewRegistration, Pair, RegistrationId, State, TraceContext, UserId,
        policy::wait_deadline::WaitFor,
    },
};
use std::{fmt::Display, time::Duration};

const DEFAULT_PAGE_SIZE: u32 = 50;
const MAX_PAGE_SIZE: u32 = 500;

#[derive(Default)]
struct FieldErrors(Vec<(&'static str, String)>);

impl FieldErrors {
    fn check<T, E: Display>(&mut self, field: &'static str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.0.push((field, error.to_string()))).ok()
    }

    fn check_pair(&mut self, fields: [&'static str; 2], document_hash: &str, case_id: &str) -> Option<Pair> {
        let document_hash = self.check(fields[0], document_hash.parse::<DocumentHash>());
        let case_id = self.check(fields[1], case_id.parse::<CaseId>());
        Some(Pair { document_hash: document_hash?, case_id: case_id? })
    }

    fn into_result<T>(self, value: Option<T>) -> Result<T, ApiError> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(ApiError::InvalidFields(self.0)),
        }
    }
}

pub(super) struct RegisterParams {
    pub(super) registration: NewRegistration,
    pub(super) wait_for: WaitFor,
    pub(super) wait_timeout: Option<Duration>,
}

pub(super) fn decode_register(
    request: proto::RegisterDocumentRequest,
    trace: TraceContext,
    max_wait: Duration,
) -> Result<RegisterParams, ApiError> {
    let mut errors = FieldErrors::default();
    let pair = errors.check_pair(["document_hash", "case_id"], &request.document_hash, &request.case_id);
    let user_id = errors.check("user_id", UserId::parse_optional(&request.user_id));
    let wait_for = errors.check("wait_for", decode_wait_for(request.wait_for));
    let wait_timeout = errors.check("wait_timeout", decode_wait_timeout(request.wait_timeout, max_wait));
    let submitted_as = request.document_hash;
    let read = (|| {
        let registration = NewRegistration { pair: pair?, submitted_as, user_id: user_id?, trace };
        Some(RegisterParams { registration, wait_for: wait_for?, wait_timeout: wait_timeout? })
    })();
    errors.into_result(read)
}

pub(super) fn decode_pair(request: &proto::VerifyDocumentRequest) -> Result<Pair, ApiError> {
    let mut errors = FieldErrors::default();
    let pair = errors.check_pair(["document_hash", "case_id"], &request.document_hash, &request.case_id);
    errors.into_result(pair)
}

pub(super) enum RegistrationKey {
    Id(RegistrationId),
    Pair(Pair),
}

pub(super) fn decode_key(key: Option<proto::get_registration_request::Key>) -> Result<RegistrationKey, ApiError> {
    use proto::get_registration_request::Key;
    match key {
        Some(Key::Id(text)) => decode_id(&text).map(RegistrationKey::Id),
        Some(Key::Document(document)) => {
            let fields = ["document.document_hash", "document.case_id"];
            let mut errors = FieldErrors::default();
            let pair = errors.check_pair(fields, &document.document_hash, &document.case_id);
            errors.into_result(pair).map(RegistrationKey::Pair)
        }
        None => Err(ApiError::InvalidFields(vec![("key", "is missing: set an id or a document".to_owned())])),
    }
}

pub(super) fn decode_id(text: &str) -> Result<RegistrationId, ApiError> {
    text.parse().map_err(|_| ApiError::InvalidFields(vec![("id", "is not a registration id (a UUID)".to_owned())]))
}

pub(super) struct WatchParams {
    pub(super) id: RegistrationId,
    pub(super) until: WaitFor,
    pub(super) after_revision: i64,
}

pub(super) fn decode_watch(request: &proto::WatchRegistrationRequest) -> Result<WatchParams, ApiError> {
    let mut errors = FieldErrors::default();
    let id = errors.check("id", request.id.parse::<RegistrationId>().map_err(|_| "is not a registration id (a UUID)"));
    let until = errors.check("until", decode_wait_for(request.until));
    let after = match request.after_revision {
        revision if revision < 0 => Err("is negative"),
        revision => Ok(revision),
    };
    let after = errors.check("after_revision", after);
    errors.into_result((|| Some(WatchParams { id: id?, until: until?, after_revision: after? }))())
}

pub(super) struct ListParams {
    pub(super) filter: Filter,
    pub(super) before: Option<RegistrationId>,
    pub(super) page_size: u32,
}

pub(super) fn decode_list(request: &proto::ListRegistrationsRequest) -> Result<ListParams, ApiError> {
    let mut errors = FieldErrors::default();
    let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let case_id = errors.check("case_id", optional(&request.case_id).map(|text| text.parse::<CaseId>()).transpose());
    let document_hash = errors
        .check("document_hash", optional(&request.document_hash).map(|text| text.parse::<DocumentHash>()).transpose());
    let states = errors.check("states", decode_states(&request.states));
    let size = errors.check(
        "page_size",
        match u32::try_from(request.page_size) {
            Ok(0) => Ok(DEFAULT_PAGE_SIZE),
            Ok(size) => Ok(size.min(MAX_PAGE_SIZE)),
            Err(_) => Err("is negative"),
        },
    );
    let filter = (|| Some(Filter { states: states?, case_id: case_id?, document_hash: document_hash? }))();
    let token = errors.check("page_token", page_token::decode_page_token(&request.page_token));
    // The token is bound to its filter, which can be compared only if it is valid.
    let before = match (&filter, token) {
        (Some(filter), Some(token)) => errors.check("page_token", page_token::resume_after(token, filter)),
        _ => None,
    };
    errors.into_result((|| Some(ListParams { filter: filter?, before: before?, page_size: size? }))())
}

fn decode_states(codes: &[i32]) -> Result<Vec<State>, String> {
    let mut states = Vec::new();
    for code in codes {
        match proto::State::try_from(*code) {
            Ok(proto::State::Queued) => states.extend([State::Queued, State::Signed]),
            Ok(proto::State::Submitted) => states.push(State::Submitted),
            Ok(proto::State::Included) => states.push(State::Included),
            Ok(proto::State::Confirmed) => states.push(State::Confirmed),
            Ok(proto::State::Failed) => states.push(State::Failed),
            Ok(proto::State::Unspecified) | Err(_) => return Err(format!("has {code}, which is not a state")),
        }
    }
    states.sort_by_key(|state| state.code());
    states.dedup();
    Ok(states)
}

fn decode_wait_for(code: i32) -> Result<WaitFor, String> {
    match proto::WaitFor::try_from(code) {
        Ok(proto::WaitFor::Unspecified | proto::WaitFor::Confirmed) => Ok(WaitFor::Confirmed),
        Ok(proto::WaitFor::Accepted) => Ok(WaitFor::Accepted),
        Ok(proto::WaitFor::Submitted) => Ok(WaitFor::Submitted),
        Ok(proto::WaitFor::Included) => Ok(WaitFor::Included),
        Ok(proto::WaitFor::Safe) => Ok(WaitFor::Safe),
        Ok(proto::WaitFor::Finalized) => Ok(WaitFor::Finalized),
        Err(_) => Err(format!("is {code}, which is not a value of WaitFor")),
    }
}

fn decode_wait_timeout(duration: Option<prost_types::Duration>, max: Duration) -> Result<Option<Duration>, String> {
    let Some(duration) = duration else { return Ok(None) };
    let range = || format!("is not between 0 and {}", humantime::format_duration(max));
    // The spec of google.protobuf.Duration: nanos below a second, of the same sign as the seconds.
    if duration.nanos < 0 || duration.nanos > 999_999_999 {
        return Err(range());
    }
    let seconds = u64::try_from(duration.seconds).map_err(|_| range())?;
    let wait = Duration::new(seconds.min(u64::MAX / 2), duration.nanos.unsigned_abs());
    if wait > max { Err(range()) } else { Ok(Some(wait)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: Duration = Duration::from_secs(300);

    fn trace() -> TraceContext {
        crate::telemetry::propagation::extract(&http::HeaderMap::new())
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let request = proto::RegisterDocumentRequest {
            document_hash: "x".into(),
            case_id: String::new(),
            wait_for: 99,
            wait_timeout: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            user_id: "a@b.example".into(),
        };
        let Err(ApiError::InvalidFields(errors)) = decode_register(request, trace(), MAX) else {
            panic!("it was accepted")
        };
        let fields: Vec<_> = errors.iter().map(|(field, _)| *field).collect();
        assert_eq!(fields, ["document_hash", "case_id", "user_id", "wait_for", "wait_timeout"]);
    }

    #[test]
    fn a_wait_is_from_zero_to_the_maximum() {
        let wait = |seconds, nanos| decode_wait_timeout(Some(prost_types::Duration { seconds, nanos }), MAX);
        assert_eq!(wait(0, 0), Ok(Some(Duration::ZERO)));
        assert_eq!(wait(300, 0), Ok(Some(MAX)));
        assert_eq!(decode_wait_timeout(None, MAX), Ok(None));
        for (seconds, nanos) in [(300, 1), (-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, i32::MIN)] {
            assert!(wait(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }

    proptest! {
        #[test]
        fn no_request_makes_the_reader_panic(
            document_hash in "\\PC{0,80}", case_id in "\\PC{0,80}", user_id in "\\PC{0,140}", wait_for: i32, seconds: i64,
            nanos: i32, page_token in "\\PC{0,120}", page_size: i32, states in proptest::collection::vec(any::<i32>(), 0..4),
        ) {
            let wait_timeout = Some(prost_types::Duration { seconds, nanos });
            let list_request = proto::ListRegistrationsRequest {
                page_size, page_token, states, case_id: case_id.clone(), document_hash: document_hash.clone(),
            };
            let _ = decode_list(&list_request);
            let _ = decode_register(
                proto::RegisterDocumentRequest { document_hash, case_id, wait_for, wait_timeout, user_id },
                trace(),
                MAX,
            );
        }
    }
}
