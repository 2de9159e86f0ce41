//! An error with all its context, in an isolated scope: it gets no breadcrumb, tag or user of other work.

use super::hub;
use crate::{
    registration::{SpanId, Timestamp, TraceId, UserId},
    telemetry::{spans, user_id},
};
use sentry::{
    Breadcrumb, Hub, Level, Scope, User,
    protocol::{Context, Value},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct Report {
    trace: Option<(TraceId, Option<SpanId>)>,
    user: Option<String>,
    tags: Vec<(&'static str, String)>,
    contexts: Vec<(String, BTreeMap<String, Value>)>,
    fingerprint: Vec<String>,
    breadcrumbs: Vec<(Timestamp, String)>,
}

impl Report {
    pub(in crate::telemetry) fn for_trace(trace_id: TraceId, span_id: Option<SpanId>) -> Self {
        Self { trace: Some((trace_id, span_id)), ..Self::default() }
    }

    pub(in crate::telemetry) fn user(mut self, user: Option<&UserId>) -> Self {
        self.user = user.map(user_id::exported_user_id);
        self
    }

    pub(in crate::telemetry) fn tag(mut self, key: &'static str, value: impl ToString) -> Self {
        self.tags.push((key, value.to_string()));
        self
    }

    pub(in crate::telemetry) fn context<K: Into<String>>(
        mut self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = (K, Value)>,
    ) -> Self {
        let values = values.into_iter().map(|(key, value)| (key.into(), value)).filter(|(_, value)| !value.is_null());
        self.contexts.push((name.into(), values.collect()));
        self
    }

    /// Sentry groups reports with the same fingerprint into one issue.
    pub(in crate::telemetry) fn fingerprint(mut self, parts: &[&str]) -> Self {
        self.fingerprint = parts.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    /// Oldest first.
    pub(in crate::telemetry) fn breadcrumbs(mut self, history: &[(Timestamp, String)]) -> Self {
        self.breadcrumbs = history.to_vec();
        self
    }

    /// Runs `act`: the error that it logs becomes the event.
    pub(in crate::telemetry) fn emit(self, act: impl FnOnce()) {
        let trace = self.trace;
        let act = || match trace {
            Some((trace_id, span_id)) => spans::with_trace(trace_id, span_id, act),
            None => act(),
        };
        if !hub::is_enabled() {
            return act();
        }
        // Made from the main hub, so that the error counts in the release-health session.
        let hub = hub::new_isolated_hub();
        hub.configure_scope(|scope| self.apply_to_scope(scope));
        for (time, message) in &self.breadcrumbs {
            let micros = Duration::from_micros(u64::try_from(time.micros()).unwrap_or(0));
            hub.add_breadcrumb(Breadcrumb {
                timestamp: UNIX_EPOCH + micros,
                category: Some("registration".to_owned()),
                level: Level::Info,
                message: Some(message.clone()),
                ..Breadcrumb::default()
            });
        }
        Hub::run(Arc::new(hub), act);
    }

    fn apply_to_scope(&self, scope: &mut Scope) {
        for (key, value) in &self.tags {
            scope.set_tag(key, value);
        }
        for (name, values) in &self.contexts {
            scope.set_context(name, Context::Other(values.clone()));
        }
        if let Some(id) = &self.user {
            scope.set_user(Some(User { id: Some(id.clone()), ..User::default() }));
        }
        if !self.fingerprint.is_empty() {
            let parts: Vec<_> = self.fingerprint.iter().map(String::as_str).collect();
            scope.set_fingerprint(Some(&parts));
        }
    }
}
