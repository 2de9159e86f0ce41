//! The service as `app` starts it, without its gRPC server and its signal handlers.

use super::crash_injection::{CrashableTask, ProcessLife};
use crate::{
    chain::{Backoff, Chain, Signer, VerifyError},
    clock,
    pipeline::{self, Pipeline, Registrar, Settings},
    store::{self, AcceptHandle, OpenError, Registry, Store},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Attempts to read the database at startup.
const MAX_START_ATTEMPTS: u32 = 5;

#[derive(Clone)]
pub(super) struct ServiceConfig {
    pub(super) chain: Chain,
    pub(super) signers: Vec<Signer>,
    pub(super) pipeline: Settings,
    pub(super) store: store::Settings,
    pub(super) life: Arc<ProcessLife>,
    pub(super) handle: ServiceHandle,
}

/// How far startup has come, and the API once it serves.
#[derive(Clone, Default)]
pub(super) struct ServiceHandle(Arc<Mutex<StartPhase>>);

#[derive(Default)]
enum StartPhase {
    #[default]
    VerifyingChain,
    OpeningDatabase,
    Serving(Box<Registrar>, Store),
}

impl ServiceHandle {
    fn phase(&self) -> MutexGuard<'_, StartPhase> {
        self.0.lock()
    }

    pub(super) fn registrar(&self) -> Option<Registrar> {
        match &*self.phase() {
            StartPhase::VerifyingChain | StartPhase::OpeningDatabase => None,
            StartPhase::Serving(registrar, _) => Some(Registrar::clone(registrar)),
        }
    }

    pub(super) fn is_waiting_for_database(&self) -> bool {
        match &*self.phase() {
            StartPhase::VerifyingChain => false,
            StartPhase::OpeningDatabase => true,
            StartPhase::Serving(_, store) => !store.is_idle(),
        }
    }
}

/// Runs until the process crashes.
///
/// # Errors
/// When it cannot start and a restart would not help.
pub(super) async fn run_service(config: ServiceConfig) -> Result<(), String> {
    let ServiceConfig { chain, signers, pipeline, store, life, handle } = config;
    let registry = verify_chain(&chain).await?;
    let stop = CancellationToken::new();
    let mut tasks = FuturesUnordered::<CrashableTask>::new();
    let (probed, never) = (chain.clone(), stop.clone());
    tasks.push(CrashableTask::new(&life, async move { probed.run_probes(&never).await }));
    *handle.phase() = StartPhase::OpeningDatabase;
    let store = open_store(&store, pipeline.queue_limit).await?;
    life.set_store(store.clone());
    check_store(&store, &registry, &signers).await?;
    let pipeline = Pipeline::new(chain, store.clone(), pipeline, 100);
    let (accept_handle, accept_writer) = AcceptHandle::new(store.clone());
    let registrar = pipeline.registrar(accept_handle, signers.iter().map(Signer::address).collect());
    tasks.push(CrashableTask::new(&life, accept_writer.run(stop.clone(), pipeline.on_accepted())));
    let unfinalized = store.signers_with_unfinalized().await.map_err(|error| error.to_string())?;
    let workers = pipeline.workers(signers, unfinalized, &stop);
    tasks.extend(workers.into_iter().map(|worker| CrashableTask::new(&life, worker)));
    *handle.phase() = StartPhase::Serving(registrar.into(), store);
    match tasks.next().await {
        Some(()) | None => Err("a part of the service ended by itself".to_owned()),
    }
}

/// Retries until an endpoint answers, as a supervisor would restart the service.
async fn verify_chain(chain: &Chain) -> Result<Registry, String> {
    let mut backoff = Backoff::new();
    loop {
        match chain.verify_identity().await {
            Ok(identity) => {
                return Ok(Registry {
                    chain_id: chain.network().chain_id,
                    genesis_hash: identity.genesis_hash,
                    contract: chain.contract(),
                    deploy_block_number: identity.deploy_block.number,
                    deploy_block_hash: identity.deploy_block.hash,
                });
            }
            Err(VerifyError::Call(_)) => tokio::time::sleep(backoff.next_delay()).await,
            Err(VerifyError::Mismatch(wrong)) => return Err(wrong.to_string()),
        }
    }
}

/// Retries as a supervisor would: the tasks of a crashed process may still hold the file, and on a busy machine
/// SQLite's threads may take longer than the scenario's clock allows a connection.
async fn open_store(settings: &store::Settings, queue_limit: u64) -> Result<Store, String> {
    loop {
        match Store::open(settings, queue_limit).await {
            Err(OpenError::InUse(_) | OpenError::Store(_)) => tokio::task::yield_now().await,
            Err(error) if error.is_transient() => tokio::task::yield_now().await,
            opened => return opened.map_err(|error| error.to_string()),
        }
    }
}

/// The startup checks of `app`: the database belongs to this registry, and no other signer has open transactions.
async fn check_store(store: &Store, registry: &Registry, signers: &[Signer]) -> Result<(), String> {
    let mut failed = String::new();
    for _ in 0..MAX_START_ATTEMPTS {
        let bound = store.bind_registry(registry, clock::now()).await.map_err(|error| error.to_string());
        let checked = pipeline::check_signer_keys(store, signers).await.map_err(|error| error.to_string());
        match bound.and(checked) {
            Ok(()) => return Ok(()),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
