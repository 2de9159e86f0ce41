//! Memory with very much in flight.

use crate::{
    load::{self, Until},
    process,
    report::{Bar, Report, progress},
    stack::{Ground, Stack},
};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const REGISTRATIONS: u64 = 10_000;
const CLIENTS: usize = 64;
/// The service keeps at most 15 transactions of a signer with the node.
const TRANSACTIONS: u64 = 15;
const SENDING_LIMIT: Duration = Duration::from_secs(30);

/// Measures it while the node mines nothing, and then lets everything through.
pub async fn measure(report: &mut Report) {
    // Nothing of this is late: the node is told not to mine.
    let settings = [("REGISTRAR_CONFIRMATION_TIMEOUT", "1h")];
    let stack = Stack::start(Ground::mining_every(1.0).await, &settings).await;
    let Some(service) = process::child("registrar") else {
        report.note("memory is not measured: this system has no /proc");
        return;
    };
    let fresh = process::memory(service);
    stack.ground.anvil.stop_mining().await;
    progress(format!("{REGISTRATIONS} registrations while no block comes"));
    let outcome = load::closed_loop(&stack, CLIENTS, 0, Until::Count(REGISTRATIONS)).await;
    let begun = Instant::now();
    let mut pending = stack.ground.anvil.pending().await;
    while pending < TRANSACTIONS && begun.elapsed() < SENDING_LIMIT {
        sleep(Duration::from_millis(100)).await;
        pending = stack.ground.anvil.pending().await;
    }
    // Polls go on meanwhile; what they hold for a moment counts too.
    sleep(Duration::from_secs(2)).await;
    let full = process::memory(service);
    stack.ground.anvil.rpc().run("evm_setIntervalMining", json!([1])).await;
    let drained = load::drained(&stack, &outcome).await;
    let settled = process::memory(service);

    let name = format!("memory, {REGISTRATIONS} in flight");
    if let (Some((fresh, _)), Some((full, peak)), Some((settled, _))) = (fresh, full, settled) {
        report.bar(name.clone(), full, "MiB", Bar::AtMost(100.0));
        report.bar(format!("{name}, peak"), peak, "MiB", Bar::AtMost(100.0));
        report.figure("memory, just started", fresh, "MiB");
        report.figure("memory, after all were confirmed", settled, "MiB");
    }
    report.note(format!("memory: {pending} transactions were with the node at the moment of measuring"));
    if !drained || !outcome.errors.is_empty() {
        report.note(format!("memory: drained {drained}; {}", outcome.errors()));
    }
    stack.note_warnings("memory", report);
}
