//! `registrar healthcheck`, which a container runs to learn whether its service is ready.

use crate::harness::{
    Service, StackBuilder,
    certificates::{Authority, Valid},
    cli::{Run, run},
    eventually,
};
use serde_json::json;
use std::fs;

async fn healthcheck(service: &Service, variables: &[(&str, &str)]) -> Run {
    let admin = service.admin.to_string();
    let mut all = vec![("REGISTRAR_ADMIN_LISTEN", admin.as_str())];
    all.extend(variables);
    run(&["healthcheck"], &all).await
}

#[tokio::test]
async fn it_succeeds_while_the_service_is_ready() {
    let mut stack = StackBuilder::on_demand().start().await;
    let ready = healthcheck(&stack.service, &[]).await;
    assert_eq!((ready.code, ready.stdout.as_str(), ready.stderr.as_str()), (0, "ready\n", ""));
    let admin = stack.service.admin.to_string();
    let object = run(&["healthcheck", "--json", "--admin-listen", &admin], &[]).await;
    assert_eq!((object.code, object.object()), (0, json!({ "ready": true })));

    let database = stack.database();
    fs::rename(&database, database.with_extension("away")).unwrap();
    let not_ready = async || {
        let run = healthcheck(&stack.service, &[]).await;
        (run.code == 1).then_some(run)
    };
    let run = eventually("the healthcheck to fail", not_ready).await;
    assert!(run.stderr.contains("not ready: the database cannot be used"), "{run:?}");

    stack.service.kill();
    let run = healthcheck(&stack.service, &[]).await;
    assert_eq!(run.code, 69, "{run:?}");
    for words in ["cannot connect to http://127.0.0.1:", "SERVER_UNREACHABLE", "--admin-listen"] {
        assert!(run.stderr.contains(words), "{run:?}");
    }
}

#[tokio::test]
async fn it_uses_the_tls_settings_of_the_service() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let [authority, clients] = [Authority::new(), Authority::new()];
    let path = |name: &str| dependencies.directory.path().join(name);
    // For another name than the address.
    let [certificate, key] = authority.sign("registrar.example.com").write(&path(""), "server");
    fs::write(path("clients.crt"), &clients.certificate).unwrap();
    let settings = settings
        .set("REGISTRAR_TLS_CERT_FILE", certificate.display())
        .set("REGISTRAR_TLS_KEY_FILE", key.display())
        .set("REGISTRAR_TLS_CLIENT_CA_FILE", path("clients.crt").display());
    let service = Service::start(&settings).await;
    let identity = clients.sign_caller(&["spiffe://prod/healthcheck"], &[], Valid::Now);
    let files = identity.write(&path(""), "client").map(|file| file.display().to_string());
    let tls = ("REGISTRAR_TLS_CERT_FILE", certificate.to_str().unwrap());
    let identity = [("REGISTRAR_CLIENT_CERT_FILE", &*files[0]), ("REGISTRAR_CLIENT_KEY_FILE", &*files[1])];

    let ready = healthcheck(&service, &[tls, identity[0], identity[1]]).await;
    assert_eq!(ready.code, 0, "{ready:?}");

    for (variables, message) in
        [(vec![tls], "the server requires a certificate of its callers"), (vec![], "this port uses TLS; use https://")]
    {
        let run = healthcheck(&service, &variables).await;
        assert_eq!(run.code, 69, "{run:?}");
        assert!(run.stderr.contains(message), "{run:?}");
    }
    for (variables, message) in [
        (vec![tls, identity[0]], "needs its private key; set REGISTRAR_CLIENT_KEY_FILE as well"),
        (vec![("REGISTRAR_ADMIN_LISTEN", "nonsense")], "is not an address with a port"),
    ] {
        let run = healthcheck(&service, &variables).await;
        assert_eq!(run.code, 64, "{run:?}");
        assert!(run.stderr.contains(message), "{run:?}");
    }
}
