//! Sentry: errors, breadcrumbs and logs by sentry-tracing's layers, transactions from our own spans, application metrics, sessions.

pub(super) mod app_metrics;
mod report;
mod transaction;
mod transport;

pub(super) use report::Report;

use super::{
    SentrySettings, Settings, metrics, scrub,
    spans::{self, KeepReason, Segment, Sink},
    start::EventListener,
    targets::{PANIC_TARGET, REPORT_TARGET},
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
use transaction::{Sdk, SentryIdentity};
use transport::{EnvelopeQueue, SharedTransportFactory};

/// The client, while the service runs.
pub(super) struct Sentry {
    client: Arc<Client>,
    queue: Arc<EnvelopeQueue>,
    identity: SentryIdentity,
}

impl Sentry {
    /// Starts to report for the process. The SDK's `init` would take a DSN, and whether certificates are checked, from the
    /// environment.
    pub(super) fn start(sentry: &SentrySettings, settings: &Settings) -> Self {
        let agent = ClientOptions::default().user_agent;
        let http = Arc::new(EnvelopeQueue::start(sentry.dsn.get(), &agent));
        let mut options = ClientOptions::new()
            .release(settings.service_version.clone())
            .environment(settings.environment.clone())
            .debug(sentry.debug)
            .sample_rate(sentry.error_sample_rate.get() as f32)
            .default_integrations(false)
            .add_integration(ContextIntegration::default())
            .add_integration(ProcessStacktraceIntegration)
            .add_integration(TraceContextIntegration)
            .before_send(scrub::event)
            .before_breadcrumb(scrub::breadcrumb)
            .before_send_log(|log| scrub::log(log_with_trace(log)))
            .before_send_metric(|metric| Some(metric_with_trace(metric)))
            .transport(SharedTransportFactory(http.clone()));
        options.dsn = Some(sentry.dsn.get().clone());
        let client = Arc::new(Client::with_options(options));
        let hub = Hub::main();
        hub.bind_client(Some(client.clone()));
        hub.start_session();
        let (name, version) = agent.split_once('/').unwrap_or((&agent, ""));
        let identity = SentryIdentity {
            public_key: sentry.dsn.get().public_key().to_owned(),
            release: settings.service_version.clone(),
            environment: settings.environment.clone(),
            server_name: client.options().server_name.clone().unwrap_or_default().into_owned(),
            sample_rate: settings.sample_rate,
            sdk: Sdk { name: name.to_owned(), version: version.to_owned() },
        };
        Self { client, queue: http, identity }
    }

    /// Where kept spans go.
    pub(super) fn sink(&self) -> Box<dyn Sink> {
        Box::new(TransactionSink { queue: self.queue.clone(), identity: self.identity.clone() })
    }

    /// The release's session is over: said before anything else, for it is the first to be missed.
    pub(super) fn end_session(&self) {
        Hub::main().end_session();
    }

    /// Sends what is still on its way, as far as that works in time.
    pub(super) fn close(&self, timeout: Duration) -> bool {
        self.client.close(Some(timeout))
    }
}

impl std::fmt::Debug for Sentry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sentry")
    }
}

struct TransactionSink {
    queue: Arc<EnvelopeQueue>,
    identity: SentryIdentity,
}

impl std::fmt::Debug for TransactionSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transactions")
    }
}

impl Sink for TransactionSink {
    fn export(&mut self, segment: &Segment, reason: KeepReason) {
        match transaction::encode_envelope(segment, reason, &self.identity) {
            Some(envelope) => self.queue.enqueue_transaction(envelope),
            None => metrics().add_telemetry_exports("sentry", "failed", 1),
        }
    }

    fn shutdown(&mut self, timeout: Duration) -> bool {
        self.queue.flush(timeout)
    }
}

/// The contexts of reports.
const OWN_CONTEXTS: [&str; 2] = ["blockchain", "rpc"];

/// Gives events the trace and span that they happened in.
struct TraceContextIntegration;

impl Integration for TraceContextIntegration {
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

fn log_with_trace(mut log: Log) -> Log {
    if let Some((trace_id, span_id)) = spans::current_trace() {
        log.trace_id = Some(trace_id.to_bytes().into());
        log.attributes.insert("sentry.trace.parent_span_id".to_owned(), span_id.to_string().into());
    }
    log
}

fn metric_with_trace(mut metric: Metric) -> Metric {
    if let Some((trace_id, span_id)) = spans::current_trace() {
        metric.trace_id = trace_id.to_bytes().into();
        metric.span_id = Some(span_id.to_bytes().into());
    }
    metric
}

/// Ours but for panics, which are reported when they happen, and no word of telemetry about itself: with a collector down each failed batch would become an error.
fn is_own_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.target().starts_with("registrar")
}

/// What becomes an event: every error, and the warnings that say so.
fn is_event(metadata: &Metadata<'_>) -> bool {
    // The panic hook has made an event of its own, with the stack.
    let told = metadata.target() == PANIC_TARGET;
    is_own_event(metadata) && !told && (*metadata.level() == Level::ERROR || metadata.target() == REPORT_TARGET)
}

/// What becomes a breadcrumb of the call or task it happens in: what is degraded. Facts about single registrations are told with
/// their report, and would be others' noise here.
fn is_breadcrumb(metadata: &Metadata<'_>) -> bool {
    is_own_event(metadata) && *metadata.level() == Level::WARN
}

fn is_log(metadata: &Metadata<'_>) -> bool {
    is_own_event(metadata) && *metadata.level() <= Level::WARN
}

/// sentry-tracing's layers. An event comes before the breadcrumb of the same warning, so that it has those before it and not itself.
pub(super) fn event_listeners<S>() -> [EventListener<S>; 3]
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    [
        (is_event, ErrorLayer::new().boxed()),
        (is_breadcrumb, BreadcrumbLayer::new().boxed()),
        (is_log, LogLayer::new().boxed()),
    ]
}

/// A hub of its own, with nobody else's breadcrumbs: the main one gets none, for everything that runs has one of its own.
pub(super) fn new_isolated_hub() -> Hub {
    Hub::new_from_top(Hub::main())
}

/// Whether anything is reported.
pub(super) fn is_enabled() -> bool {
    Hub::main().client().is_some()
}
