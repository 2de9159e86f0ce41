//! Requests to domain values. An error lists every invalid field.

use super::{change_cursor, error::ApiError, fields::Field, limits::MAX_BATCH_DOCUMENTS, page_token, proto};
use crate::{
    pipeline::{ChangeStart, Filter, Order},
    registration::{
        BlockedReason, CallerName, CaseId, DocumentHash, DocumentWarning, Finality, GivenDocument, NewRegistration,
        Pair, Registration, RegistrationId, State, Timestamp, TraceContext, UserId, policy::wait_deadline::WaitFor,
    },
};
use alloy::primitives::B256;
use std::{collections::HashMap, fmt::Display, sync::Arc, time::Duration};

const DEFAULT_PAGE_SIZE: u32 = 50;
const MAX_PAGE_SIZE: u32 = 500;

#[derive(Default)]
struct FieldErrors(Vec<(Field, String)>);

impl FieldErrors {
    fn check<T, E: Display>(&mut self, field: impl Into<Field>, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.0.push((field.into(), error.to_string()))).ok()
    }

    fn check_pair<F: Into<Field>>(&mut self, fields: [F; 2], document_hash: &str, case_id: &str) -> Option<NamedPair> {
        let fields = fields.map(Into::into);
        let document = self.check(fields[0], document_hash.parse::<GivenDocument>());
        let case_id = self.check(fields[1], case_id.parse::<CaseId>());
        let GivenDocument { hash, text, warning } = document?;
        Some(NamedPair { pair: Pair { document_hash: hash, case_id: case_id? }, submitted_as: text, warning })
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
    pub(super) warning: Option<DocumentWarning>,
    pub(super) wait_for: WaitFor,
    pub(super) wait_timeout: Option<Duration>,
}

pub(super) fn decode_register(
    request: proto::RegisterDocumentRequest,
    trace: TraceContext,
    caller: Option<CallerName>,
    max_wait: Duration,
) -> Result<RegisterParams, ApiError> {
    let mut errors = FieldErrors::default();
    let pair = errors.check_pair(["document_hash", "case_id"], &request.document_hash, &request.case_id);
    let user_id = errors.check("user_id", UserId::parse_optional(&request.user_id));
    let wait_for = errors.check("wait_for", decode_wait_for(request.wait_for));
    let wait_timeout = errors.check("wait_timeout", decode_wait_timeout(request.wait_timeout, max_wait));
    let read = (|| {
        let NamedPair { pair, submitted_as, warning } = pair?;
        let registration = NewRegistration { pair, submitted_as, user_id: user_id?, caller, trace: trace.into() };
        Some(RegisterParams { registration, warning, wait_for: wait_for?, wait_timeout: wait_timeout? })
    })();
    errors.into_result(read)
}

/// The documents of a call that registers many.
#[derive(Debug)]
pub(super) struct Batch {
    /// Of different pairs.
    pub(super) registrations: Vec<NewRegistration>,
    /// In the order of the request.
    pub(super) documents: Vec<BatchDocument>,
}

#[derive(Debug)]
pub(super) struct BatchDocument {
    /// The index of its registration; a pair may be in the request more than once.
    pub(super) registration: usize,
    pub(super) warning: Option<DocumentWarning>,
}

pub(super) fn decode_batch(
    request: &proto::RegisterDocumentsRequest,
    trace: TraceContext,
    caller: Option<CallerName>,
) -> Result<Batch, ApiError> {
    let mut errors = FieldErrors::default();
    let documents = match request.documents.len() {
        0 => Err(format!("is empty: name 1 to {MAX_BATCH_DOCUMENTS} documents")),
        1..=MAX_BATCH_DOCUMENTS => Ok(&request.documents),
        count => Err(format!("has {count} documents, at most {MAX_BATCH_DOCUMENTS} are allowed in one call")),
    };
    let documents = errors.check("documents", documents);
    let user_id = errors.check("user_id", UserId::parse_optional(&request.user_id));
    let (user_id, trace) = (user_id.flatten(), Arc::new(trace));
    let mut batch = Batch { registrations: Vec::new(), documents: Vec::new() };
    let mut indexes = HashMap::new();
    for (index, document) in documents.into_iter().flatten().enumerate() {
        let fields = ["document_hash", "case_id"].map(|name| Field::OfDocument { index, name });
        let named = errors.check_pair(fields, &document.document_hash, &document.case_id);
        let Some(NamedPair { pair, submitted_as, warning }) = named else { continue };
        let next = batch.registrations.len();
        let registration = *indexes.entry(pair.clone()).or_insert(next);
        if registration == next {
            let (user_id, caller, trace) = (user_id.clone(), caller.clone(), trace.clone());
            batch.registrations.push(NewRegistration { pair, submitted_as, user_id, caller, trace });
        }
        batch.documents.push(BatchDocument { registration, warning });
    }
    errors.into_result(Some(batch))
}

/// A pair, and how the caller named its document.
pub(super) struct NamedPair {
    pub(super) pair: Pair,
    submitted_as: String,
    pub(super) warning: Option<DocumentWarning>,
}

pub(super) fn decode_pair(request: &proto::VerifyDocumentRequest) -> Result<NamedPair, ApiError> {
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
            errors.into_result(pair).map(|named| RegistrationKey::Pair(named.pair))
        }
        None => Err(ApiError::InvalidFields(vec![("key".into(), "is missing: set an id or a document".to_owned())])),
    }
}

pub(super) struct CertificateParams {
    pub(super) key: RegistrationKey,
    pub(super) min_finality: Finality,
}

pub(super) fn decode_certificate(request: proto::GetCertificateRequest) -> Result<CertificateParams, ApiError> {
    use proto::{get_certificate_request, get_registration_request::Key};
    let key = request.key.map(|key| match key {
        get_certificate_request::Key::Id(id) => Key::Id(id),
        get_certificate_request::Key::Document(document) => Key::Document(document),
    });
    let mut errors = FieldErrors::default();
    let min_finality = errors.check("min_finality", decode_finality(request.min_finality));
    let key = match decode_key(key) {
        Ok(key) => Some(key),
        Err(ApiError::InvalidFields(fields)) => {
            errors.0.splice(0..0, fields);
            None
        }
        Err(other) => return Err(other),
    };
    errors.into_result((|| Some(CertificateParams { key: key?, min_finality: min_finality? }))())
}

fn decode_finality(code: i32) -> Result<Finality, String> {
    match proto::Finality::try_from(code) {
        Ok(proto::Finality::Unspecified | proto::Finality::Finalized) => Ok(Finality::Finalized),
        Ok(proto::Finality::Safe) => Ok(Finality::Safe),
        Ok(proto::Finality::Unsafe) => Ok(Finality::Unsafe),
        Err(_) => Err(format!("is {code}, which is not a value of Finality")),
    }
}

pub(super) fn decode_id(text: &str) -> Result<RegistrationId, ApiError> {
    let invalid = || ApiError::InvalidFields(vec![("id".into(), "is not a registration id (a UUID)".to_owned())]);
    text.parse().map_err(|_| invalid())
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

pub(super) struct ChangesParams {
    pub(super) start: ChangeStart,
    pub(super) filter: ChangeFilter,
    pub(super) page_size: u32,
}

/// Which changes a caller wants to see.
pub(super) struct ChangeFilter {
    /// Empty means all.
    states: Vec<State>,
    case_id: Option<CaseId>,
}

impl ChangeFilter {
    pub(super) fn matches(&self, registration: &Registration) -> bool {
        let is_case = self.case_id.as_ref().is_none_or(|case| registration.request.pair.case_id == *case);
        is_case && (self.states.is_empty() || self.states.contains(&registration.state))
    }
}

pub(super) fn decode_changes(request: &proto::ListChangesRequest) -> Result<ChangesParams, ApiError> {
    let mut errors = FieldErrors::default();
    let start = match (request.after_cursor.as_str(), request.from_beginning) {
        ("", false) => Ok(ChangeStart::Now),
        ("", true) => Ok(ChangeStart::Beginning),
        (text, false) => change_cursor::decode(text).map(ChangeStart::After),
        (_, true) => Err("is set together with from_beginning: choose one"),
    };
    let start = errors.check("after_cursor", start);
    let states = errors.check("states", decode_states(&request.states));
    let case = (!request.case_id.is_empty()).then(|| request.case_id.parse::<CaseId>()).transpose();
    let case_id = errors.check("case_id", case);
    let page_size = errors.check("page_size", decode_page_size(request.page_size));
    errors.into_result((|| {
        let filter = ChangeFilter { states: states?, case_id: case_id? };
        Some(ChangesParams { start: start?, filter, page_size: page_size? })
    })())
}

fn decode_page_size(size: i32) -> Result<u32, &'static str> {
    match u32::try_from(size) {
        Ok(0) => Ok(DEFAULT_PAGE_SIZE),
        Ok(size) => Ok(size.min(MAX_PAGE_SIZE)),
        Err(_) => Err("is negative"),
    }
}

pub(super) struct ListParams {
    pub(super) filter: Filter,
    pub(super) after: Option<RegistrationId>,
    pub(super) page_size: u32,
}

pub(super) fn decode_list(request: &proto::ListRegistrationsRequest) -> Result<ListParams, ApiError> {
    let mut errors = FieldErrors::default();
    let filter = decode_filter(request, &mut errors);
    let size = errors.check("page_size", decode_page_size(request.page_size));
    let token = errors.check("page_token", page_token::decode_page_token(&request.page_token));
    // The token is bound to its filter, which can be compared only if it is valid.
    let after = match (&filter, token) {
        (Some(filter), Some(token)) => errors.check("page_token", page_token::resume_after(token, filter)),
        _ => None,
    };
    errors.into_result((|| Some(ListParams { filter: filter?, after: after?, page_size: size? }))())
}

fn decode_filter(request: &proto::ListRegistrationsRequest, errors: &mut FieldErrors) -> Option<Filter> {
    let case_id = errors.check("case_id", parse_optional(&request.case_id, |text| text.parse::<CaseId>()));
    let document_hash =
        errors.check("document_hash", parse_optional(&request.document_hash, |text| text.parse::<DocumentHash>()));
    let caller = errors.check("caller", parse_optional(&request.caller, |text| text.parse::<CallerName>()));
    let user_id = errors.check("user_id", UserId::parse_optional(&request.user_id));
    let transaction_hash = parse_optional(&request.transaction_hash, |text| {
        text.parse::<B256>().map_err(|_| "is not the hash of a transaction: 64 hex digits, with or without 0x")
    });
    let transaction_hash = errors.check("transaction_hash", transaction_hash);
    let states = errors.check("states", decode_states(&request.states));
    let blocked_reasons = errors.check("blocked_reasons", decode_blocked_reasons(&request.blocked_reasons));
    let from = errors.check("create_time_from", request.create_time_from.map(decode_timestamp).transpose());
    let before = errors.check("create_time_to", request.create_time_to.map(decode_timestamp).transpose());
    if let (Some(Some(from)), Some(Some(before))) = (from, before)
        && before <= from
    {
        errors.check("create_time_to", Err::<(), _>("is not after create_time_from"));
    }
    let order = errors.check("order", decode_order(request.order));
    Some(Filter {
        states: states?,
        case_id: case_id?,
        document_hash: document_hash?,
        user_id: user_id?,
        caller: caller?,
        blocked_reasons: blocked_reasons?,
        created_from: from?,
        created_before: before?,
        transaction_hash: transaction_hash?,
        order: order?,
    })
}

/// Empty is `None`.
fn parse_optional<T, E>(text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, E> {
    (!text.is_empty()).then(|| parse(text)).transpose()
}

fn decode_blocked_reasons(codes: &[String]) -> Result<Vec<BlockedReason>, String> {
    let parse = |code: &String| {
        let known = || BlockedReason::CODES.map(|(_, code)| code).join(", ");
        code.parse::<BlockedReason>().map_err(|_| format!("has an unknown reason; use {}", known()))
    };
    let mut reasons = codes.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    reasons.sort_by_key(|reason| reason.code());
    reasons.dedup();
    Ok(reasons)
}

/// Rounded up to microseconds, in which times are stored.
fn decode_timestamp(time: prost_types::Timestamp) -> Result<Timestamp, &'static str> {
    // The years 1 to 9999, as the spec of google.protobuf.Timestamp says.
    const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    if !SECONDS.contains(&time.seconds) || !(0..=999_999_999).contains(&time.nanos) {
        return Err("is not a valid timestamp");
    }
    Ok(Timestamp::from_micros(time.seconds * 1_000_000 + i64::from(time.nanos.unsigned_abs().div_ceil(1_000))))
}

fn decode_order(code: i32) -> Result<Order, String> {
    match proto::ListOrder::try_from(code) {
        Ok(proto::ListOrder::Unspecified | proto::ListOrder::NewestFirst) => Ok(Order::NewestFirst),
        Ok(proto::ListOrder::OldestFirst) => Ok(Order::OldestFirst),
        Err(_) => Err(format!("is {code}, which is not a value of ListOrder")),
    }
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
        let Err(ApiError::InvalidFields(errors)) = decode_register(request, trace(), None, MAX) else {
            panic!("it was accepted")
        };
        let fields: Vec<_> = errors.iter().map(|(field, _)| field.to_string()).collect();
        assert_eq!(fields, ["document_hash", "case_id", "user_id", "wait_for", "wait_timeout"]);
    }

    fn batch(documents: &[(&str, &str)], user_id: &str) -> Result<Batch, ApiError> {
        let key = |(hash, case): &(&str, &str)| proto::DocumentKey {
            document_hash: (*hash).to_owned(),
            case_id: (*case).to_owned(),
        };
        let documents = documents.iter().map(key).collect();
        let request = proto::RegisterDocumentsRequest { documents, user_id: user_id.to_owned() };
        decode_batch(&request, trace(), None)
    }

    #[test]
    fn every_wrong_field_of_every_document_is_named_at_once() {
        let hash = "11".repeat(32);
        let documents = [("x", ""), (hash.as_str(), "CASE-1"), (hash.as_str(), "a@b")];
        let Err(ApiError::InvalidFields(errors)) = batch(&documents, "a@b.example") else { panic!("it was accepted") };
        let fields: Vec<_> = errors.iter().map(|(field, _)| field.to_string()).collect();
        assert_eq!(fields, ["user_id", "documents[0].document_hash", "documents[0].case_id", "documents[2].case_id"]);
    }

    #[test]
    fn a_call_has_1_to_1000_documents() {
        let hash = "11".repeat(32);
        for (count, expected) in [(0, "is empty"), (1_001, "has 1001 documents"), (1, ""), (1_000, "")] {
            let result = batch(&vec![(hash.as_str(), "CASE-1"); count], "");
            match result {
                Ok(batch) => assert_eq!((batch.documents.len(), batch.registrations.len(), expected), (count, 1, "")),
                Err(ApiError::InvalidFields(errors)) => {
                    assert!(!expected.is_empty() && errors[0].1.contains(expected), "{errors:?}");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_same_pair_in_other_words_is_one_registration_with_a_warning_for_each() {
        let hash = "11".repeat(32);
        let (prefixed, other) = (format!("0x{}", hash), "22".repeat(32));
        let names = [(hash.as_str(), "a"), (&other, "a"), (&prefixed, "a"), (&hash, "b")];
        let Batch { registrations, documents } = batch(&names, "user-1").unwrap();
        let indexes: Vec<_> = documents.iter().map(|document| document.registration).collect();
        assert_eq!((registrations.len(), indexes), (3, vec![0, 1, 0, 2]));
        assert_eq!(registrations[0].submitted_as, hash, "the first one's words are kept");
        assert!(registrations.iter().all(|one| one.user_id.as_ref().is_some_and(|user| user.as_str() == "user-1")));
    }

    #[test]
    fn every_wrong_filter_is_named_at_once() {
        let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        let request = proto::ListRegistrationsRequest {
            page_size: -1,
            page_token: "x".into(),
            states: vec![99],
            case_id: " ".into(),
            document_hash: "x".into(),
            caller: "A".into(),
            user_id: "a@b.example".into(),
            blocked_reasons: vec!["FEE_CAP".into(), "FEES".into()],
            create_time_from: time(0, -1),
            create_time_to: time(i64::MAX, 0),
            transaction_hash: "0x12".into(),
            order: 7,
        };
        let Err(ApiError::InvalidFields(errors)) = decode_list(&request) else { panic!("it was accepted") };
        let fields: Vec<_> = errors.iter().map(|(field, _)| field.to_string()).collect();
        assert_eq!(
            fields,
            [
                "case_id",
                "document_hash",
                "caller",
                "user_id",
                "transaction_hash",
                "states",
                "blocked_reasons",
                "create_time_from",
                "create_time_to",
                "order",
                "page_size",
                "page_token"
            ]
        );
        assert!(errors[6].1.contains("use INSUFFICIENT_FUNDS, "), "{errors:?}");
        let backwards = proto::ListRegistrationsRequest {
            create_time_from: time(5, 0),
            create_time_to: time(5, 0),
            ..Default::default()
        };
        let Err(ApiError::InvalidFields(errors)) = decode_list(&backwards) else { panic!("it was accepted") };
        assert_eq!(errors, [(Field::Of("create_time_to"), "is not after create_time_from".to_owned())]);
    }

    #[test]
    fn a_time_is_rounded_up_to_what_is_stored() {
        let micros =
            |seconds, nanos| decode_timestamp(prost_types::Timestamp { seconds, nanos }).map(|time| time.micros()).ok();
        assert_eq!(micros(1, 0), Some(1_000_000));
        assert_eq!(micros(1, 1), Some(1_000_001));
        assert_eq!(micros(-1, 999_999_001), Some(0));
        assert_eq!((micros(0, 1_000_000_000), micros(i64::MIN, 0)), (None, None));
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
            order: i32,
        ) {
            let wait_timeout = Some(prost_types::Duration { seconds, nanos });
            let list_request = proto::ListRegistrationsRequest {
                page_size, page_token, states, case_id: case_id.clone(), document_hash: document_hash.clone(),
                caller: user_id.clone(), user_id: user_id.clone(), blocked_reasons: vec![user_id.clone()],
                create_time_from: Some(prost_types::Timestamp { seconds, nanos }),
                create_time_to: Some(prost_types::Timestamp { seconds: 0, nanos }),
                transaction_hash: document_hash.clone(), order,
            };
            let _ = decode_list(&list_request);
            let _ = decode_register(
                proto::RegisterDocumentRequest { document_hash, case_id, wait_for, wait_timeout, user_id },
                trace(),
                None,
                MAX,
            );
        }
    }
}
