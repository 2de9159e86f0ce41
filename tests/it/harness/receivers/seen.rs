//! What has come to a receiver so far, and waiting for more.

use crate::harness::wait::within;
use std::sync::Mutex;
use tokio::sync::watch;

/// What has come, in order.
pub struct Seen<T> {
    kept: Mutex<Vec<T>>,
    count: watch::Sender<usize>,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self { kept: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl<T> Seen<T> {
    /// Something has come.
    pub fn add(&self, all: impl IntoIterator<Item = T>) {
        let mut kept = self.kept.lock().unwrap();
        kept.extend(all);
        self.count.send_replace(kept.len());
    }

    /// Looks at all of it.
    pub fn look<R>(&self, look: impl FnOnce(&[T]) -> R) -> R {
        look(&self.kept.lock().unwrap())
    }

    /// Looks now, and again whenever more has come, until there is something to see.
    ///
    /// # Panics
    /// When there is nothing in time; `what` says what was awaited.
    pub async fn until<R>(&self, what: &str, look: impl Fn(&[T]) -> Option<R>) -> R {
        let mut count = self.count.subscribe();
        within(what, async {
            loop {
                count.mark_unchanged();
                if let Some(seen) = self.look(&look) {
                    return seen;
                }
                // The sender lives as long as this.
                let _ = count.changed().await;
            }
        })
        .await
    }
}
