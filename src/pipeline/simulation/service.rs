//! The service as `app` starts it, without its gRPC server, its gauges and its signals.

use super::life::{Life, Part};
use crate::{
    chain::{Chain, Delays, ProveError, Signer},
    clock,
    pipeline::{self, Follower, Registrar, Settings, Tenure, Tools},
    store::{self, Acceptor, OpenError, Registry, Store},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How often a start looks at its database before it gives up.
const STARTS: u32 = 5;

/// Everything that a start is given.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) chain: Chain,
    pub(super) signers: Vec<Signer>,
    pub(super) pipeline: Settings,
    pub(super) store: store::Settings,
    pub(super) life: Arc<Life>,
    pub(super) door: Door,
}

/// How far the service has come, and where it can be spoken to.
#[derive(Clone, Default)]
pub(super) struct Door(Arc<Mutex<Stage>>);

#[derive(Default)]
enum Stage {
    /// It asks the nodes which chain they are on, and has nothing else.
    #[default]
    Begins,
    /// It opens its database.
    Opens,
    Serves(Box<Registrar>, Store),
}

impl Door {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn registrar(&self) -> Option<Registrar> {
        match &*self.stage() {
            Stage::Begins | Stage::Opens => None,
            Stage::Serves(registrar, _) => Some(Registrar::clone(registrar)),
        }
    }

    /// Whether the service waits for its database.
    pub(super) fn waits_for_database(&self) -> bool {
        match &*self.stage() {
            Stage::Begins => false,
            Stage::Opens => true,
            Stage::Serves(_, store) => !store.is_idle(),
        }
    }
}

/// Runs until its life is over.
///
/// # Errors
/// When it cannot start, and another try would not help.
pub(super) async fn serve(plan: Plan) -> Result<(), String> {
    let Plan { chain, signers, pipeline, store, life, door } = plan;
    let registry = prove(&chain).await?;
    let stop = CancellationToken::new();
    let mut parts = FuturesUnordered::<Part>::new();
    let (watched, never) = (chain.clone(), stop.clone());
    parts.push(Part::new(&life, async move { watched.watch(&never).await }));
    *door.stage() = Stage::Opens;
    let store = open(&store, pipeline.queue_limit).await?;
    life.uses(store.clone());
    look_at(&store, &registry, &signers).await?;
    let tools = Tools::new(chain, store.clone(), pipeline, 100);

    let (acceptor, intake) = Acceptor::new(store.clone());
    let addresses = signers.iter().map(Signer::address).collect();
    let told = tools.clone();
    parts.push(Part::new(&life, intake.run(stop.clone(), move || told.queued())));
    parts.push(Part::new(&life, Follower::new(tools.clone()).run(stop.clone())));
    parts.push(Part::new(&life, pipeline::Housekeeping::new(tools.clone()).run(stop.clone())));
    parts.push(Part::new(&life, pipeline::Exchange::new(tools.clone()).run(stop.clone())));
    parts.push(Part::new(&life, Tenure::of_strangers(tools.clone()).run(stop.clone())));
    for signer in signers {
        parts.push(Part::new(&life, Tenure::of(tools.clone(), signer).run(stop.clone())));
    }
    *door.stage() = Stage::Serves(Registrar::new(tools, acceptor, addresses).into(), store);
    match parts.next().await {
        Some(()) | None => Err("a part of the service ended by itself".to_owned()),
    }
}

/// As long as it takes an endpoint to answer: whoever runs a service starts it again when it gives up.
async fn prove(chain: &Chain) -> Result<Registry, String> {
    let mut delays = Delays::up_to(Duration::from_secs(2));
    loop {
        match chain.prove().await {
            Ok(proof) => {
                return Ok(Registry {
                    chain_id: chain.network().chain_id,
                    genesis_hash: proof.genesis_hash,
                    contract: chain.contract(),
                    deploy_block_number: proof.deploy_block.number,
                    deploy_block_hash: proof.deploy_block.hash,
                });
            }
            Err(ProveError::Call(_)) => tokio::time::sleep(delays.next_delay()).await,
            Err(ProveError::Wrong(wrong)) => return Err(wrong.to_string()),
        }
    }
}

/// What a service that has just died held open is freed by its last tasks; and on a busy machine SQLite's threads may take longer than
/// the story's time, so that a connection is waited for in vain. Whoever runs a service starts it again then.
async fn open(settings: &store::Settings, queue_limit: u64) -> Result<Store, String> {
    loop {
        match Store::open(settings, queue_limit).await {
            Err(OpenError::InUse(_) | OpenError::Store(_)) => tokio::task::yield_now().await,
            Err(error) if error.may_pass() => tokio::task::yield_now().await,
            opened => return opened.map_err(|error| error.to_string()),
        }
    }
}

/// Whether the database is this chain's, and has work for these signers alone.
async fn look_at(store: &Store, registry: &Registry, signers: &[Signer]) -> Result<(), String> {
    let mut failed = String::new();
    for _ in 0..STARTS {
        let bound = store.bind(registry, clock::now()).await.map_err(|error| error.to_string());
        let checked = pipeline::check_keys(store, signers).await.map_err(|error| error.to_string());
        match bound.and(checked) {
            Ok(()) => return Ok(()),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
