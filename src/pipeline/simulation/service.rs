//! The service as `app` starts it, without its gRPC server, its gauges and its signals.

use super::crash_injection::{CrashableTask, ProcessLife};
use crate::{
    chain::{Backoff, Chain, Signer, VerifyError},
    clock,
    pipeline::{self, Context, Follower, LeaseLoop, Registrar, Settings},
    store::{self, AcceptHandle, OpenError, Registry, Store},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// How often a start looks at its database before it gives up.
const MAX_START_ATTEMPTS: u32 = 5;

/// Everything that a start is given.
#[derive(Clone)]
pub(super) struct ServiceConfig {
    pub(super) chain: Chain,
    pub(super) signers: Vec<Signer>,
    pub(super) pipeline: Settings,
    pub(super) store: store::Settings,
    pub(super) life: Arc<ProcessLife>,
    pub(super) handle: ServiceHandle,
}

/// How far the service has come, and where it can be spoken to.
#[derive(Clone, Default)]
pub(super) struct ServiceHandle(Arc<Mutex<StartPhase>>);

#[derive(Default)]
enum StartPhase {
    /// It asks the nodes which chain they are on, and has nothing else.
    #[default]
    VerifyingChain,
    /// It opens its database.
    OpeningDatabase,
    Serving(Box<Registrar>, Store),
}

impl ServiceHandle {
    fn phase(&self) -> MutexGuard<'_, StartPhase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn registrar(&self) -> Option<Registrar> {
        match &*self.phase() {
            StartPhase::VerifyingChain | StartPhase::OpeningDatabase => None,
            StartPhase::Serving(registrar, _) => Some(Registrar::clone(registrar)),
        }
    }

    /// Whether the service waits for its database.
    pub(super) fn is_waiting_for_database(&self) -> bool {
        match &*self.phase() {
            StartPhase::VerifyingChain => false,
            StartPhase::OpeningDatabase => true,
            StartPhase::Serving(_, store) => !store.is_idle(),
        }
    }
}

/// Runs until its life is over.
///
/// # Errors
/// When it cannot start, and another try would not help.
pub(super) async fn run_service(plan: ServiceConfig) -> Result<(), String> {
    let ServiceConfig { chain, signers, pipeline, store, life, handle: door } = plan;
    let registry = verify_chain(&chain).await?;
    let stop = CancellationToken::new();
    let mut parts = FuturesUnordered::<CrashableTask>::new();
    let (watched, never) = (chain.clone(), stop.clone());
    parts.push(CrashableTask::new(&life, async move { watched.run_probes(&never).await }));
    *door.phase() = StartPhase::OpeningDatabase;
    let store = open_store(&store, pipeline.queue_limit).await?;
    life.set_store(store.clone());
    check_store(&store, &registry, &signers).await?;
    let tools = Context::new(chain, store.clone(), pipeline, 100);

    let (acceptor, intake) = AcceptHandle::new(store.clone());
    let addresses = signers.iter().map(Signer::address).collect();
    let told = tools.clone();
    parts.push(CrashableTask::new(&life, intake.run(stop.clone(), move || told.notify_queued())));
    parts.push(CrashableTask::new(&life, Follower::new(tools.clone()).run(stop.clone())));
    parts.push(CrashableTask::new(&life, pipeline::Pruner::new(tools.clone()).run(stop.clone())));
    parts.push(CrashableTask::new(&life, pipeline::ReplicaSync::new(tools.clone()).run(stop.clone())));
    parts.push(CrashableTask::new(&life, LeaseLoop::for_foreign_blocks(tools.clone()).run(stop.clone())));
    for signer in signers {
        parts.push(CrashableTask::new(&life, LeaseLoop::for_signer(tools.clone(), signer).run(stop.clone())));
    }
    *door.phase() = StartPhase::Serving(Registrar::new(tools, acceptor, addresses).into(), store);
    match parts.next().await {
        Some(()) | None => Err("a part of the service ended by itself".to_owned()),
    }
}

/// As long as it takes an endpoint to answer: whoever runs a service starts it again when it gives up.
async fn verify_chain(chain: &Chain) -> Result<Registry, String> {
    let mut delays = Backoff::new();
    loop {
        match chain.verify_identity().await {
            Ok(proof) => {
                return Ok(Registry {
                    chain_id: chain.network().chain_id,
                    genesis_hash: proof.genesis_hash,
                    contract: chain.contract(),
                    deploy_block_number: proof.deploy_block.number,
                    deploy_block_hash: proof.deploy_block.hash,
                });
            }
            Err(VerifyError::Call(_)) => tokio::time::sleep(delays.next_delay()).await,
            Err(VerifyError::Mismatch(wrong)) => return Err(wrong.to_string()),
        }
    }
}

/// What a service that has just died held open is freed by its last tasks; and on a busy machine SQLite's threads may take longer than
/// the story's time, so that a connection is waited for in vain. Whoever runs a service starts it again then.
async fn open_store(settings: &store::Settings, queue_limit: u64) -> Result<Store, String> {
    loop {
        match Store::open(settings, queue_limit).await {
            Err(OpenError::InUse(_) | OpenError::Store(_)) => tokio::task::yield_now().await,
            Err(error) if error.is_transient() => tokio::task::yield_now().await,
            opened => return opened.map_err(|error| error.to_string()),
        }
    }
}

/// Whether the database is this chain's, and has work for these signers alone.
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
