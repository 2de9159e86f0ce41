//! A caller in Rust. Every answer and every error is held to the rules that all of them share.

use super::{proxy, wait::within};
use alloy::primitives::keccak256;
use prost::Message;
use registrar::api::proto::{
    DiagnoseRegistrationRequest, DiagnoseRegistrationResponse, DocumentKey, GetRegistrationRequest,
    GetServiceInfoRequest, GetServiceInfoResponse, ListRegistrationsRequest, ListRegistrationsResponse,
    RegisterDocumentRequest, Registration, RegistrationErrorDetail, State, VerifyDocumentRequest,
    VerifyDocumentResponse, WaitFor, WatchRegistrationRequest, WatchRegistrationResponse,
    get_registration_request::Key, registrar_service_client::RegistrarServiceClient,
};
use std::{collections::HashMap, net::SocketAddr, time::Duration};
use tonic::{Code, IntoRequest, Request, Response, Status, Streaming, metadata::MetadataMap, transport::Channel};
use tonic_types::StatusExt;

/// Trailers of an error may take this much; clients and proxies refuse more than 8 KiB.
const TRAILERS_BYTES: usize = 4096;

/// A connection to the service.
#[derive(Clone)]
pub struct Client {
    stub: RegistrarServiceClient<Channel>,
}

/// An answer and the trace id that came with it.
#[derive(Debug)]
pub struct Traced<T> {
    /// The answer.
    pub message: T,
    /// `x-trace-id`.
    pub trace_id: String,
}

/// An error as the service promises to make them.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The words.
    pub message: String,
    /// `ErrorInfo.reason`, and `x-error-reason`.
    pub reason: String,
    /// `ErrorInfo.metadata`.
    pub metadata: HashMap<String, String>,
    /// The fields that are at fault, with what is wrong.
    pub fields: Vec<(String, String)>,
    /// When trying again can help.
    pub retry_after: Option<Duration>,
    /// `x-registration-id`.
    pub registration_id: Option<String>,
    /// The typed detail about accepted work.
    pub detail: Option<RegistrationErrorDetail>,
    /// `x-trace-id`.
    pub trace_id: String,
}

/// The hash of a document that no other number has.
pub fn document(number: u64) -> String {
    keccak256(format!("document {number}")).to_string()
}

/// A request to register the document with this number for this case.
pub fn registering(number: u64, case: &str, wait_for: WaitFor) -> RegisterDocumentRequest {
    RegisterDocumentRequest {
        document_hash: document(number),
        case_id: case.to_owned(),
        wait_for: wait_for.into(),
        ..Default::default()
    }
}

/// A request that waits for the confirmation until the server's clock ends it: the caller's own wait is longer than any clock
/// here, so that a machine that is slow to send does not end it first.
pub fn until_late(number: u64, case: &str) -> RegisterDocumentRequest {
    RegisterDocumentRequest { wait_timeout: seconds(50), ..registering(number, case, WaitFor::Confirmed) }
}

/// As the proto writes a duration.
pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

impl Client {
    /// Connects to the service.
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stub: RegistrarServiceClient::new(channel(address).await) }
    }

    /// The generated client, for what the rest of this does not let through.
    pub fn stub(&self) -> RegistrarServiceClient<Channel> {
        self.stub.clone()
    }

    /// Registers a document.
    ///
    /// # Errors
    /// What the service refuses.
    pub async fn register(&self, request: impl IntoRequest<RegisterDocumentRequest>) -> Result<Registration, Refusal> {
        Ok(self.register_traced(request).await?.message)
    }

    /// Registers a document, and returns the call's trace id too.
    ///
    /// # Errors
    /// What the service refuses.
    pub async fn register_traced(
        &self,
        request: impl IntoRequest<RegisterDocumentRequest>,
    ) -> Result<Traced<Registration>, Refusal> {
        let mut stub = self.stub();
        let answer = traced(within("RegisterDocument", stub.register_document(request.into_request())).await)?;
        Ok(Traced { message: answer.message.registration.unwrap(), trace_id: answer.trace_id })
    }

    /// Registers a document, and returns when the service has it on disk.
    pub async fn accept(&self, number: u64, case: &str) -> Registration {
        self.register(registering(number, case, WaitFor::Accepted)).await.unwrap()
    }

    /// Registers a document, and returns when it is confirmed.
    pub async fn confirm(&self, number: u64, case: &str) -> Registration {
        let registration = self.register(registering(number, case, WaitFor::Confirmed)).await.unwrap();
        assert_eq!(registration.state(), State::Confirmed);
        registration
    }

    /// The registration with this id.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get(&self, id: &str) -> Result<Registration, Refusal> {
        self.get_by(Key::Id(id.to_owned())).await
    }

    /// The registration of this pair.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get_pair(&self, hash: &str, case: &str) -> Result<Registration, Refusal> {
        self.get_by(Key::Document(DocumentKey { document_hash: hash.to_owned(), case_id: case.to_owned() })).await
    }

    /// The registration with this key.
    ///
    /// # Errors
    /// When there is none, or the key is at fault.
    pub async fn get_by(&self, key: Key) -> Result<Registration, Refusal> {
        let request = GetRegistrationRequest { key: Some(key) };
        let answer = traced(within("GetRegistration", self.stub().get_registration(request)).await)?;
        Ok(answer.message.registration.unwrap())
    }

    /// A page of registrations.
    ///
    /// # Errors
    /// What the service refuses.
    pub async fn list(&self, request: ListRegistrationsRequest) -> Result<ListRegistrationsResponse, Refusal> {
        Ok(traced(within("ListRegistrations", self.stub().list_registrations(request)).await)?.message)
    }

    /// Follows a registration.
    ///
    /// # Errors
    /// What the service refuses.
    pub async fn watch(&self, id: &str, until: WaitFor, after_revision: i64) -> Result<Watch, Refusal> {
        let request = WatchRegistrationRequest { id: id.to_owned(), until: until.into(), after_revision };
        let answer = traced(within("WatchRegistration", self.stub().watch_registration(request)).await)?;
        Ok(Watch { states: answer.message, trace_id: answer.trace_id })
    }

    /// Follows a registration until this is true of it.
    ///
    /// # Panics
    /// When it is confirmed or failed before.
    pub async fn sees(&self, id: &str, what: &str, is_it: impl Fn(&Registration) -> bool) -> Registration {
        let mut watch = self.watch(id, WaitFor::Confirmed, 0).await.unwrap();
        let mut last = None;
        while let Some(registration) = watch.next().await {
            let registration = registration.unwrap();
            if is_it(&registration) {
                return registration;
            }
            last = Some(registration);
        }
        panic!("the journey ended without {what}: {last:#?}")
    }

    /// Follows a registration until it is in this state.
    pub async fn reaches(&self, id: &str, state: State) -> Registration {
        self.sees(id, state.as_str_name(), |registration| registration.state() == state).await
    }

    /// Asks why a registration is not confirmed.
    ///
    /// # Errors
    /// What the service refuses.
    pub async fn diagnose(&self, id: &str) -> Result<DiagnoseRegistrationResponse, Refusal> {
        let request = DiagnoseRegistrationRequest { id: id.to_owned() };
        Ok(traced(within("DiagnoseRegistration", self.stub().diagnose_registration(request)).await)?.message)
    }

    /// Asks the chain about a pair.
    ///
    /// # Errors
    /// What the service refuses.
    pub async fn verify(&self, hash: &str, case: &str) -> Result<VerifyDocumentResponse, Refusal> {
        let request = VerifyDocumentRequest { document_hash: hash.to_owned(), case_id: case.to_owned() };
        Ok(traced(within("VerifyDocument", self.stub().verify_document(request)).await)?.message)
    }

    /// Asks what the service is.
    pub async fn info(&self) -> GetServiceInfoResponse {
        let answer = within("GetServiceInfo", self.stub().get_service_info(GetServiceInfoRequest {})).await;
        traced(answer).unwrap().message
    }
}

/// A stream of a registration's states.
pub struct Watch {
    states: Streaming<WatchRegistrationResponse>,
    trace_id: String,
}

impl Watch {
    /// The next state; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Registration, Refusal>> {
        match within("the next state", self.states.message()).await {
            Ok(message) => Some(Ok(message?.registration.unwrap())),
            // The headers of the stream have said its trace id.
            Err(status) => Some(Err(Refusal::of(&status, self.trace_id.clone()))),
        }
    }

    /// Everything until the end.
    pub async fn rest(&mut self) -> Vec<Registration> {
        let mut seen = Vec::new();
        while let Some(registration) = self.next().await {
            seen.push(registration.unwrap());
        }
        seen
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let trace_id = trace_id(status.metadata());
        Self::of(&status, trace_id)
    }
}

impl Refusal {
    fn of(status: &Status, trace_id: String) -> Self {
        let text = |name| status.metadata().get(name).map(|value| value.to_str().unwrap().to_owned());
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
        assert_eq!(info.domain, "registrar.v1");
        assert_eq!(text("x-error-reason").as_ref(), Some(&info.reason), "the trailer and ErrorInfo differ: {status:?}");
        assert_eq!(proxy::leak(&format!("{status:?}")), None, "an endpoint's URL is told");
        let size = trailers_size(status);
        assert!(size < TRAILERS_BYTES, "{size} bytes of trailers: {status:?}");
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

    /// Code and reason, as the table of errors pairs them.
    pub fn kind(&self) -> (Code, &str) {
        (self.code, &self.reason)
    }

    /// The registration that was accepted all the same.
    pub fn registration(&self) -> &Registration {
        self.detail.as_ref().and_then(|detail| detail.registration.as_ref()).unwrap_or_else(|| {
            panic!("no registration in {self:?}");
        })
    }

    /// The names of the fields that are at fault, sorted.
    pub fn field_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

/// A channel to this address.
pub async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    within("a connection", endpoint.connect()).await.unwrap()
}

/// The trace id of a response, which all of them have.
pub fn trace_id(metadata: &MetadataMap) -> String {
    let id = metadata.get("x-trace-id").unwrap_or_else(|| panic!("no x-trace-id in {metadata:?}"));
    let id = id.to_str().unwrap();
    let hex = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    assert!(id.len() == 32 && hex && id.bytes().any(|byte| byte != b'0'), "`{id}` is no trace id");
    id.to_owned()
}

/// A request with this W3C trace header.
pub fn with_traceparent<T>(message: T, traceparent: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request
}

fn traced<T>(answer: Result<Response<T>, Status>) -> Result<Traced<T>, Refusal> {
    let answer = answer?;
    let trace_id = trace_id(answer.metadata());
    Ok(Traced { message: answer.into_inner(), trace_id })
}

/// Names and values as they travel: what is not text, and the message, are longer there than here.
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
