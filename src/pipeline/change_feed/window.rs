//! The newest changes, in memory.

use crate::store::{Change, ChangeCursor, ChangePage, ChangePosition};
use std::{collections::VecDeque, sync::Arc};
use tokio::time::Instant;

/// About 5 MiB. A reader that is further behind reads from the store.
pub(super) const MAX_WINDOW: usize = 4_096;

#[derive(Debug)]
pub(super) struct Window {
    /// Every change after this one, up to `to`, is in `changes`.
    from: ChangePosition,
    to: ChangePosition,
    history: [u8; 8],
    changes: VecDeque<Arc<Change>>,
    /// When the store was read last and had nothing after `to`; `None` when there was something, or it cannot be read.
    pub(super) complete_as_of: Option<Instant>,
}

/// What a window has for a reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    Changes(Vec<Arc<Change>>),
    Nothing,
    /// The window begins after what the reader still needs.
    Later,
}

impl Window {
    pub(super) fn new(start: ChangeCursor) -> Self {
        let ChangeCursor { history, position } = start;
        Self { from: position, to: position, history, changes: VecDeque::new(), complete_as_of: None }
    }

    pub(super) fn begin(&self) -> ChangeCursor {
        ChangeCursor { history: self.history, position: self.from }
    }

    pub(super) fn end(&self) -> ChangePosition {
        self.to
    }

    pub(super) fn history(&self) -> [u8; 8] {
        self.history
    }

    /// The changes after [`Self::end`].
    pub(super) fn push(&mut self, page: ChangePage) {
        self.history = page.history.unwrap_or(self.history);
        for change in page.changes {
            self.to = change.position;
            self.changes.push_back(Arc::new(change));
            if self.changes.len() > MAX_WINDOW
                && let Some(oldest) = self.changes.pop_front()
            {
                self.from = oldest.position;
            }
        }
    }

    /// At most `limit` changes after this position.
    pub(super) fn after(&self, position: ChangePosition, limit: usize) -> Ahead {
        if position < self.from {
            return Ahead::Later;
        }
        let first = self.changes.partition_point(|change| change.position <= position);
        let changes: Vec<_> = self.changes.range(first..).take(limit).cloned().collect();
        if changes.is_empty() { Ahead::Nothing } else { Ahead::Changes(changes) }
    }
}
