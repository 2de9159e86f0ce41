//! The generated client with trace headers on every call and errors as [`CliError`].

use super::error::{CliError, CliResult};
use crate::{
    api::proto::{self, registrar_service_client::RegistrarServiceClient},
    telemetry::propagation,
};
use futures_util::{Stream, TryStreamExt};
use std::time::Duration;
use tonic::{
    Request, Response, Status,
    metadata::{KeyAndValueRef, MetadataMap},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
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
    service: RegistrarServiceClient<InterceptedService<Channel, TraceHeaders>>,
    trace_id: String,
}

/// One trace for all calls of this process, in the headers of W3C and of Sentry.
#[derive(Clone)]
struct TraceHeaders(MetadataMap);

impl Interceptor for TraceHeaders {
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
    pub(super) async fn connect(server: &str) -> CliResult<Self> {
        let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let endpoint = match Endpoint::from_shared(url) {
            Ok(endpoint) if endpoint.uri().scheme_str() == Some("http") => endpoint,
            Ok(_) => {
                return Err(CliError::invalid_arguments(
                    "only http:// is supported for the server, because there is no TLS yet; use http://HOST:PORT",
                ));
            }
            Err(_) => {
                return Err(CliError::invalid_arguments(
                    "the server's address is not a URL; use for example http://127.0.0.1:50051",
                ));
            }
        };
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(|error| CliError::server_unreachable(server, &error))?;
        let (trace_id, headers) = propagation::new_client_trace();
        let headers = TraceHeaders(MetadataMap::from_headers(headers));
        let service = RegistrarServiceClient::with_interceptor(channel, headers);
        Ok(Self { service, trace_id: trace_id.to_string() })
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

    pub(super) async fn verify(
        &self,
        request: proto::VerifyDocumentRequest,
    ) -> CliResult<proto::VerifyDocumentResponse> {
        self.read_result(self.service.clone().verify_document(with_call_timeout(request)).await)
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
        let mut error = CliError::from_status(status);
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
    fn every_call_has_the_trace_headers_of_w3c_and_sentry() {
        let (trace_id, headers) = propagation::new_client_trace();
        let mut headers = TraceHeaders(MetadataMap::from_headers(headers));
        let mut sent = || {
            let metadata = headers.call(Request::new(())).unwrap().metadata().clone();
            ["sentry-trace", "traceparent"].map(|name| metadata.get(name).unwrap().to_str().unwrap().to_owned())
        };
        let [sentry, w3c] = sent();
        assert!(sentry.starts_with(&format!("{trace_id}-")) && sentry.ends_with("-1"), "{sentry}");
        assert!(w3c.starts_with(&format!("00-{trace_id}-")) && w3c.ends_with("-01"), "{w3c}");
        assert_eq!(sent(), [sentry, w3c]);
    }
}
