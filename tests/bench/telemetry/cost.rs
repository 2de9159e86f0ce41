//! Processor time per registration and throughput, with telemetry and without; and what of it arrives.

use super::{Kept, Receivers, listed, median, stack, turns};
use crate::{
    harness::WaitFor,
    load::{self, Outcome, Until},
    observer::Observer,
    process::Cpu,
    report::{Bar, Report, progress},
    stack::Stack,
};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const CLIENTS: usize = 64;
/// How long the clients of a closed loop send: some ten thousand registrations.
const LOAD: Duration = Duration::from_secs(10);
/// 200 registrations a second for half a minute.
const PERIOD: Duration = Duration::from_millis(5);
const REQUESTS: u64 = 6_000;
/// The first calls pay for connections, cold caches and pages.
const WARM_UP: u64 = 400;
/// An exporter sends what it has every five seconds; what that costs belongs to the registrations before it.
const LAST_EXPORT: Duration = Duration::from_secs(7);

/// What one turn showed.
struct Turn {
    kept: Kept,
    /// Processor time of the service per registration, in microseconds.
    cpu: f64,
    /// Registrations per second from the first request to the last event.
    rate: f64,
    /// Of what telemetry should have said of registrations, the share that arrived: transactions and spans.
    delivered: (f64, f64),
    /// Time that telemetry says it took besides, per registration, in microseconds.
    processing: f64,
    registrations: u64,
    problems: String,
}

/// How the requests come.
#[derive(Clone, Copy)]
enum Load {
    /// Each client sends the next one as soon as the last one is answered.
    Closed,
    /// At a fixed rate.
    Open,
}

/// Processor time at 200 registrations a second.
pub async fn cpu(report: &mut Report, rounds: usize) {
    let all = [Kept::Off, Kept::OnePercent, Kept::All];
    let turns = take_turns(all, Load::Open, rounds).await;
    let off = of(&turns, Kept::Off, |turn| turn.cpu);
    for (kept, most) in [(Kept::OnePercent, 25.0), (Kept::All, 60.0)] {
        let added = added(&turns, kept);
        report.bar(format!("telemetry CPU per registration at 200/s, {kept}"), median(&added), "us", Bar::AtMost(most));
        report.note(format!("CPU added at 200/s, {kept}, each turn in us: {}", listed(&added, 1)));
    }
    report.figure("CPU per registration at 200/s, no telemetry", median(&off), "us");
    let (transactions, spans): (Vec<_>, Vec<_>) =
        turns.iter().filter(|turn| turn.kept == Kept::All).map(|turn| turn.delivered).unzip();
    let least = |shares: &[f64]| shares.iter().copied().fold(f64::INFINITY, f64::min);
    let arrived = "delivered share at 200/s, 100% kept";
    report.bar(format!("{arrived}: Sentry transactions, worst turn"), least(&transactions), "", Bar::AtLeast(1.0));
    report.bar(format!("{arrived}: OTLP spans, worst turn"), least(&spans), "", Bar::AtLeast(1.0));
    let processing = of(&turns, Kept::All, |turn| turn.processing);
    report.figure("of it, telemetry's own thread, 100% kept", median(&processing), "us");
    note_problems(&turns, report);
}

/// Throughput and processor time with as many registrations as 64 clients can send.
pub async fn throughput(report: &mut Report, rounds: usize) {
    let turns = take_turns([Kept::Off, Kept::OnePercent], Load::Closed, rounds).await;
    let (off, on) = (of(&turns, Kept::Off, |turn| turn.rate), of(&turns, Kept::OnePercent, |turn| turn.rate));
    let lost: Vec<f64> = off.iter().zip(&on).map(|(off, on)| 100.0 * (1.0 - on / off)).collect();
    let added = added(&turns, Kept::OnePercent);
    report.bar("throughput lost by telemetry, 1% kept", median(&lost), "%", Bar::AtMost(3.0));
    report.bar("telemetry CPU per registration at full load, 1% kept", median(&added), "us", Bar::AtMost(25.0));
    report.figure("throughput without telemetry", median(&off), "/s");
    let without = of(&turns, Kept::Off, |turn| turn.cpu);
    report.figure("CPU per registration at full load, no telemetry", median(&without), "us");
    report.note(format!("throughput lost, each turn in %: {}", listed(&lost, 1)));
    report.note(format!("CPU added at full load, 1% kept, each turn in us: {}", listed(&added, 1)));
    note_problems(&turns, report);

    let all = turn(Kept::All, Load::Closed).await;
    let (transactions, spans) = all.delivered;
    report.figure("full load, 100% kept: registrations on chain", all.rate, "/s");
    report.figure("full load, 100% kept: share of transactions delivered", transactions, "");
    report.figure("full load, 100% kept: share of spans delivered", spans, "");
    let told = all.rate * transactions.min(spans);
    report.figure("full load, 100% kept: registrations told whole", told, "/s");
    note_problems(&[all], report);
}

async fn take_turns<const N: usize>(all: [Kept; N], load: Load, rounds: usize) -> Vec<Turn> {
    let mut taken = Vec::new();
    for round in 0..rounds {
        for kept in turns(all, round) {
            taken.push(turn(kept, load).await);
        }
    }
    taken
}

async fn turn(kept: Kept, load: Load) -> Turn {
    let receivers = Receivers::start();
    let stack = stack(kept, &receivers).await;
    let warm = load::closed_loop(&stack, 8, 0, Until::Count(WARM_UP)).await;
    let mut drained = load::drained(&stack, &warm).await;
    let mut observer = Observer::start(&stack.ground.anvil, Duration::from_millis(20)).await;
    let first_block = observer.next().await + 1;
    let before = Cpu::now();
    let begun = Instant::now();
    let outcome = send(&stack, load, begun).await;
    drained &= load::drained(&stack, &outcome).await;
    // Without telemetry too: polls go on meanwhile, and cost both the same.
    sleep(LAST_EXPORT).await;
    let last_block = observer.head();
    let cpu = Cpu::now().zip(before).map(|(now, before)| (now - before).service).unwrap_or_default();
    let (on_chain, last) = stack.ground.registered(first_block..=last_block).await;
    let took = last.and_then(|block| observer.seen(block)).unwrap_or_else(Instant::now) - begun;

    let all = (warm.accepted.len() + outcome.accepted.len()) as f64;
    let metrics = stack.service.metrics().await;
    let processing = metrics.value("registrar_telemetry_processing_seconds_total", &[]) * 1e6 / all;
    let registrations = on_chain.len() as u64;
    let turn = Turn {
        kept,
        cpu: cpu.as_secs_f64() * 1e6 / registrations as f64,
        rate: registrations as f64 / took.as_secs_f64(),
        delivered: delivered(&receivers, all),
        processing,
        registrations,
        problems: if drained { outcome.errors() } else { format!("did not drain; {}", outcome.errors()) },
    };
    progress(format!(
        "{kept}: {} registrations at {:.0}/s, {:.1} us each, delivered {:.3} and {:.3}",
        turn.registrations, turn.rate, turn.cpu, turn.delivered.0, turn.delivered.1
    ));
    turn
}

async fn send(stack: &Stack, load: Load, begun: Instant) -> Outcome {
    match load {
        Load::Closed => load::closed_loop(stack, CLIENTS, WARM_UP, Until::Time(begun + LOAD)).await,
        Load::Open => {
            let numbers = WARM_UP..WARM_UP + REQUESTS;
            load::open_loop(stack, numbers, PERIOD, WaitFor::Accepted, |_, _| ()).await.1
        }
    }
}

/// A registration is two transactions, its call and its journey, of two and four spans.
fn delivered(receivers: &Receivers, registrations: f64) -> (f64, f64) {
    let is_call = |name: &str| name == "registrar.v1.RegistrarService/RegisterDocument";
    let is_journey = |name: &str| name == "Register Document on Blockchain";
    let is_ours =
        |transaction: &&Value| transaction["transaction"].as_str().is_some_and(|n| is_call(n) || is_journey(n));
    let transactions = receivers.sentry.transactions().iter().filter(is_ours).count() as f64;
    let spans = receivers.otlp.spans();
    let ours = spans.iter().filter(|span| match &*span.op {
        "grpc.server" => is_call(&span.name),
        "db" => span.name == "accept",
        op => ["blockchain.register", "blockchain.prepare", "blockchain.send", "blockchain.wait"].contains(&op),
    });
    (transactions / (2.0 * registrations), ours.count() as f64 / (6.0 * registrations))
}

fn of(turns: &[Turn], kept: Kept, value: impl Fn(&Turn) -> f64) -> Vec<f64> {
    turns.iter().filter(|turn| turn.kept == kept).map(value).collect()
}

/// By how much it is more than without telemetry, round by round.
fn added(turns: &[Turn], kept: Kept) -> Vec<f64> {
    let (off, on) = (of(turns, Kept::Off, |turn| turn.cpu), of(turns, kept, |turn| turn.cpu));
    off.iter().zip(&on).map(|(off, on)| on - off).collect()
}

fn note_problems(turns: &[Turn], report: &mut Report) {
    for turn in turns.iter().filter(|turn| !turn.problems.is_empty()) {
        report.note(format!("{}: {}", turn.kept, turn.problems));
    }
}
