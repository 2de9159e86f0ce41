//! One process of the service, and the calls that it is accepting.

use super::{
    crash_injection::{CrashableService, ProcessLife},
    service::{self, ServiceConfig, ServiceHandle},
};
use crate::{
    chain::simulated::PairKey,
    registration::{CallerId, CallerQuota, NewRegistration, RegistrationId},
};
use std::sync::Arc;
use tokio::task::{JoinHandle, JoinSet};

/// A registration whose acceptance a caller has received.
pub(super) type Promise = (RegistrationId, PairKey);

/// A process that runs or is about to be restarted.
pub(super) struct Replica {
    pub(super) life: Arc<ProcessLife>,
    pub(super) handle: ServiceHandle,
    service: JoinHandle<Result<(), String>>,
    accepting: JoinSet<Vec<Promise>>,
}

impl Replica {
    /// Starts the service on the database as it is.
    pub(super) fn new(config: impl FnOnce(Arc<ProcessLife>, ServiceHandle) -> ServiceConfig) -> Self {
        let (life, handle) = (Arc::<ProcessLife>::default(), ServiceHandle::default());
        let service = tokio::task::spawn_local(CrashableService::new(
            &life,
            service::run_service(config(life.clone(), handle.clone())),
        ));
        Self { life, handle, service, accepting: JoinSet::new() }
    }

    /// A call that fails when the service crashes: nothing was promised to its caller then.
    pub(super) fn accept(&mut self, requests: Vec<NewRegistration>, keys: Vec<PairKey>) {
        let Some(registrar) = self.handle.registrar() else { return };
        self.accepting.spawn(async move {
            let caller = CallerId::of_connection(1);
            let accepted = registrar.accept_all(requests, caller, CallerQuota::default()).await.unwrap_or_default();
            accepted.iter().map(|accepted| accepted.registration.id).zip(keys).collect()
        });
    }

    /// The promises since the last call.
    pub(super) fn take_promises(&mut self) -> Vec<Promise> {
        std::iter::from_fn(|| self.accepting.try_join_next()).flat_map(Result::unwrap_or_default).collect()
    }

    /// Whether the process has crashed and all of its tasks are gone.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub(super) async fn has_crashed(&mut self) -> Result<bool, String> {
        if !self.service.is_finished() {
            return Ok(false);
        }
        let ended = (&mut self.service).await.map_err(|error| error.to_string())?;
        ended.map(|()| true).map_err(|error| format!("the service: {error}"))
    }

    /// Kills the process, and waits until none of its writes can still reach the database.
    pub(super) async fn kill(&mut self) {
        self.life.crash_after(0);
        self.service.abort();
        // It may have ended before.
        let _ = (&mut self.service).await;
        self.accepting.shutdown().await;
        if let Some(store) = self.life.store() {
            store.close_connections().await;
        }
    }

    /// Whether a call would be answered.
    pub(super) fn answers(&self) -> bool {
        !self.life.is_crashed() && !self.life.is_frozen()
    }

    /// A crashed or frozen process waits for nothing.
    pub(super) fn is_waiting_for_database(&self) -> bool {
        !self.life.is_crashed() && !self.life.is_frozen() && self.handle.is_waiting_for_database()
    }
}
