//! What TLS costs on a warm connection: the service's processor time for a call, compared with plaintext.

use crate::{
    cpu_per_call::{CALLS, cpu_per_call},
    harness::{
        certificates::Authority,
        client::{Client, channel},
        tls_client,
    },
    report::{Bar, Report, listed, median, progress},
    stack::{BenchChain, BenchStack},
};

pub async fn measure(report: &mut Report, rounds: usize) {
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let [certificate, key] = authority.sign("127.0.0.1").write(files.path(), "server");
    let settings =
        [("REGISTRAR_TLS_CERT_FILE", certificate.to_str().unwrap()), ("REGISTRAR_TLS_KEY_FILE", key.to_str().unwrap())];
    let (mut plain, mut tls) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        progress(format!("{CALLS} calls in plaintext, then over TLS, round {round} of {rounds}"));
        let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[]).await;
        let connect = async || Client::new(channel(stack.service.grpc).await);
        plain.extend(cpu_per_call(connect).await);
        drop(stack);
        let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &settings).await;
        let connect = async || tls_client::connect(stack.service.grpc, &authority, None).await;
        tls.extend(cpu_per_call(connect).await);
        stack.note_warnings("tls", report);
    }
    if plain.is_empty() || tls.is_empty() {
        report.note("TLS: this system has no /proc to measure processor time with");
        return;
    }
    let added = median(&tls) - median(&plain);
    report.bar("TLS, CPU per call on a warm connection, added", added, "us", Bar::AtMost(10.0));
    report.figure("CPU per call in plaintext", median(&plain), "us");
    report.figure("CPU per call over TLS", median(&tls), "us");
    report.note(format!("CPU per call in us, plaintext {}; TLS {}", listed(&plain, 1), listed(&tls, 1)));
}
