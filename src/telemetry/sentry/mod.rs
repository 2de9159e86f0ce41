//! Sentry: errors, breadcrumbs and logs by sentry-tracing's layers, transactions from our own spans, application metrics, sessions.

pub(super) mod measures;
mod report;
mod transaction;
mod transport;

pub(super) use report::Report;

use super::{
    SentrySettings, Settings, metrics, panic, scrub,
    spans::{self, Reason, Segment, Sink},
    start::Listener,
};
use sentry::{
    Client, ClientOptions, Hub, Integration,
    integrations::{backtrace::ProcessStacktraceIntegration, contexts::ContextIntegration},
    protocol::{Context, Event, Log, Metric, TraceContext},
};
use sentry_tracing::{BreadcrumbLayer, ErrorLayer, LogLayer};
use std::{sync::Arc, time::Duration};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, registry::LookupSpan};
use transaction::{Identity, Sdk};
use transport::{Factory, Http};

/// A warning with this target is an event of its own in Sentry.
pub(super) const REPORT: &str = "registrar::report";

/// The client, while the service runs.
pub(super) struct Sentry {
    client: Arc<Client>,
    http: Arc<Http>,
    identity: Identity,
}

impl Sentry {
    /// Starts to report for the process. The SDK's `init` would take a DSN, and whether certificates are checked, from the
    /// environment.
    pub(super) fn start(sentry: &SentrySettings, settings: &Settings) -> Self {
        let agent = ClientOptions::default().user_agent;
        let http = Arc::new(Http::start(sentry.dsn.get(), &agent));
        let mut options = ClientOptions::new()
            .release(settings.service_version.clone())
            .environment(settings.environment.clone())
            .debug(sentry.debug)
            .sample_rate(sentry.error_sample_rate.get() as f32)
            .default_integrations(false)
            .add_integration(ContextIntegration::default())
            .add_integration(ProcessStacktraceIntegration)
            .add_integration(Stamp)
            .before_send(scrub::event)
            .before_breadcrumb(scrub::breadcrumb)
            .before_send_log(|log| scrub::log(stamped(log)))
            .before_send_metric(|metric| Some(measured(metric)))
            .transport(Factory(http.clone()));
        options.dsn = Some(sentry.dsn.get().clone());
        let client = Arc::new(Client::with_options(options));
        let hub = Hub::main();
        hub.bind_client(Some(client.clone()));
        hub.start_session();
        let (name, version) = agent.split_once('/').unwrap_or((&agent, ""));
        let identity = Identity {
            public_key: sentry.dsn.get().public_key().to_owned(),
            release: settings.service_version.clone(),
            environment: settings.environment.clone(),
            server_name: client.options().server_name.clone().unwrap_or_default().into_owned(),
            sample_rate: settings.sample_rate,
            sdk: Sdk { name: name.to_owned(), version: version.to_owned() },
        };
        Self { client, http, identity }
    }

    /// Where kept spans go.
    pub(super) fn sink(&self) -> Box<dyn Sink> {
        Box::new(Transactions { http: self.http.clone(), identity: self.identity.clone() })
    }

    /// Sends what is still on its way, as far as that works in time.
    pub(super) fn close(&self, timeout: Duration) -> bool {
        Hub::main().end_session();
        self.client.close(Some(timeout))
    }
}

impl std::fmt::Debug for Sentry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sentry")
    }
}

struct Transactions {
    http: Arc<Http>,
    identity: Identity,
}

impl std::fmt::Debug for Transactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transactions")
    }
}

impl Sink for Transactions {
    fn take(&mut self, segment: &Segment, reason: Reason) {
        match transaction::envelope(segment, reason, &self.identity) {
            Some(envelope) => self.http.take(envelope),
            None => metrics().telemetry_export("sentry", "failed", 1),
        }
    }

    fn end(&mut self, timeout: Duration) -> bool {
        self.http.flush(timeout)
    }
}

/// The contexts of reports.
const OWN_CONTEXTS: [&str; 2] = ["blockchain", "rpc"];

/// Gives events the trace and span that they happened in.
struct Stamp;

impl Integration for Stamp {
    fn name(&self) -> &'static str {
        "registrar-trace"
    }

    fn process_event(&self, mut event: Event<'static>, _options: &ClientOptions) -> Option<Event<'static>> {
        if let Some((trace_id, span_id)) = spans::current_trace() {
            let trace = TraceContext {
                trace_id: trace_id.to_bytes().into(),
                span_id: span_id.to_bytes().into(),
                ..TraceContext::default()
            };
            event.contexts.insert("trace".to_owned(), Context::from(trace));
        }
        // sentry-tracing puts the fields of the log line there, which a report with contexts of its own has said already.
        event.contexts.remove("Rust Tracing Location");
        if OWN_CONTEXTS.iter().any(|own| event.contexts.contains_key(*own)) {
            event.contexts.remove("Rust Tracing Fields");
        }
        Some(event)
    }
}

fn stamped(mut log: Log) -> Log {
    if let Some((trace_id, span_id)) = spans::current_trace() {
        log.trace_id = Some(trace_id.to_bytes().into());
        log.attributes.insert("sentry.trace.parent_span_id".to_owned(), span_id.to_string().into());
    }
    log
}

fn measured(mut metric: Metric) -> Metric {
    if let Some((trace_id, span_id)) = spans::current_trace() {
        metric.trace_id = trace_id.to_bytes().into();
        metric.span_id = Some(span_id.to_bytes().into());
    }
    metric
}

/// Ours but for panics, which are reported when they happen, and no word of telemetry about itself: with a collector down each failed batch would become an error.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.target().starts_with("registrar")
}

/// What becomes an event: every error, and the warnings that say so.
fn is_event(metadata: &Metadata<'_>) -> bool {
    // The panic hook has made an event of its own, with the stack.
    let told = metadata.target() == panic::TARGET;
    is_ours(metadata) && !told && (*metadata.level() == Level::ERROR || metadata.target() == REPORT)
}

/// What becomes a breadcrumb of the call or task it happens in: what is degraded. Facts about single registrations are told with
/// their report, and would be others' noise here.
fn is_breadcrumb(metadata: &Metadata<'_>) -> bool {
    is_ours(metadata) && *metadata.level() == Level::WARN
}

fn is_log(metadata: &Metadata<'_>) -> bool {
    is_ours(metadata) && *metadata.level() <= Level::WARN
}

/// sentry-tracing's layers. An event comes before the breadcrumb of the same warning, so that it has those before it and not itself.
pub(super) fn listeners<S>() -> [Listener<S>; 3]
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    [
        (is_event, ErrorLayer::new().boxed()),
        (is_breadcrumb, BreadcrumbLayer::new().boxed()),
        (is_log, LogLayer::new().boxed()),
    ]
}

/// A hub with nobody else's breadcrumbs.
pub(super) fn own_hub() -> Hub {
    let hub = Hub::new_from_top(Hub::main());
    hub.configure_scope(|scope| scope.clear_breadcrumbs());
    hub
}

/// Whether anything is reported.
pub(super) fn is_on() -> bool {
    Hub::main().client().is_some()
}
