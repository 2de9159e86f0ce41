//! One computation at a time for each key, whose result its callers share.

use parking_lot::Mutex;
use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};
use tokio::{sync::OnceCell, time::Instant};

/// How long a result is served from memory.
const RESULT_TTL: Duration = Duration::from_secs(2);

/// Shares the result of a computation with the callers that wait for it, and with later ones for [`RESULT_TTL`].
#[derive(Debug)]
pub(super) struct SingleFlight<K, V>(Mutex<HashMap<K, CacheCell<V>>>);

type CacheCell<V> = Arc<OnceCell<(Instant, V)>>;

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash, V: Clone> SingleFlight<K, V> {
    /// If the caller that computes the result is cancelled, the next waiting one starts again.
    pub(super) async fn get(&self, key: K, compute: impl Future<Output = V>) -> V {
        let cell = {
            let mut cells = self.0.lock();
            cells.retain(|_, cell| match cell.get() {
                Some((ended, _)) => ended.elapsed() < RESULT_TTL,
                None => Arc::strong_count(cell) > 1,
            });
            cells.entry(key).or_default().clone()
        };
        let computed = cell.get_or_init(async || {
            let value = compute.await;
            (Instant::now(), value)
        });
        computed.await.1.clone()
    }

    /// Drops the cached result of this key; a running computation continues.
    pub(super) fn invalidate(&self, key: K) {
        self.0.lock().retain(|other, cell| *other != key || cell.get().is_none());
    }
}
