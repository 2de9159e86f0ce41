//! Everything at once: a node, a deployed contract, and the service on them.

use super::{
    anvil::Anvil,
    client::Client,
    proxy::Proxy,
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
    /// What stands between the service and the node, when it was asked for.
    proxy: Option<Proxy>,
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
    proxy: bool,
}

impl Plan {
    /// One signer, on a node that mines a block for each transaction.
    pub fn on_demand() -> Self {
        Self { anvil: Vec::new(), settings: Vec::new(), signers: 1, proxy: false }
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

    /// With this many signers.
    pub fn signers(mut self, signers: usize) -> Self {
        self.signers = signers;
        self
    }

    /// With a proxy between the service and the node.
    pub fn through_proxy(mut self) -> Self {
        self.proxy = true;
        self
    }

    /// Starts it all.
    pub async fn start(self) -> Stack {
        let (ground, settings) = self.prepare().await;
        let service = Service::start(&settings).await;
        let client = Client::connect(service.grpc).await;
        let Ground { proxy, registry, anvil, directory, .. } = ground;
        Stack { client, service, proxy, registry, anvil, settings, directory }
    }

    /// Starts all but the service.
    pub async fn prepare(self) -> (Ground, Settings) {
        let arguments: Vec<&str> = self.anvil.iter().map(String::as_str).collect();
        let anvil = Anvil::start(&arguments).await;
        let registry = Registry::deploy(&anvil, self.signers).await;
        let proxy = if self.proxy { Some(Proxy::before(anvil.url()).await) } else { None };
        let directory = TempDir::new().unwrap();
        let endpoint = proxy.as_ref().map_or(anvil.url(), Proxy::url);
        let settings = Settings::new(endpoint, &registry, self.signers, &directory.path().join("registrar.db"));
        let settings = self.settings.iter().fold(settings, |settings, (name, value)| settings.set(name, value));
        (Ground { proxy, registry, anvil, directory }, settings)
    }
}

/// What a service stands on.
pub struct Ground {
    /// What stands between the service and the node, when it was asked for.
    pub proxy: Option<Proxy>,
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
}

impl Stack {
    /// What stands between the service and the node.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the plan has no proxy")
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
