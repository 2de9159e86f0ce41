//! The node, its contract and, where needed, the service.

use crate::{
    harness::{
        Anvil, Registry, Service,
        client::channel,
        service::{Settings, command},
    },
    report::Report,
};
use alloy::{
    primitives::{B256, U64},
    sol_types::SolEvent,
};
use registrar::{api::proto::registrar_service_client::RegistrarServiceClient, registration::Pair};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, ops::RangeInclusive, path::PathBuf, process::Command};
use tempfile::TempDir;
use tonic::transport::Channel;

/// Accounts 1 to this number may register: the service signs with the first, and the node baseline with the others.
pub const REGISTRARS: usize = 8;

/// Large enough for what the service and the node baseline put into one block.
const BLOCK_GAS: &str = "300000000";

pub struct BenchChain {
    pub registry: Registry,
    pub anvil: Anvil,
}

/// Fields are dropped in order of declaration: the service before its node.
pub struct BenchStack {
    pub service: Service,
    /// Further ones on the same database.
    replicas: Vec<Service>,
    pub chain: BenchChain,
    /// For another start.
    pub settings: Settings,
    /// The SQLite file.
    pub database: PathBuf,
    _directory: TempDir,
}

/// The fields of an `eth_getLogs` entry that are used here.
#[derive(Deserialize)]
struct Log {
    topics: Vec<B256>,
    #[serde(rename = "blockNumber")]
    block_number: U64,
}

impl BenchChain {
    /// A node that mines a block every `seconds`, with logging disabled: logging a transaction costs anvil more than
    /// mining it.
    pub async fn with_block_time(seconds: f64) -> Self {
        let anvil = Anvil::start(&["--block-time", &seconds.to_string(), "--gas-limit", BLOCK_GAS]).await;
        anvil.rpc().run("anvil_setLoggingEnabled", json!([false])).await;
        let registry = Registry::deploy(&anvil, REGISTRARS).await;
        Self { registry, anvil }
    }

    /// Number of registrations per document in these blocks, and the last block with a registration.
    pub async fn registered(&self, blocks: RangeInclusive<u64>) -> (BTreeMap<B256, u64>, Option<u64>) {
        let mut counts = BTreeMap::new();
        let mut last = None;
        for block in blocks {
            let number = U64::from(block);
            let filter = json!([{ "address": self.registry.address, "fromBlock": number, "toBlock": number,
                "topics": [crate::harness::registry::DocumentRegistered::SIGNATURE_HASH] }]);
            for log in self.anvil.rpc().call::<Vec<Log>>("eth_getLogs", filter).await {
                *counts.entry(log.topics[1]).or_default() += 1;
                last = last.max(Some(log.block_number.to()));
            }
        }
        (counts, last)
    }
}

impl BenchStack {
    /// A service with one signer and these additional settings.
    pub async fn start(chain: BenchChain, settings: &[(&str, &str)]) -> Self {
        Self::start_with(command(), chain, settings).await
    }

    /// As [`Self::start`], with another build of the binary.
    pub async fn start_with(command: Command, chain: BenchChain, settings: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let database = directory.path().join("registrar.db");
        let plain = Settings::new(chain.anvil.url(), &chain.registry, 1, &database)
            // Full blocks raise the base fee without limit, and the funds are not real.
            .set("REGISTRAR_MAX_FEE_GWEI", 100_000)
            .set("REGISTRAR_QUEUE_LIMIT", 10_000_000);
        let settings = settings.iter().fold(plain, |plain, (name, value)| plain.set(name, value));
        let service = Service::start_with(command, &settings).await;
        Self { service, replicas: Vec::new(), chain, settings, database, _directory: directory }
    }

    /// Starts another service on the same database; half of the connections lead to it.
    pub async fn add_replica(&mut self) {
        self.replicas.push(Service::start(&self.settings).await);
    }

    /// A client with its own connection.
    pub async fn connect(&self) -> RegistrarServiceClient<Channel> {
        RegistrarServiceClient::new(channel(self.service.grpc).await)
    }

    pub async fn connections(&self, count: usize) -> Vec<RegistrarServiceClient<Channel>> {
        let mut clients = Vec::new();
        let services = std::iter::once(&self.service).chain(&self.replicas).cycle();
        for service in services.take(count) {
            clients.push(RegistrarServiceClient::new(channel(service.grpc).await));
        }
        clients
    }

    /// Adds the service's warnings and errors as notes; a good run has none.
    pub fn note_warnings(&self, section: &str, report: &mut Report) {
        let mut warnings: BTreeMap<String, u64> = BTreeMap::new();
        for line in self.service.log() {
            let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
            // Expected: the benchmark's service has a single endpoint.
            if matches!(text("level"), "WARN" | "ERROR") && !text("message").contains("one RPC endpoint") {
                *warnings.entry(format!("{} {} {}", text("level"), text("message"), text("error"))).or_default() += 1;
            }
        }
        for (warning, count) in warnings {
            report.note(format!("{section}: the service logged {count} times: {}", warning.trim()));
        }
    }
}

/// 13 characters, the case length that the gas limits are stated for.
pub fn case(number: u64) -> String {
    format!("CASE-{:08}", number % 100_000_000)
}

/// The pair that [`crate::harness::register_request`] requests for this number and [`case`].
pub fn pair(number: u64) -> Pair {
    Pair { document_hash: crate::harness::document(number).parse().unwrap(), case_id: case(number).parse().unwrap() }
}
