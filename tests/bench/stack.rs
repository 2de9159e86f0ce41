//! The node, the contract on it and, where it is asked for, the service: all on this machine, gone when dropped.

use crate::{
    harness::{Anvil, Registry, Service, client::channel, service::Settings},
    report::Report,
};
use alloy::{
    primitives::{B256, U64},
    sol_types::SolEvent,
};
use registrar::{
    api::proto::registrar_service_client::RegistrarServiceClient,
    registration::{CaseId, DocumentHash},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, ops::RangeInclusive, path::PathBuf};
use tempfile::TempDir;
use tonic::transport::Channel;

/// Accounts 1 to this many may register: the service signs as the first, and the raw limit is measured with the others.
pub const REGISTRARS: usize = 8;

/// Room for what both sides of the comparison put into a block.
const BLOCK_GAS: &str = "300000000";

/// A node and its contract.
pub struct Ground {
    /// The contract.
    pub registry: Registry,
    /// The node.
    pub anvil: Anvil,
}

/// A service on its ground. What is declared first is dropped first: the service before its node.
pub struct Stack {
    /// The service.
    pub service: Service,
    /// What it stands on.
    pub ground: Ground,
    /// The settings, for another start.
    pub settings: Settings,
    /// The database's file.
    pub database: PathBuf,
    _directory: TempDir,
}

/// An event as `eth_getLogs` gives it, as far as it is looked at.
#[derive(Deserialize)]
struct Log {
    topics: Vec<B256>,
    #[serde(rename = "blockNumber")]
    block_number: U64,
}

impl Ground {
    /// A node that mines a block every so many seconds, without a word about it: printing each transaction costs it more than
    /// mining it.
    pub async fn mining_every(seconds: f64) -> Self {
        let anvil = Anvil::start(&["--block-time", &seconds.to_string(), "--gas-limit", BLOCK_GAS]).await;
        anvil.rpc().run("anvil_setLoggingEnabled", json!([false])).await;
        let registry = Registry::deploy(&anvil, REGISTRARS).await;
        Self { registry, anvil }
    }

    /// How often each document was registered in these blocks, and the last block that registered any.
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

impl Stack {
    /// A service with one signer on this ground, with these settings besides.
    pub async fn start(ground: Ground, settings: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let database = directory.path().join("registrar.db");
        let plain = Settings::new(ground.anvil.url(), &ground.registry, 1, &database)
            // Full blocks drive the fee up without end, and the funds are not real.
            .set("REGISTRAR_MAX_FEE_GWEI", 100_000)
            .set("REGISTRAR_QUEUE_LIMIT", 10_000_000);
        let settings = settings.iter().fold(plain, |plain, (name, value)| plain.set(name, value));
        let service = Service::start(&settings).await;
        Self { service, ground, settings, database, _directory: directory }
    }

    /// A caller with a connection of its own.
    pub async fn connect(&self) -> RegistrarServiceClient<Channel> {
        RegistrarServiceClient::new(channel(self.service.grpc).await)
    }

    /// Several of them.
    pub async fn connections(&self, count: usize) -> Vec<RegistrarServiceClient<Channel>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(self.connect().await);
        }
        clients
    }

    /// Tells what the service warned of, which a good run has none of.
    pub fn note_warnings(&self, section: &str, report: &mut Report) {
        let mut warnings: BTreeMap<String, u64> = BTreeMap::new();
        for line in self.service.log() {
            let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
            // That there is no failover is true and known here.
            if matches!(text("level"), "WARN" | "ERROR") && !text("message").contains("one RPC endpoint") {
                *warnings.entry(format!("{} {} {}", text("level"), text("message"), text("error"))).or_default() += 1;
            }
        }
        for (warning, count) in warnings {
            report.note(format!("{section}: the service logged {count} times: {}", warning.trim()));
        }
    }
}

/// The case of the document with this number: 13 characters, as the gas bars are stated for.
pub fn case(number: u64) -> String {
    format!("CASE-{:08}", number % 100_000_000)
}

/// The pair that [`crate::harness::registering`] asks for with the same number and case.
pub fn pair(number: u64) -> (DocumentHash, CaseId) {
    (crate::harness::document(number).parse().unwrap(), case(number).parse().unwrap())
}
