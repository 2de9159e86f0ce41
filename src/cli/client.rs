//! The generated client with trace headers on every call and errors as [`CliError`].

use super::{
    error::{CliError, CliResult},
    server::Server,
    tls_problem::{TlsProblem, was_not_sent},
};
use crate::{
    api::proto::{self, registrar_service_client::RegistrarServiceClient},
    telemetry::propagation,
};
use futures_util::{Stream, TryStreamExt};
use std::{error::Error, time::Duration};
use tonic::{
    Code, Request, Response, Status,
    metadata::{KeyAndValueRef, MetadataMap},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For calls that do not wait for a block. `VerifyDocument` and `DiagnoseRegistration` read from the chain.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that stops responding is detected after this and [`KEEPALIVE_TIMEOUT`], also during a long wait.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// For a call that is not sent.
const MAX_ATTEMPTS: usize = 3;

type Service = RegistrarServiceClient<InterceptedService<Channel, CallHeaders>>;

/// Clones share the connection.
#[derive(Clone)]
pub(super) struct Client {
    service: Service,
    /// For calls that only follow what another one does: they are not part of its trace, and not exported.
    follower: Service,
    trace_id: String,
    uses_tls: bool,
}

/// The trace of a call, and the caller's token.
#[derive(Clone)]
struct CallHeaders(MetadataMap);

impl Interceptor for CallHeaders {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for header in self.0.iter() {
            if let KeyAndValueRef::Ascii(name, value) = header {
                request.metadata_mut().insert(name, value.clone());
            }
        }
        Ok(request)
    }
}

impl Client {
    pub(super) async fn connect(server: &Server) -> CliResult<Self> {
        let channel = server
            .endpoint
            .clone()
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(|error| CliError::server_unreachable(&server.name, &error))?;
        let with_headers = |headers| {
            let mut headers = MetadataMap::from_headers(headers);
            if let Some(authorization) = &server.authorization {
                headers.insert("authorization", authorization.clone());
            }
            RegistrarServiceClient::with_interceptor(channel.clone(), CallHeaders(headers))
        };
        let (trace_id, headers) = propagation::new_client_trace(true);
        let (service, follower) = (with_headers(headers), with_headers(propagation::new_client_trace(false).1));
        let uses_tls = server.endpoint.uri().scheme_str() == Some("https");
        Ok(Self { service, follower, trace_id: trace_id.to_string(), uses_tls })
    }

    /// A client whose calls are not exported.
    pub(super) fn follower(&self) -> Self {
        Self { service: self.follower.clone(), ..self.clone() }
    }

    pub(super) fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// The server ends the wait, so only a call that does not wait has a timeout here.
    pub(super) async fn register(&self, request: proto::RegisterDocumentRequest) -> CliResult<proto::Registration> {
        let limit = (request.wait_for() == proto::WaitFor::Accepted).then_some(CALL_TIMEOUT);
        let call = |mut service: Service, request| async move { service.register_document(request).await };
        let response = send(&self.service, request, limit, call).await;
        self.require_registration(response.map(|response| response.into_inner().registration))
    }

    /// One registration for each document, in their order.
    pub(super) async fn register_all(
        &self,
        request: proto::RegisterDocumentsRequest,
    ) -> CliResult<Vec<proto::Registration>> {
        let asked = request.documents.len();
        let call = |mut service: Service, request| async move { service.register_documents(request).await };
        let response = send(&self.service, request, Some(CALL_TIMEOUT), call).await;
        let registrations = response.map(|response| response.into_inner().registrations).and_then(|registrations| {
            let is_complete = registrations.len() == asked;
            is_complete.then_some(registrations).ok_or_else(|| Status::internal("the response is not complete"))
        });
        registrations.map_err(|status| self.to_cli_error(&status))
    }

    pub(super) async fn get(&self, key: proto::get_registration_request::Key) -> CliResult<proto::Registration> {
        let request = proto::GetRegistrationRequest { key: Some(key) };
        let call = |mut service: Service, request| async move { service.get_registration(request).await };
        let response = send(&self.service, request, Some(CALL_TIMEOUT), call).await;
        self.require_registration(response.map(|response| response.into_inner().registration))
            .map_err(CliError::mark_read_only)
    }

    pub(super) async fn list(
        &self,
        request: proto::ListRegistrationsRequest,
    ) -> CliResult<proto::ListRegistrationsResponse> {
        let call = |mut service: Service, request| async move { service.list_registrations(request).await };
        self.read_result(send(&self.service, request, Some(CALL_TIMEOUT), call).await)
    }

    pub(super) async fn watch(
        &self,
        request: proto::WatchRegistrationRequest,
    ) -> CliResult<impl Stream<Item = CliResult<proto::Registration>> + Unpin + use<>> {
        let call = |mut service: Service, request| async move { service.watch_registration(request).await };
        let response = send(&self.service, request, None, call).await.map_err(|status| self.to_read_error(&status))?;
        let client = self.clone();
        Ok(response
            .into_inner()
            .map_err(move |status| client.to_read_error(&status))
            .try_filter_map(|item| std::future::ready(Ok(item.registration))))
    }

    pub(super) async fn watch_changes(
        &self,
        request: proto::WatchChangesRequest,
    ) -> CliResult<impl Stream<Item = CliResult<proto::WatchChangesResponse>> + Unpin + use<>> {
        let call = |mut service: Service, request| async move { service.watch_changes(request).await };
        let response = send(&self.service, request, None, call).await.map_err(|status| self.to_read_error(&status))?;
        let client = self.clone();
        Ok(response.into_inner().map_err(move |status| client.to_read_error(&status)))
    }

    pub(super) async fn verify(
        &self,
        request: proto::VerifyDocumentRequest,
    ) -> CliResult<proto::VerifyDocumentResponse> {
        let call = |mut service: Service, request| async move { service.verify_document(request).await };
        let verified = send(&self.service, request, Some(CALL_TIMEOUT), call).await;
        self.read_result(verified).map_err(CliError::mark_chain_query)
    }

    /// A server that cannot reach the chain has no answer, which is not a no.
    pub(super) async fn certificate(
        &self,
        request: proto::GetCertificateRequest,
    ) -> CliResult<proto::GetCertificateResponse> {
        let call = |mut service: Service, request| async move { service.get_certificate(request).await };
        let issued = send(&self.service, request, Some(CALL_TIMEOUT), call).await;
        self.read_result(issued).map_err(
            |error| {
                if error.code == Code::Unavailable { error.mark_chain_query() } else { error }
            },
        )
    }

    pub(super) async fn diagnose(&self, id: String) -> CliResult<proto::DiagnoseRegistrationResponse> {
        let request = proto::DiagnoseRegistrationRequest { id };
        let call = |mut service: Service, request| async move { service.diagnose_registration(request).await };
        self.read_result(send(&self.service, request, Some(CALL_TIMEOUT), call).await)
    }

    pub(super) async fn info(&self) -> CliResult<proto::GetServiceInfoResponse> {
        let request = proto::GetServiceInfoRequest {};
        let call = |mut service: Service, request| async move { service.get_service_info(request).await };
        self.read_result(send(&self.service, request, Some(CALL_TIMEOUT), call).await)
    }

    fn read_result<T>(&self, result: Result<Response<T>, Status>) -> CliResult<T> {
        result.map(Response::into_inner).map_err(|status| self.to_read_error(&status))
    }

    fn require_registration(
        &self,
        response: Result<Option<proto::Registration>, Status>,
    ) -> CliResult<proto::Registration> {
        response
            .and_then(|found| found.ok_or_else(|| Status::internal("the response has no registration")))
            .map_err(|status| self.to_cli_error(&status))
    }

    fn to_read_error(&self, status: &Status) -> Box<CliError> {
        self.to_cli_error(status).mark_read_only()
    }

    fn to_cli_error(&self, status: &Status) -> Box<CliError> {
        let problem = status.source().filter(|_| self.uses_tls).and_then(TlsProblem::of_call);
        let mut error = problem.map_or_else(|| CliError::from_status(status), CliError::tls_failed);
        if error.trace_id.is_empty() {
            error.trace_id.clone_from(&self.trace_id);
        }
        error
    }
}

/// Sends a call, and again on a new connection if its connection ended before the call was sent. It can be repeated
/// whatever it asks for, and the new connection may have the reason that the old one lost.
async fn send<Q, A, F>(
    service: &Service,
    message: Q,
    limit: Option<Duration>,
    call: impl Fn(Service, Request<Q>) -> F,
) -> Result<Response<A>, Status>
where
    Q: Clone,
    F: Future<Output = Result<Response<A>, Status>>,
{
    let request = || {
        let mut request = Request::new(message.clone());
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        request
    };
    let mut result = call(service.clone(), request()).await;
    for _ in 1..MAX_ATTEMPTS {
        match &result {
            Err(status) if status.source().is_some_and(was_not_sent) => {
                result = call(service.clone(), request()).await;
            }
            Err(_) | Ok(_) => break,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_names_the_same_trace_and_no_parent() {
        let (trace_id, headers) = propagation::new_client_trace(true);
        let mut headers = CallHeaders(MetadataMap::from_headers(headers));
        let mut sent = || {
            let metadata = headers.call(Request::new(())).unwrap().metadata().clone();
            assert_eq!(metadata.len(), 1, "{metadata:?}");
            metadata.get("sentry-trace").unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!([sent(), sent()], [(); 2].map(|()| format!("{trace_id}-1")));
    }
}
