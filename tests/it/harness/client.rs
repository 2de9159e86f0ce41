//! A Rust client that checks the rules that hold for every answer and error.

use super::{proxy, wait::within};
use alloy::primitives::keccak256;
use prost::Message;
use registrar::api::proto::{
    DiagnoseRegistrationRequest, DiagnoseRegistrationResponse, DocumentKey, GetCertificateRequest,
    GetCertificateResponse, GetRegistrationRequest, GetServiceInfoRequest, GetServiceInfoResponse,
    ListRegistrationsRequest, ListRegistrationsResponse, RegisterDocumentRequest, RegisterDocumentsRequest,
    Registration, RegistrationErrorDetail, State, VerifyDocumentRequest, VerifyDocumentResponse, WaitFor,
    WatchRegistrationRequest, WatchRegistrationResponse, get_registration_request::Key,
    registrar_service_client::RegistrarServiceClient,
};
use std::{collections::HashMap, net::SocketAddr, time::Duration};
use tonic::{
    Code, IntoRequest, Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataMap, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;

/// The case of every registration, in tests that do not distinguish cases.
pub const CASE: &str = "case-1";

/// Clients and proxies refuse more than 8 KiB of trailers.
const MAX_TRAILER_BYTES: usize = 4096;

#[derive(Clone)]
pub struct Client {
    stub: Stub,
    channel: Channel,
}

/// The generated client.
pub type Stub = RegistrarServiceClient<InterceptedService<Channel, Authorization>>;

/// The `authorization` header of every call.
#[derive(Clone, Default)]
pub struct Authorization(Option<MetadataValue<Ascii>>);

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// An answer and its `x-trace-id` header.
#[derive(Debug)]
pub struct Traced<T> {
    pub message: T,
    pub trace_id: String,
}

/// A gRPC error with the details that the service always sends.
#[derive(Clone, Debug)]
pub struct CallError {
    pub code: Code,
    pub message: String,
    /// `ErrorInfo.reason` and the `x-error-reason` trailer.
    pub reason: String,
    /// `ErrorInfo.metadata`.
    pub metadata: HashMap<String, String>,
    /// Invalid fields and their descriptions.
    pub fields: Vec<(String, String)>,
    /// `RetryInfo.retry_delay`.
    pub retry_after: Option<Duration>,
    /// The `x-registration-id` trailer.
    pub registration_id: Option<String>,
    pub detail: Option<RegistrationErrorDetail>,
    /// The `x-trace-id` header.
    pub trace_id: String,
}

/// The hash of the test document with this number.
pub fn document(number: u64) -> String {
    keccak256(format!("document {number}")).to_string()
}

pub fn register_request(number: u64, case: &str, wait_for: WaitFor) -> RegisterDocumentRequest {
    RegisterDocumentRequest {
        document_hash: document(number),
        case_id: case.to_owned(),
        wait_for: wait_for.into(),
        ..Default::default()
    }
}

/// The test documents with these numbers, for [`CASE`].
pub fn register_all_request(numbers: impl IntoIterator<Item = u64>) -> RegisterDocumentsRequest {
    let key = |number| DocumentKey { document_hash: document(number), case_id: CASE.to_owned() };
    RegisterDocumentsRequest { documents: numbers.into_iter().map(key).collect(), user_id: String::new() }
}

/// Waits until the server's confirmation timeout. The call's own `wait_timeout` is longer than any confirmation timeout
/// in the tests, so that it does not end the call first.
pub fn register_until_timeout(number: u64, case: &str) -> RegisterDocumentRequest {
    RegisterDocumentRequest { wait_timeout: seconds(50), ..register_request(number, case, WaitFor::Confirmed) }
}

/// A protobuf duration.
pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(channel(address).await)
    }

    /// Calls through this connection.
    pub fn new(channel: Channel) -> Self {
        Self { stub: RegistrarServiceClient::with_interceptor(channel.clone(), Authorization::default()), channel }
    }

    /// The same connection with this `authorization` header on every call.
    pub fn authorized(&self, value: &str) -> Self {
        let authorization = Authorization(Some(value.parse().unwrap()));
        let stub = RegistrarServiceClient::with_interceptor(self.channel.clone(), authorization);
        Self { stub, channel: self.channel.clone() }
    }

    /// The same connection with this token.
    pub fn with_token(&self, token: &str) -> Self {
        self.authorized(&format!("Bearer {token}"))
    }

    /// The generated client, for calls that the other methods do not cover.
    pub fn stub(&self) -> Stub {
        self.stub.clone()
    }

    pub async fn register(
        &self,
        request: impl IntoRequest<RegisterDocumentRequest>,
    ) -> Result<Registration, CallError> {
        Ok(self.register_traced(request).await?.message)
    }

    /// As [`Self::register`], with the call's trace id.
    pub async fn register_traced(
        &self,
        request: impl IntoRequest<RegisterDocumentRequest>,
    ) -> Result<Traced<Registration>, CallError> {
        let mut stub = self.stub();
        let answer = traced(within("RegisterDocument", stub.register_document(request.into_request())).await)?;
        Ok(Traced { message: answer.message.registration.unwrap(), trace_id: answer.trace_id })
    }

    /// Registers many documents in one call.
    pub async fn register_all(
        &self,
        request: impl IntoRequest<RegisterDocumentsRequest>,
    ) -> Result<Vec<Registration>, CallError> {
        let mut stub = self.stub();
        let answer = traced(within("RegisterDocuments", stub.register_documents(request.into_request())).await)?;
        Ok(answer.message.registrations)
    }

    /// Registers a document and returns once it is accepted.
    pub async fn accept(&self, number: u64, case: &str) -> Registration {
        self.register(register_request(number, case, WaitFor::Accepted)).await.unwrap()
    }

    /// Registers a document and returns once it is confirmed.
    pub async fn confirm(&self, number: u64, case: &str) -> Registration {
        let registration = self.register(register_request(number, case, WaitFor::Confirmed)).await.unwrap();
        assert_eq!(registration.state(), State::Confirmed);
        registration
    }

    pub async fn get(&self, id: &str) -> Result<Registration, CallError> {
        self.get_by(Key::Id(id.to_owned())).await
    }

    pub async fn get_pair(&self, hash: &str, case: &str) -> Result<Registration, CallError> {
        self.get_by(Key::Document(DocumentKey { document_hash: hash.to_owned(), case_id: case.to_owned() })).await
    }

    pub async fn get_by(&self, key: Key) -> Result<Registration, CallError> {
        let request = GetRegistrationRequest { key: Some(key) };
        let answer = traced(within("GetRegistration", self.stub().get_registration(request)).await)?;
        Ok(answer.message.registration.unwrap())
    }

    pub async fn list(&self, request: ListRegistrationsRequest) -> Result<ListRegistrationsResponse, CallError> {
        Ok(traced(within("ListRegistrations", self.stub().list_registrations(request)).await)?.message)
    }

    pub async fn watch(&self, id: &str, until: WaitFor, after_revision: i64) -> Result<Watch, CallError> {
        let request = WatchRegistrationRequest { id: id.to_owned(), until: until.into(), after_revision };
        let answer = traced(within("WatchRegistration", self.stub().watch_registration(request)).await)?;
        Ok(Watch { states: answer.message, trace_id: answer.trace_id })
    }

    /// Watches a registration until `is_it` is true of it.
    ///
    /// # Panics
    /// When the stream ends first.
    pub async fn wait_until(&self, id: &str, what: &str, is_it: impl Fn(&Registration) -> bool) -> Registration {
        let mut watch = self.watch(id, WaitFor::Confirmed, 0).await.unwrap();
        let mut last = None;
        while let Some(registration) = watch.next().await {
            let registration = registration.unwrap();
            if is_it(&registration) {
                return registration;
            }
            last = Some(registration);
        }
        panic!("the stream ended without {what}: {last:#?}")
    }

    pub async fn wait_for_state(&self, id: &str, state: State) -> Registration {
        self.wait_until(id, state.as_str_name(), |registration| registration.state() == state).await
    }

    pub async fn diagnose(&self, id: &str) -> Result<DiagnoseRegistrationResponse, CallError> {
        let request = DiagnoseRegistrationRequest { id: id.to_owned() };
        Ok(traced(within("DiagnoseRegistration", self.stub().diagnose_registration(request)).await)?.message)
    }

    pub async fn verify(&self, hash: &str, case: &str) -> Result<VerifyDocumentResponse, CallError> {
        let request = VerifyDocumentRequest { document_hash: hash.to_owned(), case_id: case.to_owned() };
        Ok(traced(within("VerifyDocument", self.stub().verify_document(request)).await)?.message)
    }

    pub async fn certificate(&self, request: GetCertificateRequest) -> Result<GetCertificateResponse, CallError> {
        Ok(traced(within("GetCertificate", self.stub().get_certificate(request)).await)?.message)
    }

    pub async fn info(&self) -> GetServiceInfoResponse {
        let answer = within("GetServiceInfo", self.stub().get_service_info(GetServiceInfoRequest {})).await;
        traced(answer).unwrap().message
    }
}

pub struct Watch {
    states: Streaming<WatchRegistrationResponse>,
    trace_id: String,
}

impl Watch {
    /// The next state; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Result<Registration, CallError>> {
        match within("the next state", self.states.message()).await {
            Ok(message) => Some(Ok(message?.registration.unwrap())),
            // The stream's headers had the trace id.
            Err(status) => Some(Err(CallError::of(&status, self.trace_id.clone()))),
        }
    }

    /// All remaining states.
    pub async fn rest(&mut self) -> Vec<Registration> {
        let mut seen = Vec::new();
        while let Some(registration) = self.next().await {
            seen.push(registration.unwrap());
        }
        seen
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let trace_id = trace_id(status.metadata());
        Self::of(&status, trace_id)
    }
}

impl CallError {
    pub(super) fn of(status: &Status, trace_id: String) -> Self {
        let text = |name| status.metadata().get(name).map(|value| value.to_str().unwrap().to_owned());
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
        assert_eq!(info.domain, "registrar.v1");
        assert_eq!(text("x-error-reason").as_ref(), Some(&info.reason), "the trailer and ErrorInfo differ: {status:?}");
        assert_eq!(proxy::leak(&format!("{status:?}")), None, "an endpoint's URL is exposed");
        let size = trailers_size(status);
        assert!(size < MAX_TRAILER_BYTES, "{size} bytes of trailers: {status:?}");
        let detail = registration_detail(status);
        let registration_id = text("x-registration-id");
        if let Some(registration) = detail.as_ref().and_then(|detail| detail.registration.as_ref()) {
            assert_eq!(Some(&registration.id), registration_id.as_ref(), "the trailer and the detail differ");
        }
        let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.reason.clone(),
            metadata: info.metadata.clone(),
            fields: violations.into_iter().map(|violation| (violation.field, violation.description)).collect(),
            retry_after: details.retry_info().map(|info| info.retry_delay.unwrap_or_default()),
            registration_id,
            detail,
            trace_id,
        }
    }

    /// Code and reason.
    pub fn kind(&self) -> (Code, &str) {
        (self.code, &self.reason)
    }

    /// The registration in the error's detail.
    pub fn registration(&self) -> &Registration {
        self.detail.as_ref().and_then(|detail| detail.registration.as_ref()).unwrap_or_else(|| {
            panic!("no registration in {self:?}");
        })
    }

    /// The invalid fields, sorted.
    pub fn field_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

pub async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    within("a connection", endpoint.connect()).await.unwrap()
}

/// The status of a name in the standard health service.
pub async fn health(address: SocketAddr, service: &str) -> Result<ServingStatus, Code> {
    let mut client = HealthClient::new(channel(address).await);
    let request = HealthCheckRequest { service: service.to_owned() };
    match within("a health check", client.check(request)).await {
        Ok(response) => Ok(response.into_inner().status()),
        Err(status) => Err(status.code()),
    }
}

/// Asserts that a response has a valid `x-trace-id` and returns it.
pub fn trace_id(metadata: &MetadataMap) -> String {
    let id = metadata.get("x-trace-id").unwrap_or_else(|| panic!("no x-trace-id in {metadata:?}"));
    let id = id.to_str().unwrap();
    let hex = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    assert!(id.len() == 32 && hex && id.bytes().any(|byte| byte != b'0'), "`{id}` is not a trace id");
    id.to_owned()
}

/// A request with this W3C `traceparent` header.
pub fn with_traceparent<T>(message: T, traceparent: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request
}

fn traced<T>(answer: Result<Response<T>, Status>) -> Result<Traced<T>, CallError> {
    let answer = answer?;
    let trace_id = trace_id(answer.metadata());
    Ok(Traced { message: answer.into_inner(), trace_id })
}

/// Size of the trailers as transmitted: the message is percent-encoded and binary values are base64.
fn trailers_size(status: &Status) -> usize {
    let message: usize = status.message().bytes().map(|byte| if (b' '..=b'~').contains(&byte) { 1 } else { 3 }).sum();
    let details = status.details().len().div_ceil(3) * 4;
    let others: usize = status.metadata().clone().into_headers().iter().map(|(n, v)| n.as_str().len() + v.len()).sum();
    "grpc-status".len() + 2 + "grpc-message".len() + message + "grpc-status-details-bin".len() + details + others
}

fn registration_detail(status: &Status) -> Option<RegistrationErrorDetail> {
    let all = tonic_types::Status::decode(status.details()).ok()?.details;
    let ours = all.into_iter().find(|detail| detail.type_url.ends_with("/registrar.v1.RegistrationErrorDetail"))?;
    Some(RegistrationErrorDetail::decode(ours.value.as_slice()).unwrap())
}
