//! Reads new changes for all readers of this process.

use super::{feed::ChangeFeed, window::Window};
use crate::{
    chain::Backoff,
    store::{PageSize, StoreError, WaitsFor},
    telemetry::log_retry,
};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// A change whose notification was lost shows up after this.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Between two reads, so that changes that come together are read together.
const MIN_READ_INTERVAL: Duration = Duration::from_millis(10);
/// The more changes a read returned, the later the next one: at 25 us of CPU each, reading takes a twentieth of a core.
/// Registrations that change again in between are read once.
const READ_INTERVAL_PER_CHANGE: Duration = Duration::from_micros(500);
const MAX_READ_INTERVAL: Duration = Duration::from_secs(1);
/// While a committed change waits for a transaction that began before it.
const HELD_BACK_INTERVAL: Duration = Duration::from_millis(20);
/// Our own transactions take milliseconds. One that takes longer may be another database's.
const MAX_HELD_BACK: Duration = Duration::from_millis(200);
/// How long the transactions of other databases are then ignored.
const IGNORE_OTHERS_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Tail {
    feed: ChangeFeed,
    held_back_since: Option<Instant>,
    ignores_others_until: Option<Instant>,
}

impl Tail {
    pub(crate) fn new(feed: ChangeFeed) -> Self {
        Self { feed, held_back_since: None, ignores_others_until: None }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            let mut readers = self.feed.readers();
            let mut backoff = Backoff::new();
            // The sender lives as long as the feed.
            while readers.wait_for(|count| *count > 0).await.is_ok() {
                if let Err(error) = self.follow(&mut backoff).await {
                    log_retry!(error, "failed to read changes for the change feed");
                    self.feed.set_incomplete();
                    sleep(backoff.next_delay()).await;
                }
            }
        })
        .await;
    }

    /// Reads until there are no readers.
    async fn follow(&mut self, backoff: &mut Backoff) -> Result<(), StoreError> {
        if self.feed.with_window(|window| window.is_none()) {
            let newest = self.feed.store().newest_change().await?;
            self.feed.set_window(Some(Window::new(newest)));
        }
        loop {
            let read = self.read_new().await?;
            backoff.reset();
            if *self.feed.readers().borrow() == 0 {
                self.feed.set_window(None);
                return Ok(());
            }
            let pause = READ_INTERVAL_PER_CHANGE * u32::try_from(read).unwrap_or(u32::MAX).min(10_000);
            let earliest = Instant::now() + pause.clamp(MIN_READ_INTERVAL, MAX_READ_INTERVAL);
            let poll = if self.held_back_since.is_some() { HELD_BACK_INTERVAL } else { POLL_INTERVAL };
            // Either way the store is read.
            let _ = timeout(poll, self.feed.changed()).await;
            sleep_until(earliest).await;
        }
    }

    /// Returns how many changes were new.
    async fn read_new(&mut self) -> Result<usize, StoreError> {
        let store = self.feed.store().clone();
        let now = Instant::now();
        let waits_for = match self.ignores_others_until {
            Some(until) if until > now => WaitsFor::ThisDatabase,
            Some(_) | None => WaitsFor::AllDatabases,
        };
        let mut read = 0;
        loop {
            let Some(end) = self.feed.with_window(|window| window.map(Window::end)) else { return Ok(read) };
            let page = store.changes_after(end, PageSize::Large, waits_for).await?;
            let is_full = page.is_full;
            read += page.changes.len();
            let end = page.changes.last().map_or(end, |change| change.position);
            let is_complete = !is_full && (!store.is_shared() || !store.has_changes_after(end).await?);
            self.feed.extend_window(page, is_complete.then_some(now));
            if is_full {
                continue;
            }
            if is_complete {
                self.held_back_since = None;
            } else if self.held_back_since.get_or_insert(now).elapsed() > MAX_HELD_BACK {
                self.ignores_others_until = Some(now + IGNORE_OTHERS_FOR);
            }
            return Ok(read);
        }
    }
}
