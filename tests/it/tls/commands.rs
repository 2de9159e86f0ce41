//! The commands call servers with https://, and say what to do when they cannot.

use super::{HOST, TlsStack};
use crate::harness::{
    StackBuilder,
    certificates::{Authority, Certificate, Valid},
    cli::{Run, run},
    within,
};
use std::{fs, net::SocketAddr};
use tempfile::TempDir;
use tokio::net::TcpListener;

const TOKEN: &str = "rgs_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

async fn info(url: &str, variables: &[(&str, &str)]) -> Run {
    run(&["info", "--json", "--server", url], variables).await
}

fn assert_tls_error(run: &Run, message: &str, advice: &str) {
    let error = &run.object()["error"];
    assert_eq!((run.code, &error["reason"]), (69, &"TLS_FAILED".into()), "{run:?}");
    assert!(error["message"].as_str().unwrap().contains(message), "{run:?}");
    assert!(error["advice"].as_str().unwrap().contains(advice), "{run:?}");
}

/// The variables for this authority and certificate, and the directory of their files.
struct Caller {
    _directory: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Caller {
    fn new(authority: &Authority, identity: Option<&Certificate>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.crt");
        fs::write(&ca, &authority.certificate).unwrap();
        let mut variables = vec![("REGISTRAR_CA_FILE", ca.display().to_string())];
        if let Some(identity) = identity {
            let [certificate, key] = identity.write(directory.path(), "client");
            variables.push(("REGISTRAR_CLIENT_CERT_FILE", certificate.display().to_string()));
            variables.push(("REGISTRAR_CLIENT_KEY_FILE", key.display().to_string()));
        }
        Self { _directory: directory, variables }
    }

    async fn info(&self, url: &str) -> Run {
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        info(url, &variables).await
    }
}

#[tokio::test]
async fn a_document_is_registered_over_mutual_tls() {
    let clients = Authority::new();
    let stack = TlsStack::with_clients(&clients, "required").await;
    let identity = clients.sign_caller(&["spiffe://prod/aaa"], &[], Valid::Now);
    let caller = Caller::new(&stack.authority, Some(&identity));
    let document = stack.files.path("contract.pdf");
    fs::write(&document, "a document").unwrap();
    let url = stack.url();
    let arguments = ["register", document.to_str().unwrap(), "--case", "TLS-1", "--server", &url];
    let variables: Vec<_> = caller.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = run(&arguments, &variables).await;
    assert_eq!(run.code, 0, "{run:?}");

    let without = Caller::new(&stack.authority, None).info(&url).await;
    assert_tls_error(&without, "", "REGISTRAR_CLIENT_CERT_FILE");
    let foreign = Authority::new().sign_caller(&["spiffe://prod/aaa"], &[], Valid::Now);
    let refused = Caller::new(&stack.authority, Some(&foreign)).info(&url).await;
    assert_tls_error(&refused, "", "REGISTRAR_CLIENT_CERT_FILE");
}

#[tokio::test]
async fn each_fault_of_the_servers_certificate_has_its_own_advice() {
    let stack = TlsStack::start().await;
    let caller = Caller::new(&stack.authority, None);
    let port = stack.service.grpc.port();
    assert_eq!(caller.info(&stack.url()).await.code, 0);
    assert_tls_error(&info(&stack.url(), &[]).await, "not signed by a trusted authority", "REGISTRAR_CA_FILE");
    let foreign = Caller::new(&Authority::new(), None).info(&stack.url()).await;
    assert_tls_error(&foreign, "not signed by a trusted authority", "REGISTRAR_CA_FILE");
    let other_name = caller.info(&format!("https://localhost:{port}")).await;
    assert_tls_error(&other_name, "not for this host name", "--server");
    assert_tls_error(&info(&format!("http://{HOST}:{port}"), &[]).await, "uses TLS", "use https://");

    for (valid, message) in [(Valid::Expired, "has expired"), (Valid::NotYet, "not valid yet")] {
        let authority = Authority::new();
        let certificate = authority.sign_server(HOST, valid);
        let stack = TlsStack::start_with(|settings, files| {
            certificate.write(&files.path(""), "server");
            settings
        })
        .await;
        let run = Caller::new(&authority, None).info(&stack.url()).await;
        assert_tls_error(&run, message, "");
    }

    let plain = StackBuilder::on_demand().start().await;
    let run = info(&format!("https://{}", plain.service.grpc), &[]).await;
    assert_tls_error(&run, "does not use TLS", "use http://");
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let garbage = directory.path().join("garbage.pem");
    fs::write(&garbage, "s3cr3t").unwrap();
    let garbage = garbage.to_str().unwrap();
    let authorities = [Authority::new(), Authority::new()];
    let [one, other] = authorities.each_ref().map(Authority::sign_client);
    let [certificate, key, foreign_key] = [&one.certificate, &one.key, &other.key].map(|path| path.to_str().unwrap());
    for (variables, expected) in [
        (vec![("REGISTRAR_CA_FILE", garbage)], "REGISTRAR_CA_FILE: the file"),
        (vec![("REGISTRAR_CA_FILE", "/absent")], "REGISTRAR_CA_FILE: the file /absent cannot be read: no such file"),
        (vec![("REGISTRAR_CLIENT_CERT_FILE", certificate)], "set REGISTRAR_CLIENT_KEY_FILE as well"),
        (vec![("REGISTRAR_CLIENT_KEY_FILE", key)], "set REGISTRAR_CLIENT_CERT_FILE as well"),
        (
            vec![("REGISTRAR_CLIENT_CERT_FILE", certificate), ("REGISTRAR_CLIENT_KEY_FILE", garbage)],
            "REGISTRAR_CLIENT_KEY_FILE: the file",
        ),
        (
            vec![("REGISTRAR_CLIENT_CERT_FILE", certificate), ("REGISTRAR_CLIENT_KEY_FILE", foreign_key)],
            "belongs to the certificate",
        ),
        (vec![("REGISTRAR_TOKEN", "rgs_s3cr3t with a space")], "REGISTRAR_TOKEN is not a token"),
        (vec![("REGISTRAR_TOKEN_FILE", "/absent")], "REGISTRAR_TOKEN: the file (/absent)"),
    ] {
        let run = info("https://127.0.0.1:1", &variables).await;
        assert_eq!(run.code, 64, "{run:?}");
        assert!(run.stdout.contains(expected), "`{expected}` is missing in {run:?}");
        assert!(!format!("{run:?}").contains("s3cr3t"), "{run:?}");
    }
}

#[tokio::test]
async fn a_token_is_sent_to_this_machine_or_over_tls_and_never_printed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    let file = file.path().to_str().unwrap();
    for variables in [[("REGISTRAR_TOKEN", TOKEN)], [("REGISTRAR_TOKEN_FILE", file)]] {
        let (address, received) = authorization_receiver().await;
        let url = format!("http://{address}");
        let (run, received) = tokio::join!(info(&url, &variables), within("a call", received));
        assert_eq!(received.as_deref(), Some(&*format!("Bearer {TOKEN}")));
        assert!(!format!("{run:?}").contains(TOKEN), "{run:?}");
    }
    for url in ["http://registrar.example:50051", "registrar.example:50051", "http://10.0.0.1:50051"] {
        let run = info(url, &[("REGISTRAR_TOKEN", TOKEN)]).await;
        assert_eq!(run.code, 64, "{run:?}");
        assert!(run.stdout.contains("REGISTRAR_TOKEN is not sent over http://"), "{run:?}");
        assert!(!format!("{run:?}").contains(TOKEN), "{run:?}");
    }
}

/// A server that refuses the first call, and gives its `authorization`.
async fn authorization_receiver() -> (SocketAddr, impl Future<Output = Option<String>>) {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let received = async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let refused = http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "16")
            .body(())
            .unwrap();
        respond.send_response(refused, true).unwrap();
        connection.graceful_shutdown();
        while connection.accept().await.is_some() {}
        request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned())
    };
    (address, received)
}
