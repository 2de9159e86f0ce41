//! The newest head that the follower has verified, and since when it is the newest.

use crate::chain::Header;
use std::sync::Arc;
use tokio::{sync::watch, time::Instant};

#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) header: Header,
    /// When this block became the head.
    pub(super) since: Instant,
}

/// Shared by the follower, which updates it, and everything that reads it or waits for the next block.
#[derive(Clone, Debug)]
pub(super) struct HeadWatch(Arc<watch::Sender<Option<Head>>>);

impl HeadWatch {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// `None` before the follower's first poll.
    pub(super) fn header(&self) -> Option<Header> {
        self.0.borrow().map(|head| head.header)
    }

    pub(super) fn get(&self) -> Option<Head> {
        *self.0.borrow()
    }

    /// The same block again changes nothing and wakes no subscriber.
    pub(super) fn update(&self, header: Header) {
        self.0.send_if_modified(|head| {
            let moved = head.map(|head| head.header.block.hash) != Some(header.block.hash);
            if moved {
                *head = Some(Head { header, since: Instant::now() });
            }
            moved
        });
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Head>> {
        self.0.subscribe()
    }
}
