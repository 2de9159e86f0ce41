//! Records when each block arrived.

use crate::harness::Anvil;
use alloy::primitives::U64;
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

pub struct Observer {
    seen: Arc<Mutex<BTreeMap<u64, Instant>>>,
    head: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Observer {
    pub async fn start(anvil: &Anvil, every: Duration) -> Self {
        let rpc = anvil.rpc().clone();
        let mut last = anvil.head().await;
        let seen: Arc<Mutex<BTreeMap<u64, Instant>>> = Arc::default();
        let (sender, head) = watch::channel(last);
        let writer = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                let number: u64 = rpc.call::<U64>("eth_blockNumber", json!([])).await.to();
                let now = Instant::now();
                writer.lock().unwrap().extend((last + 1..=number).map(|block| (block, now)));
                last = last.max(number);
                sender.send_replace(last);
                sleep(every).await;
            }
        });
        Self { seen, head, task }
    }

    /// When this block was first observed.
    pub fn seen(&self, block: u64) -> Option<Instant> {
        self.seen.lock().unwrap().get(&block).copied()
    }

    pub fn head(&self) -> u64 {
        *self.head.borrow()
    }

    /// Waits for the next block and returns its number.
    pub async fn next(&mut self) -> u64 {
        self.head.mark_unchanged();
        self.head.changed().await.expect("the node stopped answering");
        self.head()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
