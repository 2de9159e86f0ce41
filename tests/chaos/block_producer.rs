//! Produces a block every 200 ms as on Base, with a constant base fee unless a fault changes it. Anvil's own interval
//! can be changed at run time only to whole seconds.

use crate::harness::Anvil;
use alloy::primitives::U256;
use serde_json::json;
use std::time::Duration;
use tokio::{
    sync::{Mutex, watch},
    time::{MissedTickBehavior, interval},
};

const BLOCK_TIME: Duration = Duration::from_millis(200);
/// Base fee in wei per gas while no fault is active. Base has a minimum base fee too, so it is flat.
const CALM_WEI: u64 = 100_000_000;
const GWEI: u64 = 1_000_000_000;

#[derive(Clone, Copy)]
struct BlockSettings {
    halted: bool,
    base_fee_wei: u64,
}

/// Mines the blocks of an anvil whose own mining is stopped.
pub struct BlockProducer {
    settings: watch::Sender<BlockSettings>,
    /// A block that is mined during a reorg leaves a hole in anvil's chain.
    reorg_lock: Mutex<()>,
}

impl BlockProducer {
    pub fn new() -> Self {
        Self {
            settings: watch::Sender::new(BlockSettings { halted: false, base_fee_wei: CALM_WEI }),
            reorg_lock: Mutex::default(),
        }
    }

    pub async fn run(&self, anvil: &Anvil) {
        let mut settings = self.settings.subscribe();
        let mut tick = interval(BLOCK_TIME);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = *settings.borrow_and_update();
            if !now.halted {
                let _lock = self.reorg_lock.lock().await;
                let fee = U256::from(now.base_fee_wei);
                anvil.rpc().run("anvil_setNextBlockBaseFeePerGas", json!([fee])).await;
                anvil.mine(1).await;
            }
        }
    }

    /// Replaces the newest blocks with empty ones.
    pub async fn reorg(&self, anvil: &Anvil, depth: u64) {
        let _lock = self.reorg_lock.lock().await;
        anvil.rpc().run("anvil_reorg", json!([depth, []])).await;
    }

    /// Stops block production until [`Self::calm`].
    pub fn halt(&self) {
        self.settings.send_modify(|settings| settings.halted = true);
    }

    /// Sets the base fee of every block until [`Self::calm`].
    pub fn spike(&self, gwei: u64) {
        self.settings.send_modify(|settings| settings.base_fee_wei = gwei * GWEI);
    }

    /// Ends a halt or a fee spike.
    pub fn calm(&self) {
        self.settings.send_replace(BlockSettings { halted: false, base_fee_wei: CALM_WEI });
    }
}
