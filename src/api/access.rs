//! Whether a caller may make a call: its credentials, its scope, its rate, its cases. What is refused is audited here.

use super::{connections::Connection, error::ApiError, refusal::Refusal};
use crate::{
    auth::{Authenticator, CredentialsError, Identity, Mode, Scope, TooFast},
    registration::{CallerId, CallerName, CallerQuota, CaseId, RegistrationId, TraceId},
    telemetry::events::{self, Audited},
};
use http::HeaderMap;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// A stream outlives the end of its credentials by no more.
const RECHECK_INTERVAL: Duration = Duration::from_secs(20);

/// What a method needs of its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    Nothing,
    /// Any known caller may.
    Caller,
    Scope(Scope),
}

/// Who makes a call, and what it may see.
#[derive(Clone, Debug)]
pub(super) struct Access {
    authenticator: Authenticator,
    /// `None` without authentication, and of a call that is only audited and whose caller is not known.
    identity: Option<Identity>,
    connection: Arc<Connection>,
    rpc: &'static str,
    trace_id: TraceId,
}

/// What was found of a call's caller, before its trace is known.
pub(super) struct Checked {
    pub(super) access: Access,
    needs: Needs,
    refusal: Option<Refusal>,
}

impl Checked {
    /// Fetches the issuer's keys and checks again if the token is signed with a key that is not known.
    pub(super) async fn with_new_keys(self, headers: &HeaderMap) -> Self {
        if !matches!(self.refusal, Some(Refusal::Credentials(CredentialsError::UnknownKey))) {
            return self;
        }
        let Access { authenticator, connection, rpc, trace_id, .. } = &self.access;
        Box::pin(authenticator.fetch_keys()).await;
        Access::check(authenticator, headers, connection, self.needs, (rpc, *trace_id))
    }

    /// Whether it is refused, and not only audited.
    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_some() && self.access.is_enforced()
    }

    /// Reports the caller and the decision, in the trace of the call.
    ///
    /// # Errors
    /// When the call is refused.
    pub(super) fn decide(self, trace_id: TraceId) -> Result<Access, Refusal> {
        let access = Access { trace_id, ..self.access };
        if let Some(identity) = &access.identity {
            events::caller_identified(&identity.caller.name);
        }
        match (self.refusal, &access.identity) {
            (Some(refusal), _) => access.refuse(refusal)?,
            (None, Some(identity)) => events::call_allowed(&identity.caller.name),
            (None, None) => {}
        }
        Ok(access)
    }
}

impl Access {
    /// Identifies the caller, and checks what the method needs.
    pub(super) fn check(
        authenticator: &Authenticator,
        headers: &HeaderMap,
        connection: &Arc<Connection>,
        needs: Needs,
        (rpc, trace_id): (&'static str, TraceId),
    ) -> Checked {
        let (authenticator, connection) = (authenticator.clone(), connection.clone());
        let mut access = Self { authenticator, identity: None, connection, rpc, trace_id };
        if access.authenticator.mode() == Mode::Off || needs == Needs::Nothing {
            return Checked { access, needs, refusal: None };
        }
        let identity = match access.authenticator.identify(headers, access.connection.peer_certificate()) {
            Ok(identity) => identity,
            Err(error) => return Checked { access, needs, refusal: Some(Refusal::Credentials(error)) },
        };
        let caller = &identity.caller;
        let refusal = match needs {
            Needs::Scope(scope) if !caller.has_scope(scope) => Some(Refusal::ScopeMissing(scope)),
            Needs::Scope(_) | Needs::Caller | Needs::Nothing => {
                caller.take_call().err().map(|TooFast { retry_after }| Refusal::RateLimited(retry_after))
            }
        };
        access.identity = Some(identity);
        Checked { access, needs, refusal }
    }

    /// The caller, if it is known.
    pub(super) fn into_identity(self) -> Option<Identity> {
        self.identity
    }

    fn is_enforced(&self) -> bool {
        self.authenticator.mode() == Mode::Enforce
    }

    fn enforced_identity(&self) -> Option<&Identity> {
        self.identity.as_ref().filter(|_| self.is_enforced())
    }

    /// Audits the refusal; it is an error where callers are not only audited.
    fn refuse(&self, refusal: Refusal) -> Result<(), Refusal> {
        self.audit_refusal(&refusal);
        if self.is_enforced() { Err(refusal) } else { Ok(()) }
    }

    /// Audits what a handler has found that the caller may not do.
    pub(super) fn audit_error(&self, error: &ApiError) {
        if let (true, ApiError::Refused(refusal)) = (self.is_enforced(), error) {
            self.audit_refusal(refusal);
        }
    }

    fn audit_refusal(&self, refusal: &Refusal) {
        events::call_refused(self.audited(), refusal.reason(), &refusal.detail(), self.is_enforced());
    }

    fn audited(&self) -> Audited<'_> {
        let identity = self.identity.as_ref();
        Audited {
            caller: identity.map(|identity| &identity.caller.name),
            identification: identity.map_or("none", |identity| identity.identification().code()),
            rpc: self.rpc,
            trace_id: self.trace_id,
        }
    }

    /// Who shares limited places.
    pub(super) fn caller_id(&self) -> CallerId {
        self.identity.as_ref().map_or_else(|| self.connection.caller(), |identity| identity.caller.id)
    }

    /// For the registration's row.
    pub(super) fn caller_name(&self) -> Option<CallerName> {
        self.identity.as_ref().map(|identity| identity.caller.name.clone())
    }

    pub(super) fn quota(&self) -> CallerQuota {
        self.enforced_identity().map(|identity| identity.caller.quota).unwrap_or_default()
    }

    pub(super) fn max_waiting(&self) -> Option<u64> {
        self.enforced_identity()?.caller.max_waiting
    }

    /// # Errors
    /// When the caller may neither register nor see the case.
    pub(super) fn check_case(&self, case_id: &CaseId) -> Result<(), Refusal> {
        let is_allowed = self.identity.as_ref().is_none_or(|identity| identity.caller.may_use_case(case_id));
        match (is_allowed, self.is_enforced()) {
            (true, _) => Ok(()),
            // It is audited with the answer.
            (false, true) => Err(Refusal::CaseNotAllowed),
            (false, false) => {
                self.audit_refusal(&Refusal::CaseNotAllowed);
                Ok(())
            }
        }
    }

    /// As [`Self::check_case`], for the cases of a call with many documents in their order.
    ///
    /// # Errors
    /// When the caller may not use one of them.
    pub(super) fn check_cases<'c>(&self, cases: impl Iterator<Item = &'c CaseId>) -> Result<(), Refusal> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let outside = cases.enumerate().filter(|(_, case)| !identity.caller.may_use_case(case));
        let outside: Vec<_> = outside.map(|(index, _)| index).collect();
        match (outside.is_empty(), self.is_enforced()) {
            (true, _) => Ok(()),
            // It is audited with the answer.
            (false, true) => Err(Refusal::CasesNotAllowed(outside)),
            (false, false) => {
                self.audit_refusal(&Refusal::CasesNotAllowed(outside));
                Ok(())
            }
        }
    }

    /// Whether the caller may know that the case exists.
    pub(super) fn sees(&self, case_id: &CaseId) -> bool {
        self.enforced_identity().is_none_or(|identity| identity.caller.may_use_case(case_id))
    }

    pub(super) fn sees_all_cases(&self) -> bool {
        self.enforced_identity().is_none_or(|identity| identity.caller.sees_all_cases())
    }

    /// Whether it may see who has asked for a registration.
    pub(super) fn sees_callers(&self) -> bool {
        self.enforced_identity().is_none_or(|identity| identity.caller.has_scope(Scope::Admin))
    }

    /// The caller as the callers file has it now.
    ///
    /// # Errors
    /// When its credentials have ended, or it may not do this any more.
    pub(super) fn refreshed(&self, scope: Scope) -> Result<Self, Refusal> {
        let Some(identity) = self.enforced_identity() else { return Ok(self.clone()) };
        let identity = self.authenticator.check_again(identity).map_err(Refusal::Credentials)?;
        if !identity.caller.has_scope(scope) {
            return Err(Refusal::ScopeMissing(scope));
        }
        Ok(Self { identity: Some(identity), ..self.clone() })
    }

    /// Ends when the caller's credentials do, or what they allow. `None` for a call that needs none, so that its stream
    /// holds no future that never ends.
    pub(super) fn credentials_end(self, needs: Needs) -> Option<impl Future<Output = Refusal>> {
        let identity = self.enforced_identity()?.clone();
        Some(Self::end_of(self.authenticator, identity, needs))
    }

    async fn end_of(authenticator: Authenticator, identity: Identity, needs: Needs) -> Refusal {
        let mut changes = authenticator.changes();
        loop {
            match authenticator.check_again(&identity) {
                Err(error) => return Refusal::Credentials(error),
                Ok(identity) => match needs {
                    Needs::Scope(scope) if !identity.caller.has_scope(scope) => return Refusal::ScopeMissing(scope),
                    Needs::Scope(_) | Needs::Caller | Needs::Nothing => {}
                },
            }
            tokio::select! {
                // The clock may be set, and the sender lasts as long as the authenticator.
                () = sleep(RECHECK_INTERVAL) => {}
                _ = changes.changed() => {}
            }
        }
    }

    pub(super) fn audit_accepted(&self, id: RegistrationId) {
        if self.authenticator.mode() != Mode::Off {
            events::registration_authorized(self.audited(), id);
        }
    }
}
