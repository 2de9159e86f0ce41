//! Starts telemetry for the process, and ends it.

use super::{
    OtlpSettings, Settings, SpanLimits, log, metrics, panic, propagation, redact,
    sentry::{self, Sentry},
    spans::{self, HeadSampler, OtlpSink, Sink, SpanPipeline, TailProcessor},
    user_id,
};
use ::sentry::SentryFutureExt;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracerProvider, Tracer},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{
    Layer, Registry,
    filter::filter_fn,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// What is kept of the time to end for Sentry's own, when a collector takes the rest.
const SENTRY_FLUSH_RESERVE: Duration = Duration::from_millis(200);

/// Telemetry cannot start.
#[derive(Debug, thiserror::Error)]
#[error("OTEL_EXPORTER_OTLP_ENDPOINT and its family: {0}")]
pub struct StartError(#[from] ExporterBuildError);

/// What has to be ended.
#[derive(Debug, Default)]
pub struct Telemetry {
    span_pipeline: Option<Arc<SpanPipeline>>,
    sentry: Option<Sentry>,
}

/// Starts logs, and, unless it is switched off, spans and reports, for the process. A second call, as from a test, leaves the
/// first in place.
///
/// # Errors
/// When the OTLP exporter cannot use its settings.
pub fn init(settings: &Settings) -> Result<Telemetry, StartError> {
    redact::install(settings.secrets.clone());
    panic::install();
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![log::layer(settings)];
    let mut telemetry = Telemetry::default();
    if settings.enabled {
        if let Some(salt) = &settings.user_id_salt {
            user_id::set_salt(salt.clone());
        }
        let (head, resource) = (HeadSampler::new(settings.sample_rate), resource(settings));
        let sentry = settings.sentry.as_ref().map(|sentry| Sentry::start(sentry, settings));
        let mut sinks: Vec<Box<dyn Sink>> = sentry.iter().map(Sentry::sink).collect();
        if let Some(OtlpSettings { endpoint, max_queue_size }) = &settings.otlp {
            sinks.push(Box::new(OtlpSink::start(endpoint, *max_queue_size, settings.limits, &resource)?));
        }
        let pipeline = SpanPipeline::install(head.clone(), settings.limits, sinks);
        layers.push(otel_layer(settings, head, resource, pipeline.clone()));
        let mut listeners: Vec<EventListener<Registry>> = vec![(is_error, KeepFailedTraces.boxed())];
        if sentry.is_some() {
            listeners.extend(sentry::event_listeners());
        }
        layers.push(event_listeners_layer(listeners));
        metrics().set_telemetry_sample_rate(settings.sample_rate.get());
        propagation::set_identity(identity(settings));
        propagation::set_allowed_hosts(settings.trace_hosts.clone());
        telemetry = Telemetry { span_pipeline: Some(pipeline), sentry };
    }
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layers));
    Ok(telemetry)
}

fn identity(settings: &Settings) -> propagation::ServiceIdentity {
    propagation::ServiceIdentity {
        public_key: settings.sentry.as_ref().map(|sentry| sentry.dsn.get().public_key().to_owned()).unwrap_or_default(),
        release: settings.service_version.clone(),
        environment: settings.environment.clone(),
        sample_rate: settings.sample_rate.get(),
    }
}

fn resource(settings: &Settings) -> Resource {
    // What OTEL_RESOURCE_ATTRIBUTES says is in the builder; what is said here by name wins.
    Resource::builder()
        .with_attributes([
            KeyValue::new("service.name", settings.service_name.clone()),
            KeyValue::new("service.version", settings.service_version.clone()),
            KeyValue::new("deployment.environment.name", settings.environment.clone()),
        ])
        .build()
}

fn otel_layer(
    settings: &Settings,
    head: HeadSampler,
    resource: Resource,
    pipeline: Arc<SpanPipeline>,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let provider = SdkTracerProvider::builder()
        .with_sampler(head)
        .with_resource(resource)
        // The limit holds for what leaves: what is cut off here could be what says that a call failed.
        .with_max_attributes_per_span(settings.limits.attributes.max(SpanLimits::default().attributes))
        .with_max_events_per_span(settings.limits.events)
        .with_max_links_per_span(settings.limits.links)
        .with_span_processor(TailProcessor::new(pipeline))
        .build();
    let layer: OpenTelemetryLayer<Registry, Tracer> = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_error_events_to_status(false);
    // Of the events only what is wrong: facts are in the spans' data.
    let ours = filter_fn(|metadata| {
        let wanted = metadata.is_span() || *metadata.level() <= Level::WARN;
        wanted && metadata.target().starts_with("registrar")
    });
    layer.with_filter(ours).boxed()
}

/// A layer that only looks at events, and which of them it wants.
pub(super) type EventListener<S> = (fn(&Metadata<'_>) -> bool, Box<dyn Layer<S> + Send + Sync>);

/// All that only look at events, as one layer: each layer with a filter of its own costs time at every step into and out of every
/// span, for it has to find out whether it is to know of it.
struct EventListeners<S>(Vec<EventListener<S>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for EventListeners<S>
where
    Self: 'static,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        for (wants, layer) in &self.0 {
            if wants(event.metadata()) {
                layer.on_event(event, context.clone());
            }
        }
    }
}

fn event_listeners_layer(listeners: Vec<EventListener<Registry>>) -> Box<dyn Layer<Registry> + Send + Sync> {
    let wanted: Vec<_> = listeners.iter().map(|(wants, _)| *wants).collect();
    let wanted = filter_fn(move |metadata| metadata.is_event() && wanted.iter().any(|wants| wants(metadata)));
    EventListeners(listeners).with_filter(wanted).boxed()
}

fn is_error(metadata: &Metadata<'_>) -> bool {
    *metadata.level() == Level::ERROR
}

/// A trace in which an error was said is kept.
struct KeepFailedTraces;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for KeepFailedTraces {
    fn on_event(&self, _event: &Event<'_>, _context: Context<'_, S>) {
        if let Some((trace_id, _)) = spans::current_trace() {
            spans::keep_failed_trace(trace_id);
        }
    }
}

/// Gives a piece of work its own Sentry hub: what is said in it gets nobody else's breadcrumbs.
pub async fn with_isolated_hub<T>(work: impl Future<Output = T>) -> T {
    if sentry::is_enabled() { work.bind_hub(sentry::new_isolated_hub()).await } else { work.await }
}

impl Telemetry {
    /// Sends what is still on its way, as far as that works in time.
    pub async fn shutdown(self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let left = move || deadline.saturating_duration_since(Instant::now());
        let flush = move || {
            self.sentry.iter().for_each(Sentry::end_session);
            if let Some(pipeline) = &self.span_pipeline {
                pipeline.shutdown(left().saturating_sub(SENTRY_FLUSH_RESERVE));
            }
            if let Some(sentry) = &self.sentry {
                sentry.close(left());
            }
        };
        // Whatever hangs is left behind: the process ends now.
        let _ = tokio::time::timeout(timeout, tokio::task::spawn_blocking(flush)).await;
    }
}
