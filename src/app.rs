//! Wires the areas together, spawns the tasks, and shuts them down in order.

mod block_check;
mod contract;
mod keys;
mod retry;
mod startup_log;

use crate::{
    api, auth,
    chain::{
        self, Chain, ChainIdentity, DeployError, KeystoreError, OpenSignersError, OwnershipError, Signer, VerifyError,
    },
    clock,
    config::Settings,
    pipeline::{self, Pipeline, ResumeError},
    store::{AcceptHandle, OpenError, Registry, Store, StoreError},
    telemetry::metrics,
};
use alloy::primitives::Address;
pub use block_check::{BlockCheck, check_block, node_name};
pub use contract::{deploy, ownership, set_registrar};
use futures_util::future::join_all;
pub use keys::{create_keystore, signer_addresses};
use retry::retry_until_ready;
pub use startup_log::BoundAddrs;
use startup_log::StartupInfo;
use std::{io::ErrorKind, net::SocketAddr, time::Duration};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// A start should take at most two seconds.
const SIGNER_CHECK_TIMEOUT: Duration = Duration::from_secs(1);
const MIN_STORE_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the service could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The chain or the contract is wrong, or no endpoint responded.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    OpenStore(#[from] OpenError),
    #[error(transparent)]
    Resume(#[from] ResumeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{setting}: {address} {}; choose another address", bind_problem(*kind))]
    Bind { setting: &'static str, address: SocketAddr, kind: ErrorKind },
    #[error(transparent)]
    Serve(#[from] api::ServeError),
    /// The TLS stack cannot be set up.
    #[error(transparent)]
    Setup(#[from] chain::SetupError),
    #[error(transparent)]
    Signers(#[from] OpenSignersError),
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// Without them no token could be checked.
    #[error("the keys of the issuer in REGISTRAR_JWT_ISSUER cannot be fetched: {0}")]
    JwtKeys(#[from] auth::FetchError),
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    #[error("{path} {error}")]
    Keystore { path: String, error: KeystoreError },
    /// A task that should run until shutdown has ended.
    #[error(
        "a task of the service ended unexpectedly (see the log); accepted registrations are on disk and resume at the \
         next start"
    )]
    TaskExited,
}

impl Error {
    /// Whether waiting for the database server may resolve it.
    fn is_transient(&self) -> bool {
        match self {
            Self::OpenStore(error) => error.is_transient(),
            Self::Resume(ResumeError::Store(error)) | Self::Store(error) => error.is_transient(),
            Self::Resume(ResumeError::MissingKey { .. })
            | Self::Verify(_)
            | Self::Bind { .. }
            | Self::Serve(_)
            | Self::Setup(_)
            | Self::Signers(_)
            | Self::Deploy(_)
            | Self::JwtKeys(_)
            | Self::Ownership(_)
            | Self::Keystore { .. }
            | Self::TaskExited => false,
        }
    }

    /// Whether other settings would fix it. What may resolve itself is not.
    pub fn is_configuration_error(&self) -> bool {
        match self {
            Self::OpenStore(error) if error.is_transient() || error.is_locked_by_other_process() => false,
            Self::Bind { kind: ErrorKind::AddrInUse, .. } => false,
            Self::JwtKeys(error) => !error.is_transient(),
            Self::Signers(error) => error.is_configuration_error(),
            Self::Verify(VerifyError::Mismatch(_))
            | Self::Deploy(DeployError::Verify(VerifyError::Mismatch(_)))
            | Self::Ownership(OwnershipError::Verify(VerifyError::Mismatch(_)) | OwnershipError::NotOwner { .. })
            | Self::Keystore { .. }
            | Self::OpenStore(_)
            | Self::Resume(ResumeError::MissingKey { .. })
            | Self::Bind { .. } => true,
            Self::Verify(VerifyError::Call(_))
            | Self::Resume(ResumeError::Store(_))
            | Self::Store(_)
            | Self::Serve(_)
            | Self::Setup(_)
            | Self::Deploy(_)
            | Self::Ownership(_)
            | Self::TaskExited => false,
        }
    }
}

/// Runs the service until `shutdown`, then shuts down gracefully. `ready` is called when it accepts calls.
///
/// # Errors
/// The service cannot start, or a task ended unexpectedly.
pub async fn serve(
    settings: Settings,
    shutdown: CancellationToken,
    ready: impl FnOnce(BoundAddrs),
) -> Result<(), Error> {
    let chain = Chain::new(&settings.chain)?;
    if settings.chain.endpoints.len() == 1 && !settings.chain.endpoints[0].is_loopback() {
        warn!(
            endpoint = chain.primary(),
            "only one RPC endpoint is configured, so there is no failover; add others to REGISTRAR_RPC_URLS"
        );
    }
    let drain_timeout = settings.shutdown_grace.saturating_sub(settings.telemetry_flush_timeout());
    let opening = chain::open_signers(&settings.chain.signers);
    let Some(signers) = shutdown.run_until_cancelled(opening).await else {
        info!("stopped before the service was ready");
        return Ok(());
    };
    let signers = signers?;
    let protection = settings.protection.clone().start().await?;
    let dependencies = connect_dependencies(&settings, &chain, &signers, &shutdown).await?;
    let Some(Dependencies { store, unfinalized, mut workers }) = dependencies else {
        info!("stopped before the service was ready");
        return Ok(());
    };
    let listener = bind_listener("REGISTRAR_LISTEN", settings.api.listen).await?;
    let admin_listener = bind_listener("REGISTRAR_ADMIN_LISTEN", settings.admin_listen).await?;
    let addresses = BoundAddrs {
        grpc: listener.local_addr().unwrap_or(settings.api.listen),
        admin: admin_listener.local_addr().unwrap_or(settings.admin_listen),
    };
    let startup_info = StartupInfo::new(&settings, &chain, &signers, &store);
    log_signer_statuses(&chain, &signers).await;
    let pipeline = Pipeline::new(chain, store.clone(), settings.pipeline.clone(), settings.api.max_waiters);

    let (accept_handle, accept_writer) = AcceptHandle::new(store.clone());
    let registrar = pipeline.registrar(accept_handle, signers.iter().map(Signer::address).collect());
    for worker in pipeline.workers(signers, unfinalized, &shutdown) {
        workers.spawn(worker);
    }
    workers.spawn(protection.clone().run_reload(shutdown.clone()));
    let calls_drained = CancellationToken::new();
    let mut tasks = Tasks {
        workers,
        accept_writer: tokio::spawn(accept_writer.run(calls_drained.clone(), pipeline.on_accepted())),
        calls_drained,
        admin: tokio::spawn(api::serve_admin(
            admin_listener,
            registrar.clone(),
            protection.clone(),
            settings.admin,
            shutdown.clone(),
        )),
        server: tokio::spawn(api::serve(listener, registrar, protection, settings.api, shutdown.clone())),
    };
    startup_info.log(addresses);
    ready(addresses);

    let result = tasks.wait_for_shutdown_or_exit(&shutdown).await;
    shutdown.cancel();
    info!("shutting down");
    tasks.drain(Instant::now() + drain_timeout, store).await;
    info!("stopped");
    result
}

/// All tasks of the service.
struct Tasks {
    workers: JoinSet<()>,
    accept_writer: JoinHandle<()>,
    /// Cancelled when all calls have ended: the writer then writes what it has and ends.
    calls_drained: CancellationToken,
    admin: JoinHandle<()>,
    server: JoinHandle<Result<(), api::ServeError>>,
}

impl Tasks {
    /// Returns an error if a task ends before `shutdown`.
    async fn wait_for_shutdown_or_exit(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        tokio::select! {
            // Shutdown first, because it ends the tasks as well.
            biased;
            () = shutdown.cancelled() => Ok(()),
            result = &mut self.server => Err(match result {
                Ok(Err(error)) => error.into(),
                Ok(Ok(())) | Err(_) => Error::TaskExited,
            }),
            Some(_) = self.workers.join_next() => Err(Error::TaskExited),
            _ = &mut self.accept_writer => Err(Error::TaskExited),
        }
    }

    /// Ends the calls, then the workers, then the writer, each with a share of the time. A task that waits too long for
    /// a node or a client is aborted: what was accepted is on disk and resumes at the next start.
    async fn drain(mut self, deadline: Instant, store: Store) {
        // A scraper may keep its connection open.
        self.admin.abort();
        let half = deadline - deadline.saturating_duration_since(Instant::now()) / 2;
        if !self.server.is_finished() && timeout_at(half, &mut self.server).await.is_err() {
            warn!("closing connections that did not end in time");
            self.server.abort();
        }
        self.calls_drained.cancel();
        let remaining = deadline.saturating_duration_since(Instant::now());
        let workers = async { while self.workers.join_next().await.is_some() {} };
        if timeout_at(deadline - remaining / 4, workers).await.is_err() {
            warn!(
                "workers did not stop within the shutdown timeout; aborting them, their work resumes at the next start"
            );
            self.workers.shutdown().await;
        }
        if !self.accept_writer.is_finished() && timeout_at(deadline, &mut self.accept_writer).await.is_err() {
            warn!("pending writes did not finish within the shutdown timeout");
        }
        if timeout_at(deadline.max(Instant::now() + MIN_STORE_CLOSE_TIMEOUT), store.close()).await.is_err() {
            warn!("database did not close in time");
        }
    }
}

struct Dependencies {
    store: Store,
    /// Signers with transactions that are not final.
    unfinalized: Vec<Address>,
    /// Has the probes of the endpoints.
    workers: JoinSet<()>,
}

/// Verifies chain and contract, starts probing the endpoints, and opens the database. Waits for endpoints and database
/// server to respond; `None` if `shutdown` came first.
async fn connect_dependencies(
    settings: &Settings,
    chain: &Chain,
    signers: &[Signer],
    shutdown: &CancellationToken,
) -> Result<Option<Dependencies>, Error> {
    let is_unreachable = |error: &VerifyError| matches!(error, VerifyError::Call(_));
    let verification = retry_until_ready(
        "an RPC endpoint of REGISTRAR_RPC_URLS",
        shutdown,
        async || chain.verify_identity().await,
        is_unreachable,
    );
    let Some(chain_identity) = verification.await else { return Ok(None) };
    let registry = registry_identity(chain, &chain_identity?);
    let mut workers = JoinSet::new();
    let (probed_chain, probe_shutdown) = (chain.clone(), shutdown.clone());
    workers.spawn(async move { probed_chain.run_probes(&probe_shutdown).await });
    // All that a start reads and writes, because the server may be switched over between two statements.
    let open = async || -> Result<(Store, Vec<Address>), Error> {
        let store = Store::open(&settings.store, settings.pipeline.queue_limit).await?;
        store.bind_registry(&registry, clock::now()).await?;
        pipeline::check_signer_keys(&store, signers).await?;
        let unfinalized = store.signers_with_unfinalized().await?;
        Ok((store, unfinalized))
    };
    let opening =
        retry_until_ready("the database server of REGISTRAR_DATABASE_URL", shutdown, open, Error::is_transient);
    let Some(opened) = opening.await else { return Ok(None) };
    let (store, unfinalized) = opened?;
    Ok(Some(Dependencies { store, unfinalized, workers }))
}

/// Logs problems of signers that an operator should fix. They do not stop the start: registrations wait with a blocked
/// reason. A problem that is not found in time is found when the first transaction is prepared.
async fn log_signer_statuses(chain: &Chain, signers: &[Signer]) {
    let checks = signers.iter().map(|signer| log_signer_status(chain, signer.address()));
    if timeout(SIGNER_CHECK_TIMEOUT, join_all(checks)).await.is_err() {
        warn!("signer check timed out, continuing the start");
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
            "signer is not allowed by the contract; its owner has to call addRegistrar"
        ),
        (_, Ok(balance)) if balance.is_zero() => {
            error!(signer = %address, "signer has no funds; send it some ETH")
        }
        (Ok(true), Ok(balance)) => info!(signer = %address, balance_wei = %balance, "signer ready"),
        (Err(error), _) | (_, Err(error)) => {
            warn!(signer = %address, error = %error, "failed to check signer")
        }
    }
}

fn registry_identity(chain: &Chain, identity: &ChainIdentity) -> Registry {
    Registry {
        chain_id: chain.network().chain_id,
        genesis_hash: identity.genesis_hash,
        contract: chain.contract(),
        deploy_block_number: identity.deploy_block.number,
        deploy_block_hash: identity.deploy_block.hash,
    }
}

async fn bind_listener(setting: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| Error::Bind { setting, address, kind: error.kind() })
}

fn bind_problem(kind: ErrorKind) -> String {
    if kind == ErrorKind::AddrInUse { "is already in use".to_owned() } else { format!("cannot be opened ({kind})") }
}
