//! What the sender does next, decided from its timers alone.

use std::time::Duration;
use tokio::time::Instant;

/// A queue that did not report new work is polled this often: blocked registrations become due again without a report.
pub(super) const IDLE_QUEUE_POLL: Duration = Duration::from_millis(500);
/// A blocked sender claims and prepares a batch this often. In between it only checks the known blocker, which can
/// overestimate: a pending transaction may be confirmed or fees may fall, and the batch then costs less.
const FULL_ATTEMPT_INTERVAL: Duration = Duration::from_secs(5);
/// Interval between replacement attempts that the daily budget rejects.
const BUDGET_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between signatures for pending transactions that the signer does not make: each may take seconds, in which
/// nothing else is maintained.
const SIGN_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// A transaction pending for this long may wait for a missing nonce, which is checked this often.
const NONCE_GAP_GRACE: Duration = Duration::from_secs(3);

/// When each operation may be repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers {
    /// The next broadcast of a transaction that no endpoint accepted.
    resend_at: Instant,
    nonce_gap_check_at: Instant,
    replace_at: Instant,
    full_attempt_at: Instant,
    /// The next signature for a transaction that is pending already.
    sign_at: Instant,
    claim_at: Instant,
    /// Whether new work in the queue is claimed before `claim_at`.
    claim_on_enqueue: bool,
    /// Set after a failed write: the store may contain more than memory.
    needs_resync: bool,
}

/// How far the sender is in the present round of its loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Round {
    Start,
    Maintained {
        /// Whether an endpoint accepted every signed transaction. Another one is signed only then, so that no nonce gap
        /// is left behind a rejected one.
        all_broadcast: bool,
        has_in_flight_room: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Load the transactions that are only in the store.
    Resync,
    MaintainPending,
    /// Claim, prepare and send a batch; with `check_blocker` only if the known blocker is gone.
    SendBatch {
        check_blocker: bool,
    },
    Wait {
        until: Instant,
    },
}

/// The next action of a sender; `is_blocked` if its last attempt met a blocker.
pub(super) fn schedule(now: Instant, timers: &Timers, round: Round, is_blocked: bool) -> Action {
    match round {
        Round::Start if timers.needs_resync => Action::Resync,
        Round::Start => Action::MaintainPending,
        Round::Maintained { all_broadcast: false, .. } => Action::Wait { until: timers.resend_at },
        Round::Maintained { has_in_flight_room: false, .. } => Action::Wait { until: now + IDLE_QUEUE_POLL },
        Round::Maintained { .. } if now < timers.claim_at => Action::Wait { until: timers.claim_at },
        Round::Maintained { .. } => Action::SendBatch { check_blocker: is_blocked && now < timers.full_attempt_at },
    }
}

impl Timers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            resend_at: now,
            nonce_gap_check_at: now,
            replace_at: now,
            full_attempt_at: now,
            sign_at: now,
            claim_at: now,
            claim_on_enqueue: true,
            needs_resync: false,
        }
    }

    pub(super) fn may_resend(&self, now: Instant) -> bool {
        now >= self.resend_at
    }

    pub(super) fn may_replace(&self, now: Instant) -> bool {
        now >= self.replace_at
    }

    pub(super) fn may_sign(&self, now: Instant) -> bool {
        now >= self.sign_at
    }

    pub(super) fn may_check_nonce_gap(&self, now: Instant, pending_for: Option<Duration>) -> bool {
        pending_for.is_some_and(|pending_for| pending_for >= NONCE_GAP_GRACE) && now >= self.nonce_gap_check_at
    }

    pub(super) fn claims_on_enqueue(&self) -> bool {
        self.claim_on_enqueue
    }

    pub(super) fn resend_after(&mut self, now: Instant, delay: Duration) {
        self.resend_at = now + delay;
    }

    pub(super) fn on_over_budget(&mut self, now: Instant) {
        self.replace_at = now + BUDGET_RETRY_INTERVAL;
    }

    pub(super) fn on_unsigned(&mut self, now: Instant) {
        self.sign_at = now + SIGN_RETRY_INTERVAL;
    }

    pub(super) fn on_nonce_gap_check(&mut self, now: Instant) {
        self.nonce_gap_check_at = now + NONCE_GAP_GRACE;
    }

    pub(super) fn on_blocked(&mut self, now: Instant) {
        self.full_attempt_at = now + FULL_ATTEMPT_INTERVAL;
    }

    pub(super) fn claim_now(&mut self, now: Instant) {
        self.claim_at = now;
    }

    pub(super) fn on_empty_queue(&mut self, now: Instant) {
        (self.claim_at, self.claim_on_enqueue) = (now + IDLE_QUEUE_POLL, true);
    }

    /// After a failed attempt new work in the queue is no reason for another one.
    pub(super) fn claim_after(&mut self, now: Instant, delay: Duration) {
        (self.claim_at, self.claim_on_enqueue) = (now + delay, false);
    }

    pub(super) fn set_needs_resync(&mut self, needs_resync: bool) {
        self.needs_resync = needs_resync;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_next_action_follows_from_round_timers_and_blocker() {
        let now = Instant::now();
        let later = now + 100 * MS;
        let ready = Timers::new(now);
        let resync = Timers { needs_resync: true, ..ready };
        let not_yet = Timers { claim_at: later, ..ready };
        let checked = Timers { full_attempt_at: later, ..ready };
        let rejected = Timers { resend_at: now + 70 * MS, ..ready };
        let round = |all_broadcast, has_in_flight_room| Round::Maintained { all_broadcast, has_in_flight_room };
        let wait = |until| Action::Wait { until };
        let (send, check) = (Action::SendBatch { check_blocker: false }, Action::SendBatch { check_blocker: true });
        for (name, timers, round, is_blocked, expected) in [
            ("start", ready, Round::Start, false, Action::MaintainPending),
            ("start, claim not due", not_yet, Round::Start, false, Action::MaintainPending),
            ("start, blocked", checked, Round::Start, true, Action::MaintainPending),
            ("start, write failed", resync, Round::Start, false, Action::Resync),
            ("write failed in this round", resync, round(true, true), false, send),
            ("ready", ready, round(true, true), false, send),
            ("claim not due", not_yet, round(true, true), false, wait(later)),
            ("claim not due, blocked", not_yet, round(true, true), true, wait(later)),
            ("blocked", checked, round(true, true), true, check),
            ("blocked, full attempt due", ready, round(true, true), true, send),
            ("blocker gone", checked, round(true, true), false, send),
            ("at the in-flight limit", ready, round(true, false), false, wait(now + IDLE_QUEUE_POLL)),
            ("at the in-flight limit, claim not due", not_yet, round(true, false), false, wait(now + IDLE_QUEUE_POLL)),
            ("not broadcast", rejected, round(false, true), false, wait(now + 70 * MS)),
            ("not broadcast, at the limit", rejected, round(false, false), false, wait(now + 70 * MS)),
            ("not broadcast, blocked", rejected, round(false, true), true, wait(now + 70 * MS)),
        ] {
            assert_eq!(schedule(now, &timers, round, is_blocked), expected, "{name}");
        }
    }

    #[test]
    fn each_event_delays_only_its_own_operation() {
        let now = Instant::now();
        let long_pending = Some(NONCE_GAP_GRACE);
        let later = now + NONCE_GAP_GRACE;
        let due = |timers: &Timers, at: Instant| {
            (timers.may_resend(at), timers.may_replace(at), timers.may_check_nonce_gap(at, long_pending))
        };
        let after = |event: fn(&mut Timers, Instant)| {
            let mut timers = Timers::new(now);
            event(&mut timers, later);
            timers
        };
        for (timers, expected, due_after) in [
            (after(|_, _| {}), (true, true, true), Duration::ZERO),
            (after(|timers, at| timers.resend_after(at, 40 * MS)), (false, true, true), 40 * MS),
            (after(Timers::on_over_budget), (true, false, true), BUDGET_RETRY_INTERVAL),
            (after(Timers::on_nonce_gap_check), (true, true, false), NONCE_GAP_GRACE),
            (after(Timers::on_blocked), (true, true, true), Duration::ZERO),
        ] {
            assert_eq!(due(&timers, later), expected, "{timers:?}");
            assert_eq!(due(&timers, later + due_after), (true, true, true), "{timers:?}");
        }
        let timers = Timers::new(now);
        assert!(!timers.may_check_nonce_gap(later, None));
        assert!(!timers.may_check_nonce_gap(later, Some(NONCE_GAP_GRACE - MS)));
    }

    #[test]
    fn new_work_ends_the_wait_for_an_empty_queue_and_not_the_one_after_a_failure() {
        let now = Instant::now();
        let mut timers = Timers::new(now);
        assert!(timers.claims_on_enqueue());
        timers.claim_after(now, 10 * MS);
        assert!(!timers.claims_on_enqueue());
        timers.on_empty_queue(now);
        assert!(timers.claims_on_enqueue());
        assert_eq!(timers.claim_at, now + IDLE_QUEUE_POLL);
        timers.claim_now(now);
        assert_eq!(timers.claim_at, now);
    }
}
