//! Certificates: how long one takes to make, how large it is, and how long it takes to verify.

use crate::{
    harness::{CASE, Client, Finality, State, WaitFor, document, register_all_request, register_request},
    report::{Bar, Report, percentile, progress},
    stack::{BenchChain, BenchStack},
};
use registrar::{
    api::proto::{DocumentKey, GetCertificateRequest, get_certificate_request::Key},
    certificate::Certificate,
};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// On chain before a certificate is asked for.
const DOCUMENTS: u64 = 1_000;
const CERTIFICATES: u64 = 40;
/// Callers' calls to endpoints have a budget; a certificate takes eight of 50 a second.
const PERIOD: Duration = Duration::from_millis(500);
const VERIFICATIONS: u32 = 2_000;

pub async fn measure(report: &mut Report) {
    progress(format!("{CERTIFICATES} certificates of {DOCUMENTS} documents"));
    let stack = BenchStack::start(BenchChain::with_block_time(0.2).await, &[]).await;
    let client = Client::connect(stack.service.grpc).await;
    let registered = client.register_all(register_all_request(0..DOCUMENTS)).await.unwrap();
    // Of the batches, the last document's is the last one.
    for registration in [&registered[0], &registered[registered.len() - 1]] {
        client.wait_for_state(&registration.id, State::Confirmed).await;
    }
    client.register(register_request(DOCUMENTS, CASE, WaitFor::Confirmed)).await.unwrap();

    let (mut took, mut files) = (Vec::new(), Vec::new());
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..CERTIFICATES {
        ticks.tick().await;
        let key = DocumentKey { document_hash: document(number), case_id: CASE.to_owned() };
        let request = GetCertificateRequest { key: Some(Key::Document(key)), min_finality: Finality::Unsafe.into() };
        let started = Instant::now();
        let response = client.certificate(request).await.unwrap();
        took.push(started.elapsed().as_secs_f64() * 1e3);
        files.push(response.certificate);
    }
    took.sort_by(f64::total_cmp);
    report.bar("certificate made, p95", percentile(&took, 0.95), "ms", Bar::AtMost(300.0));
    report.figure("certificate made, p50", percentile(&took, 0.5), "ms");
    let largest = files.iter().map(Vec::len).max().unwrap_or_default();
    report.bar("certificate, largest file", largest as f64 / 1_024.0, "KiB", Bar::AtMost(10.0));

    let started = Instant::now();
    for file in files.iter().cycle().take(VERIFICATIONS as usize) {
        Certificate::parse(file).and_then(|certificate| certificate.verify()).unwrap();
    }
    let each = (started.elapsed() / VERIFICATIONS).as_secs_f64() * 1e3;
    report.bar("certificate verified", each, "ms", Bar::AtMost(5.0));
    stack.note_warnings("certificates", report);
}
