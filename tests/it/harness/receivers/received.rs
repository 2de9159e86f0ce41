//! What a receiver has received, with waiting for more.

use crate::harness::wait::within;
use std::sync::Mutex;
use tokio::sync::watch;

/// In order of arrival.
pub struct Received<T> {
    items: Mutex<Vec<T>>,
    count: watch::Sender<usize>,
}

impl<T> Default for Received<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl<T> Received<T> {
    pub fn add(&self, all: impl IntoIterator<Item = T>) {
        let mut items = self.items.lock().unwrap();
        items.extend(all);
        self.count.send_replace(items.len());
    }

    pub fn inspect<R>(&self, check: impl FnOnce(&[T]) -> R) -> R {
        check(&self.items.lock().unwrap())
    }

    /// Checks now and after every arrival, until `check` returns a value.
    ///
    /// # Panics
    /// When time runs out; `what` names what was awaited.
    pub async fn until<R>(&self, what: &str, check: impl Fn(&[T]) -> Option<R>) -> R {
        let mut count = self.count.subscribe();
        within(what, async {
            loop {
                count.mark_unchanged();
                if let Some(value) = self.inspect(&check) {
                    return value;
                }
                // The sender lives as long as `self`.
                let _ = count.changed().await;
            }
        })
        .await
    }
}
