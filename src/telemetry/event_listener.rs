//! Layers that look at events alone.

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::filter_fn, layer::Context, registry::LookupSpan};

/// A layer and which events it gets.
pub(super) type EventListener<S> = (fn(&Metadata<'_>) -> bool, Box<dyn Layer<S> + Send + Sync>);

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

/// One layer for all listeners: each layer with its own filter costs time whenever a span is entered or left, because
/// the filter is asked whether the layer is enabled.
pub(super) fn event_listeners_layer<S>(listeners: Vec<EventListener<S>>) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let wanted: Vec<_> = listeners.iter().map(|(wants, _)| *wants).collect();
    let wanted = filter_fn(move |metadata| metadata.is_event() && wanted.iter().any(|wants| wants(metadata)));
    EventListeners(listeners).with_filter(wanted).boxed()
}
