//! Cost of a store with many finished registrations, and the time of a start with many unfinished ones.

use crate::{
    harness::Service,
    load::{self, Until},
    process,
    report::{Bar, Report, progress},
    seed_database,
    stack::{BenchChain, BenchStack, case},
    throughput,
};
use registrar::api::proto::{ListRegistrationsRequest, State};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const FINISHED_FEW: u64 = 1_000;
/// Unless `--finished` names another number.
pub const FINISHED_MANY: u64 = 1_000_000;
const UNFINISHED: u64 = 10_000;
const CLIENTS: usize = 64;
/// Pages requested per kind.
const PAGES: usize = 100;
/// Periodic tasks have run once after this time.
const SETTLED: Duration = Duration::from_secs(2);

struct Turn {
    start: f64,
    rate: f64,
    cpu: f64,
    fresh: f64,
    loaded: f64,
    pages: Vec<(&'static str, f64)>,
}

type Figure = fn(&Turn) -> f64;

/// Alternates between stores with 1,000 and with `many_rows` finished registrations; then measures the start with 10,000
/// unfinished ones.
pub async fn measure(report: &mut Report, many_rows: u64, rounds: usize) {
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // The order alternates because the second turn may run on a warmer machine.
        if round % 2 == 0 {
            few.push(turn(FINISHED_FEW, report).await);
            many.push(turn(many_rows, report).await);
        } else {
            many.push(turn(many_rows, report).await);
            few.push(turn(FINISHED_FEW, report).await);
        }
    }
    let median = |turns: &[Turn], of: Figure| median(turns.iter().map(of).collect());
    let ratio = median(&many, |turn| turn.rate) / median(&few, |turn| turn.rate);
    let rows = grouped(many_rows);
    report.bar(format!("throughput: {rows} finished / 1,000"), ratio, "", Bar::AtLeast(0.95));
    let figures: [(&str, &'static str, Figure); 5] = [
        ("throughput", "/s", |turn| turn.rate),
        ("service CPU per registration", "us", |turn| turn.cpu),
        ("memory, just started", "MiB", |turn| turn.fresh),
        ("memory, under load", "MiB", |turn| turn.loaded),
        ("start to the first answer", "s", |turn| turn.start),
    ];
    for (name, unit, of) in figures {
        report.figure(format!("{name}, 1,000 finished"), median(&few, of), unit);
        report.figure(format!("{name}, {rows} finished"), median(&many, of), unit);
    }
    for (index, (name, _)) in few[0].pages.iter().enumerate() {
        let page = |turns: &[Turn]| self::median(turns.iter().map(|turn| turn.pages[index].1).collect());
        report.figure(format!("page of 50, {name}, 1,000 finished"), page(&few), "ms");
        report.figure(format!("page of 50, {name}, {rows} finished"), page(&many), "ms");
    }
    let list = |turns: &[Turn]| turns.iter().map(|turn| format!("{:.0}", turn.rate)).collect::<Vec<_>>().join(", ");
    report.note(format!("growth: throughput by turn, 1,000: {}; {rows}: {}", list(&few), list(&many)));
    start_with_unfinished(report).await;
}

async fn turn(finished: u64, report: &mut Report) -> Turn {
    progress(format!("a store with {finished} finished registrations"));
    let (stack, start) = filled(finished).await;
    sleep(SETTLED).await;
    let service = process::child("registrar");
    let memory = || service.and_then(process::memory).map_or(0.0, |(now, _)| now);
    let fresh = memory();
    let pages = pages(&stack, finished).await;
    let loaded = throughput::under_load(&stack, throughput::Load::default(), "", report).await;
    let cpu = loaded.cpu_each().unwrap_or_default();
    Turn { start, rate: loaded.rate, cpu, fresh, loaded: memory(), pages }
}

/// A running service whose store has this many finished registrations, and the seconds from its start to its first
/// answer.
pub async fn filled(finished: u64) -> (BenchStack, f64) {
    let mut stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[]).await;
    stack.service.terminate();
    stack.service.exit_code().await;
    seed_database::finished(&stack.database, finished).await;
    let took = restart_and_list(&mut stack).await;
    (stack, took)
}

async fn restart_and_list(stack: &mut BenchStack) -> f64 {
    let started = Instant::now();
    stack.service = Service::start(&stack.settings).await;
    assert_eq!(stack.service.http("/readyz").await.0, 200, "it does not serve");
    stack.connect().await.list_registrations(ListRegistrationsRequest::default()).await.unwrap();
    started.elapsed().as_secs_f64()
}

/// Median time of a page of each kind, in milliseconds.
async fn pages(stack: &BenchStack, finished: u64) -> Vec<(&'static str, f64)> {
    let mut client = stack.connect().await;
    let states = |states: &[State]| states.iter().map(|state| i32::from(*state)).collect();
    let all = ListRegistrationsRequest::default();
    let confirmed = ListRegistrationsRequest { states: states(&[State::Confirmed]), ..Default::default() };
    let rare = ListRegistrationsRequest { states: states(&[State::Queued, State::Failed]), ..Default::default() };
    let of_case = ListRegistrationsRequest { case_id: case(finished / 2), ..Default::default() };
    let mut deep = all.clone();
    for _ in 0..finished.min(20_000) / 500 {
        let request = ListRegistrationsRequest { page_size: 500, ..deep.clone() };
        deep.page_token = client.list_registrations(request).await.unwrap().into_inner().next_page_token;
    }
    let mut measured = Vec::new();
    for (name, request) in
        [("all", all), ("deep", deep), ("confirmed", confirmed), ("queued or failed", rare), ("one case", of_case)]
    {
        let mut took = Vec::with_capacity(PAGES);
        for _ in 0..PAGES {
            let started = Instant::now();
            client.list_registrations(request.clone()).await.unwrap();
            took.push(started.elapsed().as_secs_f64() * 1e3);
        }
        measured.push((name, median(took)));
    }
    measured
}

/// 15 transactions are pending and the rest is queued.
async fn start_with_unfinished(report: &mut Report) {
    let settings = [("REGISTRAR_CONFIRMATION_TIMEOUT", "1h")];
    let mut stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &settings).await;
    stack.chain.anvil.stop_mining().await;
    progress(format!("a start with {UNFINISHED} unfinished registrations"));
    let outcome = load::closed_loop(&stack, CLIENTS, 0, Until::Count(UNFINISHED)).await;
    sleep(SETTLED).await;
    let mut took = Vec::new();
    for _ in 0..5 {
        stack.service.kill();
        took.push(restart_and_list(&mut stack).await);
    }
    let longest = took.iter().copied().fold(0.0, f64::max);
    report.bar("start with 10,000 unfinished, to the first answer, longest of 5", longest, "s", Bar::AtMost(2.0));
    stack.chain.anvil.rpc().run("evm_setIntervalMining", json!([1])).await;
    if !load::drained(&stack, &outcome).await {
        report.note("growth: the unfinished registrations did not drain in time");
    }
    stack.note_warnings("growth", report);
}

/// With a comma after each group of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
