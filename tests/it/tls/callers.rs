//! Callers that are known by their certificates, and listeners that other machines reach.

use super::TlsStack;
use crate::harness::{
    CASE, WaitFor,
    certificates::{Authority, Valid},
    register_request,
    rpc::http_client,
};
use std::net::{Ipv4Addr, SocketAddr};
use tonic::Code;

const CALLERS: &str = r#"
    [[callers]]
    name = "by-uri"
    certificates = ["spiffe://prod/ns/aaa/sa/aaa"]
    scopes = ["register"]

    [[callers]]
    name = "by-name"
    certificates = ["dns:bbb.internal"]
    tokens = ["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
    scopes = ["admin"]
"#;
/// The token with the hash above.
const TOKEN: &str = "test";

#[tokio::test]
async fn a_certificate_identifies_its_caller_by_uri_before_dns_name_and_a_token_comes_first() {
    let clients = Authority::new();
    let stack = TlsStack::start_with(|settings, files| {
        std::fs::write(files.path("clients.crt"), &clients.certificate).unwrap();
        std::fs::write(files.path("callers.toml"), CALLERS).unwrap();
        super::with_client_ca(settings, &files.path("clients.crt"))
            .set("REGISTRAR_TLS_CLIENT_AUTH", "optional")
            .set("REGISTRAR_AUTH", "enforce")
            .set("REGISTRAR_CALLERS_FILE", files.path("callers.toml").display())
    })
    .await;
    let uri = clients.sign_caller(&["spiffe://prod/ns/aaa/sa/aaa"], &["bbb.internal"], Valid::Now);
    let name = clients.sign_caller(&[], &["bbb.internal"], Valid::Now);
    let unknown = clients.sign_caller(&["spiffe://prod/ns/aaa/sa/aab"], &["x.bbb.internal"], Valid::Now);
    let by_uri = stack.client(Some(&uri)).await;
    let by_name = stack.client(Some(&name)).await;
    by_uri.accept(1, CASE).await;
    let listed = by_name.list(Default::default()).await.unwrap().registrations;
    assert_eq!(listed.iter().map(|one| one.caller.as_str()).collect::<Vec<_>>(), ["by-uri"]);
    let denied = by_uri.list(Default::default()).await.unwrap_err();
    assert_eq!(denied.kind(), (Code::PermissionDenied, "SCOPE_MISSING"));
    by_uri.with_token(TOKEN).list(Default::default()).await.unwrap();
    let wrong = by_name.with_token("wrong").list(Default::default()).await.unwrap_err();
    assert_eq!(wrong.kind(), (Code::Unauthenticated, "CREDENTIALS_INVALID"));

    let accept = register_request(2, CASE, WaitFor::Accepted);
    let error = stack.client(Some(&unknown)).await.register(accept.clone()).await.unwrap_err();
    assert_eq!(error.kind(), (Code::Unauthenticated, "CREDENTIALS_INVALID"));
    let error = stack.client(None).await.register(accept).await.unwrap_err();
    assert_eq!(error.kind(), (Code::Unauthenticated, "CREDENTIALS_MISSING"));
}

#[tokio::test]
async fn with_tls_and_callers_other_machines_may_reach_the_service_and_operators_its_metrics() {
    let stack = TlsStack::start_with(|settings, files| {
        std::fs::write(files.path("callers.toml"), CALLERS).unwrap();
        settings
            .set("REGISTRAR_LISTEN", "0.0.0.0:0")
            .set("REGISTRAR_ADMIN_LISTEN", "0.0.0.0:0")
            .set("REGISTRAR_AUTH", "enforce")
            .set("REGISTRAR_CALLERS_FILE", files.path("callers.toml").display())
    })
    .await;
    let root = reqwest::Certificate::from_pem(stack.authority.certificate.as_bytes()).unwrap();
    // Installs the cryptography.
    drop(http_client());
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, stack.service.admin.port()));
    let get = async |path: &str, token: Option<&str>| {
        let request = http.get(format!("https://{admin}{path}"));
        let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
        request.send().await.unwrap()
    };
    assert_eq!(get("/readyz", None).await.status(), 200);
    let refused = get("/metrics", None).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
    assert_eq!(get("/metrics", Some("wrong")).await.status(), 401);
    let metrics = get("/metrics", Some(TOKEN)).await;
    assert_eq!(metrics.status(), 200);
    assert!(metrics.text().await.unwrap().contains("registrar_auth_total{caller=\"by-name\",outcome=\"allowed\"} 1"));
}
