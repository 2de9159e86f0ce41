//! Sentry's hubs, which hold the client and the breadcrumbs.

use crate::registration::CallerName;
use sentry::Hub;

pub(in crate::telemetry) fn is_enabled() -> bool {
    Hub::main().client().is_some()
}

/// A hub without breadcrumbs. The main hub has none, because all work runs with a hub of its own.
pub(in crate::telemetry) fn new_isolated_hub() -> Hub {
    Hub::new_from_top(Hub::main())
}

/// The tag of every event of the current call.
pub(in crate::telemetry) fn set_caller(caller: &CallerName) {
    if is_enabled() {
        Hub::current().configure_scope(|scope| scope.set_tag("caller", caller));
    }
}
