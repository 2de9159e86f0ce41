//! Processor time and throughput with and without telemetry, and the share of telemetry that is delivered.

use super::{Receivers, Sampling, stack, turns};
use crate::{
    harness::WaitFor,
    load::{self, Outcome, Until},
    observer::Observer,
    process::Cpu,
    report::{Bar, Report, listed, median, progress},
    stack::BenchStack,
};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const CLIENTS: usize = 64;
/// About ten thousand registrations in the closed loop.
const LOAD: Duration = Duration::from_secs(10);
/// 200 registrations a second for twenty seconds.
const PERIOD: Duration = Duration::from_millis(5);
const REQUESTS: u64 = 4_000;
/// Not counted: includes opening connections and filling caches.
const WARM_UP: u64 = 400;
/// Exporters send every five seconds; the cost of the last export belongs to the registrations before it.
const LAST_EXPORT: Duration = Duration::from_secs(7);

struct Turn {
    sampling: Sampling,
    /// Processor time of the service per registration, in microseconds.
    cpu: f64,
    /// Registrations per second, from the first request to the last event.
    rate: f64,
    /// Delivered share of the expected Sentry transactions and OTLP spans.
    delivered: (f64, f64),
    /// Telemetry's own processing time per registration, in microseconds.
    processing: f64,
    registrations: u64,
    problems: String,
}

#[derive(Clone, Copy)]
enum Load {
    /// Each client sends its next request as soon as the previous one is answered.
    Closed,
    /// At a fixed rate.
    Open,
}

/// Processor time at 200 registrations a second.
pub async fn cpu(report: &mut Report, rounds: usize) {
    let all = [Sampling::Off, Sampling::OnePercent, Sampling::All];
    let turns = take_turns(all, Load::Open, rounds).await;
    let off = of(&turns, Sampling::Off, |turn| turn.cpu);
    for (sampling, most) in [(Sampling::OnePercent, 25.0), (Sampling::All, 60.0)] {
        let added = added(&turns, sampling);
        report.bar(
            format!("telemetry CPU per registration at 200/s, {sampling}"),
            median(&added),
            "us",
            Bar::AtMost(most),
        );
        report.note(format!("CPU added at 200/s, {sampling}, each turn in us: {}", listed(&added, 1)));
    }
    report.figure("CPU per registration at 200/s, no telemetry", median(&off), "us");
    let (transactions, spans): (Vec<_>, Vec<_>) =
        turns.iter().filter(|turn| turn.sampling == Sampling::All).map(|turn| turn.delivered).unzip();
    let least = |shares: &[f64]| shares.iter().copied().fold(f64::INFINITY, f64::min);
    let arrived = "delivered share at 200/s, 100% kept";
    report.bar(format!("{arrived}: Sentry transactions, worst turn"), least(&transactions), "", Bar::AtLeast(1.0));
    report.bar(format!("{arrived}: OTLP spans, worst turn"), least(&spans), "", Bar::AtLeast(1.0));
    let processing = of(&turns, Sampling::All, |turn| turn.processing);
    report.figure("of it, telemetry's own thread, 100% kept", median(&processing), "us");
    note_problems(&turns, report);
}

/// Throughput and processor time at the rate that 64 clients reach.
pub async fn throughput(report: &mut Report, rounds: usize) {
    let turns = take_turns([Sampling::Off, Sampling::OnePercent], Load::Closed, rounds).await;
    let (off, on) = (of(&turns, Sampling::Off, |turn| turn.rate), of(&turns, Sampling::OnePercent, |turn| turn.rate));
    let lost: Vec<f64> = off.iter().zip(&on).map(|(off, on)| 100.0 * (1.0 - on / off)).collect();
    let added = added(&turns, Sampling::OnePercent);
    report.bar("throughput lost by telemetry, 1% kept", median(&lost), "%", Bar::AtMost(3.0));
    report.bar("telemetry CPU per registration at full load, 1% kept", median(&added), "us", Bar::AtMost(8.0));
    report.figure("throughput without telemetry", median(&off), "/s");
    let without = of(&turns, Sampling::Off, |turn| turn.cpu);
    report.figure("CPU per registration at full load, no telemetry", median(&without), "us");
    report.note(format!("throughput lost, each turn in %: {}", listed(&lost, 1)));
    report.note(format!("CPU added at full load, 1% kept, each turn in us: {}", listed(&added, 1)));
    note_problems(&turns, report);

    let all = turn(Sampling::All, Load::Closed).await;
    let (transactions, spans) = all.delivered;
    report.figure("full load, 100% kept: registrations on chain", all.rate, "/s");
    report.figure("full load, 100% kept: share of transactions delivered", transactions, "");
    report.figure("full load, 100% kept: share of spans delivered", spans, "");
    let fully_traced = all.rate * transactions.min(spans);
    report.figure("full load, 100% kept: registrations fully traced", fully_traced, "/s");
    note_problems(&[all], report);
}

async fn take_turns<const N: usize>(all: [Sampling; N], load: Load, rounds: usize) -> Vec<Turn> {
    let mut taken = Vec::new();
    for round in 0..rounds {
        for sampling in turns(all, round) {
            taken.push(turn(sampling, load).await);
        }
    }
    taken
}

async fn turn(sampling: Sampling, load: Load) -> Turn {
    let receivers = Receivers::start();
    let stack = stack(sampling, &receivers).await;
    let warm = load::closed_loop(&stack, 8, 0, Until::Count(WARM_UP)).await;
    let mut drained = load::drained(&stack, &warm).await;
    let mut observer = Observer::start(&stack.chain.anvil, Duration::from_millis(20)).await;
    let first_block = observer.next().await + 1;
    let before = Cpu::now();
    let started = Instant::now();
    let outcome = send(&stack, load, started).await;
    drained &= load::drained(&stack, &outcome).await;
    // The variant without telemetry waits too, so that both include the same polls.
    sleep(LAST_EXPORT).await;
    let last_block = observer.head();
    let cpu = Cpu::now().zip(before).map(|(now, before)| (now - before).service).unwrap_or_default();
    let (on_chain, last) = stack.chain.registered(first_block..=last_block).await;
    let took = last.and_then(|block| observer.seen(block)).unwrap_or_else(Instant::now) - started;

    let all = (warm.accepted.len() + outcome.accepted.len()) as f64;
    let metrics = stack.service.metrics().await;
    let processing = metrics.value("registrar_telemetry_processing_seconds_total", &[]) * 1e6 / all;
    let registrations = on_chain.len() as u64;
    let turn = Turn {
        sampling,
        cpu: cpu.as_secs_f64() * 1e6 / registrations as f64,
        rate: registrations as f64 / took.as_secs_f64(),
        delivered: delivered(&receivers, all),
        processing,
        registrations,
        problems: if drained { outcome.errors() } else { format!("did not drain; {}", outcome.errors()) },
    };
    progress(format!(
        "{sampling}: {} registrations at {:.0}/s, {:.1} us each, delivered {:.3} and {:.3}",
        turn.registrations, turn.rate, turn.cpu, turn.delivered.0, turn.delivered.1
    ));
    turn
}

async fn send(stack: &BenchStack, load: Load, started: Instant) -> Outcome {
    match load {
        Load::Closed => load::closed_loop(stack, CLIENTS, WARM_UP, Until::Time(started + LOAD)).await,
        Load::Open => {
            let numbers = WARM_UP..WARM_UP + REQUESTS;
            load::open_loop(stack, numbers, PERIOD, WaitFor::Accepted, |_, _| ()).await.1
        }
    }
}

/// Each registration has two Sentry transactions, the call and the registration trace, with two and four spans.
fn delivered(receivers: &Receivers, registrations: f64) -> (f64, f64) {
    let is_call = |name: &str| name == "registrar.v1.RegistrarService/RegisterDocument";
    let is_registration = |name: &str| name == "Register Document on Blockchain";
    let is_ours =
        |transaction: &&Value| transaction["transaction"].as_str().is_some_and(|n| is_call(n) || is_registration(n));
    let transactions = receivers.sentry.transactions().iter().filter(is_ours).count() as f64;
    let spans = receivers.otlp.spans();
    let ours = spans.iter().filter(|span| match &*span.op {
        "grpc.server" => is_call(&span.name),
        "db" => span.name == "accept",
        op => ["blockchain.register", "blockchain.prepare", "blockchain.send", "blockchain.wait"].contains(&op),
    });
    (transactions / (2.0 * registrations), ours.count() as f64 / (6.0 * registrations))
}

fn of(turns: &[Turn], sampling: Sampling, value: impl Fn(&Turn) -> f64) -> Vec<f64> {
    turns.iter().filter(|turn| turn.sampling == sampling).map(value).collect()
}

/// Difference to the variant without telemetry, by round.
fn added(turns: &[Turn], sampling: Sampling) -> Vec<f64> {
    let (off, on) = (of(turns, Sampling::Off, |turn| turn.cpu), of(turns, sampling, |turn| turn.cpu));
    off.iter().zip(&on).map(|(off, on)| on - off).collect()
}

fn note_problems(turns: &[Turn], report: &mut Report) {
    for turn in turns.iter().filter(|turn| !turn.problems.is_empty()) {
        report.note(format!("{}: {}", turn.sampling, turn.problems));
    }
}
