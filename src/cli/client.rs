//! The service as its callers see it: the generated client, trace headers on every call, errors as [`Trouble`].

use super::error::{CliError, CliResult};
use crate::{
    api::proto::{self, registrar_service_client::RegistrarServiceClient},
    telemetry::propagation,
};
use futures_util::{Stream, TryStreamExt};
use std::time::Duration;
use tonic::{
    Request, Status,
    metadata::{KeyAndValueRef, MetadataMap},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For calls that do not wait for the chain to move. `VerifyDocument` and `DiagnoseRegistration` read from it.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that is gone without a word is noticed after this and [`KEEPALIVE_TIMEOUT`], however long a call waits.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the service. Clones share it.
#[derive(Clone)]
pub(super) struct Client {
    service: RegistrarServiceClient<InterceptedService<Channel, TraceHeaders>>,
    trace_id: String,
}

/// One trace for everything this process asks, in the forms that W3C and Sentry give its headers.
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
    /// Connects.
    pub(super) async fn connect(server: &str) -> CliResult<Self> {
        let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let endpoint = match Endpoint::from_shared(url) {
            Ok(endpoint) if endpoint.uri().scheme_str() == Some("http") => endpoint,
            Ok(_) => {
                return Err(CliError::invalid_arguments(
                    "the server's URL is not plain http://HOST:PORT: TLS is not spoken yet",
                ));
            }
            Err(_) => {
                return Err(CliError::invalid_arguments(
                    "the server's address is no URL: give one as http://127.0.0.1:50051",
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

    /// The trace that every call of this process belongs to.
    pub(super) fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// Registers, and waits as far as the request asks: the server says when that ends.
    pub(super) async fn register(&self, request: proto::RegisterDocumentRequest) -> CliResult<proto::Registration> {
        let mut service = self.service.clone();
        let answer = if request.wait_for() == proto::WaitFor::Accepted {
            service.register_document(with_call_timeout(request)).await
        } else {
            service.register_document(request).await
        };
        self.require_registration(answer.map(|answer| answer.into_inner().registration))
    }

    pub(super) async fn get(&self, key: proto::get_registration_request::Key) -> CliResult<proto::Registration> {
        let request = proto::GetRegistrationRequest { key: Some(key) };
        let answer = self.service.clone().get_registration(with_call_timeout(request)).await;
        self.require_registration(answer.map(|answer| answer.into_inner().registration))
            .map_err(CliError::mark_read_only)
    }

    pub(super) async fn list(
        &self,
        request: proto::ListRegistrationsRequest,
    ) -> CliResult<proto::ListRegistrationsResponse> {
        let answer = self.service.clone().list_registrations(with_call_timeout(request)).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.to_read_error(&status))
    }

    /// Each state of a registration, until the server ends the stream.
    pub(super) async fn watch(
        &self,
        request: proto::WatchRegistrationRequest,
    ) -> CliResult<impl Stream<Item = CliResult<proto::Registration>> + Unpin + use<>> {
        let answer =
            self.service.clone().watch_registration(request).await.map_err(|status| self.to_read_error(&status))?;
        let this = self.clone();
        Ok(answer
            .into_inner()
            .map_err(move |status| this.to_read_error(&status))
            .try_filter_map(|item| std::future::ready(Ok(item.registration))))
    }

    pub(super) async fn verify(
        &self,
        request: proto::VerifyDocumentRequest,
    ) -> CliResult<proto::VerifyDocumentResponse> {
        let answer = self.service.clone().verify_document(with_call_timeout(request)).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.to_read_error(&status))
    }

    pub(super) async fn diagnose(&self, id: String) -> CliResult<proto::DiagnoseRegistrationResponse> {
        let request = proto::DiagnoseRegistrationRequest { id };
        let answer = self.service.clone().diagnose_registration(with_call_timeout(request)).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.to_read_error(&status))
    }

    pub(super) async fn info(&self) -> CliResult<proto::GetServiceInfoResponse> {
        let answer = self.service.clone().get_service_info(with_call_timeout(proto::GetServiceInfoRequest {})).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.to_read_error(&status))
    }

    fn require_registration(
        &self,
        answer: Result<Option<proto::Registration>, Status>,
    ) -> CliResult<proto::Registration> {
        answer
            .and_then(|found| found.ok_or_else(|| Status::internal("the server's answer holds no registration")))
            .map_err(|status| self.to_cli_error(&status))
    }

    /// What is wrong with a call that only asks.
    fn to_read_error(&self, status: &Status) -> Box<CliError> {
        self.to_cli_error(status).mark_read_only()
    }

    fn to_cli_error(&self, status: &Status) -> Box<CliError> {
        let mut trouble = CliError::from_status(status);
        if trouble.trace_id.is_empty() {
            trouble.trace_id.clone_from(&self.trace_id);
        }
        trouble
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
    fn every_call_of_a_command_is_sent_in_its_trace_in_both_forms() {
        let (trace_id, headers) = propagation::new_client_trace();
        let mut headers = TraceHeaders(MetadataMap::from_headers(headers));
        let mut sent = || {
            let metadata = headers.call(Request::new(())).unwrap().metadata().clone();
            ["sentry-trace", "traceparent"].map(|name| metadata.get(name).unwrap().to_str().unwrap().to_owned())
        };
        let [theirs, w3c] = sent();
        assert!(theirs.starts_with(&format!("{trace_id}-")) && theirs.ends_with("-1"), "{theirs}");
        assert!(w3c.starts_with(&format!("00-{trace_id}-")) && w3c.ends_with("-01"), "{w3c}");
        assert_eq!(sent(), [theirs, w3c]);
    }
}
