//! How many blocks one `eth_getLogs` may cover: public nodes allow between 10 and 10,000, and no node says how many.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// What most public nodes allow.
pub const MAX_LOG_RANGE: u64 = 10_000;

/// The largest range that was not refused, halved with each refusal.
#[derive(Clone, Debug)]
pub struct LogRange(Arc<AtomicU64>);

impl Default for LogRange {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(MAX_LOG_RANGE)))
    }
}

impl LogRange {
    /// The last block of the next request, which begins at `from`.
    pub fn end(&self, from: u64, to: u64) -> u64 {
        to.min(from.saturating_add(self.0.load(Ordering::Relaxed) - 1))
    }

    /// A request of these blocks was refused. Returns whether a smaller one may be tried.
    pub fn shrink(&self, from: u64, end: u64) -> bool {
        let blocks = end.saturating_sub(from) + 1;
        if blocks < 2 {
            return false;
        }
        self.0.fetch_min(blocks / 2, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_range_is_halved_down_to_one_block() {
        let range = LogRange::default();
        assert_eq!((range.end(5, 7), range.end(0, 1 << 50)), (7, MAX_LOG_RANGE - 1));
        assert!(range.shrink(0, MAX_LOG_RANGE - 1));
        assert_eq!(range.end(0, 1 << 50), MAX_LOG_RANGE / 2 - 1);
        let mut tries = 1;
        while range.shrink(9, range.end(9, 1 << 50)) {
            tries += 1;
        }
        assert_eq!((range.end(9, 1 << 50), tries), (9, 13));
    }
}
