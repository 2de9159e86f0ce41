//! What a connection does, and when it is to be drained or closed: decided from times alone.

use super::super::limits::{MAX_CANCEL_BURST, MAX_CANCELS_PER_SECOND, Timeouts};
use crate::telemetry::ConnectionEnd;
use std::time::Duration;
use tokio::time::Instant;

/// A connection that got GOAWAY and has no call is closed after this time: a call that the client sent before it saw
/// GOAWAY is still answered.
const DRAINED_DELAY: Duration = Duration::from_secs(1);
/// For a client that takes nothing during the shutdown.
const STALLED_AT_SHUTDOWN: Duration = Duration::from_secs(2);
/// After its streams were ended, for a client that takes nothing.
const LAST_DELAY: Duration = Duration::from_secs(5);
/// A client that connects to call does so at once.
const UNUSED_AFTER: Duration = Duration::from_secs(1);
/// Looks at a connection that is used, and at one that ends.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
const DRAINING_CHECK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug)]
pub(super) struct Activity {
    opened: Instant,
    /// From the headers of a call to the last byte of its answer.
    calls: usize,
    has_called: bool,
    /// Since when there is no call, if there is none.
    idle_since: Instant,
    /// Parts of answers that the client has not taken.
    unsent: usize,
    /// Since when it has taken none, if there are any.
    unsent_since: Instant,
    cancels_left: u32,
    cancels_counted: Instant,
}

/// What a connection is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Open {
        /// When it reaches its age.
        drain_at: Instant,
    },
    /// New calls go to another connection; those in progress continue.
    Aged {
        since: Instant,
    },
    /// As [`Self::Aged`], but their time is over.
    Expired {
        since: Instant,
    },
    ShuttingDown {
        since: Instant,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Wait {
        until: Instant,
    },
    /// Send GOAWAY: the client has to use another connection for new calls.
    Drain,
    /// End the streams that are still open.
    Expire,
    Close(ConnectionEnd),
}

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            opened: now,
            calls: 0,
            has_called: false,
            idle_since: now,
            unsent: 0,
            unsent_since: now,
            cancels_left: MAX_CANCEL_BURST,
            cancels_counted: now,
        }
    }

    pub(super) fn begin_call(&mut self) {
        self.calls += 1;
        self.has_called = true;
    }

    pub(super) fn end_call(&mut self, now: Instant) {
        self.calls -= 1;
        self.idle_since = now;
    }

    pub(super) fn begin_sending(&mut self, now: Instant) {
        if self.unsent == 0 {
            self.unsent_since = now;
        }
        self.unsent += 1;
    }

    pub(super) fn end_sending(&mut self, now: Instant) {
        self.unsent -= 1;
        self.unsent_since = now;
    }

    /// Returns whether the connection may go on.
    pub(super) fn count_cancel(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.cancels_counted).as_secs();
        if seconds > 0 {
            let returned = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(MAX_CANCELS_PER_SECOND);
            self.cancels_left = self.cancels_left.saturating_add(returned).min(MAX_CANCEL_BURST);
            self.cancels_counted = now;
        }
        match self.cancels_left.checked_sub(1) {
            Some(left) => {
                self.cancels_left = left;
                true
            }
            None => false,
        }
    }

    /// The order in which connections make room for others: first those that have never called, then the one without
    /// a call for the longest time. `None` if it is in use.
    pub(super) fn eviction_order(&self) -> Option<(bool, Instant)> {
        (self.calls == 0 && self.unsent == 0).then_some((self.has_called, self.idle_since))
    }

    /// Whether it has had the time for a first call and not used it.
    pub(super) fn is_unused(&self, now: Instant) -> bool {
        !self.has_called && now >= self.opened + UNUSED_AFTER
    }

    pub(super) fn next_step(&self, phase: Phase, timeouts: &Timeouts, now: Instant) -> Step {
        let is_idle = self.calls == 0 && self.unsent == 0;
        let may_stall = match phase {
            Phase::Open { .. } | Phase::Aged { .. } => timeouts.stalled,
            Phase::Expired { .. } | Phase::ShuttingDown { .. } => STALLED_AT_SHUTDOWN,
        };
        if self.unsent > 0 && now >= self.unsent_since + may_stall {
            return Step::Close(ConnectionEnd::Stalled);
        }
        match phase {
            Phase::Open { drain_at } => {
                let idle_until =
                    if self.has_called { self.idle_since + timeouts.idle } else { self.opened + timeouts.first_call };
                if now >= drain_at || is_idle && now >= idle_until {
                    Step::Drain
                } else {
                    Step::Wait { until: drain_at.min(now + CHECK_INTERVAL) }
                }
            }
            Phase::Aged { since } | Phase::Expired { since } | Phase::ShuttingDown { since }
                if is_idle && now >= since.max(self.idle_since) + DRAINED_DELAY =>
            {
                Step::Close(if self.has_called { ConnectionEnd::Drained } else { ConnectionEnd::NoCall })
            }
            Phase::Aged { since } if now >= since + timeouts.age_grace => Step::Expire,
            Phase::Expired { since } if now >= since + LAST_DELAY => Step::Close(ConnectionEnd::Drained),
            Phase::Aged { .. } | Phase::Expired { .. } | Phase::ShuttingDown { .. } => {
                Step::Wait { until: now + DRAINING_CHECK_INTERVAL }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const TIMEOUTS: Timeouts = Timeouts::new(Duration::from_secs(600), Duration::from_secs(310));

    /// A connection that does this at its start.
    fn after(events: impl Fn(&mut Activity, Instant)) -> (Activity, Instant) {
        let now = Instant::now();
        let mut activity = Activity::new(now);
        events(&mut activity, now);
        (activity, now)
    }

    #[test]
    fn each_kind_of_connection_ends_in_its_time() {
        let (silent, start) = after(|_, _| ());
        let (used, _) = after(|activity, now| {
            activity.begin_call();
            activity.end_call(now);
        });
        let (calling, _) = after(|activity, _| activity.begin_call());
        let (stalled, _) = after(|activity, now| {
            activity.begin_call();
            activity.begin_sending(now);
            activity.end_call(now);
        });
        let open = Phase::Open { drain_at: start + 600 * S };
        let aged = Phase::Aged { since: start };
        let expired = Phase::Expired { since: start };
        let stopping = Phase::ShuttingDown { since: start };
        let close = Step::Close;
        for (name, activity, phase, seconds, expected) in [
            ("never called", silent, open, 20, Some(Step::Drain)),
            ("never called, in time", silent, open, 19, None),
            ("never called, after GOAWAY", silent, aged, 2, Some(close(ConnectionEnd::NoCall))),
            ("idle", used, open, 301, Some(Step::Drain)),
            ("used a while ago", used, open, 299, None),
            ("idle after GOAWAY", used, aged, 2, Some(close(ConnectionEnd::Drained))),
            ("idle, GOAWAY just sent", used, aged, 0, None),
            ("in use", calling, open, 599, None),
            ("in use at its age", calling, open, 600, Some(Step::Drain)),
            ("in use after its age", calling, aged, 309, None),
            ("in use after its grace", calling, aged, 310, Some(Step::Expire)),
            ("in use after its streams ended", calling, expired, 6, Some(close(ConnectionEnd::Drained))),
            ("in use at the shutdown", calling, stopping, 100, None),
            ("takes nothing", stalled, open, 31, Some(close(ConnectionEnd::Stalled))),
            ("takes nothing yet", stalled, open, 29, None),
            ("takes nothing at the shutdown", stalled, stopping, 3, Some(close(ConnectionEnd::Stalled))),
        ] {
            let now = start + seconds * S + Duration::from_millis(100);
            let step = activity.next_step(phase, &TIMEOUTS, now);
            match expected {
                Some(expected) => assert_eq!(step, expected, "{name}"),
                None => assert!(matches!(step, Step::Wait { until } if until > now), "{name}: {step:?}"),
            }
        }
    }

    #[test]
    fn a_client_that_takes_a_part_is_not_stalled() {
        let (mut activity, start) = after(|activity, now| {
            activity.begin_call();
            activity.begin_sending(now);
            activity.begin_sending(now);
        });
        activity.end_sending(start + 29 * S);
        let open = Phase::Open { drain_at: start + 600 * S };
        assert!(matches!(activity.next_step(open, &TIMEOUTS, start + 58 * S), Step::Wait { .. }));
        assert_eq!(activity.next_step(open, &TIMEOUTS, start + 59 * S), Step::Close(ConnectionEnd::Stalled));
    }

    #[test]
    fn all_calls_may_be_cancelled_at_once_but_not_for_ever() {
        let (mut activity, start) = after(|_, _| ());
        let cancels = |activity: &mut Activity, at| (0..100_000).take_while(|_| activity.count_cancel(at)).count();
        assert_eq!(cancels(&mut activity, start), 2 * 1024);
        assert_eq!(cancels(&mut activity, start + 3 * S), 600);
        assert_eq!(cancels(&mut activity, start + 1_000 * S), 2 * 1024);
    }

    #[test]
    fn a_connection_that_never_called_makes_room_first() {
        let (silent, _) = after(|_, _| ());
        let (used, _) = after(|activity, now| {
            activity.begin_call();
            activity.end_call(now);
        });
        let (calling, _) = after(|activity, _| activity.begin_call());
        assert!(silent.eviction_order() < used.eviction_order());
        assert_eq!(calling.eviction_order(), None);
    }
}
