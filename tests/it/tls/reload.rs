//! New files are used without a restart or a lost connection.

use super::{HOST, TlsStack};
use crate::harness::{
    CASE, State, WaitFor,
    certificates::{Authority, Certificate, Valid, replace},
    eventually,
    tls_client::{TlsSettings, handshake},
};
use std::{fs, os::unix::fs::symlink, time::Duration};
use tokio::time::Instant;
use tokio_rustls::rustls::{
    pki_types::{CertificateDer, pem::PemObject},
    version,
};

/// How long a change may take to be used.
const RELOAD_TIME: Duration = Duration::from_secs(5);

/// The certificate that a new connection is shown.
async fn shown(stack: &TlsStack) -> CertificateDer<'static> {
    let settings = TlsSettings::new(&[&version::TLS13], &["h2"], &stack.authority, None);
    let stream = handshake(stack.service.grpc, &settings).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

fn der(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).unwrap()
}

async fn until_shown(stack: &TlsStack, certificate: &Certificate) {
    let (changed, expected) = (Instant::now(), der(certificate));
    eventually("the new certificate", async || (shown(stack).await == expected).then_some(())).await;
    assert!(changed.elapsed() < RELOAD_TIME, "after {:?}", changed.elapsed());
}

async fn reloads(stack: &TlsStack, what: &str, outcome: &str) -> f64 {
    let root = reqwest::Certificate::from_pem(stack.authority.certificate.as_bytes()).unwrap();
    let admin = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let page = admin.get(format!("https://{}/metrics", stack.service.admin)).send().await.unwrap();
    let page = crate::harness::metrics::Metrics::read(&page.text().await.unwrap());
    page.value("registrar_credentials_reload_total", &[("what", what), ("outcome", outcome)])
}

#[tokio::test]
async fn a_new_certificate_is_used_in_the_middle_of_a_stream() {
    let stack = TlsStack::start().await;
    stack.dependencies.anvil.stop_mining().await;
    let client = stack.client(None).await;
    let accepted = client.accept(1, CASE).await;
    let mut watch = client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();
    watch.next().await.unwrap().unwrap();

    // First by a rename, then, as Kubernetes does, by a link to another directory.
    let renamed = stack.authority.sign(HOST);
    renamed.write(&stack.files.path(""), "server");
    until_shown(&stack, &renamed).await;
    let linked = stack.authority.sign(HOST);
    let directory = stack.files.path("..data-2");
    fs::create_dir(&directory).unwrap();
    linked.write(&directory, "server");
    for name in ["server.crt", "server.key"] {
        let link = stack.files.path("link");
        symlink(directory.join(name), &link).unwrap();
        fs::rename(&link, stack.files.path(name)).unwrap();
    }
    until_shown(&stack, &linked).await;

    stack.dependencies.anvil.mine_on_demand().await;
    assert_eq!(watch.rest().await.last().unwrap().state(), State::Confirmed);
    client.confirm(2, CASE).await;
    assert_eq!(reloads(&stack, "certificate", "ok").await, 2.0);
    assert_eq!(reloads(&stack, "certificate", "failed").await, 0.0);
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_certificate_and_is_reported_once() {
    let stack = TlsStack::start().await;
    let before = shown(&stack).await;
    replace(&stack.files.path("server.crt"), "garbage");
    let failed = async |count: f64| (reloads(&stack, "certificate", "failed").await >= count).then_some(());
    eventually("a failed reload", async || failed(1.0).await).await;
    // A key that does not belong to it, and no file at all.
    stack.authority.sign(HOST).write(&stack.files.path(""), "server");
    replace(&stack.files.path("server.key"), stack.authority.sign(HOST).key);
    eventually("a failed reload", async || failed(2.0).await).await;
    fs::remove_file(stack.files.path("server.key")).unwrap();
    eventually("a failed reload", async || failed(3.0).await).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(shown(&stack).await, before);
    assert_eq!(reloads(&stack, "certificate", "failed").await, 3.0);
    assert_eq!(stack.logged("new TLS files cannot be used"), 3);

    let good = stack.authority.sign(HOST);
    good.write(&stack.files.path(""), "server");
    until_shown(&stack, &good).await;
}

#[tokio::test]
async fn a_client_whose_authority_was_removed_gets_no_new_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let stack = TlsStack::with_clients(&old, "required").await;
    let before = old.sign_caller(&["spiffe://prod/aaa"], &[], Valid::Now);
    let after = new.sign_caller(&["spiffe://prod/aaa"], &[], Valid::Now);
    let settings = |identity| TlsSettings::new(&[&version::TLS12], &["h2"], &stack.authority, Some(identity));
    let (resumable, other) = (settings(&before), settings(&after));
    let connected = stack.client(Some(&before)).await;
    handshake(stack.service.grpc, &resumable).await.unwrap();
    assert!(handshake(stack.service.grpc, &other).await.is_err());

    replace(&stack.files.path("clients.crt"), "garbage");
    eventually("the report", async || (stack.logged("new TLS files cannot be used") == 1).then_some(())).await;
    handshake(stack.service.grpc, &resumable).await.unwrap();
    replace(&stack.files.path("clients.crt"), &new.certificate);
    eventually("the new authority", async || handshake(stack.service.grpc, &other).await.ok()).await;

    assert!(handshake(stack.service.grpc, &resumable).await.is_err(), "its session was resumed");
    // What is open continues.
    connected.info().await;
}
