//! Whose registrations are next: a batch holds some of every caller, so that one caller's thousands do not keep the
//! others waiting.

use crate::registration::{CallerId, RegistrationId};
use std::collections::{BTreeMap, HashSet, VecDeque};

/// More are not recorded: those take their turn by age.
const MAX_RECORDED: usize = 200_000;

/// The queued registrations that this process has accepted. Only a hint: the store decides what is queued.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Oldest first; no empty ones.
    by_caller: BTreeMap<CallerId, VecDeque<RegistrationId>>,
    all: usize,
}

impl Turns {
    pub(super) fn record(&mut self, caller: CallerId, ids: impl IntoIterator<Item = RegistrationId>) {
        let ids: Vec<_> = ids.into_iter().take(MAX_RECORDED.saturating_sub(self.all)).collect();
        if !ids.is_empty() {
            self.all += ids.len();
            self.by_caller.entry(caller).or_default().extend(ids);
        }
    }

    /// At most `max`, one of each caller in turn; none of the caller that has the most, which gets what is left.
    pub(super) fn next(&self, max: usize) -> Vec<RegistrationId> {
        let most = self.by_caller.iter().max_by_key(|(_, ids)| ids.len()).map(|(caller, _)| *caller);
        let mut others: Vec<_> =
            self.by_caller.iter().filter(|(caller, _)| Some(**caller) != most).map(|(_, ids)| ids.iter()).collect();
        let mut next = Vec::new();
        while next.len() < max && !others.is_empty() {
            others.retain_mut(|ids| {
                let id = ids.next();
                next.extend(id);
                id.is_some()
            });
        }
        next.truncate(max);
        next
    }

    /// These are not queued any more.
    pub(super) fn forget(&mut self, ids: &HashSet<RegistrationId>) {
        self.retain(|id| !ids.contains(id));
    }

    /// The queue has been read by age up to this one.
    pub(super) fn forget_up_to(&mut self, last: RegistrationId) {
        for ids in self.by_caller.values_mut() {
            while ids.pop_front_if(|id| *id <= last).is_some() {
                self.all -= 1;
            }
        }
        self.by_caller.retain(|_, ids| !ids.is_empty());
    }

    fn retain(&mut self, keep: impl Fn(&RegistrationId) -> bool) {
        for ids in self.by_caller.values_mut() {
            ids.retain(&keep);
        }
        self.by_caller.retain(|_, ids| !ids.is_empty());
        self.all = self.by_caller.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> RegistrationId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        RegistrationId::from_bytes(bytes)
    }

    /// A caller with a thousand, then two with a few.
    fn turns() -> Turns {
        let mut turns = Turns::default();
        let few = [(2, 1_000), (3, 1_001), (2, 1_002), (2, 1_003)];
        for (caller, number) in (0..1_000).map(|number| (1, number)).chain(few) {
            turns.record(CallerId::of_connection(caller), [id(number)]);
        }
        turns
    }

    #[test]
    fn callers_with_few_registrations_take_turns() {
        let turns = turns();
        assert_eq!(turns.next(10), [1_000, 1_001, 1_002, 1_003].map(id));
        assert_eq!(turns.next(2), [1_000, 1_001].map(id));
    }

    #[test]
    fn a_single_caller_has_no_turn_but_its_age() {
        let mut turns = turns();
        turns.forget(&[1_000, 1_001, 1_002, 1_003].map(id).into());
        assert_eq!(turns.next(10), []);
        assert_eq!(turns.all, 1_000);
    }

    #[test]
    fn what_was_read_by_age_is_forgotten() {
        let mut turns = turns();
        turns.forget_up_to(id(1_001));
        assert_eq!(turns.all, 2);
        turns.forget_up_to(id(9_999));
        assert!(turns.by_caller.is_empty() && turns.all == 0);
    }
}
