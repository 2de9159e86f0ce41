//! Memory with many registrations in flight.

use crate::{
    load::{self, Until},
    process,
    report::{Bar, Report, progress},
    stack::{BenchChain, BenchStack},
};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const REGISTRATIONS: u64 = 10_000;
const CLIENTS: usize = 64;
/// The service's limit of pending transactions per signer.
const TRANSACTIONS: u64 = 15;
const SENDING_LIMIT: Duration = Duration::from_secs(30);

/// Measures while the node mines nothing, then lets everything confirm.
pub async fn measure(report: &mut Report) {
    // Raised so that no registration times out while the node does not mine.
    let settings = [("REGISTRAR_CONFIRMATION_TIMEOUT", "1h")];
    let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &settings).await;
    let Some(service) = process::child("registrar") else {
        report.note("memory is not measured: this system has no /proc");
        return;
    };
    let fresh = process::memory(service);
    stack.chain.anvil.stop_mining().await;
    progress(format!("{REGISTRATIONS} registrations while no block comes"));
    let outcome = load::closed_loop(&stack, CLIENTS, 0, Until::Count(REGISTRATIONS)).await;
    let started = Instant::now();
    let mut pending = stack.chain.anvil.pending().await;
    while pending < TRANSACTIONS && started.elapsed() < SENDING_LIMIT {
        sleep(Duration::from_millis(100)).await;
        pending = stack.chain.anvil.pending().await;
    }
    // Includes the memory that polls use.
    sleep(Duration::from_secs(2)).await;
    let full = process::memory(service);
    stack.chain.anvil.rpc().run("evm_setIntervalMining", json!([1])).await;
    let drained = load::drained(&stack, &outcome).await;
    let settled = process::memory(service);

    let name = format!("memory, {REGISTRATIONS} in flight");
    if let (Some((fresh, _)), Some((full, peak)), Some((settled, _))) = (fresh, full, settled) {
        report.bar(name.clone(), full, "MiB", Bar::AtMost(40.0));
        report.bar(format!("{name}, peak"), peak, "MiB", Bar::AtMost(40.0));
        report.figure("memory, just started", fresh, "MiB");
        report.figure("memory, after all were confirmed", settled, "MiB");
    }
    report.note(format!("memory: {pending} transactions were pending at the time of measurement"));
    if !drained || !outcome.errors.is_empty() {
        report.note(format!("memory: drained {drained}; {}", outcome.errors()));
    }
    stack.note_warnings("memory", report);
}
