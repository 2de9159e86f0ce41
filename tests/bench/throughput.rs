//! Registrations on chain per second on each database, as a share of what the same node reaches alone, and the
//! service's RPC calls under load and when idle.

use crate::{
    harness::{Database, document},
    load::{self, Outcome, Until},
    node_baseline::{self, Raw},
    observer::Observer,
    process::Cpu,
    report::{Bar, Report, progress},
    rpc_calls::RpcCalls,
    stack::{BenchChain, BenchStack},
};
use alloy::primitives::B256;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::{Instant, sleep};

const CLIENTS: usize = 64;
const LOAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(10);
/// Fills several blocks.
const RAW_SINGLES: u64 = 21_000;
const RAW_BATCHED: u64 = 42_000;
const BATCH: usize = 100;

/// Document numbers that no other part of the run uses.
const RAW_FIRST: u64 = 1_000_000_000;

/// Measures the service on each database, each between two measurements of the node alone.
pub async fn measure(report: &mut Report) {
    let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[]).await;
    beside_the_node(&stack, "", Some(Bar::AtLeast(1.8)), report).await;
    progress("the node alone, batches of 100");
    let first = RAW_FIRST + 2 * RAW_SINGLES;
    let batched = node_baseline::limit(&stack.chain, first..first + RAW_BATCHED, BATCH).await;
    report.figure("throughput: node alone, batches of 100", batched.rate, "/s");
    stack.note_warnings("throughput", report);
    drop(stack);

    // On the same disk; its processes compete for the same processors.
    let url = Database::new().await.url();
    let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[("REGISTRAR_DATABASE_URL", &url)]).await;
    beside_the_node(&stack, "PostgreSQL: ", Some(Bar::AtLeast(1.3)), report).await;
    stack.note_warnings("PostgreSQL: throughput", report);
    drop(stack);

    // One of them sends for the signer; both accept.
    let url = Database::new().await.url();
    let mut stack =
        BenchStack::start(BenchChain::with_block_time(1.0).await, &[("REGISTRAR_DATABASE_URL", &url)]).await;
    stack.add_replica().await;
    beside_the_node(&stack, "PostgreSQL, 2 replicas: ", None, report).await;
    stack.note_warnings("PostgreSQL, 2 replicas: throughput", report);
}

/// The service's RPC calls: idle, under load, and idle once all is confirmed.
pub async fn calls(report: &mut Report) {
    let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[]).await;
    idle(&stack, "idle", report).await;
    let loaded = under_load(&stack, Load::default(), "", report).await;
    let per_registration = loaded.calls.total() / loaded.registered as f64;
    report.bar("RPC calls per registration under load", per_registration, "", Bar::AtMost(0.2));
    report.note(format!("calls under load: {}", loaded.calls.by_method()));
    // Confirmed registrations are polled for reorgs until they are final.
    idle(&stack, "all confirmed, not final", report).await;
    stack.note_warnings("calls", report);
}

/// Measures the node alone before and after the service, because the machine's other load may vary.
async fn beside_the_node(stack: &BenchStack, on: &str, bar: Option<Bar>, report: &mut Report) {
    let before = singles(&stack.chain, RAW_FIRST).await;
    let loaded = under_load(stack, Load::default(), on, report).await;
    let after = singles(&stack.chain, RAW_FIRST + RAW_SINGLES).await;
    let share = loaded.rate / f64::midpoint(before.rate, after.rate);
    let name = format!("{on}throughput: service / node alone");
    match bar {
        Some(bar) => report.bar(name, share, "", bar),
        None => report.figure(name, share, ""),
    }
    report.figure(format!("{on}throughput: service, on chain"), loaded.rate, "/s");
    report.figure(format!("{on}throughput: service, accepted"), loaded.accept_rate, "/s");
    report.figure(format!("{on}throughput: node alone, singles, before"), before.rate, "/s");
    report.figure(format!("{on}throughput: node alone, singles, after"), after.rate, "/s");
}

async fn singles(chain: &BenchChain, first: u64) -> Raw {
    progress(format!("the node alone, {RAW_SINGLES} single registrations"));
    let raw = node_baseline::limit(chain, first..first + RAW_SINGLES, 1).await;
    progress(format!("{} of them at {:.0}/s", raw.registered, raw.rate));
    raw
}

/// Clients that send as much as they can.
#[derive(Clone, Copy)]
pub struct Load {
    pub clients: usize,
    /// Of all clients.
    pub connections: usize,
    pub time: Duration,
    /// The number of the first document.
    pub first: u64,
}

impl Default for Load {
    fn default() -> Self {
        Self { clients: CLIENTS, connections: CLIENTS, time: LOAD, first: 0 }
    }
}

pub struct Loaded {
    /// On chain, per second.
    pub rate: f64,
    accept_rate: f64,
    /// On chain.
    pub registered: u64,
    /// Document numbers that were used, with those of failed requests.
    pub requests: u64,
    pub cpu: Option<Cpu>,
    calls: RpcCalls,
}

impl Loaded {
    /// The service's processor time per registration in microseconds; `None` without /proc.
    pub fn cpu_each(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.service.as_secs_f64() * 1e6 / self.registered as f64)
    }
}

/// Registers as much as the clients can send and waits for all of it. Report rows are prefixed with `on`.
pub async fn under_load(stack: &BenchStack, load: Load, on: &str, report: &mut Report) -> Loaded {
    let Load { clients, connections, time, first } = load;
    progress(format!("{on}{clients} clients on {connections} connections register documents for {time:?}"));
    let channels = stack.connections(connections).await;
    let mut observer = Observer::start(&stack.chain.anvil, Duration::from_millis(10)).await;
    let calls_before = RpcCalls::read(&stack.service).await;
    let cpu_before = Cpu::now();
    let first_block = observer.next().await + 1;
    let started = Instant::now();
    let outcome = load::closed_loop_on(&channels, clients, first, Until::Time(started + time)).await;
    let accepting = started.elapsed();
    progress(format!("{} accepted in {:.1} s; draining", outcome.accepted.len(), accepting.as_secs_f64()));
    let drained = load::drained(stack, &outcome).await;
    let cpu = Cpu::now().zip(cpu_before).map(|(now, before)| now - before);
    let calls = RpcCalls::read(&stack.service).await.since(&calls_before);

    progress("counting events");
    let (counts, last) = stack.chain.registered(first_block..=observer.head()).await;
    let end = last.and_then(|block| observer.seen(block)).unwrap_or_else(Instant::now);
    check(&outcome, &counts, drained, on, report);
    let registered = counts.len() as u64;
    let took = (end - started).as_secs_f64();
    if let Some(cpu) = cpu {
        let each = |used: Duration| used.as_secs_f64() * 1e6 / registered as f64;
        report.note(format!(
            "{on}CPU under load, per registration: service {:.0} us, database server {:.0} us, node {:.0} us, this load \
             program {:.0} us",
            each(cpu.service),
            each(cpu.database),
            each(cpu.node),
            each(cpu.bench)
        ));
    }
    Loaded {
        rate: registered as f64 / took,
        accept_rate: outcome.accepted.len() as f64 / accepting.as_secs_f64(),
        registered,
        requests: outcome.requests,
        cpu,
        calls,
    }
}

/// Checks that every accepted registration is on chain exactly once, and no other.
fn check(outcome: &Outcome, counts: &BTreeMap<B256, u64>, drained: bool, on: &str, report: &mut Report) {
    let accepted: BTreeSet<B256> = outcome.accepted.iter().map(|number| document(*number).parse().unwrap()).collect();
    let lost = accepted.iter().filter(|hash| !counts.contains_key(*hash)).count();
    let twice = counts.values().filter(|count| **count > 1).count();
    let unrequested = counts.keys().filter(|hash| !accepted.contains(*hash)).count();
    report.bar(format!("{on}accepted and not on chain"), lost as f64, "", Bar::AtMost(0.0));
    report.bar(format!("{on}on chain twice"), twice as f64, "", Bar::AtMost(0.0));
    if unrequested > 0 {
        report.note(format!("{on}{unrequested} registrations are on chain although their callers got an error"));
    }
    if !drained {
        report.note(format!("{on}the queue did not drain in time"));
    }
    if !outcome.errors.is_empty() {
        report.note(format!("{on}errors under load: {}", outcome.errors()));
    }
}

async fn idle(stack: &BenchStack, when: &str, report: &mut Report) {
    // Work left over from the start or the last transactions ends first.
    sleep(Duration::from_secs(3)).await;
    progress(format!("no request for {IDLE:?}: {when}"));
    let before = RpcCalls::read(&stack.service).await;
    let started = Instant::now();
    sleep(IDLE).await;
    let calls = RpcCalls::read(&stack.service).await.since(&before);
    let per_minute = calls.total() * 60.0 / started.elapsed().as_secs_f64();
    report.bar(format!("RPC calls per minute, {when}"), per_minute, "", Bar::AtMost(90.0));
    report.note(format!("calls, {when}: {}", calls.by_method()));
}
