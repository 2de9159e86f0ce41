//! What the tail and the readers of one process share.

use super::window::Window;
use crate::{
    store::{ChangeCursor, ChangePage, ChangePosition, CursorCheck, Store, StoreError},
    telemetry::metrics,
};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};

/// Pages of readers that are behind, at the same time.
const MAX_CATCH_UP_READS: usize = 2;

#[derive(Clone, Debug)]
pub(crate) struct ChangeFeed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    /// `None` without readers, and until the tail has started.
    window: Mutex<Option<Window>>,
    /// Changes with the window.
    progress: watch::Sender<u64>,
    readers: watch::Sender<usize>,
    /// For a reason other than a commit of this process.
    wake_tail: Notify,
    /// As of when the reader that has asked first wants to know whether it has everything.
    asked_for: Mutex<Option<Instant>>,
    catch_up_reads: Semaphore,
}

/// Where a reader starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeStart {
    Now,
    Beginning,
    After(ChangeCursor),
}

/// Why the feed cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Of another database, or of a time that a restored backup does not have.
    #[error("the cursor is of another database")]
    ForeignCursor,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ChangeFeed {
    pub(crate) fn new(store: Store) -> Self {
        Self(Arc::new(Shared {
            store,
            window: Mutex::default(),
            progress: watch::Sender::new(0),
            readers: watch::Sender::new(0),
            wake_tail: Notify::new(),
            asked_for: Mutex::default(),
            catch_up_reads: Semaphore::new(MAX_CATCH_UP_READS),
        }))
    }

    /// Another replica has changed registrations. Only a hint to read the store.
    pub(crate) fn on_remote_changes(&self) {
        self.0.wake_tail.notify_one();
    }

    /// # Errors
    /// When the cursor is foreign, or the store cannot be read.
    pub(crate) async fn start(&self, start: ChangeStart) -> Result<ChangeCursor, FeedError> {
        match start {
            ChangeStart::Now => Ok(self.0.store.newest_change().await?),
            ChangeStart::Beginning => {
                let ChangeCursor { history, .. } = self.0.store.newest_change().await?;
                Ok(ChangeCursor { history, position: ChangePosition::BEGINNING })
            }
            ChangeStart::After(cursor) => match self.0.store.check_cursor(&cursor).await? {
                CursorCheck::Known => Ok(cursor),
                CursorCheck::Foreign => Err(FeedError::ForeignCursor),
            },
        }
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Held only for a moment.
    pub(super) fn with_window<T>(&self, read: impl FnOnce(Option<&Window>) -> T) -> T {
        read(self.0.window.lock().as_ref())
    }

    /// Wakes the readers.
    pub(super) fn set_window(&self, window: Option<Window>) {
        *self.0.window.lock() = window;
        self.wake_readers();
    }

    /// Adds what was read. `complete_as_of` is when the read began that found no more than this. Wakes the readers if
    /// anything is new for them.
    pub(super) fn extend_window(&self, page: ChangePage, complete_as_of: Option<Instant>) {
        let is_new = {
            let mut window = self.0.window.lock();
            let Some(window) = &mut *window else { return };
            let has_changes = !page.changes.is_empty();
            let before = std::mem::replace(&mut window.complete_as_of, complete_as_of);
            window.push(page);
            has_changes || before.is_some() != complete_as_of.is_some()
        };
        let is_awaited = self.0.asked_for.lock().take_if(|time| complete_as_of >= Some(*time)).is_some();
        if is_new || is_awaited {
            self.wake_readers();
        }
    }

    /// The store cannot be read.
    pub(super) fn set_incomplete(&self) {
        if let Some(window) = &mut *self.0.window.lock() {
            window.complete_as_of = None;
        }
    }

    fn wake_readers(&self) {
        self.0.progress.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.progress.subscribe()
    }

    /// How many there are.
    pub(super) fn readers(&self) -> watch::Receiver<usize> {
        self.0.readers.subscribe()
    }

    pub(super) fn add_reader(&self) {
        self.count_readers(|count| count + 1);
    }

    /// A reader wants to know whether it has everything as of `time`: the store is read again soon, and it is woken.
    pub(super) fn ask_for_read(&self, time: Instant) {
        {
            let mut asked_for = self.0.asked_for.lock();
            *asked_for = Some(asked_for.map_or(time, |earlier| earlier.min(time)));
        }
        self.0.wake_tail.notify_one();
    }

    pub(super) fn remove_reader(&self) {
        self.count_readers(|count| count.saturating_sub(1));
    }

    fn count_readers(&self, next: impl FnOnce(usize) -> usize) {
        self.0.readers.send_modify(|count| {
            *count = next(*count);
            metrics().set_change_readers(*count);
        });
    }

    pub(super) fn catch_up_reads(&self) -> &Semaphore {
        &self.0.catch_up_reads
    }

    /// Something may have been committed since the last call.
    pub(super) async fn changed(&self) {
        tokio::select! {
            () = self.0.store.changes_committed() => {}
            () = self.0.wake_tail.notified() => {}
        }
    }
}
