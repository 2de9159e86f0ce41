//! Troubles as they happen, one after the other.

use super::{
    chain::Miner,
    chronicle::Chronicle,
    ledger::Ledger,
    schedule::{Endpoints, Schedule, Trouble},
};
use crate::harness::{Anvil, Proxy, proxy::Trap};
use alloy::primitives::B256;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

/// What the chain has been through.
#[derive(Default)]
pub struct Weather {
    /// When the chain was not well.
    pub unwell: Vec<Range<Duration>>,
    /// How many troubles there were, by kind.
    pub counts: BTreeMap<&'static str, u64>,
    /// What is wrong just now.
    pub now: Option<Trouble>,
}

/// The chain that all this happens to.
pub struct Victim<'a> {
    /// The node.
    pub anvil: &'a Anvil,
    /// The two ways to it, the one that is asked first before the other.
    pub proxies: &'a [Proxy],
    /// Who makes its blocks.
    pub miner: &'a Miner,
    /// Where it is written down.
    pub chronicle: &'a Chronicle,
}

impl Victim<'_> {
    /// Lets all of it happen.
    pub async fn suffer(&self, schedule: &Schedule, ledger: &Arc<Ledger>, weather: &Mutex<Weather>) {
        let begun = Instant::now();
        for (at, trouble) in &schedule.troubles {
            sleep_until(begun + *at).await;
            let from = ledger.now();
            {
                let mut weather = weather.lock().unwrap();
                weather.now = Some(*trouble);
                *weather.counts.entry(trouble.kind()).or_default() += 1;
            }
            self.chronicle.tell(trouble);
            self.happen(*trouble).await;
            self.chronicle.tell("over");
            let mut weather = weather.lock().unwrap();
            weather.now = None;
            if !trouble.leaves_the_chain_well() {
                weather.unwell.push(from..ledger.now());
            }
        }
    }

    async fn happen(&self, trouble: Trouble) {
        match trouble {
            Trouble::Reorg { depth } => self.miner.reorg(self.anvil, depth).await,
            Trouble::Spike { gwei, time } => {
                self.miner.spike(gwei);
                sleep(time).await;
                self.miner.calm();
            }
            Trouble::Drop { every } => self.drop_waiting(every).await,
            Trouble::Cut { endpoints, fault, time } => {
                let cut = match endpoints {
                    Endpoints::Primary => &self.proxies[..1],
                    Endpoints::Backup => &self.proxies[1..],
                    Endpoints::All => self.proxies,
                };
                let traps: Vec<Trap> = cut.iter().map(|proxy| proxy.trap_all(fault)).collect();
                sleep(time).await;
                drop(traps);
            }
            Trouble::Halt { time } => {
                self.miner.halt();
                sleep(time).await;
                self.miner.calm();
            }
        }
    }

    /// The node forgets what waits for a block, or a part of it.
    async fn drop_waiting(&self, every: usize) {
        let waiting: Value = self.anvil.rpc().call("txpool_content", json!([])).await;
        let hashes =
            waiting["pending"].as_object().into_iter().flat_map(|senders| senders.values()).flat_map(|sender| {
                let transactions = sender.as_object().into_iter().flat_map(|by_nonce| by_nonce.values());
                transactions.filter_map(|transaction| serde_json::from_value::<B256>(transaction["hash"].clone()).ok())
            });
        for hash in hashes.step_by(every) {
            // It may be in a block by now.
            let _ = self.anvil.rpc().try_call::<Value>("anvil_dropTransaction", json!([hash])).await;
        }
    }
}
