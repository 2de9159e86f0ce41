//! Values of metrics, for the operator page. Reading one never makes a series.

use super::{
    Metrics,
    family::{LabelValue, Labels},
    recent::{RecentActivity, Spend},
};
use crate::registration::{State, Timestamp};
use alloy::primitives::Address;
use tokio::time::Instant;

/// What the metrics have of a signer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct SignerReading {
    /// In wei, at the last check.
    pub(crate) balance: Option<f64>,
    pub(crate) nonce_lag: u64,
    pub(crate) has_lease: bool,
    pub(crate) spend: Option<Spend>,
}

impl Metrics {
    pub(crate) fn recent_activity(&self) -> RecentActivity {
        self.recent.read(Instant::now())
    }

    /// Registrations in this state, as last counted; `None` before the first count.
    pub(crate) fn in_flight_now(&self, state: State) -> Option<u64> {
        let labels = [("state", LabelValue::from(state))];
        self.table.in_flight.get(&labels).map(|gauge| u64::try_from(gauge.get()).unwrap_or(0))
    }

    /// When the oldest queued registration was accepted.
    pub(crate) fn oldest_queued_now(&self) -> Option<Timestamp> {
        self.table.queue_oldest.get()
    }

    /// Whether the database was usable when that was last found out.
    pub(crate) fn is_store_up_now(&self) -> bool {
        self.table.store_up.get() == 1
    }

    pub(crate) fn signer_now(&self, signer: Address) -> SignerReading {
        let labels: Labels<1> = [("signer", LabelValue::from(signer.to_string()))];
        SignerReading {
            balance: self.table.signer_balance.get(&labels).map(|gauge| gauge.get()),
            nonce_lag: self
                .table
                .signer_nonce_lag
                .get(&labels)
                .map_or(0, |gauge| u64::try_from(gauge.get()).unwrap_or(0)),
            has_lease: self.table.signer_leased.get(&labels).is_some_and(|gauge| gauge.get() == 1),
            spend: self.recent.spend(Instant::now(), signer),
        }
    }

    /// Calls with this outcome since the start; an empty name is that of callers who are not known.
    pub(crate) fn calls_of(&self, caller: &str, outcome: &'static str) -> u64 {
        let labels: Labels<2> =
            [("caller", LabelValue::from(caller.to_owned())), ("outcome", LabelValue::from(outcome))];
        self.table.auth.get(&labels).map_or(0, |counter| counter.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_recorded_and_reading_makes_no_series() {
        let metrics = Metrics::new();
        let signer = Address::repeat_byte(7);
        let unknown = SignerReading { balance: None, nonce_lag: 0, has_lease: false, spend: None };
        assert_eq!((metrics.in_flight_now(State::Queued), metrics.oldest_queued_now()), (None, None));
        assert_eq!((metrics.signer_now(signer), metrics.calls_of("aaa", "allowed")), (unknown, 0));
        let page = metrics.encode_openmetrics().unwrap();
        assert!(!page.contains("aaa") && !page.contains(&signer.to_string()), "{page}");

        metrics.set_in_flight(State::Queued, 4);
        metrics.set_queue_oldest(Some(Timestamp::from_seconds(9)));
        metrics.set_signer_balance(signer, alloy::primitives::U256::from(8));
        metrics.set_signer_nonce_lag(signer, 3);
        metrics.set_signer_leased(signer, true);
        metrics.count_auth("aaa".parse().ok().as_ref(), "allowed");

        assert_eq!(metrics.in_flight_now(State::Queued), Some(4));
        assert_eq!(metrics.oldest_queued_now(), Some(Timestamp::from_seconds(9)));
        let known = SignerReading { balance: Some(8.0), nonce_lag: 3, has_lease: true, spend: None };
        assert_eq!((metrics.signer_now(signer), metrics.calls_of("aaa", "allowed")), (known, 1));
        assert_eq!(metrics.calls_of("", "CREDENTIALS_MISSING"), 0);
    }
}
