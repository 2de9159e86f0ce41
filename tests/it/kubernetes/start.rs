//! The rendered settings start the built program, and its probes answer as the manifests expect.

use super::{
    OVERLAYS, PROBES,
    pod::{ADMIN_TOKEN, CALLER_TOKEN, HOST, Pod, callers, on_loopback, tls_files},
    text,
};
use crate::{
    auth::caller,
    harness::{
        CASE, Service, eventually,
        tls_client::{TlsSettings, handshake},
        within,
    },
};
use registrar::api::proto::GetServiceInfoRequest;
use std::collections::BTreeMap;
use tokio_rustls::rustls::{
    pki_types::{CertificateDer, pem::PemObject},
    version,
};

/// Of a caller that is added while the service runs.
const NEW_TOKEN: &str = "rgs_FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF";

async fn assert_ready(pod: &Pod, service: &Service) {
    for probe in PROBES {
        let path = text(&pod.manifests.container()[probe]["httpGet"]["path"]);
        eventually(probe, async || (pod.get(service, path, None).await.unwrap().0 == 200).then_some(())).await;
    }
}

/// A setting without effect, and a secret that every user of the machine can read, are warned about.
fn assert_no_setting_is_warned_about(service: &Service) {
    let is_it = |text: &str| text.contains("is ignored") || text.contains("every user of this machine can read");
    let warned: Vec<_> = service.log().into_iter().filter(|line| line["message"].as_str().is_some_and(is_it)).collect();
    assert!(warned.is_empty(), "{warned:#?}");
}

async fn assert_serves(overlay: &str) {
    let pod = Pod::prepare(overlay).await;
    let service = pod.start().await;
    assert_ready(&pod, &service).await;

    let status = async |token: Option<&str>| pod.get(&service, "/metrics", token).await.unwrap().0;
    assert_eq!(status(None).await, 401);
    assert_eq!(status(Some(CALLER_TOKEN)).await, 403);
    assert_eq!(status(Some(ADMIN_TOKEN)).await, 200);
    pod.client(&service, CALLER_TOKEN).await.confirm(1, CASE).await;
    assert_no_setting_is_warned_about(&service);
}

#[tokio::test]
async fn the_settings_of_the_stateful_set_start_the_service() {
    assert_serves("sqlite").await;
}

#[tokio::test]
async fn the_settings_of_the_deployment_start_the_service() {
    assert_serves("postgres").await;
}

#[tokio::test]
async fn both_replicas_of_the_deployment_become_ready_and_share_their_work() {
    let pod = Pod::prepare("postgres").await;
    let (first, second) = (pod.start().await, pod.start().await);
    assert_ready(&pod, &first).await;
    assert_ready(&pod, &second).await;
    let id = pod.client(&first, CALLER_TOKEN).await.confirm(1, CASE).await.id;
    pod.client(&second, CALLER_TOKEN).await.get(&id).await.unwrap();
}

#[tokio::test]
async fn the_contract_s_address_is_all_that_an_operator_has_to_add() {
    for overlay in OVERLAYS {
        let pod = Pod::prepare(overlay).await;
        let failed = Service::expect_start_failure(&pod.settings.clone().set("REGISTRAR_CONTRACT_ADDRESS", "")).await;
        assert_eq!(failed.code, 64, "{failed:?}");
        let expected = "1 invalid setting:\n  REGISTRAR_CONTRACT_ADDRESS: is required";
        assert!(failed.output.contains(expected), "{}", failed.output);
    }
}

#[tokio::test]
async fn updated_secrets_are_used_without_a_restart() {
    let pod = Pod::prepare("sqlite").await;
    let service = pod.start().await;
    let added = pod.client(&service, NEW_TOKEN).await;
    let calls = async || within("GetServiceInfo", added.stub().get_service_info(GetServiceInfoRequest {})).await;
    assert!(calls().await.is_err());

    let text = callers() + &caller("new", NEW_TOKEN, r#""read""#, "");
    pod.update("/etc/registrar/callers", &BTreeMap::from([("callers.toml".to_owned(), text.into_bytes())]));
    eventually("the new caller", async || calls().await.ok()).await;

    let new = pod.authority.sign(HOST);
    pod.update("/etc/registrar/tls", &tls_files(&new));
    let expected = CertificateDer::from_pem_slice(new.certificate.as_bytes()).unwrap();
    let settings = TlsSettings::new(&[&version::TLS13], &["h2"], &pod.authority, None);
    eventually("the new certificate", async || {
        let stream = handshake(on_loopback(service.grpc), &settings).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        (shown == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn probes_need_a_client_certificate_unless_it_is_optional() {
    let mut pod = Pod::prepare("sqlite").await;
    let authority = pod.authority.root();
    pod.settings = pod.settings.set("REGISTRAR_TLS_CLIENT_CA_FILE", authority.display());
    let service = pod.start().await;
    assert!(pod.get(&service, "/healthz", None).await.is_err());
    drop(service);

    pod.settings = pod.settings.set("REGISTRAR_TLS_CLIENT_AUTH", "optional");
    let service = pod.start().await;
    assert_ready(&pod, &service).await;
}
