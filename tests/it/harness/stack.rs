//! Everything at once: a node, a deployed contract, and the service on them.

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

/// A running service with all it needs. What is declared first is dropped first: the service before its node.
pub struct Stack {
    /// A caller.
    pub client: Client,
    /// The service.
    pub service: Service,
    /// What stands between the service and its nodes, in the order of the settings, when it was asked for.
    proxies: Vec<Proxy>,
    /// The contract.
    pub registry: Registry,
    /// The node.
    pub anvil: Anvil,
    /// The settings, for another start.
    pub settings: Settings,
    directory: TempDir,
}

/// A stack that is not running yet.
pub struct Plan {
    anvil: Vec<String>,
    settings: Vec<(String, String)>,
    signers: usize,
    /// The URLs of the nodes behind proxies; `None` is the stack's own.
    endpoints: Vec<Option<String>>,
    postgres: bool,
}

impl Plan {
    /// One signer, on a node that mines a block for each transaction.
    pub fn on_demand() -> Self {
        Self { anvil: Vec::new(), settings: Vec::new(), signers: 1, endpoints: Vec::new(), postgres: false }
    }

    /// One signer, on a node that mines a block every so many seconds.
    pub fn block_time(seconds: f64) -> Self {
        Self::on_demand().anvil(&["--block-time", &seconds.to_string()])
    }

    /// With these arguments for anvil.
    pub fn anvil(mut self, arguments: &[&str]) -> Self {
        self.anvil.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// With this setting of the service.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Telling this Sentry everything; [`Self::sample_rate`] makes it less.
    pub fn sentry(self, store: &SentryStore) -> Self {
        self.set("SENTRY_DSN", store.dsn()).sample_rate(1.0)
    }

    /// Telling this collector everything, in small and quick batches; [`Self::sample_rate`] makes it less.
    pub fn otlp(self, store: &OtlpStore, protocol: Protocol) -> Self {
        let plan = self.set("OTEL_EXPORTER_OTLP_ENDPOINT", store.endpoint());
        plan.set("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.name()).set("OTEL_BSP_SCHEDULE_DELAY", 100).sample_rate(1.0)
    }

    /// Keeping this share of the traces in which nothing went wrong.
    pub fn sample_rate(self, rate: f64) -> Self {
        self.set("TRACE_SAMPLE_RATE", rate)
    }

    /// With this many signers.
    pub fn signers(mut self, signers: usize) -> Self {
        self.signers = signers;
        self
    }

    /// With a proxy between the service and the node.
    pub fn through_proxy(self) -> Self {
        self.endpoints(1)
    }

    /// With so many more endpoints, each a proxy in front of the node.
    pub fn endpoints(mut self, count: usize) -> Self {
        self.endpoints.extend((0..count).map(|_| None));
        self
    }

    /// With one more endpoint: a proxy in front of another node.
    pub fn endpoint_at(mut self, url: &str) -> Self {
        self.endpoints.push(Some(url.to_owned()));
        self
    }

    /// Keeping what it accepts in a PostgreSQL database of its own, which several replicas may share.
    pub fn postgres(mut self) -> Self {
        self.postgres = true;
        self
    }

    /// Starts it all.
    pub async fn start(self) -> Stack {
        let (ground, settings) = self.prepare().await;
        ground.start(settings).await
    }

    /// Starts all but the service.
    pub async fn prepare(self) -> (Ground, Settings) {
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
        (Ground { proxies, registry, anvil, directory }, settings)
    }
}

/// What a service stands on.
pub struct Ground {
    /// What stands between the service and its nodes, in the order of the settings, when it was asked for.
    pub proxies: Vec<Proxy>,
    /// The contract.
    pub registry: Registry,
    /// The node.
    pub anvil: Anvil,
    /// Where the database is.
    pub directory: TempDir,
}

impl Ground {
    /// The database's file.
    pub fn database(&self) -> PathBuf {
        self.directory.path().join("registrar.db")
    }

    /// Starts the service on it.
    pub async fn start(self, settings: Settings) -> Stack {
        let service = Service::start(&settings).await;
        let client = Client::connect(service.grpc).await;
        let Self { proxies, registry, anvil, directory } = self;
        Stack { client, service, proxies, registry, anvil, settings, directory }
    }
}

impl Stack {
    /// What stands between the service and the node, or the first of its nodes.
    pub fn proxy(&self) -> &Proxy {
        self.proxies.first().expect("the plan has no proxy")
    }

    /// What stands between the service and its nodes, in the order of the settings.
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// Starts another replica of the service, with the same settings, and a caller of its own.
    pub async fn replica(&self) -> (Service, Client) {
        let service = Service::start(&self.settings).await;
        let client = Client::connect(service.grpc).await;
        (service, client)
    }

    /// Starts the service again on the same database, after it was killed or has ended.
    pub async fn start_again(&mut self) {
        self.service = Service::start(&self.settings).await;
        self.client = Client::connect(self.service.grpc).await;
    }

    /// `kill -9`, and a new start on the same database.
    pub async fn crash(&mut self) {
        self.service.kill();
        self.start_again().await;
    }

    /// The database's file.
    pub fn database(&self) -> PathBuf {
        self.directory.path().join("registrar.db")
    }
}
