//! Places that callers share: what one of them holds is limited by what is left for the others.

use super::callers::CallerCounts;
use crate::registration::{CallerId, policy::share};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Notify, time::timeout};

/// A number of places.
#[derive(Clone, Debug)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: u64,
    held: Mutex<CallerCounts>,
    freed: Notify,
}

/// No place is left for this caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no place is left for this caller")]
pub struct NoPlace;

/// A taken place; free again when it drops.
#[derive(Debug)]
pub struct Place {
    caller: CallerId,
    places: Places,
}

impl Places {
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Shared { limit, held: Mutex::default(), freed: Notify::new() }))
    }

    /// # Errors
    /// When all are taken, or the caller holds its share.
    pub fn take(&self, caller: CallerId) -> Result<Place, NoPlace> {
        self.take_at_most(caller, None)
    }

    /// # Errors
    /// When all are taken, or the caller holds its share, or `max`.
    pub fn take_at_most(&self, caller: CallerId, max: Option<u64>) -> Result<Place, NoPlace> {
        let mut held = self.0.held.lock();
        let free = self.0.limit.saturating_sub(held.all());
        let has_max = max.is_some_and(|max| held.of(caller) >= max);
        if has_max || !share::may_take(held.of(caller), free) {
            return Err(NoPlace);
        }
        held.add(caller, 1);
        Ok(Place { caller, places: self.clone() })
    }

    /// Held by this caller.
    pub fn held(&self, caller: CallerId) -> u64 {
        self.0.held.lock().of(caller)
    }

    /// Takes a place. If there is none, waits for one in one of the `waiting` places.
    ///
    /// # Errors
    /// When there is none for the caller in this time, or too many wait.
    pub async fn take_or_wait(&self, waiting: &Self, caller: CallerId, time: Duration) -> Result<Place, NoPlace> {
        match self.take(caller) {
            Ok(place) => Ok(place),
            Err(NoPlace) => {
                let _waiting = waiting.take(caller)?;
                self.take_within(caller, time).await
            }
        }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// When there is none for the caller in this time.
    pub async fn take_within(&self, caller: CallerId, time: Duration) -> Result<Place, NoPlace> {
        let take = async {
            loop {
                let freed = self.0.freed.notified();
                match self.take(caller) {
                    Ok(place) => return place,
                    Err(NoPlace) => freed.await,
                }
            }
        };
        timeout(time, take).await.map_err(|_| NoPlace)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Shared { held, freed, .. } = &*self.places.0;
        held.lock().subtract(self.caller, 1);
        // Whoever may take it now is not necessarily the one that has waited longest.
        freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEDY: CallerId = CallerId::of_connection(1);
    const OTHER: CallerId = CallerId::of_connection(2);

    #[tokio::test(start_paused = true)]
    async fn a_greedy_caller_leaves_room_and_its_places_return() {
        let places = Places::new(100);
        let mut held: Vec<_> = std::iter::from_fn(|| places.take(GREEDY).ok()).collect();
        assert_eq!(held.len(), 50);
        let other = places.take(OTHER).unwrap();
        assert_eq!(places.take_within(GREEDY, Duration::from_secs(5)).await.err(), Some(NoPlace));

        let waiting = places.take_within(GREEDY, Duration::from_secs(5));
        let (taken, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            held.truncate(10);
        });
        taken.unwrap();
        drop((held, other));
        assert!(places.0.held.lock().is_empty());
    }
}
