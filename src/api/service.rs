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
        let params = decode::decode_register(request, context.trace, self.settings.max_wait)?;
        let max_wait = effective_wait(params.wait_timeout, context.deadline, self.settings.max_wait);
        let bounded_by_confirmation_timeout = bounded_by_confirmation_timeout(params.wait_for, params.wait_timeout);
        // The wait slot comes first: if there is none, the call is rejected before anything is accepted.
        let slot = match params.wait_for {
            WaitFor::Accepted => None,
            WaitFor::Submitted | WaitFor::Included | WaitFor::Confirmed | WaitFor::Safe | WaitFor::Finalized => {
                Some(self.registrar.acquire_slot()?)
            }
        };
        let accepted = self.registrar.accept(params.registration).await?;
        let Some(slot) = slot else { return Ok(Arc::new(accepted.registration)) };
        let accepted = accepted.registration;
        let waiter = self.registrar.subscribe(accepted.id, slot);
        let wait = WaitOptions {
            wait_for: params.wait_for,
            started_at: context.started_at,
            max_wait,
            bounded_by_confirmation_timeout,
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
        let params = decode::decode_list(&request)?;
        let mut found = self.registrar.list(&params.filter, params.before, params.page_size + 1).await?;
        let more = found.len() > params.page_size as usize;
        found.truncate(params.page_size as usize);
        let next_page_token =
            found.last().filter(|_| more).map(|last| page_token::encode_page_token(last.id, &params.filter));
        let encoder = self.encoder();
        Ok(proto::ListRegistrationsResponse {
            registrations: found.iter().map(|registration| encoder.registration(registration)).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        })
    }

    async fn diagnose(&self, id: &str) -> Result<proto::DiagnoseRegistrationResponse, ApiError> {
        let registration = self.registrar.get(decode::decode_id(id)?).await?.ok_or(ApiError::NotFound)?;
        let diagnosis = self.registrar.diagnose(&registration).await;
        let encoder = self.encoder();
        Ok(proto::DiagnoseRegistrationResponse {
            registration: Some(encoder.registration(&registration)),
            diagnosis: diagnosis.map(|diagnosis| encoder.diagnosis(&diagnosis)),
        })
    }

    async fn verify(&self, request: &proto::VerifyDocumentRequest) -> Result<proto::VerifyDocumentResponse, ApiError> {
        let pair = decode::decode_pair(request)?;
        let found = self.registrar.verify(&pair).await.map_err(|error| {
            tracing::warn!(error = %error, "document verification failed");
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
        let params = decode::decode_watch(request)?;
        let slot = self.registrar.acquire_slot()?;
        let waiter = self.registrar.subscribe(params.id, slot);
        let current = self.registrar.get(params.id).await?.ok_or(ApiError::NotFound)?;
        Ok(WatchStream {
            service: self.clone(),
            waiter,
            until: params.until,
            last_revision: params.after_revision,
            trace_id,
            id: params.id,
            last: None,
            next_change: Some(Arc::new(current)),
            done: false,
        })
    }
}

struct WatchStream {
    service: GrpcService,
    waiter: Subscription,
    until: WaitFor,
    /// The revision of the last update sent to the client.
    last_revision: i64,
    trace_id: TraceId,
    id: RegistrationId,
    last: Option<Arc<Registration>>,
    next_change: Option<Arc<Registration>>,
    done: bool,
}

impl WatchStream {
    /// The end of a stream is in its trailers, which the middleware does not see.
    fn shutting_down_status(&self) -> Status {
        let mut status = self.service.status(ApiError::ShuttingDown(self.last.clone()));
        if let Ok(trace_id) = self.trace_id.to_string().parse() {
            status.metadata_mut().insert("x-trace-id", trace_id);
        }
        status
    }

    /// `None` at the end of the stream.
    async fn next_update(mut self) -> Option<(Result<proto::WatchRegistrationResponse, Status>, Self)> {
        while !self.done {
            let current = match self.next_change.take() {
                Some(current) => current,
                None => tokio::select! {
                    changed = self.waiter.next_change() => changed,
                    // A change whose notification was lost is in the store.
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
