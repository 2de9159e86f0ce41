//! Injects the scheduled faults one after the other.

use super::{
    block_producer::BlockProducer,
    fault_log::FaultLog,
    ledger::Ledger,
    replicas::Replicas,
    schedule::{ChainFault, Endpoints, Schedule},
};
use crate::harness::{Anvil, Fault, HttpAnswer, Proxy, ReplicatedServers, proxy::InjectedFault};
use alloy::primitives::B256;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

/// The faults of a run so far.
#[derive(Default)]
pub struct FaultHistory {
    /// When the chain could not confirm registrations.
    pub unhealthy: Vec<Range<Duration>>,
    pub counts: BTreeMap<&'static str, u64>,
    pub now: Option<ChainFault>,
}

pub struct FaultInjector<'a> {
    pub anvil: &'a Anvil,
    /// Proxies in front of the node, the preferred endpoint first.
    pub proxies: &'a [Proxy],
    /// Where the backup endpoint redirects to.
    pub redirect_target: &'a Proxy,
    pub producer: &'a BlockProducer,
    pub replicas: &'a Replicas,
    /// Of a run on PostgreSQL.
    pub servers: Option<&'a ReplicatedServers>,
    pub fault_log: &'a FaultLog,
}

impl FaultInjector<'_> {
    pub async fn inject_all(&self, schedule: &Schedule, ledger: &Arc<Ledger>, history: &Mutex<FaultHistory>) {
        let started = Instant::now();
        for (at, fault) in &schedule.faults {
            sleep_until(started + *at).await;
            let from = ledger.now();
            {
                let mut history = history.lock().unwrap();
                history.now = Some(*fault);
                *history.counts.entry(fault.kind()).or_default() += 1;
            }
            self.fault_log.record(fault);
            self.inject(*fault).await;
            self.fault_log.record("over");
            let mut history = history.lock().unwrap();
            history.now = None;
            if !fault.keeps_confirming() {
                history.unhealthy.push(from..ledger.now());
            }
        }
    }

    async fn inject(&self, fault: ChainFault) {
        match fault {
            ChainFault::Reorg { depth } => self.producer.reorg(self.anvil, depth).await,
            ChainFault::Spike { gwei, time } => {
                self.producer.spike(gwei);
                sleep(time).await;
                self.producer.calm();
            }
            ChainFault::Drop { every } => self.drop_pending(every).await,
            ChainFault::Cut { endpoints, fault, time } => {
                let cut = match endpoints {
                    Endpoints::Primary => &self.proxies[..1],
                    Endpoints::Backup => &self.proxies[1..],
                    Endpoints::All => self.proxies,
                };
                let injected: Vec<InjectedFault> = cut.iter().map(|proxy| proxy.inject_all(fault)).collect();
                sleep(time).await;
                drop(injected);
            }
            ChainFault::Redirect { time } => {
                let redirect = Fault::Http(HttpAnswer::redirect(307, &self.redirect_target.secret_url()));
                let injected: Vec<InjectedFault> =
                    self.proxies[1..].iter().map(|proxy| proxy.inject_all(redirect)).collect();
                sleep(time).await;
                drop(injected);
            }
            ChainFault::StallLogs { time } => {
                self.replicas.stall_logs(true);
                sleep(time).await;
                self.replicas.stall_logs(false);
            }
            ChainFault::SwitchOver => self.servers.unwrap().switch_over().await,
            ChainFault::Halt { time } => {
                self.producer.halt();
                sleep(time).await;
                self.producer.calm();
            }
        }
    }

    /// Drops every `every`th pending transaction from the node's pool.
    async fn drop_pending(&self, every: usize) {
        let waiting: Value = self.anvil.rpc().call("txpool_content", json!([])).await;
        let hashes =
            waiting["pending"].as_object().into_iter().flat_map(|senders| senders.values()).flat_map(|sender| {
                let transactions = sender.as_object().into_iter().flat_map(|by_nonce| by_nonce.values());
                transactions.filter_map(|transaction| serde_json::from_value::<B256>(transaction["hash"].clone()).ok())
            });
        for hash in hashes.step_by(every) {
            // It may have been included in the meantime.
            let _ = self.anvil.rpc().try_call::<Value>("anvil_dropTransaction", json!([hash])).await;
        }
    }
}
