//! Whether a caller may add a registration to the unfinished ones: each gets a share of `REGISTRAR_QUEUE_LIMIT`, so that
//! one caller cannot fill the queue for all.

use super::callers::CallerCounts;
use crate::registration::{CallerId, policy::share};
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};

#[derive(Clone, Debug)]
pub(super) struct Admission {
    limit: u64,
    unfinished: Arc<Mutex<Unfinished>>,
}

/// Registrations that are being written. They count until they are finished, except for those that are withdrawn.
#[derive(Debug)]
pub(super) struct Admitted {
    caller: CallerId,
    count: u64,
    withdrawn: u64,
    unfinished: Arc<Mutex<Unfinished>>,
}

/// The unfinished registrations that this process has accepted.
///
/// The store knows how many are unfinished, and not whose. Registrations finish about in the order in which they were
/// accepted: when there are fewer than are counted here, the oldest ones are finished.
#[derive(Debug, Default)]
struct Unfinished {
    /// Oldest first: as many of one caller in a row.
    runs: VecDeque<(CallerId, u64)>,
    counts: CallerCounts,
    /// Of these, the ones that the store may not count yet.
    being_written: u64,
}

impl Admission {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, unfinished: Arc::default() }
    }

    /// `None` if this many are more than the caller's share. Takes the number of unfinished registrations in the store.
    pub(super) fn admit(&self, caller: CallerId, count: u64, stored: u64) -> Option<Admitted> {
        let mut unfinished = self.unfinished.lock();
        unfinished.settle(stored);
        let free = self.limit.saturating_sub(stored + unfinished.being_written);
        // If the last one may be taken, so may those before it. Whether the queue is full decides the store, which also
        // knows the pairs that are in it already.
        let others = count.saturating_sub(1);
        let held = unfinished.counts.of(caller) + others;
        share::may_take(held, free.saturating_sub(others).max(1)).then(|| {
            unfinished.add(caller, count);
            Admitted { caller, count, withdrawn: 0, unfinished: self.unfinished.clone() }
        })
    }
}

impl Admitted {
    /// Of these, only this many were new.
    pub(super) fn keep(mut self, new: u64) {
        self.withdrawn = self.count.saturating_sub(new);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut unfinished = self.unfinished.lock();
        unfinished.being_written -= self.count;
        unfinished.remove_newest(self.caller, self.withdrawn);
    }
}

impl Unfinished {
    fn add(&mut self, caller: CallerId, added: u64) {
        match self.runs.back_mut() {
            Some((last, count)) if *last == caller => *count += added,
            Some(_) | None => self.runs.push_back((caller, added)),
        }
        self.counts.add(caller, added);
        self.being_written += added;
    }

    fn settle(&mut self, stored: u64) {
        let mut finished = self.counts.all().saturating_sub(stored + self.being_written);
        while finished > 0
            && let Some((caller, count)) = self.runs.front_mut()
        {
            let (caller, some) = (*caller, finished.min(*count));
            *count -= some;
            if *count == 0 {
                self.runs.pop_front();
            }
            finished -= some;
            self.counts.subtract(caller, some);
        }
    }

    /// They may have been settled already.
    fn remove_newest(&mut self, caller: CallerId, mut removed: u64) {
        while removed > 0
            && let Some(index) = self.runs.iter().rposition(|(other, _)| *other == caller)
        {
            let some = removed.min(self.runs[index].1);
            self.runs[index].1 -= some;
            if self.runs[index].1 == 0 {
                self.runs.remove(index);
            }
            removed -= some;
            self.counts.subtract(caller, some);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEDY: CallerId = CallerId::of_connection(1);
    const OTHER: CallerId = CallerId::of_connection(2);

    /// Accepts as many as it may; returns how many are stored then.
    fn flood(admission: &Admission, mut stored: u64) -> u64 {
        while let Some(admitted) = admission.admit(GREEDY, 1, stored) {
            drop(admitted);
            stored += 1;
        }
        stored
    }

    #[test]
    fn a_greedy_caller_fills_half_of_the_queue_and_again_when_its_work_is_finished() {
        let admission = Admission::new(1_000);
        assert_eq!(flood(&admission, 0), 500);
        assert!(admission.admit(OTHER, 1, 500).is_some());
        assert_eq!(flood(&admission, 101), 501, "400 were finished, the first ones of the greedy caller");
    }

    #[test]
    fn what_was_there_before_counts_for_no_caller() {
        let admission = Admission::new(1_000);
        assert_eq!(flood(&admission, 900), 950);
        assert!(admission.admit(OTHER, 1, 950).is_some());
    }

    #[test]
    fn a_small_queue_is_not_divided() {
        assert!(flood(&Admission::new(10), 0) >= 10, "whether it is full decides the store");
    }

    #[test]
    fn a_known_pair_and_a_failed_write_count_for_nothing() {
        let admission = Admission::new(1_000);
        for _ in 0..2_000 {
            admission.admit(GREEDY, 3, 0).unwrap().keep(0);
        }
        let unfinished = admission.unfinished.lock();
        assert_eq!(unfinished.being_written, 0);
        assert!(unfinished.counts.is_empty() && unfinished.runs.is_empty());
    }

    #[test]
    fn a_call_with_many_is_admitted_if_each_of_them_would_be() {
        let admission = Admission::new(1_000);
        assert!(admission.admit(GREEDY, 501, 0).is_none());
        let many = admission.admit(GREEDY, 400, 0).unwrap();
        assert!(admission.admit(GREEDY, 101, 0).is_none(), "those that are being written count");
        // 100 of them were known already.
        many.keep(300);
        admission.admit(GREEDY, 200, 300).unwrap().keep(200);
        assert!(admission.admit(GREEDY, 1, 500).is_none());
        assert!(admission.admit(OTHER, 250, 500).is_some() && admission.admit(OTHER, 251, 500).is_none());
    }

    #[test]
    fn registrations_that_are_being_written_are_not_finished() {
        let admission = Admission::new(100);
        let writing: Vec<_> = std::iter::from_fn(|| admission.admit(GREEDY, 1, 0)).collect();
        assert_eq!(writing.len(), 50);
        assert!(admission.admit(OTHER, 1, 0).is_some());
    }
}
