//! The chain's own pace: a block every 200 ms as on Base, with a base fee that stays where it is put, until something else is
//! wanted of it. Anvil's own timer takes whole seconds only when it is changed.

use crate::harness::Anvil;
use alloy::primitives::U256;
use serde_json::json;
use std::time::Duration;
use tokio::{
    sync::{Mutex, watch},
    time::{MissedTickBehavior, interval},
};

/// As on Base.
const BLOCK_TIME: Duration = Duration::from_millis(200);
/// What blocks cost when nothing is wrong, in wei per gas. Base has a least base fee too, so that calm weather is flat.
const CALM_WEI: u64 = 100_000_000;
const GWEI: u64 = 1_000_000_000;

/// What the next blocks are to be like.
#[derive(Clone, Copy)]
struct Wish {
    halted: bool,
    base_fee_wei: u64,
}

/// Whoever makes the blocks of an anvil that makes none by itself.
pub struct Miner {
    wish: watch::Sender<Wish>,
    /// Anvil makes a hole in its chain when a block comes in the middle of a reorg.
    turn: Mutex<()>,
}

impl Miner {
    /// One that is well.
    pub fn new() -> Self {
        Self { wish: watch::Sender::new(Wish { halted: false, base_fee_wei: CALM_WEI }), turn: Mutex::default() }
    }

    /// Makes blocks for ever.
    pub async fn run(&self, anvil: &Anvil) {
        let mut wish = self.wish.subscribe();
        let mut tick = interval(BLOCK_TIME);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = *wish.borrow_and_update();
            if !now.halted {
                let _turn = self.turn.lock().await;
                let fee = U256::from(now.base_fee_wei);
                anvil.rpc().run("anvil_setNextBlockBaseFeePerGas", json!([fee])).await;
                anvil.mine(1).await;
            }
        }
    }

    /// Empty blocks take the place of the newest ones.
    pub async fn reorg(&self, anvil: &Anvil, depth: u64) {
        let _turn = self.turn.lock().await;
        anvil.rpc().run("anvil_reorg", json!([depth, []])).await;
    }

    /// No block comes until [`Self::calm`].
    pub fn halt(&self) {
        self.wish.send_modify(|wish| wish.halted = true);
    }

    /// Every block has this base fee until [`Self::calm`].
    pub fn spike(&self, gwei: u64) {
        self.wish.send_modify(|wish| wish.base_fee_wei = gwei * GWEI);
    }

    /// All is well again.
    pub fn calm(&self) {
        self.wish.send_replace(Wish { halted: false, base_fee_wei: CALM_WEI });
    }
}
