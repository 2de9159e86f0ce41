//! Looking up one registration for its page: shared for a second, so that many open pages cost one query.

use super::registration::Found;
use crate::{
    clock,
    pipeline::{Registrar, StoreError},
    registration::{Diagnosis, Registration, RegistrationId, State},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, Semaphore},
    time::{Instant, timeout},
};

const FOUND_TTL: Duration = Duration::from_secs(1);
/// More open pages of different registrations are read each time.
const MAX_CACHED: usize = 64;
/// A diagnosis asks endpoints: what is not known after this is shown at the next refresh.
const DIAGNOSIS_WAIT: Duration = Duration::from_millis(40);
/// A registration that is on its way is not asked about.
const MIN_DIAGNOSED_AGE: Duration = Duration::from_secs(3);
const MAX_DIAGNOSES: usize = 4;
/// What the database does not answer in this time is an error.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_millis(500);

/// What was found, and when.
type Read = (Instant, Arc<Found>);

#[derive(Clone)]
pub(super) struct Lookup {
    cached: Arc<Mutex<HashMap<RegistrationId, Read>>>,
    diagnoses: Arc<Semaphore>,
}

/// Why there is no registration to show.
#[derive(Debug)]
pub(super) enum LookupError {
    Unknown,
    Store(StoreError),
    /// The database did not answer in time.
    Timeout,
}

impl Lookup {
    pub(super) fn new() -> Self {
        Self { cached: Arc::default(), diagnoses: Arc::new(Semaphore::new(MAX_DIAGNOSES)) }
    }

    pub(super) async fn get(&self, registrar: &Registrar, id: RegistrationId) -> Result<Arc<Found>, LookupError> {
        // Those that come meanwhile wait for this reading.
        let mut cached = self.cached.lock().await;
        cached.retain(|_, (read_at, _)| read_at.elapsed() < FOUND_TTL);
        if let Some((_, found)) = cached.get(&id) {
            return Ok(found.clone());
        }
        let read = timeout(QUERY_TIMEOUT, registrar.get(id)).await.map_err(|_| LookupError::Timeout)?;
        let registration = read.map_err(LookupError::Store)?.ok_or(LookupError::Unknown)?;
        let found = Arc::new(self.complete(registrar, registration).await);
        if cached.len() < MAX_CACHED {
            cached.insert(id, (Instant::now(), found.clone()));
        }
        Ok(found)
    }

    async fn complete(&self, registrar: &Registrar, registration: Registration) -> Found {
        let at = clock::now();
        let transaction = registration.transaction.as_ref();
        let own = transaction.and_then(|transaction| Some((transaction.from, transaction.own.as_ref()?.nonce)));
        let pending = own.and_then(|(signer, nonce)| registrar.pending_transaction(signer, nonce));
        let is_finished = matches!(registration.state, State::Confirmed | State::Failed);
        let is_diagnosed = !is_finished && at.since(registration.times.created) >= MIN_DIAGNOSED_AGE;
        let made = if is_diagnosed { self.diagnose(registrar, &registration).await } else { None };
        let diagnosis = made.or_else(|| registration.diagnosis.clone());
        Found { registration, at, pending, diagnosis, is_diagnosing: is_diagnosed }
    }

    /// `None` if it takes longer: it is made nevertheless, and kept by the pipeline for the next refresh.
    async fn diagnose(&self, registrar: &Registrar, registration: &Registration) -> Option<Diagnosis> {
        let place = self.diagnoses.clone().try_acquire_owned().ok()?;
        let (registrar, registration) = (registrar.clone(), registration.clone());
        let made = tokio::spawn(async move {
            let _place = place;
            registrar.diagnose(&registration).await
        });
        timeout(DIAGNOSIS_WAIT, made).await.ok()?.ok()?
    }
}
