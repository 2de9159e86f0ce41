//! Sentry: errors, breadcrumbs and logs from sentry-tracing's layers, transactions from our own spans, application
//! metrics, and sessions.

pub(super) mod app_metrics;
mod breadcrumb_times;
mod hub;
mod report;
mod transaction;
mod transport;

pub(super) use hub::{is_enabled, new_isolated_hub, set_caller};
pub(super) use report::Report;

use super::{
    event_listener::EventListener,
    metrics::{ExportOutcome, ExportTarget, metrics},
    propagation::ServiceIdentity,
    scrub,
    settings::{SentrySettings, Settings},
    spans::{self, KeepReason, Segment, Sink},
    targets::{PANIC_TARGET, REPORT_TARGET},
};
use sentry::{
    Client, ClientOptions, Hub, Integration,
    integrations::{
        backtrace::ProcessStacktraceIntegration, contexts::ContextIntegration, debug_images::DebugImagesIntegration,
    },
    protocol::{Context, Event, Log, Metric, TraceContext},
};
use sentry_tracing::{BreadcrumbLayer, ErrorLayer, LogLayer};
use std::{sync::Arc, time::Duration};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, registry::LookupSpan};
use transaction::{Sdk, SentryIdentity};
use transport::{EnvelopeQueue, SharedTransportFactory};

pub(super) struct Sentry {
    client: Arc<Client>,
    queue: Arc<EnvelopeQueue>,
    identity: SentryIdentity,
}

impl Sentry {
    /// Binds the client to the main hub. The SDK's `init` would read the DSN from the environment, and whether to
    /// verify certificates.
    pub(super) fn start(sentry: &SentrySettings, settings: &Settings, service: ServiceIdentity) -> Self {
        let agent = ClientOptions::default().user_agent;
        let queue = Arc::new(EnvelopeQueue::start(sentry.dsn.get(), &agent, sentry.debug));
        let mut options = ClientOptions::new()
            .release(settings.service_version.clone())
            .environment(settings.environment.clone())
            .sample_rate(sentry.error_sample_rate.get() as f32)
            .default_integrations(false)
            .add_integration(ContextIntegration::default())
            // Sentry finds the symbols of a stripped program by its build id.
            .add_integration(DebugImagesIntegration::new().filter(|event| !event.exception.is_empty()))
            .add_integration(ProcessStacktraceIntegration)
            .add_integration(TraceContextIntegration)
            .before_send(scrub::event)
            .before_breadcrumb(scrub::breadcrumb)
            .before_send_log(|log| scrub::log(log_with_trace(log)))
            .before_send_metric(|metric| Some(metric_with_trace(metric)))
            .transport(SharedTransportFactory(queue.clone()));
        options.dsn = Some(sentry.dsn.get().clone());
        let client = Arc::new(Client::with_options(options));
        let hub = Hub::main();
        hub.bind_client(Some(client.clone()));
        hub.start_session();
        let (name, version) = agent.split_once('/').unwrap_or((&agent, ""));
        let identity = SentryIdentity {
            service,
            server_name: client.options().server_name.clone().unwrap_or_default().into_owned(),
            sample_rate: settings.sample_rate,
            sdk: Sdk { name: name.to_owned(), version: version.to_owned() },
        };
        Self { client, queue, identity }
    }

    pub(super) fn sink(&self) -> Box<dyn Sink> {
        Box::new(TransactionSink { queue: self.queue.clone(), identity: self.identity.clone() })
    }

    /// Ends the release-health session. Before the spans are flushed, so that it is sent even if they take all the
    /// time.
    pub(super) fn end_session(&self) {
        Hub::main().end_session();
    }

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
        f.write_str("TransactionSink")
    }
}

impl Sink for TransactionSink {
    fn export(&mut self, segment: &Segment, reason: KeepReason) {
        match transaction::encode_envelope(segment, reason, &self.identity) {
            Some(envelope) => self.queue.enqueue_transaction(envelope),
            None => metrics().add_telemetry_exports(ExportTarget::Sentry, ExportOutcome::Failed, 1),
        }
    }

    fn shutdown(&mut self, timeout: Duration) -> bool {
        self.queue.flush(timeout)
    }
}

/// Contexts of a [`Report`], which has the fields of its log line already.
const REPORT_CONTEXTS: [&str; 2] = ["blockchain", "rpc"];

/// Adds the current trace and span to events, and removes what sentry-tracing adds from the log line.
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
        event.contexts.remove("Rust Tracing Location");
        if REPORT_CONTEXTS.iter().any(|name| event.contexts.contains_key(*name)) {
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

/// Without the events of telemetry libraries: with a collector down, each failed batch would become an error.
fn is_own_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.target().starts_with("registrar")
}

/// Errors, and warnings with the report target.
fn is_event(metadata: &Metadata<'_>) -> bool {
    // The panic hook captures an event itself, with the stack trace.
    let is_captured = metadata.target() == PANIC_TARGET;
    is_own_event(metadata) && !is_captured && (*metadata.level() == Level::ERROR || metadata.target() == REPORT_TARGET)
}

/// Warnings alone: the history of a registration comes with its report, and would be noise in others.
fn is_breadcrumb(metadata: &Metadata<'_>) -> bool {
    is_own_event(metadata) && *metadata.level() == Level::WARN
}

fn is_log(metadata: &Metadata<'_>) -> bool {
    is_own_event(metadata) && *metadata.level() <= Level::WARN
}

/// sentry-tracing's layers. The event layer comes first, so that a warning is not a breadcrumb of its own event.
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
