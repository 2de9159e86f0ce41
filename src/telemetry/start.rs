//! Starts and shuts down telemetry for the process.

use super::{
    event_listener::{EventListener, event_listeners_layer},
    log, metrics, panic, propagation, redact,
    sentry::{self, Sentry},
    settings::{SentryDsn, Settings, SpanLimits},
    spans::{self, HeadSampler, OtlpSink, Sink, SpanPipeline, TailProcessor},
    user_id,
};
use ::sentry::SentryFutureExt;
use futures_util::future::Either;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracerProvider, Tracer},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{Event, Level, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{
    Layer, Registry,
    filter::filter_fn,
    layer::{Context, SubscriberExt},
};

/// Time of the shutdown that is left for Sentry if a collector uses the rest.
const SENTRY_FLUSH_RESERVE: Duration = Duration::from_millis(200);

/// The OTLP exporter cannot use its settings.
#[derive(Debug, thiserror::Error)]
#[error("OTEL_EXPORTER_OTLP_*: {0}")]
pub struct StartError(#[from] ExporterBuildError);

/// Running telemetry, to be shut down at the end.
#[derive(Debug, Default)]
pub struct Telemetry {
    span_pipeline: Option<Arc<SpanPipeline>>,
    sentry: Option<Sentry>,
}

/// Starts logs and, unless disabled, spans and reports for the process. After the first call, as in tests, the first
/// logs and pipeline remain.
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
        let identity = service_identity(settings);
        let (sampler, resource) = (HeadSampler::new(settings.sample_rate), resource(settings));
        let sentry = settings.sentry.as_ref().map(|sentry| Sentry::start(sentry, settings, identity.clone()));
        let mut sinks: Vec<Box<dyn Sink>> = sentry.iter().map(Sentry::sink).collect();
        if let Some(otlp) = &settings.otlp {
            sinks.push(Box::new(OtlpSink::start(otlp, settings.limits, &resource)?));
        }
        let pipeline = SpanPipeline::install(sampler.clone(), settings.limits, sinks);
        layers.push(otel_layer(settings, sampler, resource, pipeline.clone()));
        let mut listeners: Vec<EventListener<Registry>> =
            vec![(|metadata| *metadata.level() == Level::ERROR, KeepFailedTraces.boxed())];
        listeners.push(spans::call::listener());
        if settings.otlp.is_some() {
            listeners.push(spans::partial_success::listener());
        }
        if sentry.is_some() {
            listeners.extend(sentry::event_listeners());
        }
        layers.push(event_listeners_layer(listeners));
        metrics().set_telemetry_sample_rate(settings.sample_rate.get());
        propagation::set_identity(identity);
        propagation::set_allowed_hosts(settings.trace_hosts.clone());
        telemetry = Telemetry { span_pipeline: Some(pipeline), sentry };
    }
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layers));
    Ok(telemetry)
}

fn service_identity(settings: &Settings) -> propagation::ServiceIdentity {
    let dsn = settings.sentry.as_ref().map(|sentry| &sentry.dsn);
    propagation::ServiceIdentity {
        public_key: dsn.map(|dsn| dsn.get().public_key().to_owned()).unwrap_or_default(),
        org_id: dsn.and_then(SentryDsn::org_id),
        release: settings.service_version.clone(),
        environment: settings.environment.clone(),
        sample_rate: settings.sample_rate.get(),
    }
}

fn resource(settings: &Settings) -> Resource {
    // The builder includes OTEL_RESOURCE_ATTRIBUTES; these attributes override it.
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
    sampler: HeadSampler,
    resource: Resource,
    pipeline: Arc<SpanPipeline>,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_resource(resource)
        // The configured limit is applied on export: here it could cut off the attributes of a failure before the
        // decision.
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
    // Only warnings and errors become span events; facts are attributes.
    let filter = filter_fn(|metadata| {
        let is_relevant = metadata.is_span() || *metadata.level() <= Level::WARN;
        is_relevant && metadata.target().starts_with("registrar")
    });
    layer.with_filter(filter).boxed()
}

/// Keeps each trace in which an error is logged.
struct KeepFailedTraces;

impl<S: Subscriber> Layer<S> for KeepFailedTraces {
    fn on_event(&self, _event: &Event<'_>, _context: Context<'_, S>) {
        if let Some((trace_id, _)) = spans::current_trace() {
            spans::keep_failed_trace(trace_id);
        }
    }
}

/// Runs a future with its own Sentry hub, so that its events get no breadcrumbs of other work.
pub fn with_isolated_hub<W: Future>(work: W) -> impl Future<Output = W::Output> {
    if sentry::is_enabled() { Either::Left(work.bind_hub(sentry::new_isolated_hub())) } else { Either::Right(work) }
}

impl Telemetry {
    /// Flushes all exporters, as far as possible within `timeout`.
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
        // An exporter that hangs is abandoned, because the process ends now.
        let _ = tokio::time::timeout(timeout, tokio::task::spawn_blocking(flush)).await;
    }
}
