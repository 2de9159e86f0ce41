//! Builds the rooms, spawns, drains in order; no logic.

mod retry;
mod startup_log;

use crate::{
    api,
    chain::{self, Chain, ChainIdentity, DeployError, Signer, VerifyError},
    clock,
    config::{DeploySettings, Settings},
    pipeline::{self, Pipeline, ResumeError},
    store::{AcceptHandle, OpenError, Registry, Store, StoreError},
    telemetry::{metrics, redact},
};
use alloy::primitives::Address;
use futures_util::future::join_all;
use retry::retry_until_ready;
use startup_log::StartupInfo;
use std::{io::ErrorKind, net::SocketAddr, time::Duration};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How long a start waits to hear how the signers stand: it is to serve within two seconds.
const SIGNER_CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Closing the database takes a moment at least.
const MIN_STORE_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the service listens, once it does.
#[derive(Clone, Copy, Debug)]
pub struct BoundAddrs {
    /// gRPC.
    pub grpc: SocketAddr,
    /// HTTP, for metrics and health.
    pub admin: SocketAddr,
}

/// Why the service did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The chain is another one, or nobody answers.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The database cannot be opened.
    #[error(transparent)]
    OpenStore(#[from] OpenError),
    /// The unfinished work cannot be taken up.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port cannot be opened.
    #[error("{setting}: {address} cannot be listened on: {kind}; give another")]
    Bind {
        /// The setting's name.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        kind: ErrorKind,
    },
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] api::ServeError),
    /// The TLS stack cannot be set up.
    #[error(transparent)]
    Setup(#[from] chain::SetupError),
    /// The contract was not deployed.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// Something that should run for ever did not.
    #[error(
        "a part of the service ended by itself, and the log says why; what was accepted is on disk and goes on with the next start"
    )]
    TaskExited,
}

impl Error {
    /// The process's exit code: 64 when the settings are at fault, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OpenStore(error) if error.is_transient() || error.is_locked_by_other_process() => 1,
            // Whoever has the port may leave it.
            Self::Bind { kind: ErrorKind::AddrInUse, .. } => 1,
            Self::Verify(VerifyError::Mismatch(_))
            | Self::Deploy(DeployError::Verify(VerifyError::Mismatch(_)))
            | Self::OpenStore(_)
            | Self::Resume(ResumeError::MissingKey { .. })
            | Self::Bind { .. } => 64,
            Self::Verify(VerifyError::Call(_))
            | Self::Resume(ResumeError::Store(_))
            | Self::Store(_)
            | Self::Serve(_)
            | Self::Setup(_)
            | Self::Deploy(_)
            | Self::TaskExited => 1,
        }
    }
}

/// Runs the service until `shutdown`, then drains it. `ready` is called once, when it serves.
///
/// # Errors
/// When it cannot start, or does not end within its grace.
pub async fn serve(
    settings: Settings,
    shutdown: CancellationToken,
    ready: impl FnOnce(BoundAddrs),
) -> Result<(), Error> {
    let chain = Chain::new(&settings.chain)?;
    if settings.chain.endpoints.len() == 1 && !settings.chain.endpoints[0].is_loopback() {
        warn!(
            endpoint = chain.primary(),
            "there is one RPC endpoint: no failover (REGISTRAR_RPC_URLS takes a comma list)"
        );
    }
    let drain = settings.shutdown_grace.saturating_sub(settings.telemetry_flush_timeout());
    let Some((proof, store, mut workers)) = connect_dependencies(&settings, &chain, &shutdown).await? else {
        info!("stopped before it served");
        return Ok(());
    };
    let listener = bind_listener("REGISTRAR_LISTEN", settings.api.listen).await?;
    let admin_listener = bind_listener("REGISTRAR_ADMIN_LISTEN", settings.admin_listen).await?;
    let listening = BoundAddrs {
        grpc: listener.local_addr().unwrap_or(settings.api.listen),
        admin: admin_listener.local_addr().unwrap_or(settings.admin_listen),
    };
    store.bind_registry(&registry_identity(&chain, &proof), clock::now()).await?;
    let max_waiters = usize::try_from(settings.api.max_waiters).unwrap_or(usize::MAX);
    pipeline::check_signer_keys(&store, &settings.chain.signers).await?;
    let announcement = StartupInfo::new(&settings, &chain, &store);
    log_signer_statuses(&chain, &settings.chain.signers).await;
    let pipeline = Pipeline::new(chain, store.clone(), settings.pipeline.clone(), max_waiters);

    let (accept_handle, accept_writer) = AcceptHandle::new(store.clone());
    let addresses: Vec<_> = settings.chain.signers.iter().map(Signer::address).collect();
    let registrar = pipeline.registrar(accept_handle, addresses);
    pipeline
        .workers(settings.chain.signers, &shutdown)
        .await?
        .into_iter()
        .for_each(|worker| drop(workers.spawn(worker)));
    let served = CancellationToken::new();
    let mut tasks = Tasks {
        workers,
        accept_writer: tokio::spawn(accept_writer.run(served.clone(), pipeline.on_accepted())),
        calls_drained: served,
        admin: tokio::spawn(api::serve_admin(admin_listener, registrar.clone(), shutdown.clone())),
        server: tokio::spawn(api::serve(listener, registrar, settings.api, shutdown.clone())),
    };
    announcement.log(listening);
    ready(listening);

    let ended = tasks.wait_for_shutdown_or_exit(&shutdown).await;
    shutdown.cancel();
    info!("shutting down");
    tasks.drain(Instant::now() + drain, store).await;
    info!("stopped");
    ended
}

/// Everything that runs.
struct Tasks {
    workers: JoinSet<()>,
    accept_writer: JoinHandle<()>,
    /// Said when the calls have ended, so that the writer writes what has come and ends.
    calls_drained: CancellationToken,
    admin: JoinHandle<std::io::Result<()>>,
    server: JoinHandle<Result<(), api::ServeError>>,
}

impl Tasks {
    /// Waits for `shutdown`, or for something to end by itself, without which nothing would move any more.
    async fn wait_for_shutdown_or_exit(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        tokio::select! {
            // In this order, for everything ends once `shutdown` is there.
            biased;
            () = shutdown.cancelled() => Ok(()),
            ended = &mut self.server => Err(match ended {
                Ok(Err(error)) => error.into(),
                Ok(Ok(())) | Err(_) => Error::TaskExited,
            }),
            Some(_) = self.workers.join_next() => Err(Error::TaskExited),
            _ = &mut self.accept_writer => Err(Error::TaskExited),
        }
    }

    /// Lets everything finish its step: first the calls, then the workers, then the writer. Whoever does not make it in time,
    /// for a node or a client that does not answer, is left behind: what was accepted is on disk and goes on with the next start.
    async fn drain(mut self, deadline: Instant, store: Store) {
        // A scraper may keep its connection open.
        self.admin.abort();
        let half = deadline - deadline.saturating_duration_since(Instant::now()) / 2;
        if !self.server.is_finished() && timeout_at(half, &mut self.server).await.is_err() {
            warn!("some connections did not end in time and are cut");
            self.server.abort();
        }
        self.calls_drained.cancel();
        let left = deadline.saturating_duration_since(Instant::now());
        let workers = async { while self.workers.join_next().await.is_some() {} };
        if timeout_at(deadline - left / 4, workers).await.is_err() {
            warn!("some work did not reach a step's end in time; it goes on with the next start");
            self.workers.shutdown().await;
        }
        if !self.accept_writer.is_finished() && timeout_at(deadline, &mut self.accept_writer).await.is_err() {
            warn!("the writer did not end in time");
        }
        if timeout_at(deadline.max(Instant::now() + MIN_STORE_CLOSE_TIMEOUT), store.close()).await.is_err() {
            warn!("the database did not close in time");
        }
    }
}

/// Deploys a DocumentRegistry owned by `owner` (else by the first signer) that allows every configured signer.
///
/// # Errors
/// When the chain cannot be reached, is another one, or refuses the deployment.
pub async fn deploy(settings: DeploySettings, owner: Option<Address>) -> Result<Address, Error> {
    redact::install(settings.secrets);
    let chain = Chain::new(&settings.chain)?;
    let never = CancellationToken::new();
    tokio::select! {
        deployed = chain::deploy(&chain, &settings.chain.signers, owner) => Ok(deployed?),
        () = chain.run_probes(&never) => Err(Error::TaskExited),
    }
}

/// Proves chain and contract and opens the database, as long as it takes an endpoint and the server to answer; from the proof on
/// the endpoints are watched. `None` when `shutdown` came first.
async fn connect_dependencies(
    settings: &Settings,
    chain: &Chain,
    shutdown: &CancellationToken,
) -> Result<Option<(ChainIdentity, Store, JoinSet<()>)>, Error> {
    let is_silence = |error: &VerifyError| matches!(error, VerifyError::Call(_));
    let proving = retry_until_ready(
        "an RPC endpoint of REGISTRAR_RPC_URLS",
        shutdown,
        async || chain.verify_identity().await,
        is_silence,
    );
    let Some(proof) = proving.await else { return Ok(None) };
    let proof = proof?;
    let mut workers = JoinSet::new();
    let (watched, stop) = (chain.clone(), shutdown.clone());
    workers.spawn(async move { watched.run_probes(&stop).await });
    let open = async || Store::open(&settings.store, settings.pipeline.queue_limit).await;
    let opening =
        retry_until_ready("the database server of REGISTRAR_DATABASE_URL", shutdown, open, OpenError::is_transient);
    let Some(store) = opening.await else { return Ok(None) };
    Ok(Some((proof, store?, workers)))
}

/// What an operator should know at once. Nothing of it stops the start: it blocks work with its reason until it is mended. What
/// takes an endpoint longer is found out by the first one to be prepared.
async fn log_signer_statuses(chain: &Chain, signers: &[Signer]) {
    let looks = signers.iter().map(|signer| log_signer_status(chain, signer.address()));
    if timeout(SIGNER_CHECK_TIMEOUT, join_all(looks)).await.is_err() {
        warn!("the endpoints are slow to say how the signers stand; the start goes on");
    }
}

async fn log_signer_status(chain: &Chain, address: Address) {
    let (allowed, balance) = tokio::join!(chain.is_registrar(address), chain.balance(address));
    if let Ok(balance) = balance {
        metrics().set_signer_balance(address, balance);
    }
    match (allowed, balance) {
        (Ok(false), _) => error!(
            signer = %address,
            contract = %chain.contract(),
            "the contract does not allow this signer: its owner adds it with addRegistrar"
        ),
        (_, Ok(balance)) if balance.is_zero() => {
            error!(signer = %address, "this signer has no funds: send it some")
        }
        (Ok(true), Ok(balance)) => info!(signer = %address, balance_wei = %balance, "signer ready"),
        (Err(error), _) | (_, Err(error)) => {
            warn!(signer = %address, error = %error, "this signer could not be looked at")
        }
    }
}

fn registry_identity(chain: &Chain, proof: &ChainIdentity) -> Registry {
    Registry {
        chain_id: chain.network().chain_id,
        genesis_hash: proof.genesis_hash,
        contract: chain.contract(),
        deploy_block_number: proof.deploy_block.number,
        deploy_block_hash: proof.deploy_block.hash,
    }
}

async fn bind_listener(setting: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| Error::Bind { setting, address, kind: error.kind() })
}
