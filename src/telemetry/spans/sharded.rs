//! State by trace, in shards with a lock each, so that threads seldom wait for each other.

use opentelemetry::TraceId;
use parking_lot::{Mutex, MutexGuard};

pub(super) const SHARDS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Sharded<T>([Mutex<T>; SHARDS]);

impl<T> Sharded<T> {
    pub(super) fn lock(&self, trace_id: TraceId) -> MutexGuard<'_, T> {
        let [.., last] = trace_id.to_bytes();
        self.0[usize::from(last) % SHARDS].lock()
    }
}
