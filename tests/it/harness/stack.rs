//! A node, a deployed contract, and the service.

use super::{
    anvil::Anvil,
    client::Client,
    postgres::Database,
    proxy::Proxy,
    receivers::{OtlpStore, Protocol, SentryStore},
    registry::Registry,
    service::{Service, Settings},
};
use std::path::PathBuf;
use tempfile::TempDir;

/// Fields are dropped in order of declaration: the service before its node.
pub struct TestStack {
    pub client: Client,
    pub service: Service,
    /// In the order of the settings.
    proxies: Vec<Proxy>,
    pub registry: Registry,
    pub anvil: Anvil,
    /// For another start.
    pub settings: Settings,
    directory: TempDir,
}

pub struct StackBuilder {
    anvil: Vec<String>,
    settings: Vec<(String, String)>,
    signers: usize,
    /// URLs of the nodes behind the proxies; `None` is the stack's own anvil.
    endpoints: Vec<Option<String>>,
    postgres: bool,
}

impl StackBuilder {
    /// One signer, and a node that mines a block for each transaction.
    pub fn on_demand() -> Self {
        Self { anvil: Vec::new(), settings: Vec::new(), signers: 1, endpoints: Vec::new(), postgres: false }
    }

    /// One signer, and a node that mines a block every `seconds`.
    pub fn block_time(seconds: f64) -> Self {
        Self::on_demand().anvil(&["--block-time", &seconds.to_string()])
    }

    /// Adds command line arguments of anvil.
    pub fn anvil(mut self, arguments: &[&str]) -> Self {
        self.anvil.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Adds a setting of the service.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sends all traces to this Sentry; [`Self::sample_rate`] lowers the share.
    pub fn sentry(self, store: &SentryStore) -> Self {
        self.set("SENTRY_DSN", store.dsn()).sample_rate(1.0)
    }

    /// Sends all spans to this collector, every 100 ms; [`Self::sample_rate`] lowers the share.
    pub fn otlp(self, store: &OtlpStore, protocol: Protocol) -> Self {
        let builder = self.set("OTEL_EXPORTER_OTLP_ENDPOINT", store.endpoint());
        builder.set("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.name()).set("OTEL_BSP_SCHEDULE_DELAY", 100).sample_rate(1.0)
    }

    /// Sets the share of traces without a failure that are kept.
    pub fn sample_rate(self, rate: f64) -> Self {
        self.set("TRACE_SAMPLE_RATE", rate)
    }

    pub fn signers(mut self, signers: usize) -> Self {
        self.signers = signers;
        self
    }

    /// Puts a proxy between the service and the node.
    pub fn through_proxy(self) -> Self {
        self.endpoints(1)
    }

    /// Adds endpoints, each a proxy in front of the node.
    pub fn endpoints(mut self, count: usize) -> Self {
        self.endpoints.extend((0..count).map(|_| None));
        self
    }

    /// Adds an endpoint: a proxy in front of another node.
    pub fn endpoint_at(mut self, url: &str) -> Self {
        self.endpoints.push(Some(url.to_owned()));
        self
    }

    /// Uses a PostgreSQL database, which several replicas can share, instead of an SQLite file.
    pub fn postgres(mut self) -> Self {
        self.postgres = true;
        self
    }

    pub async fn start(self) -> TestStack {
        let (dependencies, settings) = self.prepare().await;
        dependencies.start(settings).await
    }

    /// Starts everything but the service.
    pub async fn prepare(self) -> (Dependencies, Settings) {
        let arguments: Vec<&str> = self.anvil.iter().map(String::as_str).collect();
        let anvil = Anvil::start(&arguments).await;
        let registry = Registry::deploy(&anvil, self.signers).await;
        let mut proxies = Vec::new();
        for endpoint in &self.endpoints {
            proxies.push(Proxy::before(endpoint.as_deref().unwrap_or(anvil.url())).await);
        }
        let directory = TempDir::new().unwrap();
        let urls: Vec<String> = proxies.iter().map(Proxy::secret_url).collect();
        let urls = if urls.is_empty() { anvil.url().to_owned() } else { urls.join(",") };
        let settings = Settings::new(&urls, &registry, self.signers, &directory.path().join("registrar.db"));
        let settings =
            if self.postgres { settings.set("REGISTRAR_DATABASE_URL", Database::new().await.url()) } else { settings };
        let settings = self.settings.iter().fold(settings, |settings, (name, value)| settings.set(name, value));
        (Dependencies { proxies, registry, anvil, directory }, settings)
    }
}

/// What a service needs to start.
pub struct Dependencies {
    /// In the order of the settings.
    pub proxies: Vec<Proxy>,
    pub registry: Registry,
    pub anvil: Anvil,
    pub directory: TempDir,
}

impl Dependencies {
    pub fn database(&self) -> PathBuf {
        self.directory.path().join("registrar.db")
    }

    pub async fn start(self, settings: Settings) -> TestStack {
        let service = Service::start(&settings).await;
        let client = Client::connect(service.grpc).await;
        self.with_service(settings, service, client)
    }

    /// With a service that was started otherwise.
    pub fn with_service(self, settings: Settings, service: Service, client: Client) -> TestStack {
        let Self { proxies, registry, anvil, directory } = self;
        TestStack { client, service, proxies, registry, anvil, settings, directory }
    }
}

impl TestStack {
    /// The proxy of the first endpoint.
    pub fn proxy(&self) -> &Proxy {
        self.proxies.first().expect("the builder has no proxy")
    }

    /// The endpoints' proxies, in the order of the settings.
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// Starts another replica with the same settings, and a client for it.
    pub async fn replica(&self) -> (Service, Client) {
        let service = Service::start(&self.settings).await;
        let client = Client::connect(service.grpc).await;
        (service, client)
    }

    /// Starts the service again with the same settings, after it was killed or has exited.
    pub async fn restart(&mut self) {
        self.service = Service::start(&self.settings).await;
        self.client = Client::connect(self.service.grpc).await;
    }

    /// `kill -9` and a restart.
    pub async fn crash(&mut self) {
        self.service.kill();
        self.restart().await;
    }

    pub fn database(&self) -> PathBuf {
        self.directory.path().join("registrar.db")
    }
}
