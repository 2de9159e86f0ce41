//! The operations of the API: accept, read, wait, diagnose, verify.

use super::{Context, Subscription, waiters::TooManyWaiters};
use crate::{
    chain::{BlockTag, CallError, Header, Network},
    registration::{Diagnosis, Finality, NewRegistration, Pair, Registration, RegistrationId, Timestamp},
    store::{AcceptError, AcceptHandle, Accepted, Filter, StoreError},
    telemetry::{events, spans},
};
use alloy::primitives::{Address, B256};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The pipeline as the API uses it.
#[derive(Clone, Debug)]
pub struct Registrar {
    context: Context,
    acceptor: AcceptHandle,
    signers: Vec<Address>,
}

/// The record of a pair on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnChainRegistration {
    /// The account that registered it.
    pub registrar: Address,
    /// `None` if the node has the record but not its event.
    pub transaction: Option<B256>,
    /// The block's number.
    pub block_number: u64,
    /// The block's hash and time.
    pub block: Option<(B256, Timestamp)>,
    /// The block itself counts as 1.
    pub confirmations: u64,
    /// How final the block is.
    pub finality: Finality,
}

/// `None` if the pair is not on chain.
pub type Verified = Option<OnChainRegistration>;

impl Registrar {
    /// From the shared context.
    pub fn new(tools: Context, acceptor: AcceptHandle, signers: Vec<Address>) -> Self {
        Self { context: tools, acceptor, signers }
    }

    /// Stores the registration, or returns the one with the same pair.
    ///
    /// # Errors
    /// When nothing was accepted.
    pub async fn accept(&self, asked: NewRegistration) -> Result<Accepted, AcceptError> {
        let accepted = self.acceptor.accept(asked).await?;
        let registration = &accepted.registration;
        spans::annotate_registration(registration, accepted.is_new);
        events::registration_accepted(registration.id, registration.request.trace.trace_id, accepted.is_new);
        Ok(accepted)
    }

    /// A slot to wait in.
    ///
    /// # Errors
    /// When none is free.
    pub fn acquire_slot(&self) -> Result<OwnedSemaphorePermit, TooManyWaiters> {
        self.context.waiters.acquire_slot()
    }

    /// Every change of a registration from now on.
    pub fn subscribe(&self, id: RegistrationId, place: OwnedSemaphorePermit) -> Subscription {
        self.context.waiters.subscribe(id, place)
    }

    /// One registration by its id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
        self.context.store.get(id).await
    }

    /// One registration by its pair.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find(&self, pair: &Pair) -> Result<Option<Registration>, StoreError> {
        self.context.store.find_by_pair(pair).await
    }

    /// A page of registrations, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        filter: &Filter,
        before: Option<RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        self.context.store.list(filter, before, limit).await
    }

    /// Why a registration is not confirmed, from observations made now; `None` if it is confirmed or failed. They are
    /// made at most every two seconds, and once for all registrations of a transaction.
    pub async fn diagnose(&self, registration: &Registration) -> Option<Diagnosis> {
        self.context.diagnose_registration(registration, &self.signers).await
    }

    /// Reads the chain, not the store.
    ///
    /// # Errors
    /// When no endpoint responds.
    pub async fn verify(&self, pair: &Pair) -> Result<Verified, CallError> {
        let chain = &self.context.chain;
        let records = chain.records(std::slice::from_ref(pair)).await?;
        let Some(record) = records.into_iter().next().flatten() else { return Ok(None) };
        let (original, head, safe, finalized) = tokio::try_join!(
            chain.find_registration(pair, record),
            chain.head(),
            chain.header(BlockTag::Safe),
            chain.header(BlockTag::Finalized),
        )?;
        let at_or_below = |head: Option<Header>| head.is_some_and(|head| record.block_number <= head.block.number);
        let finality = match (at_or_below(finalized), at_or_below(safe)) {
            (true, _) => Finality::Finalized,
            (false, true) => Finality::Safe,
            (false, false) => Finality::Unsafe,
        };
        Ok(Some(OnChainRegistration {
            registrar: record.registrar,
            transaction: original.map(|original| original.transaction),
            block_number: record.block_number,
            block: original.map(|original| (original.block.hash, original.block.time)),
            confirmations: (head.block.number + 1).saturating_sub(record.block_number),
            finality,
        }))
    }

    /// Whether an endpoint is usable now.
    pub fn is_chain_healthy(&self) -> bool {
        self.context.chain.is_healthy()
    }

    /// Whether the store is available now.
    pub async fn is_store_usable(&self) -> bool {
        self.context.store.is_usable().await
    }

    /// The head as last seen.
    pub fn head(&self) -> Option<Header> {
        self.context.head()
    }

    /// The network.
    pub fn network(&self) -> &Network {
        self.context.chain.network()
    }

    /// The DocumentRegistry.
    pub fn contract(&self) -> Address {
        self.context.chain.contract()
    }

    /// The addresses of all signers.
    pub fn signers(&self) -> &[Address] {
        &self.signers
    }

    /// The confirmation depth.
    pub fn confirmations(&self) -> u64 {
        self.context.settings.confirmations
    }

    /// From submission to confirmation, before a registration is diagnosed and reported.
    pub fn confirmation_timeout(&self) -> Duration {
        self.context.settings.confirmation_timeout
    }
}
