//! Who gets through the handshake, and as whom.

use super::{HOST, TlsStack};
use crate::harness::{
    CASE, Client, State, WaitFor,
    certificates::{Authority, Certificate, Valid},
    eventually, register_request,
    rpc::http_client,
    tls_client::{TlsSettings, channel, handshake},
};
use registrar::api::proto::{GetServiceInfoRequest, registrar_service_client::RegistrarServiceClient};
use std::{net::SocketAddr, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::{HandshakeKind, version};

/// Whether a call with this certificate is answered.
async fn is_answered(address: SocketAddr, authority: &Authority, identity: Option<&Certificate>) -> bool {
    let Ok(channel) = channel(address, authority, identity).await else { return false };
    RegistrarServiceClient::new(channel).get_service_info(GetServiceInfoRequest {}).await.is_ok()
}

#[tokio::test]
async fn both_listeners_use_tls_and_each_offers_what_it_speaks() {
    let stack = TlsStack::start().await;
    let registered = stack.client(None).await.confirm(1, CASE).await;
    assert_eq!(registered.state(), State::Confirmed);

    let root = reqwest::Certificate::from_pem(stack.authority.certificate.as_bytes()).unwrap();
    drop(http_client());
    let admin = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let ready = admin.get(format!("https://{}/readyz", stack.service.admin)).send().await.unwrap();
    assert_eq!((ready.status().as_u16(), ready.text().await.unwrap().as_str()), (200, "ready\n"));

    // Without HTTP/2 a client uses Connect.
    let info = admin.post(format!("https://{}/registrar.v1.RegistrarService/GetServiceInfo", stack.service.grpc));
    let info = info.header("content-type", "application/json").body("{}").send().await.unwrap();
    assert_eq!(info.status().as_u16(), 200, "{info:?}");

    let settings = TlsSettings::new(&[&version::TLS13], &["h2", "http/1.1"], &stack.authority, None);
    for (address, expected) in [(stack.service.grpc, "h2"), (stack.service.admin, "http/1.1")] {
        let stream = handshake(address, &settings).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(expected.as_bytes()));
    }
    let unknown = TlsSettings::new(&[&version::TLS13], &["spdy"], &stack.authority, None);
    assert!(handshake(stack.service.grpc, &unknown).await.is_err());
}

#[tokio::test]
async fn a_client_with_tls_1_2_is_served() {
    let stack = TlsStack::start().await;
    let settings = TlsSettings::new(&[&version::TLS12], &["http/1.1"], &stack.authority, None);
    let mut stream = handshake(stack.service.admin, &settings).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn only_a_valid_certificate_of_the_right_authority_is_accepted() {
    let (clients, others) = (Authority::new(), Authority::new());
    let valid = clients.sign_caller(&["spiffe://prod/aaa"], &[], Valid::Now);
    let refused = [
        ("of another authority", others.sign_caller(&["spiffe://prod/aaa"], &[], Valid::Now)),
        ("expired", clients.sign_caller(&[], &["aaa.internal"], Valid::Expired)),
        ("not yet valid", clients.sign_caller(&[], &["aaa.internal"], Valid::NotYet)),
        ("a server's", clients.sign(HOST)),
    ];
    for (mode, without_certificate) in [("required", false), ("optional", true)] {
        let stack = TlsStack::with_clients(&clients, mode).await;
        let address = stack.service.grpc;
        assert!(is_answered(address, &stack.authority, Some(&valid)).await, "{mode}");
        assert_eq!(is_answered(address, &stack.authority, None).await, without_certificate, "{mode}");
        for (what, certificate) in &refused {
            assert!(!is_answered(address, &stack.authority, Some(certificate)).await, "{what} with {mode}");
        }
        eventually("every failure in the log", async || {
            (stack.logged("a TLS handshake failed") >= refused.len()).then_some(())
        })
        .await;
        let warnings = stack.service.log().into_iter();
        let warnings = warnings.filter(|line| line["message"] == "a TLS handshake failed" && line["level"] == "WARN");
        assert_eq!(warnings.count(), 1);
    }
}

#[tokio::test]
async fn a_caller_is_known_by_its_certificate_on_resumed_sessions_too() {
    let clients = Authority::new();
    let stack = TlsStack::with_clients(&clients, "required").await;
    let identity = clients.sign_caller(&["spiffe://prod/ns/aaa/sa/aaa"], &["aaa.internal"], Valid::Now);
    let names = "[\"spiffe://prod/ns/aaa/sa/aaa\", \"dns:aaa.internal\"]";
    let identified = || {
        let log = stack.service.log();
        log.iter().filter(|line| line["message"] == "client certificate accepted" && line["names"] == names).count()
    };
    for (number, version) in [&version::TLS13, &version::TLS12].into_iter().enumerate() {
        let settings = TlsSettings::new(&[version], &["http/1.1"], &stack.authority, Some(&identity));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = handshake(stack.service.grpc, &settings).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
            // The tickets of TLS 1.3 come with the first answer.
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
        }
        eventually("both handshakes in the log", async || (identified() == 2 * (number + 1)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_session_is_not_resumed_with_a_certificate_that_has_expired() {
    let clients = Authority::new();
    let stack = TlsStack::with_clients(&clients, "required").await;
    let identity = clients.sign_caller(&["spiffe://prod/aaa"], &[], Valid::UntilIn(Duration::from_secs(3)));
    let settings = TlsSettings::new(&[&version::TLS13], &["http/1.1"], &stack.authority, Some(&identity));
    let request = async || {
        let mut stream = handshake(stack.service.grpc, &settings).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        (stream.get_ref().1.handshake_kind(), read.is_ok() && !answer.is_empty())
    };
    assert_eq!(request().await, (Some(HandshakeKind::Full), true));
    assert_eq!(request().await, (Some(HandshakeKind::Resumed), true));
    eventually("the end of the certificate", async || (!request().await.1).then_some(())).await;
    eventually("the log", async || (stack.logged("a TLS handshake failed") > 0).then_some(())).await;
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_server_ends_the_handshake() {
    let stack = TlsStack::start().await;
    let foreign = Authority::new();
    assert!(channel(stack.service.grpc, &foreign, None).await.is_err());
    // The others are not disturbed.
    let client: Client = stack.client(None).await;
    client.register(register_request(1, CASE, WaitFor::Accepted)).await.unwrap();
}
