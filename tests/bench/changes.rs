//! The change feed: the throughput that its readers cost, the time from a commit to a reader, and the memory of readers
//! that wait.

use crate::{
    harness::{Client, WaitFor},
    load, process,
    report::{Bar, Report, listed, median, percentile, progress},
    stack::{BenchChain, BenchStack},
    throughput::{Load, under_load},
};
use registrar::api::proto::{State, WatchChangesRequest, WatchChangesResponse, watch_changes_response::Change};
use std::{collections::HashMap, time::Duration};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};
use tonic::Streaming;

/// Of the feed, while throughput is measured.
const READERS: usize = 4;
/// 200 requests a second for ten seconds.
const PERIOD: Duration = Duration::from_millis(5);
const REQUESTS: u64 = 2_000;
/// For the reader to get the last of them.
const READING_LIMIT: Duration = Duration::from_secs(30);
const IDLE_FOLLOWERS: usize = 1_000;
/// Of the followers of one connection. The service lets one connection have half of its waiting calls.
const PER_CONNECTION: usize = 500;

pub async fn measure(report: &mut Report, rounds: usize) {
    throughput(report, rounds).await;
    delay(report).await;
    memory(report).await;
}

/// With and without readers in turn, because the machine's other load varies.
async fn throughput(report: &mut Report, rounds: usize) {
    let (mut rates, mut read) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let followed_first = !round.is_multiple_of(2);
        let (first, second) = (turn(followed_first, report).await, turn(!followed_first, report).await);
        let ((followed, changes), (alone, _)) = if followed_first { (first, second) } else { (second, first) };
        progress(format!("round {round}: {followed:.0}/s with {READERS} readers, {alone:.0}/s without"));
        rates.push(followed / alone);
        read.push(changes as f64);
    }
    let name = format!("change feed: throughput with {READERS} readers / without");
    report.bar(name, median(&rates), "", Bar::AtLeast(0.95));
    report.note(format!("change feed: ratios {}; changes read {}", listed(&rates, 3), listed(&read, 0)));
}

/// Registrations on chain per second, and what the readers read.
async fn turn(followed: bool, report: &mut Report) -> (f64, u64) {
    let stack = BenchStack::start(BenchChain::with_block_time(0.2).await, &[]).await;
    let mut readers = JoinSet::new();
    if followed {
        for _ in 0..READERS {
            let mut messages = follow(&Client::connect(stack.service.grpc).await).await;
            readers.spawn(async move {
                let mut changes = 0;
                // Until the service ends.
                while let Ok(Some(message)) = messages.message().await {
                    changes += u64::from(matches!(message.change, Some(Change::Registration(_))));
                }
                changes
            });
        }
    }
    let loaded = under_load(&stack, Load::default(), "change feed: ", report).await;
    drop(stack);
    (loaded.rate, readers.join_all().await.into_iter().sum())
}

/// From the request, which is earlier than the commit, to the reader's first message of the registration.
async fn delay(report: &mut Report) {
    progress(format!("{REQUESTS} requests at 200/s with a reader of the feed"));
    let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[]).await;
    let reader = read_first_changes(follow(&Client::connect(stack.service.grpc).await).await);
    let requested =
        |started: Instant, registration: &registrar::api::proto::Registration| (registration.id.clone(), started);
    let (requests, outcome) = load::open_loop(&stack, 0..REQUESTS, PERIOD, WaitFor::Accepted, requested).await;
    let Ok(read) = tokio::time::timeout(READING_LIMIT, reader).await else {
        report.note("change feed: the reader did not get every registration");
        return;
    };
    let read = read.unwrap();
    let took = requests.iter().filter_map(|(id, started)| Some(read.get(id)?.duration_since(*started)));
    let mut took: Vec<f64> = took.map(|took| took.as_secs_f64() * 1e3).collect();
    took.sort_by(f64::total_cmp);
    report.bar("change feed at 200/s: request to reader, p95", percentile(&took, 0.95), "ms", Bar::AtMost(50.0));
    report.figure("change feed at 200/s: request to reader, p50", percentile(&took, 0.5), "ms");
    if !outcome.errors.is_empty() {
        report.note(format!("change feed: {}", outcome.errors()));
    }
}

/// When the first change of each registration was read, until there is one of every request.
fn read_first_changes(mut messages: Streaming<WatchChangesResponse>) -> JoinHandle<HashMap<String, Instant>> {
    tokio::spawn(async move {
        let mut read = HashMap::new();
        while (read.len() as u64) < REQUESTS {
            let message = messages.message().await.unwrap().unwrap();
            if let Some(Change::Registration(registration)) = message.change {
                read.entry(registration.id).or_insert_with(Instant::now);
            }
        }
        read
    })
}

async fn memory(report: &mut Report) {
    progress(format!("{IDLE_FOLLOWERS} readers that wait"));
    let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[]).await;
    let Some(service) = process::child("registrar") else {
        report.note("change feed: memory is not measured: this system has no /proc");
        return;
    };
    // Includes what the first call allocates.
    drop(follow(&Client::connect(stack.service.grpc).await).await);
    sleep(Duration::from_secs(2)).await;
    let before = process::memory(service);
    let mut waiting = Vec::new();
    for _ in 0..IDLE_FOLLOWERS / PER_CONNECTION {
        let client = Client::connect(stack.service.grpc).await;
        for _ in 0..PER_CONNECTION {
            let request = WatchChangesRequest { states: vec![State::Failed.into()], ..Default::default() };
            waiting.push(client.stub().watch_changes(request).await.unwrap());
        }
    }
    // For the first checkpoints.
    sleep(Duration::from_secs(20)).await;
    if let (Some((before, _)), Some((after, _))) = (before, process::memory(service)) {
        let name = format!("memory of {IDLE_FOLLOWERS} waiting readers of the change feed");
        report.bar(name, after - before, "MiB", Bar::AtMost(20.0));
    }
    drop(waiting);
}

async fn follow(client: &Client) -> Streaming<WatchChangesResponse> {
    client.stub().watch_changes(WatchChangesRequest::default()).await.unwrap().into_inner()
}
