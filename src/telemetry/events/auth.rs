//! Who called, what was decided, and changes of who may call.

use crate::{
    registration::{CallerName, ErrorReason, RegistrationId, TraceId},
    telemetry::{
        metrics::{Credentials, ReloadOutcome, metrics},
        sentry, spans,
        targets::AUDIT_TARGET,
    },
};
use std::{fmt::Display, path::Path};
use tracing::{error, info};

/// Of a line of the audit log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audited<'a> {
    /// `None` if the caller is not known.
    pub(crate) caller: Option<&'a CallerName>,
    /// By what the caller was identified: token, certificate, jwt or none.
    pub(crate) identification: &'static str,
    pub(crate) rpc: &'static str,
    pub(crate) trace_id: TraceId,
}

/// The outcome of a call whose caller may do it.
const ALLOWED: &str = "allowed";

/// What the current call reports has its caller from now on.
pub(crate) fn caller_identified(caller: &CallerName) {
    spans::annotate_caller(caller);
    sentry::set_caller(caller);
}

pub(crate) fn call_allowed(caller: &CallerName) {
    metrics().count_auth(Some(caller), ALLOWED);
}

/// A call was refused or, where callers are only audited, would have been. `detail` has no part of the credentials.
pub(crate) fn call_refused(call: Audited<'_>, reason: ErrorReason, detail: &str, is_enforced: bool) {
    metrics().count_auth(call.caller, reason.code());
    let Audited { caller, identification, rpc, trace_id } = call;
    let caller = caller.map(CallerName::as_str);
    let decision = if is_enforced { "refused" } else { "would_refuse" };
    let reason = reason.code();
    info!(target: AUDIT_TARGET, caller, identification, rpc, decision, reason, detail, %trace_id, "call refused");
}

pub(crate) fn registration_authorized(call: Audited<'_>, registration_id: RegistrationId) {
    let Audited { caller, identification, rpc, trace_id } = call;
    let caller = caller.map(CallerName::as_str);
    info!(
        target: AUDIT_TARGET,
        caller,
        identification,
        rpc,
        decision = "accepted",
        %registration_id,
        %trace_id,
        "registration accepted"
    );
}

pub(crate) fn callers_reloaded(callers: usize) {
    metrics().count_credentials_reload(Credentials::Callers, ReloadOutcome::Ok);
    info!(callers, "callers file changed, reloaded");
}

/// The callers stay as they were.
pub(crate) fn callers_reload_failed(path: &Path, problem: &dyn Display) {
    metrics().count_credentials_reload(Credentials::Callers, ReloadOutcome::Failed);
    let path = path.display();
    error!(%path, error = %problem, "callers file changed and cannot be used; the previous callers stay in effect");
}
