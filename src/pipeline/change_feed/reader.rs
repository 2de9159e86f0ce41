//! One reader of the change feed.

use super::{
    feed::ChangeFeed,
    window::{Ahead, Window},
};
use crate::{
    pipeline::places::Place,
    store::{Change, ChangeCursor, ChangePosition, PageSize, StoreError, WaitsFor},
};
use std::sync::Arc;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// What a reader holds that its client has not received: at most this many changes, about 1 KiB each.
const MAX_TAKEN: usize = PageSize::Small.rows();

/// Thousands may be open: what it holds is small.
#[derive(Debug)]
pub struct ChangeReader {
    feed: ChangeFeed,
    cursor: ChangeCursor,
    progress: watch::Receiver<u64>,
    opened_at: Instant,
    /// Whether it has returned that it has caught up.
    is_reported: bool,
    /// When it may read the store again.
    next_read: Instant,
    _slot: Place,
}

/// What comes next.
#[derive(Debug)]
pub enum FeedStep {
    /// In order.
    Changes(Vec<Arc<Change>>),
    /// Everything was returned; once until there is more.
    CaughtUp,
}

impl ChangeReader {
    pub(crate) fn new(feed: ChangeFeed, cursor: ChangeCursor, slot: Place) -> Self {
        let (progress, opened_at) = (feed.subscribe(), Instant::now());
        feed.add_reader();
        Self { feed, cursor, progress, opened_at, is_reported: false, next_read: opened_at, _slot: slot }
    }

    /// After the last change that was returned.
    pub fn cursor(&self) -> ChangeCursor {
        self.cursor
    }

    /// Whether everything was returned that was committed when the store was read last, after this reader was opened.
    pub fn has_caught_up(&self) -> bool {
        let position = self.cursor.position;
        self.feed.with_window(|window| {
            window.is_some_and(|window| {
                window.complete_as_of >= Some(self.opened_at) && window.after(position, 1) == Ahead::Nothing
            })
        })
    }

    /// Waits for the next changes, or until it has caught up. May be dropped at any moment: nothing is lost.
    ///
    /// # Errors
    /// When a page cannot be read. A reader that has caught up waits instead.
    pub async fn next(&mut self) -> Result<FeedStep, StoreError> {
        loop {
            let (ahead, begin, history) = self.feed.with_window(|window| {
                window.map_or((Ahead::Later, None, self.cursor.history), |window| {
                    (window.after(self.cursor.position, MAX_TAKEN), Some(window.begin()), Window::history(window))
                })
            });
            match ahead {
                Ahead::Changes(changes) => {
                    let last = changes.last().map_or(self.cursor.position, |last| last.position);
                    self.cursor = ChangeCursor { history, position: last };
                    return Ok(FeedStep::Changes(changes));
                }
                Ahead::Nothing => {
                    if !self.has_caught_up() {
                        self.is_reported = false;
                        self.feed.ask_for_read(self.opened_at);
                    } else if !std::mem::replace(&mut self.is_reported, true) {
                        return Ok(FeedStep::CaughtUp);
                    }
                    self.wait_for_progress().await;
                }
                Ahead::Later => {
                    let changes = self.read_page().await?;
                    if !changes.is_empty() {
                        return Ok(FeedStep::Changes(changes));
                    }
                    match begin {
                        // Whatever was between has changed again, and is in the window.
                        Some(begin) => self.cursor = begin,
                        // The tail is about to start.
                        None => self.wait_for_progress().await,
                    }
                }
            }
        }
    }

    async fn wait_for_progress(&mut self) {
        // The sender lives as long as the feed.
        let _ = self.progress.changed().await;
    }

    /// Of its own. Takes half of the time, so that readers that are far behind leave the store to others.
    async fn read_page(&mut self) -> Result<Vec<Arc<Change>>, StoreError> {
        sleep_until(self.next_read).await;
        let feed = self.feed.clone();
        // Never closed.
        let _permit = feed.catch_up_reads().acquire().await;
        let started = Instant::now();
        let after: ChangePosition = self.cursor.position;
        let page = feed.store().changes_after(after, PageSize::Small, WaitsFor::ThisDatabase).await?;
        self.next_read = Instant::now() + started.elapsed();
        if let (Some(last), Some(history)) = (page.changes.last(), page.history) {
            self.cursor = ChangeCursor { history, position: last.position };
        }
        Ok(page.changes.into_iter().map(Arc::new).collect())
    }
}

impl Drop for ChangeReader {
    fn drop(&mut self) {
        self.feed.remove_reader();
    }
}
