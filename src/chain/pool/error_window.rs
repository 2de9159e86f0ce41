//! Counts calls and failures of the last 30 seconds, in buckets of one second.

use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

pub const ERROR_WINDOW: Duration = Duration::from_secs(30);
const BUCKET: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct ErrorWindow {
    buckets: VecDeque<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    started: Instant,
    calls: u32,
    failed: u32,
}

impl ErrorWindow {
    pub fn add(&mut self, now: Instant, failed: bool) {
        self.evict_expired(now);
        if self.buckets.back().is_none_or(|bucket| now.duration_since(bucket.started) >= BUCKET) {
            self.buckets.push_back(Bucket { started: now, calls: 0, failed: 0 });
        }
        if let Some(bucket) = self.buckets.back_mut() {
            bucket.calls += 1;
            bucket.failed += u32::from(failed);
        }
    }

    pub fn count(&mut self, now: Instant) -> (u32, u32) {
        self.evict_expired(now);
        self.buckets.iter().fold((0, 0), |(calls, failed), bucket| (calls + bucket.calls, failed + bucket.failed))
    }

    /// Results from before a recovery say nothing about the time after it.
    pub fn clear(&mut self) {
        self.buckets.clear();
    }

    fn evict_expired(&mut self, now: Instant) {
        while self.buckets.front().is_some_and(|bucket| now.duration_since(bucket.started) >= ERROR_WINDOW) {
            self.buckets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_expire_after_thirty_seconds() {
        let (mut window, start) = (ErrorWindow::default(), Instant::now());
        window.add(start, true);
        window.add(start + Duration::from_millis(500), false);
        window.add(start + Duration::from_secs(10), false);
        assert_eq!(window.count(start + Duration::from_secs(29)), (3, 1));
        assert_eq!(window.count(start + Duration::from_secs(30)), (1, 0));
        assert_eq!(window.count(start + Duration::from_secs(40)), (0, 0));
    }
}
