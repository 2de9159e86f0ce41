//! One caller: what it may do, and how fast.

use super::scope::Scope;
use crate::registration::{CallerId, CallerName, CallerQuota, CaseId};
use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use std::{sync::Arc, time::Duration};

/// A caller of the callers file.
#[derive(Debug)]
pub struct Caller {
    pub(crate) name: CallerName,
    pub(crate) id: CallerId,
    pub(super) scopes: Vec<Scope>,
    /// `None` is all cases.
    pub(super) case_prefixes: Option<Vec<String>>,
    pub(super) rate: Option<Arc<RateLimit>>,
    pub(crate) quota: CallerQuota,
    /// Calls and streams of this replica that may wait at once.
    pub(crate) max_waiting: Option<u64>,
}

/// The next call may come after this time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooFast {
    pub(crate) retry_after: Duration,
}

impl Caller {
    /// Whether it may do what needs this scope.
    pub fn has_scope(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|held| [scope, Scope::Admin].contains(held))
    }

    /// Whether it may see every registration.
    pub fn sees_all_cases(&self) -> bool {
        self.case_prefixes.is_none() || self.has_scope(Scope::Admin)
    }

    /// Whether it may register and see this case.
    pub fn may_use_case(&self, case_id: &CaseId) -> bool {
        let is_prefix = |prefix: &String| case_id.as_str().starts_with(prefix.as_str());
        self.sees_all_cases() || self.case_prefixes.iter().flatten().any(is_prefix)
    }

    /// Takes one call of the caller's rate.
    ///
    /// # Errors
    /// When the rate is used up.
    pub fn take_call(&self) -> Result<(), TooFast> {
        let Some(rate) = &self.rate else { return Ok(()) };
        let now = rate.clock.now();
        rate.limiter.check().map_err(|until| TooFast { retry_after: until.wait_time_from(now) })
    }
}

/// Calls a second, and at once.
#[derive(Debug)]
pub(super) struct RateLimit {
    quota: Quota,
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl RateLimit {
    pub(super) fn new(quota: Quota) -> Self {
        Self { quota, limiter: RateLimiter::direct(quota), clock: DefaultClock::default() }
    }

    pub(super) fn quota(&self) -> Quota {
        self.quota
    }
}
