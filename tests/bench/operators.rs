//! The operator page: how soon a page of a store with a million finished registrations is answered and painted, and
//! what open pages cost.

use crate::{
    harness::{Client, browser, rpc::http_client},
    large_store::{FINISHED_MANY, filled},
    process::{self, Cpu},
    report::{Bar, Report, median, percentile, progress},
    stack::{BenchStack, case},
};
use futures_util::future::join_all;
use reqwest::Response;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Requests of each page.
const REQUESTS: usize = 100;
/// Longer than a page is shared for.
const APART: Duration = Duration::from_millis(1_010);
/// As many as are refreshed at once.
const STREAMS: usize = 32;
/// An open page fetches itself every two seconds.
const OPEN_PAGES: f64 = 10.0;
const FETCHES_PER_SECOND: f64 = 0.5;
const FETCHES: usize = 2_000;
const SETTLED: Duration = Duration::from_secs(3);

pub async fn measure(report: &mut Report) {
    progress(format!("a store with {FINISHED_MANY} finished registrations"));
    let (stack, _) = filled(FINISHED_MANY).await;
    let client = Client::connect(stack.service.grpc).await;
    let fresh = client.confirm(1, &case(1)).await;
    let paths = [
        ("overview", "/ui/".to_owned()),
        ("registration", format!("/ui/registrations/{}", fresh.id)),
        ("search by document", format!("/ui/search?q={}", fresh.document_hash)),
        ("search by transaction", format!("/ui/search?q={}", fresh.transaction.as_ref().unwrap().hash)),
        ("search by case", format!("/ui/search?q={}", case(FINISHED_MANY / 2))),
        ("search by nothing that exists", "/ui/search?q=no-such-case".to_owned()),
    ];
    // At the same time: each waits most of the time.
    let measured = join_all(paths.iter().map(|(_, path)| answers(&stack, path))).await;
    for ((name, _), took) in paths.iter().zip(measured) {
        report.figure(format!("operator page, {name}: median"), median(&took), "ms");
        report.bar(format!("operator page, {name}: p95"), percentile(&took, 0.95), "ms", Bar::AtMost(100.0));
    }
    paints(&stack, &paths[..2], report).await;
    memory_of_streams(&stack, report).await;
    cost_of_open_pages(&stack, report).await;
    stack.note_warnings("operators", report);
}

async fn get(stack: &BenchStack, http: &reqwest::Client, path: &str) -> Response {
    http.get(format!("http://{}{path}", stack.service.admin)).send().await.unwrap()
}

/// The times of pages that are read anew and of pages that are shared, in milliseconds, the shortest first.
async fn answers(stack: &BenchStack, path: &str) -> Vec<f64> {
    let http = http_client();
    let mut took = Vec::new();
    for request in 0..REQUESTS {
        if request < REQUESTS / 10 {
            sleep(APART).await;
        }
        let started = Instant::now();
        let response = get(stack, &http, path).await;
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.bytes().await.unwrap();
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    took
}

async fn paints(stack: &BenchStack, paths: &[(&str, String)], report: &mut Report) {
    progress("the first paint in Chromium");
    let given = json!({ "paths": paths.iter().map(|(_, path)| path).collect::<Vec<_>>() });
    let seen = browser::check("paint", &format!("http://{}", stack.service.admin), &given).await;
    for (name, path) in paths {
        report.bar(format!("first paint, {name}"), seen[path].as_f64().unwrap(), "ms", Bar::AtMost(200.0));
    }
}

/// Resident memory of a stream that is open, its connection included.
async fn memory_of_streams(stack: &BenchStack, report: &mut Report) {
    let Some(memory) = process::child("registrar").and_then(|id| process::memory(id).map(|_| id)) else { return };
    let resident = || process::memory(memory).map_or(0.0, |(now, _)| now);
    let http = http_client();
    let open = async || {
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            streams.push(get(stack, &http, "/ui/events").await);
        }
        assert!(streams.iter().all(|stream| stream.status().is_success()));
        streams
    };
    // The first ones also fill the allocator's caches.
    drop(open().await);
    sleep(SETTLED).await;
    let before = resident();
    let streams = open().await;
    sleep(SETTLED).await;
    let each = (resident() - before) * 1024.0 / STREAMS as f64;
    drop(streams);
    report.bar("memory of an open stream of events", each, "KiB", Bar::AtMost(50.0));
}

/// The service's processor time for ten open pages, as a share of one core.
async fn cost_of_open_pages(stack: &BenchStack, report: &mut Report) {
    progress(format!("{FETCHES} fetches of the overview"));
    let http = http_client();
    let before = Cpu::now();
    for _ in 0..FETCHES {
        get(stack, &http, "/ui/").await.bytes().await.unwrap();
    }
    let Some(used) = Cpu::now().zip(before).map(|(now, before)| now - before) else { return };
    let each = used.service.as_secs_f64() / FETCHES as f64;
    report.figure("processor time of a fetch of the overview", each * 1e6, "us");
    let share = each * OPEN_PAGES * FETCHES_PER_SECOND;
    report.bar("processor time of ten open pages, share of one core", share, "", Bar::AtMost(0.01));
}
