//! Acceptance of many documents per call, and what the service computes for each. The signer has no funds, so that
//! nothing else is measured.

use crate::{
    harness::{CASE, account, document},
    process::Cpu,
    report::{Bar, Report, listed, median, progress},
    stack::{BenchChain, BenchStack},
};
use registrar::api::proto::{DocumentKey, RegisterDocumentsRequest, registrar_service_client::RegistrarServiceClient};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};
use tonic::transport::Channel;

const CONNECTIONS: usize = 8;
const DOCUMENTS_PER_CALL: u64 = 100;
/// Not counted: includes handshakes and filling caches.
const WARM_UP: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(5);
/// Documents that are prepared before the measurement, so that hashing them is not part of it.
const PREPARED: u64 = 400_000;

pub async fn measure(report: &mut Report, rounds: usize) {
    let (mut per_second, mut cpu) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        progress(format!("calls of {DOCUMENTS_PER_CALL} documents, round {round} of {rounds}"));
        let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[]).await;
        stack.chain.anvil.set_balance(account(1), 0).await;
        let calls: Arc<[_]> = (0..PREPARED / DOCUMENTS_PER_CALL).map(request).collect();
        let next = Arc::new(AtomicU64::new(0));
        accept(&stack, &calls, &next, WARM_UP, report).await;
        let (started, before) = (Instant::now(), Cpu::now());
        let accepted = accept(&stack, &calls, &next, TIME, report).await as f64;
        per_second.push(accepted / started.elapsed().as_secs_f64());
        let used = before.zip(Cpu::now()).map(|(before, after)| after - before);
        cpu.extend(used.map(|used| used.service.as_secs_f64() * 1e6 / accepted));
    }
    report.bar("batches, accepted documents per second", median(&per_second), "/s", Bar::AtLeast(25_000.0));
    if !cpu.is_empty() {
        report.bar("batches, CPU per document", median(&cpu), "us", Bar::AtMost(25.0));
    }
    report.note(format!("batches, per second {}; CPU in us {}", listed(&per_second, 0), listed(&cpu, 1)));
}

fn request(call: u64) -> RegisterDocumentsRequest {
    let numbers = call * DOCUMENTS_PER_CALL..(call + 1) * DOCUMENTS_PER_CALL;
    let key = |number| DocumentKey { document_hash: document(number), case_id: CASE.to_owned() };
    RegisterDocumentsRequest { documents: numbers.map(key).collect(), user_id: String::new() }
}

/// Each connection sends its next call as soon as the previous one was answered. Returns the number of documents.
async fn accept(
    stack: &BenchStack,
    calls: &Arc<[RegisterDocumentsRequest]>,
    next: &Arc<AtomicU64>,
    time: Duration,
    report: &mut Report,
) -> u64 {
    let end = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for client in stack.connections(CONNECTIONS).await {
        tasks.spawn(caller(client, calls.clone(), next.clone(), end));
    }
    let (mut accepted, mut errors) = (0, BTreeMap::<String, u64>::new());
    while let Some(ended) = tasks.join_next().await {
        let (count, failed) = ended.unwrap();
        accepted += count;
        for error in failed {
            *errors.entry(error).or_default() += 1;
        }
    }
    for (error, count) in errors {
        report.note(format!("batches: {count} x {error}"));
    }
    accepted
}

async fn caller(
    mut client: RegistrarServiceClient<Channel>,
    calls: Arc<[RegisterDocumentsRequest]>,
    next: Arc<AtomicU64>,
    end: Instant,
) -> (u64, Vec<String>) {
    let (mut accepted, mut errors) = (0, Vec::new());
    while Instant::now() < end {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(call) = calls.get(number as usize) else {
            errors.push("all prepared documents are accepted".to_owned());
            break;
        };
        match client.register_documents(call.clone()).await {
            Ok(answer) => accepted += answer.into_inner().registrations.len() as u64,
            Err(status) => errors.push(format!("{:?}: {}", status.code(), status.message())),
        }
    }
    (accepted, errors)
}
