//! TLS of both listeners, and of the commands.

mod callers;
mod commands;
mod handshakes;
mod hostile;
mod reload;
mod start;

use crate::harness::{
    Client, Service, StackBuilder,
    certificates::{Authority, Certificate},
    service::Settings,
    stack::Dependencies,
    tls_client,
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const HOST: &str = "127.0.0.1";

/// A service with TLS; its certificate is for 127.0.0.1.
struct TlsStack {
    service: Service,
    authority: Authority,
    files: Files,
    dependencies: Dependencies,
}

/// The service's own files.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new(certificate: &Certificate) -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap() };
        certificate.write(files.directory.path(), "server");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn settings(&self, settings: Settings) -> Settings {
        settings
            .set("REGISTRAR_TLS_CERT_FILE", self.path("server.crt").display())
            .set("REGISTRAR_TLS_KEY_FILE", self.path("server.key").display())
    }
}

impl TlsStack {
    async fn start() -> Self {
        Self::start_with(|settings, _| settings).await
    }

    /// With the authority for clients, who need a certificate of it unless this is `optional`.
    async fn with_clients(clients: &Authority, auth: &str) -> Self {
        Self::start_with(|settings, files| {
            let path = files.path("clients.crt");
            std::fs::write(&path, &clients.certificate).unwrap();
            with_client_ca(settings, &path).set("REGISTRAR_TLS_CLIENT_AUTH", auth)
        })
        .await
    }

    async fn start_with(more: impl FnOnce(Settings, &Files) -> Settings) -> Self {
        let (dependencies, settings) =
            StackBuilder::on_demand().set("RUST_LOG", "registrar=debug,info").prepare().await;
        let authority = Authority::new();
        let files = Files::new(&authority.sign(HOST));
        let settings = more(files.settings(settings), &files);
        let service = Service::start(&settings).await;
        Self { service, authority, files, dependencies }
    }

    async fn client(&self, identity: Option<&Certificate>) -> Client {
        tls_client::connect(self.service.grpc, &self.authority, identity).await
    }

    fn url(&self) -> String {
        format!("https://{}", self.service.grpc)
    }

    /// How many log lines have this message.
    fn logged(&self, message: &str) -> usize {
        self.service.log().iter().filter(|line| line["message"].as_str().is_some_and(|it| it.contains(message))).count()
    }
}

fn with_client_ca(settings: Settings, path: &Path) -> Settings {
    settings.set("REGISTRAR_TLS_CLIENT_CA_FILE", path.display())
}
