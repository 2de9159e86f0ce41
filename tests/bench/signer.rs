//! Throughput with a remote signer that takes as long as a key management service does, compared with a key in memory.

use crate::{
    harness::remote_signer::{RemoteSigner, Signing},
    report::{Bar, Report, progress},
    stack::{BenchChain, BenchStack},
    throughput::{Load, under_load},
};
use std::time::Duration;

/// For one signature.
const LATENCY: Duration = Duration::from_millis(100);

/// Alternates, because the machine's other load may vary.
pub async fn measure(report: &mut Report, rounds: usize) {
    let (mut local, mut remote) = (0.0, 0.0);
    for round in 1..=rounds {
        progress(format!("round {round} of {rounds}: a key in memory"));
        local += rate("signer in memory: ", &[], report).await;
        progress(format!("round {round} of {rounds}: a remote signer that takes {LATENCY:?}"));
        let signer = RemoteSigner::start(1);
        signer.set(Signing::Slow(LATENCY));
        let settings = [("REGISTRAR_SIGNER_KEYS", ""), ("REGISTRAR_SIGNERS", &signer.uri())];
        remote += rate("remote signer: ", &settings, report).await;
    }
    report.figure("signer in memory: throughput", local / rounds as f64, "/s");
    report.figure("remote signer of 100 ms: throughput", remote / rounds as f64, "/s");
    report.bar("remote signer of 100 ms: throughput / in memory", remote / local, "", Bar::AtLeast(0.9));
}

async fn rate(on: &str, settings: &[(&str, &str)], report: &mut Report) -> f64 {
    let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, settings).await;
    let loaded = under_load(&stack, Load::default(), on, report).await;
    stack.note_warnings(on, report);
    loaded.rate
}
