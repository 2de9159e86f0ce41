//! The handlers: read, ask the registrar, present.

use super::{
    Settings,
    decode::{self, RegistrationKey},
    encode::ProtoEncoder,
    error::ApiError,
    layer::CallContext,
    page_token,
    proto::{self, registrar_service_server::RegistrarService},
    wait::{self, WaitOptions},
};
use crate::{
    pipeline::{Registrar, Subscription},
    registration::{
        Registration, RegistrationId, State, TraceId,
        policy::wait_deadline::{WaitFor, bounded_by_confirmation_timeout, effective_wait},
    },
};
use futures_util::{Stream, StreamExt, stream};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// A watched registration that does not change is read again this often.
const WATCH_REFRESH_INTERVAL: Duration = Duration::from_secs(15);

/// The service on the wire.
#[derive(Clone)]
pub(super) struct GrpcService {
    registrar: Registrar,
    settings: Settings,
    stop: CancellationToken,
}

impl GrpcService {
    pub(super) fn new(registrar: Registrar, settings: Settings, stop: CancellationToken) -> Self {
        Self { registrar, settings, stop }
    }

    fn encoder(&self) -> ProtoEncoder {
        ProtoEncoder::new(&self.registrar)
    }

    fn status(&self, error: ApiError) -> Status {
        error.into_status(&self.encoder())
    }

    fn reject_if_stopping(&self) -> Result<(), ApiError> {
        if self.stop.is_cancelled() { Err(ApiError::ShuttingDown(None)) } else { Ok(()) }
    }

    async fn register(
        &self,
        request: proto::RegisterDocumentRequest,
        context: CallContext,
    ) -> Result<Arc<Registration>, ApiError> {
        self.reject_if_stopping()?;
        let asked = decode::decode_register(request, context.trace, self.settings.max_wait)?;
        let longest = effective_wait(asked.wait_timeout, context.deadline, self.settings.max_wait);
        let by_clock = bounded_by_confirmation_timeout(asked.wait_for, asked.wait_timeout);
        // A place to wait is taken first: who cannot wait is told so before anything is accepted.
        let place = match asked.wait_for {
            WaitFor::Accepted => None,
            WaitFor::Submitted | WaitFor::Included | WaitFor::Confirmed | WaitFor::Safe | WaitFor::Finalized => {
                Some(self.registrar.acquire_slot()?)
            }
        };
        let accepted = self.registrar.accept(asked.registration).await?;
        let Some(place) = place else { return Ok(Arc::new(accepted.registration)) };
        let accepted = accepted.registration;
        let waiter = self.registrar.subscribe(accepted.id, place);
        let wait = WaitOptions {
            wait_for: asked.wait_for,
            started_at: context.started_at,
            max_wait: longest,
            bounded_by_confirmation_timeout: by_clock,
        };
        wait::wait_until_reached(&self.registrar, accepted, waiter, &wait, &self.stop).await
    }

    async fn get(&self, request: proto::GetRegistrationRequest) -> Result<Registration, ApiError> {
        let found = match decode::decode_key(request.key)? {
            RegistrationKey::Id(id) => self.registrar.get(id).await?,
            RegistrationKey::Pair(pair) => self.registrar.find(&pair).await?,
        };
        found.ok_or(ApiError::NotFound)
    }

    async fn list(
        &self,
        request: proto::ListRegistrationsRequest,
    ) -> Result<proto::ListRegistrationsResponse, ApiError> {
        let asked = decode::decode_list(&request)?;
        let mut found = self.registrar.list(&asked.filter, asked.before, asked.page_size + 1).await?;
        let more = found.len() > asked.page_size as usize;
        found.truncate(asked.page_size as usize);
        let next_page_token =
            found.last().filter(|_| more).map(|last| page_token::encode_page_token(last.id, &asked.filter));
        let presenter = self.encoder();
        Ok(proto::ListRegistrationsResponse {
            registrations: found.iter().map(|registration| presenter.registration(registration)).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        })
    }

    async fn diagnose(&self, id: &str) -> Result<proto::DiagnoseRegistrationResponse, ApiError> {
        let registration = self.registrar.get(decode::decode_id(id)?).await?.ok_or(ApiError::NotFound)?;
        let diagnosis = self.registrar.diagnose(&registration).await;
        let presenter = self.encoder();
        Ok(proto::DiagnoseRegistrationResponse {
            registration: Some(presenter.registration(&registration)),
            diagnosis: diagnosis.map(|diagnosis| presenter.diagnosis(&diagnosis)),
        })
    }

    async fn verify(&self, request: &proto::VerifyDocumentRequest) -> Result<proto::VerifyDocumentResponse, ApiError> {
        let pair = decode::decode_pair(request)?;
        let found = self.registrar.verify(&pair).await.map_err(|error| {
            tracing::warn!(error = %error, "a document could not be verified");
            if error.is_contract_missing() {
                ApiError::NoContract(self.registrar.contract().to_string())
            } else {
                ApiError::EndpointsUnavailable(None)
            }
        })?;
        Ok(self.encoder().verify_response(&self.registrar, &pair, found))
    }

    async fn watch(
        &self,
        request: &proto::WatchRegistrationRequest,
        trace_id: TraceId,
    ) -> Result<WatchStream, ApiError> {
        self.reject_if_stopping()?;
        let asked = decode::decode_watch(request)?;
        let place = self.registrar.acquire_slot()?;
        let waiter = self.registrar.subscribe(asked.id, place);
        let current = self.registrar.get(asked.id).await?.ok_or(ApiError::NotFound)?;
        Ok(WatchStream {
            service: self.clone(),
            waiter,
            until: asked.until,
            last_revision: asked.after_revision,
            trace_id,
            id: asked.id,
            last: None,
            next_change: Some(Arc::new(current)),
            done: false,
        })
    }
}

/// A stream of one registration's states.
struct WatchStream {
    service: GrpcService,
    waiter: Subscription,
    until: WaitFor,
    /// The last revision the reader knows.
    last_revision: i64,
    trace_id: TraceId,
    id: RegistrationId,
    last: Option<Arc<Registration>>,
    next_change: Option<Arc<Registration>>,
    done: bool,
}

impl WatchStream {
    /// The stream's last word stands in its trailers, which the layer does not see.
    fn shutting_down_status(&self) -> Status {
        let last = self.last.as_deref().map(|last| Box::new(last.clone()));
        let mut status = self.service.status(ApiError::ShuttingDown(last));
        if let Ok(trace_id) = self.trace_id.to_string().parse() {
            status.metadata_mut().insert("x-trace-id", trace_id);
        }
        status
    }

    /// The next state that the reader does not know; `None` at the end.
    async fn next_update(mut self) -> Option<(Result<proto::WatchRegistrationResponse, Status>, Self)> {
        while !self.done {
            let current = match self.next_change.take() {
                Some(current) => current,
                None => tokio::select! {
                    changed = self.waiter.next_change() => changed,
                    // A change that could not be told is in the store all the same.
                    () = tokio::time::sleep(WATCH_REFRESH_INTERVAL) => match self.service.registrar.get(self.id).await {
                        Ok(Some(registration)) => Arc::new(registration),
                        Ok(None) | Err(_) => continue,
                    },
                    () = self.service.stop.cancelled() => {
                        self.done = true;
                        return Some((Err(self.shutting_down_status()), self));
                    }
                },
            };
            self.last = Some(current.clone());
            self.done = self.until.is_reached(current.state, current.finality) || current.state == State::Failed;
            if current.revision > self.last_revision {
                self.last_revision = current.revision;
                let registration = Some(self.service.encoder().registration(&current));
                return Some((Ok(proto::WatchRegistrationResponse { registration }), self));
            }
        }
        None
    }
}

fn encode_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl RegistrarService for GrpcService {
    type WatchRegistrationStream =
        Pin<Box<dyn Stream<Item = Result<proto::WatchRegistrationResponse, Status>> + Send + 'static>>;

    async fn register_document(
        &self,
        request: Request<proto::RegisterDocumentRequest>,
    ) -> Result<Response<proto::RegisterDocumentResponse>, Status> {
        let context = CallContext::from_request(&request);
        let registration = self.register(request.into_inner(), context).await.map_err(|error| self.status(error))?;
        let registration = Some(self.encoder().registration(&registration));
        Ok(Response::new(proto::RegisterDocumentResponse { registration }))
    }

    async fn get_registration(
        &self,
        request: Request<proto::GetRegistrationRequest>,
    ) -> Result<Response<proto::GetRegistrationResponse>, Status> {
        let registration = self.get(request.into_inner()).await.map_err(|error| self.status(error))?;
        let registration = Some(self.encoder().registration(&registration));
        Ok(Response::new(proto::GetRegistrationResponse { registration }))
    }

    async fn list_registrations(
        &self,
        request: Request<proto::ListRegistrationsRequest>,
    ) -> Result<Response<proto::ListRegistrationsResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new).map_err(|error| self.status(error))
    }

    async fn watch_registration(
        &self,
        request: Request<proto::WatchRegistrationRequest>,
    ) -> Result<Response<Self::WatchRegistrationStream>, Status> {
        let trace_id = CallContext::from_request(&request).trace.trace_id;
        let watching = self.watch(request.get_ref(), trace_id).await.map_err(|error| self.status(error))?;
        Ok(Response::new(stream::unfold(watching, WatchStream::next_update).boxed()))
    }

    async fn diagnose_registration(
        &self,
        request: Request<proto::DiagnoseRegistrationRequest>,
    ) -> Result<Response<proto::DiagnoseRegistrationResponse>, Status> {
        self.diagnose(&request.get_ref().id).await.map(Response::new).map_err(|error| self.status(error))
    }

    async fn verify_document(
        &self,
        request: Request<proto::VerifyDocumentRequest>,
    ) -> Result<Response<proto::VerifyDocumentResponse>, Status> {
        self.verify(request.get_ref()).await.map(Response::new).map_err(|error| self.status(error))
    }

    async fn get_service_info(
        &self,
        _request: Request<proto::GetServiceInfoRequest>,
    ) -> Result<Response<proto::GetServiceInfoResponse>, Status> {
        let registrar = &self.registrar;
        Ok(Response::new(proto::GetServiceInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("REGISTRAR_COMMIT").to_owned(),
            network: registrar.network().name.clone(),
            chain_id: registrar.network().chain_id,
            contract_address: registrar.contract().to_string(),
            signer_addresses: registrar.signers().iter().map(ToString::to_string).collect(),
            confirmations: u32::try_from(registrar.confirmations()).unwrap_or(u32::MAX),
            confirmation_timeout: Some(encode_duration(registrar.confirmation_timeout())),
            max_wait: Some(encode_duration(self.settings.max_wait)),
        }))
    }
}
