//! The operations of the API: accept, read, wait, diagnose, verify.

use super::{
    admission::{Admission, Admitted},
    certifier::{CertificateError, Certifier, IssuedCertificate},
    change_feed::{ChangeFeed, ChangeReader, ChangeStart, FeedError},
    diagnoser::Diagnoser,
    head::HeadWatch,
    overview::{Overview, OverviewReader, PendingOverview},
    places::Place,
    queue::Queue,
    service_status::{QueueStatus, ServiceStatus},
    settings::Settings,
    verifier::{VerificationError, Verified, Verifier},
    waiters::{Subscription, TooManyWaiters, Waiters},
};
use crate::{
    chain::{Chain, Header, Network},
    registration::{
        CallerId, CallerQuota, Diagnosis, Finality, NewRegistration, Pair, Registration, RegistrationId, State,
        diagnosis::EndpointSnapshot,
    },
    store::{
        AcceptError, AcceptHandle, Accepted, ChangeCursor, ChangePage, Filter, PageSize, Store, StoreError, WaitsFor,
    },
    telemetry::{events, spans},
};
use alloy::primitives::{Address, U256};
use std::{sync::Arc, time::Duration};

/// The pipeline as the API uses it.
#[derive(Clone, Debug)]
pub struct Registrar {
    pub(super) chain: Chain,
    pub(super) store: Store,
    pub(super) settings: Arc<Settings>,
    pub(super) head: HeadWatch,
    pub(super) waiters: Waiters,
    pub(super) change_feed: ChangeFeed,
    pub(super) diagnoser: Diagnoser,
    pub(super) verifier: Verifier,
    pub(super) certifier: Certifier,
    pub(super) status: ServiceStatus,
    pub(super) overview: OverviewReader,
    pub(super) accept_handle: AcceptHandle,
    pub(super) admission: Admission,
    pub(super) queue: Queue,
    pub(super) signers: Vec<Address>,
}

impl Registrar {
    /// Stores the registration, or returns the one with the same pair.
    ///
    /// # Errors
    /// When nothing was accepted.
    pub async fn accept(
        &self,
        asked: NewRegistration,
        caller: CallerId,
        quota: CallerQuota,
    ) -> Result<Accepted, AcceptError> {
        let accepted = self.accept_within_share(vec![asked], caller, quota).await?.pop();
        let accepted = accepted.ok_or(StoreError::Conflict)?;
        spans::annotate_registration(&accepted.registration, accepted.is_new);
        Ok(accepted)
    }

    /// Stores all of the registrations in one commit, or none; returns those with the same pairs where there are any.
    ///
    /// # Errors
    /// When nothing was accepted.
    pub async fn accept_all(
        &self,
        asked: Vec<NewRegistration>,
        caller: CallerId,
        quota: CallerQuota,
    ) -> Result<Vec<Accepted>, AcceptError> {
        let accepted = self.accept_within_share(asked, caller, quota).await?;
        let new = accepted.iter().filter(|accepted| accepted.is_new).count();
        let user = accepted.first().and_then(|accepted| accepted.registration.request.user_id.as_ref());
        spans::annotate_batch_call(accepted.len(), new, user);
        Ok(accepted)
    }

    async fn accept_within_share(
        &self,
        asked: Vec<NewRegistration>,
        caller: CallerId,
        quota: CallerQuota,
    ) -> Result<Vec<Accepted>, AcceptError> {
        let admitted = match self.admission.admit(caller, asked.len() as u64, self.store.unfinished_count()) {
            Some(admitted) => Some(admitted),
            None => self.admit_new(&asked, caller).await?,
        };
        let accepted = self.accept_handle.accept_all(asked, quota).await;
        let ids = |accepted: &Vec<Accepted>| {
            accepted.iter().filter(|one| one.is_new).map(|one| one.registration.id).collect::<Vec<_>>()
        };
        let new = accepted.as_ref().map(ids).unwrap_or_default();
        if let Some(admitted) = admitted {
            admitted.keep(new.len() as u64);
        }
        self.queue.record(caller, new);
        for Accepted { registration, is_new } in accepted.iter().flatten() {
            events::registration_accepted(registration.id, registration.request.trace.trace_id, *is_new);
        }
        accepted
    }

    /// A pair that is in the database needs no room in the queue, unless it has failed. `None` if none needs it.
    async fn admit_new(&self, asked: &[NewRegistration], caller: CallerId) -> Result<Option<Admitted>, AcceptError> {
        let pairs: Vec<_> = asked.iter().map(|asked| &asked.pair).collect();
        let found = self.store.find_by_pairs(&pairs).await?;
        let needs_none = |pair: &&&Pair| found.get(**pair).is_some_and(|found| found.state != State::Failed);
        let new = (pairs.len() - pairs.iter().filter(needs_none).count()) as u64;
        if new == 0 {
            return Ok(None);
        }
        let admitted = self.admission.admit(caller, new, self.store.unfinished_count());
        admitted.map(Some).ok_or(AcceptError::QueueFull { limit: self.settings.queue_limit })
    }

    /// A slot to wait in.
    ///
    /// # Errors
    /// When none is free, or the caller holds its share, or `max_waiting`.
    pub fn acquire_slot(&self, caller: CallerId, max_waiting: Option<u64>) -> Result<Place, TooManyWaiters> {
        self.waiters.acquire_slot(caller, max_waiting)
    }

    /// Every change of a registration from now on.
    pub fn subscribe(&self, id: RegistrationId, slot: Place) -> Subscription {
        self.waiters.subscribe(id, slot)
    }

    /// Where a reader of the change feed starts.
    ///
    /// # Errors
    /// When the cursor is of another database, or the store cannot be read.
    pub async fn change_start(&self, start: ChangeStart) -> Result<ChangeCursor, FeedError> {
        self.change_feed.start(start).await
    }

    /// Every change after this one, for ever.
    pub fn read_changes(&self, after: ChangeCursor, slot: Place) -> ChangeReader {
        ChangeReader::new(self.change_feed.clone(), after, slot)
    }

    /// A page of changes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list_changes(&self, after: &ChangeCursor, size: PageSize) -> Result<ChangePage, StoreError> {
        self.store.changes_after(after.position, size, WaitsFor::ThisDatabase).await
    }

    /// Whether a change after this one is committed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn has_changes_after(&self, after: &ChangeCursor) -> Result<bool, StoreError> {
        self.store.has_changes_after(after.position).await
    }

    /// One registration by its id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
        self.store.get(id).await
    }

    /// One registration by its pair.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find(&self, pair: &Pair) -> Result<Option<Registration>, StoreError> {
        self.store.find_by_pair(pair).await
    }

    /// A page of registrations, which come after this one in the filter's order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        self.store.list(filter, after, limit).await
    }

    /// Why a registration is not confirmed, from observations made now; `None` if it is confirmed or failed. They are
    /// made at most every two seconds, and once for all registrations of a transaction.
    pub async fn diagnose(&self, registration: &Registration) -> Option<Diagnosis> {
        self.diagnoser.diagnose_registration(registration, &self.signers).await
    }

    /// Reads the chain, not the store.
    ///
    /// # Errors
    /// When no endpoint responds, or too many callers wait.
    pub async fn verify(&self, pair: &Pair) -> Result<Verified, VerificationError> {
        self.verifier.verify(pair).await
    }

    /// A file that proves the pair's record, at a block with at least this finality.
    ///
    /// # Errors
    /// When the pair is not on chain, no such block is final enough, no endpoint proves it, or too many callers wait.
    pub async fn certify(&self, pair: &Pair, min: Finality) -> Result<IssuedCertificate, CertificateError> {
        self.certifier.certify(pair, min).await
    }

    /// The queue of all replicas.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn queue_status(&self) -> Result<QueueStatus, StoreError> {
        self.status.queue().await
    }

    /// How the service is doing, at most a second ago.
    pub(crate) async fn overview(&self) -> Arc<Overview> {
        self.overview.get().await
    }

    /// The transaction with this nonce, if it is pending and this replica sends for its signer.
    pub(crate) fn pending_transaction(&self, signer: Address, nonce: u64) -> Option<PendingOverview> {
        self.overview.pending(signer, nonce)
    }

    /// All endpoints, usable ones first.
    pub fn endpoints(&self) -> Vec<EndpointSnapshot> {
        self.status.endpoints()
    }

    /// The signers' balances in wei; `None` for one that cannot be read now.
    pub async fn balances(&self) -> Vec<(Address, Option<U256>)> {
        let balances = self.status.balances(&self.signers).await;
        self.signers.iter().copied().zip(balances).collect()
    }

    /// Whether an endpoint is usable now.
    pub fn is_chain_healthy(&self) -> bool {
        self.chain.is_healthy()
    }

    /// Whether the store is available now.
    pub async fn is_store_usable(&self) -> bool {
        self.store.is_usable().await
    }

    /// The head as last seen.
    pub fn head(&self) -> Option<Header> {
        self.head.header()
    }

    /// The network.
    pub fn network(&self) -> &Network {
        self.chain.network()
    }

    /// The DocumentRegistry.
    pub fn contract(&self) -> Address {
        self.chain.contract()
    }

    /// The addresses of all signers.
    pub fn signers(&self) -> &[Address] {
        &self.signers
    }

    /// The confirmation depth.
    pub fn confirmations(&self) -> u64 {
        self.settings.confirmations
    }

    /// In the queue, before a registration is diagnosed and reported.
    pub fn queue_timeout(&self) -> Duration {
        self.settings.queue_timeout
    }

    /// From submission to confirmation, before a registration is diagnosed and reported.
    pub fn confirmation_timeout(&self) -> Duration {
        self.settings.confirmation_timeout
    }
}
