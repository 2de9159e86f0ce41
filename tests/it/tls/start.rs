//! Files that cannot be used stop the start, each by its name.

use super::{Files, HOST, TlsStack};
use crate::harness::{
    Service, StackBuilder,
    certificates::{Authority, Valid},
};
use std::fs;

#[tokio::test]
async fn every_unusable_file_is_named_and_no_content_is_shown() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let authority = Authority::new();
    let server = authority.sign(HOST);
    let files = Files::new(&server);
    let garbage = files.path("garbage.pem");
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nnonsense s3cr3t\n-----END CERTIFICATE-----\n").unwrap();
    let other_key = files.path("other.key");
    fs::write(&other_key, authority.sign(HOST).key).unwrap();
    let encrypted = files.path("encrypted.key");
    fs::write(&encrypted, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .unwrap();
    let set = |variables: &[(&str, &str)]| {
        variables.iter().fold(files.settings(settings.clone()), |settings, (name, value)| settings.set(name, value))
    };
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (garbage, other_key, encrypted) = (path(&garbage), path(&other_key), path(&encrypted));
    let (certificate, key) = (path(&files.path("server.crt")), path(&files.path("server.key")));
    const CERT: &str = "REGISTRAR_TLS_CERT_FILE";
    const KEY: &str = "REGISTRAR_TLS_KEY_FILE";
    const CA: &str = "REGISTRAR_TLS_CLIENT_CA_FILE";
    const AUTH: &str = "REGISTRAR_TLS_CLIENT_AUTH";
    for (variables, expected) in [
        (vec![(KEY, "")], vec![format!("{CERT}: needs its private key; set {KEY}")]),
        (vec![(CERT, "")], vec![format!("{KEY}: needs its certificate; set {CERT}")]),
        (vec![(CERT, ""), (KEY, ""), (CA, &garbage)], vec![format!("{CA}: has no effect without TLS")]),
        (vec![(AUTH, "required")], vec![format!("{AUTH}: has no effect without")]),
        (vec![(AUTH, "never")], vec![format!("{AUTH}: `never` is neither required nor optional")]),
        (
            vec![(CERT, "/absent.crt"), (KEY, "/absent.key"), (CA, "/absent-ca.crt")],
            vec![
                format!("{CERT}: /absent.crt: the file cannot be read: no such file"),
                format!("{KEY}: /absent.key: the file cannot be read: no such file"),
                format!("{CA}: /absent-ca.crt: the file cannot be read: no such file"),
            ],
        ),
        (
            vec![(CERT, &garbage), (KEY, &garbage), (CA, &garbage)],
            vec![
                format!("{CERT}: {garbage}: the file has an invalid certificate"),
                format!("{KEY}: {garbage}: the file has no private key"),
                format!("{CA}: {garbage}: the file has an invalid certificate"),
            ],
        ),
        (vec![(CERT, &key)], vec![format!("{CERT}: {key}: the file has no certificate")]),
        (vec![(KEY, &certificate)], vec![format!("{KEY}: {certificate}: the file has no private key")]),
        (vec![(KEY, &encrypted)], vec![format!("{KEY}: {encrypted}: the private key is encrypted")]),
        (vec![(KEY, &other_key)], vec![format!("does not belong to the certificate of {CERT}")]),
        // The key itself, instead of its path.
        (vec![(KEY, &server.key)], vec![format!("{KEY}: the file cannot be read")]),
    ] {
        let failed = Service::expect_start_failure(&set(&variables)).await;
        assert_eq!(failed.code, 64, "{failed:?}");
        for text in expected {
            assert!(failed.output.contains(&text), "`{text}` is missing in {}", failed.output);
        }
        let body: Vec<_> = server.key.lines().filter(|line| !line.starts_with("-----")).collect();
        let leaked = body.iter().copied().chain(["s3cr3t"]).find(|line| failed.output.contains(line));
        assert_eq!(leaked, None, "{}", failed.output);
    }
}

#[tokio::test]
async fn an_expired_certificate_is_a_warning() {
    for (valid, message) in
        [(Valid::Expired, "the TLS certificate has expired"), (Valid::NotYet, "the TLS certificate is not valid yet")]
    {
        let mut stack = TlsStack::start_with(|settings, files| {
            Authority::new().sign_server(HOST, valid).write(files.path("").as_path(), "server");
            settings
        })
        .await;
        let line = stack
            .service
            .wait_for_log(message, |line| line["message"].as_str().is_some_and(|text| text.starts_with(message)));
        assert_eq!(line.await["level"], "WARN");
    }
}

#[tokio::test]
async fn a_key_that_others_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let mut stack = TlsStack::start_with(|settings, files| {
        fs::set_permissions(files.path("server.key"), fs::Permissions::from_mode(0o644)).unwrap();
        settings
    })
    .await;
    let is_it = |line: &serde_json::Value| line["variable"] == "REGISTRAR_TLS_KEY_FILE";
    stack.service.wait_for_log("a warning", is_it).await;
}
