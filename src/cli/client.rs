//! The generated client with trace headers on every call and errors as [`CliError`].

use super::{
    error::{CliError, CliResult},
    server::Server,
    tls_problem::TlsProblem,
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

/// Clones share the connection.
#[derive(Clone)]
pub(super) struct Client {
    service: RegistrarServiceClient<InterceptedService<Channel, CallHeaders>>,
    /// For calls that only follow what another one does: they are not part of its trace, and not exported.
    follower: RegistrarServiceClient<InterceptedService<Channel, CallHeaders>>,
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
        let mut service = self.service.clone();
        let response = if request.wait_for() == proto::WaitFor::Accepted {
            service.register_document(with_call_timeout(request)).await
        } else {
            service.register_document(request).await
        };
        self.require_registration(response.map(|response| response.into_inner().registration))
    }

    /// One registration for each document, in their order.
    pub(super) async fn register_all(
        &self,
        request: proto::RegisterDocumentsRequest,
    ) -> CliResult<Vec<proto::Registration>> {
        let asked = request.documents.len();
        let response = self.service.clone().register_documents(with_call_timeout(request)).await;
        let registrations = response.map(|response| response.into_inner().registrations).and_then(|registrations| {
            let is_complete = registrations.len() == asked;
            is_complete.then_some(registrations).ok_or_else(|| Status::internal("the response is not complete"))
        });
        registrations.map_err(|status| self.to_cli_error(&status))
    }

    pub(super) async fn get(&self, key: proto::get_registration_request::Key) -> CliResult<proto::Registration> {
        let request = proto::GetRegistrationRequest { key: Some(key) };
        let response = self.service.clone().get_registration(with_call_timeout(request)).await;
        self.require_registration(response.map(|response| response.into_inner().registration))
            .map_err(CliError::mark_read_only)
    }

    pub(super) async fn list(
        &self,
        request: proto::ListRegistrationsRequest,
    ) -> CliResult<proto::ListRegistrationsResponse> {
        self.read_result(self.service.clone().list_registrations(with_call_timeout(request)).await)
    }

    pub(super) async fn watch(
        &self,
        request: proto::WatchRegistrationRequest,
    ) -> CliResult<impl Stream<Item = CliResult<proto::Registration>> + Unpin + use<>> {
        let response =
            self.service.clone().watch_registration(request).await.map_err(|status| self.to_read_error(&status))?;
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
        let response =
            self.service.clone().watch_changes(request).await.map_err(|status| self.to_read_error(&status))?;
        let client = self.clone();
        Ok(response.into_inner().map_err(move |status| client.to_read_error(&status)))
    }

    pub(super) async fn verify(
        &self,
        request: proto::VerifyDocumentRequest,
    ) -> CliResult<proto::VerifyDocumentResponse> {
        let verified = self.service.clone().verify_document(with_call_timeout(request)).await;
        self.read_result(verified).map_err(CliError::mark_chain_query)
    }

    /// A server that cannot reach the chain has no answer, which is not a no.
    pub(super) async fn certificate(
        &self,
        request: proto::GetCertificateRequest,
    ) -> CliResult<proto::GetCertificateResponse> {
        let issued = self.service.clone().get_certificate(with_call_timeout(request)).await;
        self.read_result(issued).map_err(
            |error| {
                if error.code == Code::Unavailable { error.mark_chain_query() } else { error }
            },
        )
    }

    pub(super) async fn diagnose(&self, id: String) -> CliResult<proto::DiagnoseRegistrationResponse> {
        let request = with_call_timeout(proto::DiagnoseRegistrationRequest { id });
        self.read_result(self.service.clone().diagnose_registration(request).await)
    }

    pub(super) async fn info(&self) -> CliResult<proto::GetServiceInfoResponse> {
        let request = with_call_timeout(proto::GetServiceInfoRequest {});
        self.read_result(self.service.clone().get_service_info(request).await)
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

fn with_call_timeout<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
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
