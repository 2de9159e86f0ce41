//! Runs the built service on a real node, kills it repeatedly under load while the chain and its endpoints fail, and
//! then audits the chain against the store and the answers that callers got.
//!
//! Used by `make torture` and, for a short run, by the integration tests.

mod audit;
mod block_producer;
mod fault_log;
mod faults;
mod feed;
pub mod findings;
pub mod ledger;
mod load;
mod replicas;
#[allow(dead_code, reason = "shared with the benchmark, which uses more of it")]
#[path = "../bench/report.rs"]
pub mod report;
pub mod schedule;
pub mod stall;
mod summary;

use crate::harness::{Anvil, Proxy, Registry, ReplicatedServers, service::Settings};
use block_producer::BlockProducer;
use fault_log::FaultLog;
use faults::{FaultHistory, FaultInjector};
use feed::FeedClient;
use ledger::Ledger;
use replicas::Replicas;
use report::Report;
use schedule::Schedule;
use serde_json::json;
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use summary::Summary;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// Number of the service's signing accounts.
const SIGNERS: usize = 3;
/// Load continues this long after the last fault, so that the recovery after the last start can be measured.
const LOAD_AFTER_FAULTS: Duration = Duration::from_secs(6);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// Blocks below the deepest reorg; the contract is deployed in the first of them.
const BLOCKS_BELOW_REORGS: u64 = 20;

/// Database engine of the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// An SQLite file, owned by one process.
    Sqlite,
    /// A database shared by all replicas.
    Postgres,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub engine: Engine,
    /// Determines every random choice.
    pub seed: u64,
    /// How long faults are injected.
    pub time: Duration,
    /// Number of kills in that time.
    pub kills: usize,
    /// Number of service processes.
    pub replicas: usize,
}

pub struct Outcome {
    pub report: Report,
    /// Violations, one line each.
    pub findings: Vec<String>,
}

/// Runs the plan and writes the logs to this directory.
pub async fn run(plan: &Plan, directory: &Path) -> Outcome {
    // A block becomes safe when it is an epoch deep. That is deeper than any reorg here, as on a real chain.
    let anvil = Anvil::start(&["--slots-in-an-epoch", "4"]).await;
    anvil.rpc().run("anvil_setLoggingEnabled", json!([false])).await;
    let registry = Registry::deploy(&anvil, SIGNERS).await;
    anvil.mine(BLOCKS_BELOW_REORGS).await;
    anvil.stop_mining().await;
    let producer = BlockProducer::new();
    tokio::select! {
        () = producer.run(&anvil) => unreachable!("block production never ends"),
        outcome = run_on_chain(plan, directory, &anvil, &registry, &producer) => outcome,
    }
}

async fn run_on_chain(
    plan: &Plan,
    directory: &Path,
    anvil: &Anvil,
    registry: &Registry,
    producer: &BlockProducer,
) -> Outcome {
    let proxies = [Proxy::before(anvil.url()).await, Proxy::before(anvil.url()).await];
    let urls = proxies.each_ref().map(Proxy::secret_url).join(",");
    let redirect_target = Proxy::before(anvil.url()).await;
    let mut settings =
        Settings::new(&urls, registry, SIGNERS, &directory.join("registrar.db")).set("REGISTRAR_CONFIRMATIONS", 2);
    let servers = match plan.engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(ReplicatedServers::start().await),
    };
    if let Some(servers) = &servers {
        settings = settings.set("REGISTRAR_DATABASE_URL", &servers.address.url);
    }
    let schedule = Schedule::new(plan);
    let ledger = Arc::new(Ledger::new());
    let history = Mutex::new(FaultHistory::default());
    let fault_log = FaultLog::create(directory);
    let replicas = Replicas::start(plan.replicas, &settings, directory, &fault_log, &ledger).await;
    let started = ledger.now();
    let stop = CancellationToken::new();
    let injector = FaultInjector {
        anvil,
        proxies: &proxies,
        redirect_target: &redirect_target,
        producer,
        replicas: &replicas,
        servers: servers.as_ref(),
        fault_log: &fault_log,
    };
    let audited = CancellationToken::new();
    let feed = tokio::spawn(FeedClient::run(plan.seed, replicas.addresses(), audited.clone()));
    let callers = load::run(plan.seed, replicas.addresses(), ledger.clone(), stop.clone());
    let faults_and_kills = async {
        tokio::join!(injector.inject_all(&schedule, &ledger, &history), kill(&replicas, &schedule));
        sleep(LOAD_AFTER_FAULTS).await;
        stop.cancel();
    };
    let progress = report_progress(plan, started, &ledger, &history);
    tokio::select! {
        _ = async { tokio::join!(faults_and_kills, callers) } => {}
        () = progress => unreachable!("progress is reported until the run ends"),
    }
    let run = started..ledger.now();
    let remaining = replicas.stop_killing().await;
    let lifetimes = remaining.lifetimes();
    let mut findings = audit::audit(&remaining.services, registry, anvil, &proxies, &redirect_target, &ledger).await;
    audited.cancel();
    let feed = feed.await.unwrap();
    findings.feed_streams = feed.streams;
    findings.unseen = feed.compare(&remaining.services[0], &findings.rows).await;
    let panics = remaining.keep_logs();
    let (entries, history) = (ledger.entries().clone(), history.into_inner().unwrap());
    let summary = Summary { kills: plan.kills, run, findings, entries, history, lifetimes, panics };
    summary.into_outcome(&fault_log)
}

async fn kill(replicas: &Replicas, schedule: &Schedule) {
    let started = tokio::time::Instant::now();
    for (at, replica) in &schedule.kills {
        tokio::time::sleep_until(started + *at).await;
        replicas.kill(*replica);
    }
}

async fn report_progress(plan: &Plan, started: Duration, ledger: &Ledger, history: &Mutex<FaultHistory>) {
    let mut tick = interval(PROGRESS_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (accepted, confirmed) = {
            let entries = ledger.entries();
            (entries.accepted(), entries.confirmed.len())
        };
        let active = history.lock().unwrap().now.map_or("none".to_owned(), |fault| fault.to_string());
        let at = (ledger.now() - started).as_secs();
        let of = plan.time.as_secs();
        eprintln!(
            "chaos: {at} s of {of}: {accepted} accepted, {confirmed} reported as confirmed; active fault: {active}"
        );
    }
}
