//! The built service on a real node, in the worst weather that a chain has, killed again and again under load; and then the
//! audit: chain against store against what callers were told.
//!
//! Shared by `make torture` and by a short run of it among the tests.

mod audit;
mod chain;
mod chronicle;
mod fleet;
mod ledger;
mod load;
#[allow(dead_code, reason = "this is the benchmark's table, and the benchmark uses more of it")]
#[path = "../../bench/report.rs"]
pub mod report;
mod schedule;
mod stall;
mod trouble;

use crate::harness::{Anvil, Proxy, Registry, service::Settings};
use audit::Findings;
use chain::Miner;
use chronicle::Chronicle;
use fleet::{Fleet, Survivors};
use ledger::{Kept, Ledger};
use report::{Bar, Report};
use schedule::Schedule;
use serde_json::json;
use stall::{Recovery, recovery};
use std::{
    ops::Range,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use trouble::{Victim, Weather};

/// How many accounts the service signs with.
const SIGNERS: usize = 3;
/// The bar for a stall after a start.
const STALL: Duration = Duration::from_secs(5);
/// So long the load goes on when all troubles have ended, for the last start to show how soon it is over.
const AFTERMATH: Duration = Duration::from_secs(6);
/// How often it is told how far the run is.
const TELL: Duration = Duration::from_secs(5);
/// How many findings of a kind are told in full.
const TOLD: usize = 5;
/// Blocks that no reorg reaches: the contract is in the first of them.
const BEDROCK: u64 = 20;

/// What is to be done to the service.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How long there are troubles.
    pub time: Duration,
    /// How often a process is killed in that time.
    pub kills: usize,
    /// How many processes share the work.
    pub replicas: usize,
}

/// Does it, keeps the logs in this directory, and says what came of it.
pub async fn run(plan: &Plan, directory: &Path) -> Report {
    // A block becomes safe when it is an epoch deep: deeper than any reorg here, as on a real chain.
    let anvil = Anvil::start(&["--slots-in-an-epoch", "4"]).await;
    anvil.rpc().run("anvil_setLoggingEnabled", json!([false])).await;
    let registry = Registry::deploy(&anvil, SIGNERS).await;
    anvil.mine(BEDROCK).await;
    anvil.stop_mining().await;
    let miner = Miner::new();
    tokio::select! {
        () = miner.run(&anvil) => unreachable!("blocks are made for ever"),
        report = ordeal(plan, directory, &anvil, &registry, &miner) => report,
    }
}

async fn ordeal(plan: &Plan, directory: &Path, anvil: &Anvil, registry: &Registry, miner: &Miner) -> Report {
    let proxies = [Proxy::before(anvil.url()).await, Proxy::before(anvil.url()).await];
    let urls = proxies.each_ref().map(Proxy::secret_url).join(",");
    let settings =
        Settings::new(&urls, registry, SIGNERS, &directory.join("registrar.db")).set("REGISTRAR_CONFIRMATIONS", 2);
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
    let findings = audit::audit(&survivors.services[0], registry, anvil, &proxies, &ledger).await;
    let weather = weather.into_inner().unwrap();
    let kept = ledger.kept().clone();
    conclude(plan, &run, &findings, &kept, &weather, &survivors, &chronicle)
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

fn conclude(
    plan: &Plan,
    run: &Range<Duration>,
    findings: &Findings,
    kept: &Kept,
    weather: &Weather,
    survivors: &Survivors,
    chronicle: &Chronicle,
) -> Report {
    let mut report = Report::default();
    let panics = survivors.keep_logs();
    report.figure("time under load", (run.end - run.start).as_secs_f64(), "s");
    report.figure("kills", plan.kills as f64, "");
    for (kind, count) in &weather.counts {
        report.figure(*kind, *count as f64, "");
    }
    report.figure("registrations accepted", kept.accepted() as f64, "");
    report.figure("transactions that registered them", findings.transactions as f64, "");
    report.figure("calls that a kill broke off", kept.broken_off as f64, "");
    for (name, found) in [
        ("lost", &findings.lost),
        ("duplicated", &findings.duplicated),
        ("stuck", &findings.stuck),
        ("failed", &findings.failed),
        ("on the chain, and nobody asked", &findings.unasked),
        ("told otherwise than the chain has it", &findings.misreported),
        ("nonces signed for two different things", &findings.reused_nonces),
        ("requests without an answer", &kept.unanswered),
        ("panics", &panics),
    ] {
        report.bar(name, found.len() as f64, "", Bar::AtMost(0.0));
        found.iter().take(TOLD).for_each(|finding| report.note(format!("{name}: {finding}")));
    }
    stalls(&mut report, run, findings, kept, weather, survivors, chronicle);
    for (reason, count) in &kept.refusals {
        report.note(format!("{count} calls ended with {reason}"));
    }
    report
}

fn stalls(
    report: &mut Report,
    run: &Range<Duration>,
    findings: &Findings,
    kept: &Kept,
    weather: &Weather,
    survivors: &Survivors,
    chronicle: &Chronicle,
) {
    let mut confirmed: Vec<Duration> = kept.confirm_times.iter().chain(&findings.confirm_times).copied().collect();
    confirmed.sort_unstable();
    let lives = survivors.lives();
    let judged: Vec<Recovery> = lives.iter().map(|life| recovery(life, &confirmed, &weather.unwell, STALL)).collect();
    let longest = |of: fn(&Recovery) -> Option<Duration>| judged.iter().filter_map(of).max().unwrap_or_default();
    let well = longest(|recovery| match recovery {
        Recovery::Well(took) => Some(*took),
        Recovery::AfterTrouble(_) | Recovery::CutShort => None,
    });
    let after = longest(|recovery| match recovery {
        Recovery::AfterTrouble(took) => Some(*took),
        Recovery::Well(_) | Recovery::CutShort => None,
    });
    for (life, recovery) in lives.iter().zip(&judged) {
        chronicle.tell(format_args!(
            "the process of {:.3?} to {:.3?} after the beginning: {recovery:?}",
            life.start, life.end
        ));
    }
    let short = judged.iter().filter(|recovery| **recovery == Recovery::CutShort).count();
    report.bar("longest stall after a start", well.as_secs_f64(), "s", Bar::AtMost(STALL.as_secs_f64()));
    report.figure("the same, from the end of a trouble that kept the chain from confirming", after.as_secs_f64(), "s");
    report.figure("processes killed before they could confirm", short as f64, "");
    let gap = stall::longest_gap(run, &confirmed, &weather.unwell);
    report.figure("longest time without a confirmation while the chain was well", gap.as_secs_f64(), "s");
    report.figure("all was final after", findings.quiet_after.as_secs_f64(), "s");
}
