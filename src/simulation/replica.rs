//! One process of the service: its life, the door to it, and those who wait at the door.

use super::{
    crash_injection::{CrashableService, ProcessLife},
    service::{self, ServiceConfig, ServiceHandle},
};
use crate::{
    chain::simulated::PairKey,
    registration::{NewRegistration, RegistrationId},
};
use std::sync::Arc;
use tokio::task::{JoinHandle, JoinSet};

/// What somebody was told to be accepted.
pub(super) type Promise = (RegistrationId, PairKey);

/// One that runs, or is about to be started again.
pub(super) struct Replica {
    pub(super) life: Arc<ProcessLife>,
    pub(super) handle: ServiceHandle,
    service: JoinHandle<Result<(), String>>,
    accepting: JoinSet<Option<Promise>>,
}

impl Replica {
    /// Starts it on what is on disk.
    pub(super) fn new(plan: impl FnOnce(Arc<ProcessLife>, ServiceHandle) -> ServiceConfig) -> Self {
        let (life, door) = (Arc::<ProcessLife>::default(), ServiceHandle::default());
        let service = tokio::task::spawn_local(CrashableService::new(
            &life,
            service::run_service(plan(life.clone(), door.clone())),
        ));
        Self { life, handle: door, service, accepting: JoinSet::new() }
    }

    /// A caller who hangs up when the service dies, and was promised nothing then.
    pub(super) fn accept(&mut self, asked: NewRegistration, key: PairKey) {
        let Some(registrar) = self.handle.registrar() else { return };
        self.accepting.spawn(async move { Some((registrar.accept(asked).await.ok()?.registration.id, key)) });
    }

    /// What was promised since the last look.
    pub(super) fn take_promises(&mut self) -> Vec<Promise> {
        std::iter::from_fn(|| self.accepting.try_join_next()).filter_map(|accepted| accepted.ok().flatten()).collect()
    }

    /// Whether it has died, and nothing else is left of it.
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

    /// Kills it, and waits until nothing that it had on its way to the database can still arrive.
    pub(super) async fn kill(&mut self) {
        self.life.crash_after(0);
        self.service.abort();
        // It is gone, whether it ended by this or before.
        let _ = (&mut self.service).await;
        self.accepting.shutdown().await;
        if let Some(store) = self.life.store() {
            store.close_connections().await;
        }
    }

    /// Whether it waits for its database. One that does not go on waits for nothing.
    pub(super) fn is_waiting_for_database(&self) -> bool {
        !self.life.is_crashed() && !self.life.is_frozen() && self.handle.is_waiting_for_database()
    }
}
