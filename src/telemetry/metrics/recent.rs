//! What happened in the last ten minutes, in memory: counts and durations by slots of ten seconds, for the operator page.
//! Prometheus has the same over any time.

use super::Stage;
use alloy::primitives::Address;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

pub(crate) const SLOT: Duration = Duration::from_secs(10);
pub(crate) const SLOTS: usize = 60;
const STAGES: usize = Stage::ALL.len();

/// Durations from 0.1 ms to more than an hour, each bucket a quarter longer than the one before: a percentile is off by
/// at most an eighth.
const BUCKETS: usize = 80;
const FIRST_BUCKET_SECONDS: f64 = 0.0001;
const BUCKET_GROWTH: f64 = 1.25;

const SPEND_SLOT: Duration = Duration::from_secs(3600);
/// A week.
const SPEND_SLOTS: u64 = 7 * 24;
/// Days left are not estimated from less.
const MIN_SPEND_TIME: Duration = Duration::from_secs(600);
/// Of signers, which the settings name, so that this is never reached.
const MAX_SIGNERS: usize = 1_000;

/// Shared by everything that records and reads.
pub(super) struct Recent {
    start: Instant,
    kept: Mutex<Kept>,
}

struct Kept {
    /// The slot with number `n` is at `n % SLOTS`.
    slots: Vec<Slot>,
    /// Failed registrations since the start, by reason.
    failures: BTreeMap<&'static str, u64>,
    /// Confirmation and queue timeouts since the start, by cause.
    timeouts: BTreeMap<&'static str, Timeouts>,
    spend: BTreeMap<Address, VecDeque<(u64, f64)>>,
}

#[derive(Clone)]
struct Slot {
    number: u64,
    counts: RecentCounts,
    buckets: [[u32; BUCKETS]; STAGES],
}

/// Registrations of one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RecentCounts {
    pub(crate) accepted: u64,
    pub(crate) confirmed: u64,
    pub(crate) failed: u64,
}

/// Timeouts with one cause since the start of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Timeouts {
    /// Transactions whose confirmation timeout expired.
    pub(crate) transactions: u64,
    /// Registrations whose queue timeout expired.
    pub(crate) queued: u64,
}

/// Durations of one stage.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RecentStage {
    pub(crate) stage: Stage,
    /// `None` if nothing passed it.
    pub(crate) p50: Option<Duration>,
    pub(crate) p95: Option<Duration>,
    /// The 95th percentile of each slot, oldest first.
    pub(crate) p95_by_slot: Vec<Option<Duration>>,
}

/// A copy of what is kept.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RecentActivity {
    /// One for each slot, oldest first; the last one is not over yet.
    pub(crate) counts: Vec<RecentCounts>,
    pub(crate) stages: Vec<RecentStage>,
    /// By reason, since the start of the process.
    pub(crate) failures: Vec<(&'static str, u64)>,
    /// By cause, since the start of the process.
    pub(crate) timeouts: Vec<(&'static str, Timeouts)>,
    /// Since the start of the process.
    pub(crate) observed_for: Duration,
}

/// What a signer has paid in a time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spend {
    pub(crate) wei: f64,
    pub(crate) over: Duration,
}

impl Recent {
    pub(super) fn new(start: Instant) -> Self {
        let empty = Slot { number: 0, counts: RecentCounts::default(), buckets: [[0; BUCKETS]; STAGES] };
        let kept = Kept {
            slots: vec![empty; SLOTS],
            failures: BTreeMap::new(),
            timeouts: BTreeMap::new(),
            spend: BTreeMap::new(),
        };
        Self { start, kept: Mutex::new(kept) }
    }

    fn slot_number(&self, now: Instant) -> u64 {
        (now.duration_since(self.start).as_secs_f64() / SLOT.as_secs_f64()) as u64
    }

    pub(super) fn count(&self, now: Instant, add: impl FnOnce(&mut RecentCounts)) {
        let number = self.slot_number(now);
        add(&mut self.kept.lock().slot(number).counts);
    }

    pub(super) fn count_failure(&self, now: Instant, reason: &'static str) {
        let number = self.slot_number(now);
        let mut kept = self.kept.lock();
        kept.slot(number).counts.failed += 1;
        *kept.failures.entry(reason).or_default() += 1;
    }

    pub(super) fn count_timeouts(&self, cause: &'static str, add: impl FnOnce(&mut Timeouts)) {
        add(self.kept.lock().timeouts.entry(cause).or_default());
    }

    pub(super) fn observe(&self, now: Instant, stage: Stage, took: Duration) {
        let number = self.slot_number(now);
        let mut kept = self.kept.lock();
        let count = &mut kept.slot(number).buckets[stage as usize][bucket(took)];
        *count = count.saturating_add(1);
    }

    pub(super) fn add_spend(&self, now: Instant, signer: Address, wei: f64) {
        let hour = now.duration_since(self.start).as_secs() / SPEND_SLOT.as_secs();
        let mut kept = self.kept.lock();
        if kept.spend.len() >= MAX_SIGNERS && !kept.spend.contains_key(&signer) {
            return;
        }
        let hours = kept.spend.entry(signer).or_default();
        match hours.back_mut() {
            Some((last, spent)) if *last == hour => *spent += wei,
            Some(_) | None => hours.push_back((hour, wei)),
        }
        while hours.front().is_some_and(|(first, _)| first + SPEND_SLOTS <= hour) {
            hours.pop_front();
        }
    }

    /// Of at most a week; `None` if the process has not run for long enough.
    pub(super) fn spend(&self, now: Instant, signer: Address) -> Option<Spend> {
        let elapsed = now.duration_since(self.start);
        if elapsed < MIN_SPEND_TIME {
            return None;
        }
        let hour = elapsed.as_secs() / SPEND_SLOT.as_secs();
        let kept = self.kept.lock();
        let hours = kept.spend.get(&signer).into_iter().flatten().filter(|(at, _)| at + SPEND_SLOTS > hour);
        let wei = hours.map(|(_, wei)| wei).sum();
        Some(Spend { wei, over: elapsed.min(SPEND_SLOT * SPEND_SLOTS as u32) })
    }

    pub(super) fn read(&self, now: Instant) -> RecentActivity {
        let last = self.slot_number(now);
        let kept = self.kept.lock();
        // A slot that nothing was recorded in still has what was there ten minutes before.
        let slots: Vec<Option<&Slot>> = (0..SLOTS as u64)
            .map(|back| last.checked_sub(SLOTS as u64 - 1 - back))
            .map(|number| kept.slots.get((number? % SLOTS as u64) as usize).filter(|slot| Some(slot.number) == number))
            .collect();
        let stage = |stage: Stage| {
            let of_slot = |slot: &Option<&Slot>| slot.map(|slot| slot.buckets[stage as usize]);
            let mut all = [0_u32; BUCKETS];
            for buckets in slots.iter().filter_map(of_slot) {
                all.iter_mut().zip(buckets).for_each(|(sum, count)| *sum = sum.saturating_add(count));
            }
            RecentStage {
                stage,
                p50: percentile(&all, 0.5),
                p95: percentile(&all, 0.95),
                p95_by_slot: slots.iter().map(|slot| percentile(&of_slot(slot)?, 0.95)).collect(),
            }
        };
        RecentActivity {
            counts: slots.iter().map(|slot| slot.map(|slot| slot.counts).unwrap_or_default()).collect(),
            stages: Stage::ALL.into_iter().map(stage).collect(),
            failures: kept.failures.iter().map(|(reason, count)| (*reason, *count)).collect(),
            timeouts: kept.timeouts.iter().map(|(cause, count)| (*cause, *count)).collect(),
            observed_for: now.duration_since(self.start),
        }
    }
}

impl Kept {
    /// Empty, if it was last used ten minutes ago or earlier.
    fn slot(&mut self, number: u64) -> &mut Slot {
        let slot = &mut self.slots[(number % SLOTS as u64) as usize];
        if slot.number != number {
            *slot = Slot { number, counts: RecentCounts::default(), buckets: [[0; BUCKETS]; STAGES] };
        }
        slot
    }
}

impl RecentActivity {
    /// Registrations in the last minute, by what is counted. Right after the start there is less than a minute.
    pub(crate) fn in_last_minute(&self, of: impl Fn(&RecentCounts) -> u64) -> u64 {
        const MINUTE_SLOTS: usize = 6;
        self.counts.iter().rev().take(MINUTE_SLOTS).map(of).sum()
    }
}

fn bucket(took: Duration) -> usize {
    let position = (took.as_secs_f64() / FIRST_BUCKET_SECONDS).max(1.0).log(BUCKET_GROWTH);
    (position as usize).min(BUCKETS - 1)
}

/// The geometric middle of the bucket; `None` if all are empty.
fn percentile(buckets: &[u32; BUCKETS], share: f64) -> Option<Duration> {
    let total: u64 = buckets.iter().map(|count| u64::from(*count)).sum();
    let rank = ((total as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    let index = buckets.iter().position(|count| {
        seen += u64::from(*count);
        seen >= rank
    })?;
    Some(Duration::from_secs_f64(FIRST_BUCKET_SECONDS * BUCKET_GROWTH.powf(index as f64 + 0.5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNER: Address = Address::repeat_byte(1);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn recent() -> (Recent, Instant) {
        let start = Instant::now();
        (Recent::new(start), start)
    }

    #[test]
    fn counts_of_the_last_minute_end_after_a_minute_and_slots_after_ten() {
        let (recent, start) = recent();
        recent.count(after(start, 5), |counts| counts.accepted += 3);
        recent.count(after(start, 15), |counts| counts.confirmed += 2);
        let at = |seconds| recent.read(after(start, seconds));
        let minute = |seconds| {
            let activity = at(seconds);
            (activity.in_last_minute(|slot| slot.accepted), activity.in_last_minute(|slot| slot.confirmed))
        };
        assert_eq!([minute(15), minute(59), minute(60), minute(70)], [(3, 2), (3, 2), (0, 2), (0, 0)]);
        assert_eq!(at(599).counts.iter().map(|slot| slot.accepted).sum::<u64>(), 3);
        assert_eq!(at(600).counts.iter().map(|slot| slot.accepted).sum::<u64>(), 0);
        // The same place of the ring.
        recent.count(after(start, 605), |counts| counts.accepted += 1);
        assert_eq!(at(605).counts.iter().map(|slot| slot.accepted).sum::<u64>(), 1);
        assert_eq!(at(605).counts.len(), SLOTS);
    }

    #[test]
    fn a_percentile_is_off_by_at_most_an_eighth() {
        let (recent, start) = recent();
        for millis in 1..=1_000 {
            recent.observe(start, Stage::Wait, Duration::from_millis(millis));
        }
        let activity = recent.read(after(start, 1));
        let wait = activity.stages.iter().find(|one| one.stage == Stage::Wait).unwrap();
        for (seen, expected) in [(wait.p50, 0.5), (wait.p95, 0.95)] {
            let ratio = seen.unwrap().as_secs_f64() / expected;
            assert!((0.875..=1.125).contains(&ratio), "{seen:?}, expected {expected} s");
        }
        assert_eq!(wait.p95_by_slot.iter().flatten().count(), 1);
        assert!(activity.stages.iter().filter(|one| one.stage != Stage::Wait).all(|one| one.p50.is_none()));
    }

    #[test]
    fn durations_of_any_length_have_a_bucket() {
        let durations = [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(1), Duration::MAX];
        assert_eq!(durations.map(bucket), [0, 0, 10, BUCKETS - 1]);
    }

    #[test]
    fn spend_is_that_of_a_week_and_unknown_right_after_the_start() {
        let (recent, start) = recent();
        const DAY: u64 = 24 * 3600;
        recent.add_spend(after(start, 60), SIGNER, 5.0);
        assert_eq!(recent.spend(after(start, 599), SIGNER), None);
        let spend = |seconds| recent.spend(after(start, seconds), SIGNER).unwrap();
        assert_eq!(spend(600), Spend { wei: 5.0, over: Duration::from_secs(600) });
        recent.add_spend(after(start, 6 * DAY), SIGNER, 2.0);
        assert_eq!(spend(6 * DAY).wei, 7.0);
        assert_eq!(spend(7 * DAY + 3600), Spend { wei: 2.0, over: Duration::from_secs(7 * DAY) });
        assert_eq!(recent.spend(after(start, 600), Address::ZERO).unwrap().wei, 0.0);
    }

    #[test]
    fn failures_and_timeouts_are_counted_by_reason_and_cause() {
        let (recent, start) = recent();
        recent.count_failure(start, "TRANSACTION_REVERTED");
        recent.count_timeouts("pending", |timeouts| timeouts.transactions += 1);
        recent.count_timeouts("pending", |timeouts| timeouts.queued += 4);
        let activity = recent.read(start);
        assert_eq!(activity.failures, [("TRANSACTION_REVERTED", 1)]);
        assert_eq!(activity.timeouts, [("pending", Timeouts { transactions: 1, queued: 4 })]);
        assert_eq!(activity.in_last_minute(|slot| slot.failed), 1);
    }
}
