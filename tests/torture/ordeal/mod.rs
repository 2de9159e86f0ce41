//! The built service on a real node, in the worst weather that a chain has, killed again and again under load; and then the
//! audit: chain against store against what callers were told.
//!
//! Shared by `make torture` and by a short run of it among the tests.

mod audit;
mod chain;
mod chronicle;
mod end;
pub mod findings;
mod fleet;
pub mod ledger;
mod load;
#[allow(dead_code, reason = "this is the benchmark's table, and the benchmark uses more of it")]
#[path = "../../bench/report.rs"]
pub mod report;
pub mod schedule;
pub mod stall;
mod trouble;

use crate::harness::{Anvil, Proxy, Registry, postgres::Database, service::Settings};
use chain::Miner;
use chronicle::Chronicle;
use end::End;
use fleet::Fleet;
use ledger::Ledger;
use report::Report;
use schedule::Schedule;
use serde_json::json;
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use trouble::{Victim, Weather};

/// How many accounts the service signs with.
const SIGNERS: usize = 3;
/// So long the load goes on when all troubles have ended, for the last start to show how soon it is over.
const AFTERMATH: Duration = Duration::from_secs(6);
/// How often it is told how far the run is.
const TELL: Duration = Duration::from_secs(5);
/// Blocks that no reorg reaches: the contract is in the first of them.
const BEDROCK: u64 = 20;

/// Where the service keeps what it accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// A file of one process.
    Sqlite,
    /// A database that replicas share.
    Postgres,
}

/// What is to be done to the service.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it keeps what it accepts.
    pub engine: Engine,
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How long there are troubles.
    pub time: Duration,
    /// How often a process is killed in that time.
    pub kills: usize,
    /// How many processes share the work.
    pub replicas: usize,
}

/// What came of it.
pub struct Outcome {
    /// The table.
    pub report: Report,
    /// What must not be and is, one line each.
    pub findings: Vec<String>,
}

/// Does it, keeps the logs in this directory, and says what came of it.
pub async fn run(plan: &Plan, directory: &Path) -> Outcome {
    // A block becomes safe when it is an epoch deep: deeper than any reorg here, as on a real chain.
    let anvil = Anvil::start(&["--slots-in-an-epoch", "4"]).await;
    anvil.rpc().run("anvil_setLoggingEnabled", json!([false])).await;
    let registry = Registry::deploy(&anvil, SIGNERS).await;
    anvil.mine(BEDROCK).await;
    anvil.stop_mining().await;
    let miner = Miner::new();
    tokio::select! {
        () = miner.run(&anvil) => unreachable!("blocks are made for ever"),
        outcome = ordeal(plan, directory, &anvil, &registry, &miner) => outcome,
    }
}

async fn ordeal(plan: &Plan, directory: &Path, anvil: &Anvil, registry: &Registry, miner: &Miner) -> Outcome {
    let proxies = [Proxy::before(anvil.url()).await, Proxy::before(anvil.url()).await];
    let urls = proxies.each_ref().map(Proxy::secret_url).join(",");
    let mut settings =
        Settings::new(&urls, registry, SIGNERS, &directory.join("registrar.db")).set("REGISTRAR_CONFIRMATIONS", 2);
    if plan.engine == Engine::Postgres {
        settings = settings.set("REGISTRAR_DATABASE_URL", Database::new().await.url());
    }
    let schedule = Schedule::of(plan);
    let ledger = Arc::new(Ledger::new());
    let weather = Mutex::new(Weather::default());
    let chronicle = Chronicle::begin(directory);
    let fleet = Fleet::start(plan.replicas, &settings, directory, &chronicle, &ledger).await;
    let begun = ledger.now();
    let stop = CancellationToken::new();
    let victim = Victim { anvil, proxies: &proxies, miner, chronicle: &chronicle };
    let callers = load::run(plan.seed, fleet.doors(), ledger.clone(), stop.clone());
    let story = async {
        tokio::join!(victim.suffer(&schedule, &ledger, &weather), kill(&fleet, &schedule));
        sleep(AFTERMATH).await;
        stop.cancel();
    };
    let told = tell(plan, begun, &ledger, &weather);
    tokio::select! {
        _ = async { tokio::join!(story, callers) } => {}
        () = told => unreachable!("it is told as long as it goes on"),
    }
    let run = begun..ledger.now();
    let survivors = fleet.rest().await;
    let lives = survivors.lives();
    let findings = audit::audit(&survivors.services, registry, anvil, &proxies, &ledger).await;
    let panics = survivors.keep_logs();
    let (kept, weather) = (ledger.kept().clone(), weather.into_inner().unwrap());
    let end = End { kills: plan.kills, run, findings, kept, weather, lives, panics };
    end.conclude(&chronicle)
}

async fn kill(fleet: &Fleet, schedule: &Schedule) {
    let begun = tokio::time::Instant::now();
    for (at, replica) in &schedule.kills {
        tokio::time::sleep_until(begun + *at).await;
        fleet.kill(*replica);
    }
}

/// Tells a person at the terminal how far it is.
async fn tell(plan: &Plan, begun: Duration, ledger: &Ledger, weather: &Mutex<Weather>) {
    let mut tick = interval(TELL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (accepted, confirmed) = {
            let kept = ledger.kept();
            (kept.accepted(), kept.confirmed.len())
        };
        let wrong = weather.lock().unwrap().now.map_or("nothing".to_owned(), |trouble| trouble.to_string());
        let at = (ledger.now() - begun).as_secs();
        let of = plan.time.as_secs();
        eprintln!(
            "torture: {at} s of {of}: {accepted} accepted, {confirmed} known to be confirmed; wrong just now: {wrong}"
        );
    }
}
