//! The handlers: read, ask the registrar, present.

use super::{
    Settings,
    access::Access,
    certificate,
    changes::{self, ChangeStream, View},
    connections::{HeldUntilSent, Turn},
    decode::{self, Batch, BatchDocument, ChangeFilter, NamedPair, RegistrationKey},
    encode::ProtoEncoder,
    error::{ApiError, TooManyCalls},
    info,
    layer::CallContext,
    limits::{MAX_PAGES, MAX_WAITING_LISTS, PAGE_WAIT},
    page::{self, Page},
    page_token,
    proto::{self, registrar_service_server::RegistrarService},
    refusal::Refusal,
    wait::{self, WaitOptions},
    watch::Watch,
};
use crate::{
    auth::Scope,
    pipeline::{Accepted, NoPlace, Places, Registrar, VerificationError},
    registration::{
        DocumentWarning, Registration, RegistrationId,
        policy::wait_deadline::{WaitFor, bounded_by_confirmation_timeout, effective_wait},
    },
};
use futures_util::{Stream, StreamExt};
use std::{pin::Pin, sync::Arc};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// The service on the wire.
#[derive(Clone)]
pub(super) struct GrpcService {
    registrar: Arc<Registrar>,
    settings: Settings,
    pages: Places,
    waiting_lists: Places,
    stop: CancellationToken,
}

impl GrpcService {
    pub(super) fn new(registrar: Registrar, settings: Settings, stop: CancellationToken) -> Self {
        let (pages, waiting_lists) = (Places::new(MAX_PAGES), Places::new(MAX_WAITING_LISTS));
        Self { registrar: Arc::new(registrar), settings, pages, waiting_lists, stop }
    }

    fn encoder(&self, access: &Access) -> ProtoEncoder {
        ProtoEncoder::new(&self.registrar).showing_callers(access.sees_callers())
    }

    fn status(&self, error: ApiError, access: &Access) -> Status {
        access.audit_error(&error);
        error.into_status(&self.encoder(access))
    }

    fn reject_if_stopping(&self) -> Result<(), ApiError> {
        if self.stop.is_cancelled() { Err(ApiError::ShuttingDown(None)) } else { Ok(()) }
    }

    async fn register(
        &self,
        request: proto::RegisterDocumentRequest,
        context: &mut CallContext,
    ) -> Result<(Arc<Registration>, Option<DocumentWarning>), ApiError> {
        self.reject_if_stopping()?;
        let access = &context.access;
        let params =
            decode::decode_register(request, context.trace.clone(), access.caller_name(), self.settings.max_wait)?;
        access.check_case(&params.registration.pair.case_id)?;
        let warning = params.warning;
        let max_wait = effective_wait(params.wait_timeout, context.deadline, self.settings.max_wait);
        let bounded_by_confirmation_timeout = bounded_by_confirmation_timeout(params.wait_for, params.wait_timeout);
        // The wait slot comes first: if there is none, the call is rejected before anything is accepted.
        let slot = match params.wait_for {
            WaitFor::Accepted => None,
            WaitFor::Submitted | WaitFor::Included | WaitFor::Confirmed | WaitFor::Safe | WaitFor::Finalized => {
                Some(self.registrar.acquire_slot(access.caller_id(), access.max_waiting())?)
            }
        };
        // Boxed, so that a call that waits does not keep its size.
        let accept = self.registrar.accept(params.registration, access.caller_id(), access.quota());
        let accepted = Box::pin(accept).await?;
        context.turn = None;
        if accepted.is_new {
            access.audit_accepted(accepted.registration.id);
        }
        let Some(slot) = slot else { return Ok((Arc::new(accepted.registration), warning)) };
        let accepted = accepted.registration;
        let waiter = self.registrar.subscribe(accepted.id, slot);
        let wait = WaitOptions {
            wait_for: params.wait_for,
            started_at: context.started_at,
            max_wait,
            bounded_by_confirmation_timeout,
        };
        let reached = wait::wait_until_reached(&self.registrar, accepted, waiter, &wait, &self.stop).await?;
        Ok((reached, warning))
    }

    async fn register_all(
        &self,
        request: proto::RegisterDocumentsRequest,
        context: &mut CallContext,
    ) -> Result<proto::RegisterDocumentsResponse, ApiError> {
        self.reject_if_stopping()?;
        let access = &context.access;
        let Batch { registrations, documents } =
            decode::decode_batch(&request, context.trace.clone(), access.caller_name())?;
        drop(request);
        access.check_cases(documents.iter().map(|document| &registrations[document.registration].pair.case_id))?;
        let accept = self.registrar.accept_all(registrations, access.caller_id(), access.quota());
        let accepted = Box::pin(accept).await?;
        context.turn = None;
        for Accepted { registration, .. } in accepted.iter().filter(|accepted| accepted.is_new) {
            access.audit_accepted(registration.id);
        }
        let encoder = self.encoder(access);
        let present = |document: BatchDocument| {
            let mut registration = encoder.registration(&accepted.get(document.registration)?.registration);
            replace_warning(&mut registration, document.warning);
            Some(registration)
        };
        Ok(proto::RegisterDocumentsResponse { registrations: documents.into_iter().filter_map(present).collect() })
    }

    async fn get(&self, request: proto::GetRegistrationRequest, access: &Access) -> Result<Registration, ApiError> {
        match decode::decode_key(request.key)? {
            RegistrationKey::Id(id) => self.find(id, access).await,
            RegistrationKey::Pair(pair) => visible(self.registrar.find(&pair).await?, access),
        }
    }

    async fn find(&self, id: RegistrationId, access: &Access) -> Result<Registration, ApiError> {
        visible(self.registrar.get(id).await?, access)
    }

    async fn list(
        &self,
        request: proto::ListRegistrationsRequest,
        access: &Access,
    ) -> Result<proto::ListRegistrationsResponse, ApiError> {
        let params = decode::decode_list(&request)?;
        if params.filter.caller.is_some() && !access.sees_callers() {
            return Err(Refusal::ScopeMissing(Scope::Admin).into());
        }
        let Page { registrations, next } = page::read(&self.registrar, &params, access).await?;
        let next = next.map(|last| page_token::encode_page_token(last, &params.filter));
        let encoder = self.encoder(access);
        Ok(proto::ListRegistrationsResponse {
            registrations: registrations.iter().map(|registration| encoder.registration(registration)).collect(),
            next_page_token: next.unwrap_or_default(),
        })
    }

    async fn diagnose(
        &self,
        id: &str,
        access: &Access,
        turn: Option<Turn>,
    ) -> Result<proto::DiagnoseRegistrationResponse, ApiError> {
        let registration = self.find(decode::decode_id(id)?, access).await?;
        // It asks the chain.
        drop(turn);
        let diagnosis = self.registrar.diagnose(&registration).await;
        let encoder = self.encoder(access);
        Ok(proto::DiagnoseRegistrationResponse {
            registration: Some(encoder.registration(&registration)),
            diagnosis: diagnosis.map(|diagnosis| encoder.diagnosis(&diagnosis)),
        })
    }

    async fn verify(
        &self,
        request: &proto::VerifyDocumentRequest,
        access: &Access,
    ) -> Result<proto::VerifyDocumentResponse, ApiError> {
        let NamedPair { pair, warning, .. } = decode::decode_pair(request)?;
        access.check_case(&pair.case_id)?;
        let found = self.registrar.verify(&pair).await.map_err(|error| match error {
            VerificationError::Busy => ApiError::TooManyWaiters,
            VerificationError::Call(error) => {
                certificate::chain_query_error(error.is_contract_missing(), &self.registrar)
            }
        })?;
        Ok(self.encoder(access).verify_response(&self.registrar, &pair, warning, found))
    }

    async fn watch(
        &self,
        request: &proto::WatchRegistrationRequest,
        context: &CallContext,
    ) -> Result<<Self as RegistrarService>::WatchRegistrationStream, ApiError> {
        self.reject_if_stopping()?;
        let params = decode::decode_watch(request)?;
        let access = &context.access;
        let slot = self.registrar.acquire_slot(access.caller_id(), access.max_waiting())?;
        let waiter = self.registrar.subscribe(params.id, slot);
        let current = self.find(params.id, access).await?;
        let watch = Watch {
            registrar: self.registrar.clone(),
            access: access.clone(),
            waiter,
            until: params.until,
            last_revision: params.after_revision,
            trace_id: context.trace.trace_id,
            id: params.id,
            stop: self.stop.clone(),
        };
        Ok(watch.updates(current).boxed())
    }
}

impl GrpcService {
    fn view(&self, access: &Access, filter: ChangeFilter) -> View {
        View { registrar: self.registrar.clone(), access: access.clone(), filter }
    }

    async fn open_changes(
        &self,
        request: proto::WatchChangesRequest,
        context: &CallContext,
    ) -> Result<<Self as RegistrarService>::WatchChangesStream, ApiError> {
        self.reject_if_stopping()?;
        let proto::WatchChangesRequest { after_cursor, from_beginning, states, case_id } = request;
        let request = proto::ListChangesRequest { after_cursor, from_beginning, states, case_id, page_size: 0 };
        let params = decode::decode_changes(&request)?;
        let access = &context.access;
        let slot = self.registrar.acquire_slot(access.caller_id(), access.max_waiting())?;
        let start = self.registrar.change_start(params.start).await?;
        let reader = self.registrar.read_changes(start, slot);
        let stream = ChangeStream::new(self.view(access, params.filter), reader, context.trace.trace_id);
        Ok(stream.messages().boxed())
    }

    async fn page_of_changes(
        &self,
        request: &proto::ListChangesRequest,
        access: &Access,
    ) -> Result<proto::ListChangesResponse, ApiError> {
        let params = decode::decode_changes(request)?;
        let start = self.registrar.change_start(params.start).await?;
        changes::page(&self.view(access, params.filter), start, params.page_size as usize).await
    }
}

/// What the caller may not see does not exist for it.
fn visible(found: Option<Registration>, access: &Access) -> Result<Registration, ApiError> {
    found.filter(|found| access.sees(&found.request.pair.case_id)).ok_or(ApiError::NotFound)
}

/// The first request for the pair may have named the document in another way.
fn replace_warning(registration: &mut proto::Registration, warning: Option<DocumentWarning>) {
    if let Some(warning) = warning {
        registration.warning = warning.to_string();
    }
}

#[tonic::async_trait]
impl RegistrarService for GrpcService {
    type WatchRegistrationStream =
        Pin<Box<dyn Stream<Item = Result<proto::WatchRegistrationResponse, Status>> + Send + 'static>>;
    type WatchChangesStream = Pin<Box<dyn Stream<Item = Result<proto::WatchChangesResponse, Status>> + Send + 'static>>;

    async fn register_document(
        &self,
        request: Request<proto::RegisterDocumentRequest>,
    ) -> Result<Response<proto::RegisterDocumentResponse>, Status> {
        let mut context = CallContext::from_request(&request)?;
        let registered = self.register(request.into_inner(), &mut context).await;
        let (registration, warning) = registered.map_err(|error| self.status(error, &context.access))?;
        let mut registration = self.encoder(&context.access).registration(&registration);
        replace_warning(&mut registration, warning);
        Ok(Response::new(proto::RegisterDocumentResponse { registration: Some(registration) }))
    }

    async fn register_documents(
        &self,
        request: Request<proto::RegisterDocumentsRequest>,
    ) -> Result<Response<proto::RegisterDocumentsResponse>, Status> {
        let mut context = CallContext::from_request(&request)?;
        let registered = self.register_all(request.into_inner(), &mut context).await;
        registered.map(Response::new).map_err(|error| self.status(error, &context.access))
    }

    async fn get_registration(
        &self,
        request: Request<proto::GetRegistrationRequest>,
    ) -> Result<Response<proto::GetRegistrationResponse>, Status> {
        let _turn = CallContext::turn(&request);
        let access = CallContext::from_request(&request)?.access;
        let found = self.get(request.into_inner(), &access).await.map_err(|error| self.status(error, &access))?;
        let registration = Some(self.encoder(&access).registration(&found));
        Ok(Response::new(proto::GetRegistrationResponse { registration }))
    }

    async fn list_registrations(
        &self,
        request: Request<proto::ListRegistrationsRequest>,
    ) -> Result<Response<proto::ListRegistrationsResponse>, Status> {
        let access = CallContext::from_request(&request)?.access;
        // Its turn is over: lists have places of their own.
        let request = request.into_inner();
        let page = self.pages.take_or_wait(&self.waiting_lists, access.caller_id(), PAGE_WAIT).await;
        let page = page.map_err(|NoPlace| self.status(ApiError::TooManyCalls(TooManyCalls::Pages), &access))?;
        let listed = self.list(request, &access).await.map_err(|error| self.status(error, &access))?;
        let mut response = Response::new(listed);
        response.extensions_mut().insert(HeldUntilSent::new(page));
        Ok(response)
    }

    async fn watch_registration(
        &self,
        request: Request<proto::WatchRegistrationRequest>,
    ) -> Result<Response<Self::WatchRegistrationStream>, Status> {
        let context = CallContext::from_request(&request)?;
        let updates = self.watch(request.get_ref(), &context).await;
        updates.map(Response::new).map_err(|error| self.status(error, &context.access))
    }

    async fn diagnose_registration(
        &self,
        request: Request<proto::DiagnoseRegistrationRequest>,
    ) -> Result<Response<proto::DiagnoseRegistrationResponse>, Status> {
        let CallContext { access, turn, .. } = CallContext::from_request(&request)?;
        let request = request.into_inner();
        let diagnosed = self.diagnose(&request.id, &access, turn).await;
        diagnosed.map(Response::new).map_err(|error| self.status(error, &access))
    }

    async fn verify_document(
        &self,
        request: Request<proto::VerifyDocumentRequest>,
    ) -> Result<Response<proto::VerifyDocumentResponse>, Status> {
        let access = CallContext::from_request(&request)?.access;
        // Its turn is over: it asks the chain.
        let request = request.into_inner();
        let verified = self.verify(&request, &access).await;
        verified.map(Response::new).map_err(|error| self.status(error, &access))
    }

    async fn watch_changes(
        &self,
        request: Request<proto::WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let context = CallContext::from_request(&request)?;
        let changes = self.open_changes(request.into_inner(), &context).await;
        changes.map(Response::new).map_err(|error| self.status(error, &context.access))
    }

    async fn list_changes(
        &self,
        request: Request<proto::ListChangesRequest>,
    ) -> Result<Response<proto::ListChangesResponse>, Status> {
        let access = CallContext::from_request(&request)?.access;
        // Its turn is over: pages have places of their own.
        let request = request.into_inner();
        let page = self.pages.take_or_wait(&self.waiting_lists, access.caller_id(), PAGE_WAIT).await;
        let page = page.map_err(|NoPlace| self.status(ApiError::TooManyCalls(TooManyCalls::Pages), &access))?;
        let listed = self.page_of_changes(&request, &access).await.map_err(|error| self.status(error, &access))?;
        let mut response = Response::new(listed);
        response.extensions_mut().insert(HeldUntilSent::new(page));
        Ok(response)
    }

    async fn get_certificate(
        &self,
        request: Request<proto::GetCertificateRequest>,
    ) -> Result<Response<proto::GetCertificateResponse>, Status> {
        let CallContext { access, turn, .. } = CallContext::from_request(&request)?;
        let issued = certificate::issue(&self.registrar, request.into_inner(), &access, turn).await;
        issued.map(Response::new).map_err(|error| self.status(error, &access))
    }

    async fn get_service_info(
        &self,
        request: Request<proto::GetServiceInfoRequest>,
    ) -> Result<Response<proto::GetServiceInfoResponse>, Status> {
        let access = CallContext::from_request(&request)?.access;
        // Its turn is over: it asks the chain.
        drop(request);
        Ok(Response::new(info::describe(&self.registrar, &access, self.settings.max_wait).await))
    }
}
