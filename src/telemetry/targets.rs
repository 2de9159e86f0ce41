//! Targets of log lines that layers treat differently from the rest.

/// Why the process ended. Written whatever the log filter says.
pub(super) const FATAL_TARGET: &str = "registrar::end";
/// A condition is over. A filter that admits warnings only can admit this target as well.
pub(crate) const RECOVERED_TARGET: &str = "registrar::recovered";
/// What is sent to Sentry, with SENTRY_DEBUG.
pub(super) const SENTRY_TARGET: &str = "registrar::sentry";
/// A warning with this target is an event of its own in Sentry.
pub(super) const REPORT_TARGET: &str = "registrar::report";
/// Who was refused, and whose registrations were accepted.
pub(super) const AUDIT_TARGET: &str = "registrar::audit";
/// A panic. The panic hook sends its own Sentry event, with the stack.
pub(super) const PANIC_TARGET: &str = "panic";
