//! How much of something each caller has.

use crate::registration::CallerId;
use std::collections::{HashMap, hash_map::Entry};

/// A count of each caller, and their sum.
#[derive(Debug, Default)]
pub(super) struct CallerCounts {
    all: u64,
    /// Without callers that have none.
    by_caller: HashMap<CallerId, u64>,
}

impl CallerCounts {
    pub(super) fn all(&self) -> u64 {
        self.all
    }

    pub(super) fn of(&self, caller: CallerId) -> u64 {
        self.by_caller.get(&caller).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, caller: CallerId, count: u64) {
        self.all += count;
        *self.by_caller.entry(caller).or_default() += count;
    }

    /// At most as many as the caller has.
    pub(super) fn subtract(&mut self, caller: CallerId, count: u64) {
        self.all -= count;
        if let Entry::Occupied(mut of_caller) = self.by_caller.entry(caller) {
            *of_caller.get_mut() -= count;
            if *of_caller.get() == 0 {
                of_caller.remove();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all == 0 && self.by_caller.is_empty()
    }
}
