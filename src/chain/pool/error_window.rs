//! What happened of late: calls and failures of the last 30 seconds, in buckets of one second.

use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// How long a call is remembered.
pub const ERROR_WINDOW: Duration = Duration::from_secs(30);
const BUCKET: Duration = Duration::from_secs(1);

/// Calls and failures of late.
#[derive(Debug, Default)]
pub struct ErrorWindow {
    buckets: VecDeque<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    begun: Instant,
    calls: u32,
    failed: u32,
}

impl ErrorWindow {
    /// A call.
    pub fn add(&mut self, now: Instant, failed: bool) {
        self.evict_expired(now);
        if self.buckets.back().is_none_or(|bucket| now.duration_since(bucket.begun) >= BUCKET) {
            self.buckets.push_back(Bucket { begun: now, calls: 0, failed: 0 });
        }
        if let Some(bucket) = self.buckets.back_mut() {
            bucket.calls += 1;
            bucket.failed += u32::from(failed);
        }
    }

    /// Calls, and how many of them failed.
    pub fn count(&mut self, now: Instant) -> (u32, u32) {
        self.evict_expired(now);
        self.buckets.iter().fold((0, 0), |(calls, failed), bucket| (calls + bucket.calls, failed + bucket.failed))
    }

    /// Forgets everything: what was before a recovery says nothing about after.
    pub fn clear(&mut self) {
        self.buckets.clear();
    }

    fn evict_expired(&mut self, now: Instant) {
        while self.buckets.front().is_some_and(|bucket| now.duration_since(bucket.begun) >= ERROR_WINDOW) {
            self.buckets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_forgotten_after_half_a_minute() {
        let (mut window, start) = (ErrorWindow::default(), Instant::now());
        window.add(start, true);
        window.add(start + Duration::from_millis(500), false);
        window.add(start + Duration::from_secs(10), false);
        assert_eq!(window.count(start + Duration::from_secs(29)), (3, 1));
        assert_eq!(window.count(start + Duration::from_secs(30)), (1, 0));
        assert_eq!(window.count(start + Duration::from_secs(40)), (0, 0));
    }
}
