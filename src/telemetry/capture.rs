//! For tests: the spans that a piece of code makes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::{Subscriber, field, span};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

/// A span: its op, its parent's, and its data with all that was recorded later.
#[derive(Clone, Debug)]
pub struct Span {
    id: u64,
    pub op: &'static str,
    pub parent: Option<&'static str>,
    pub data: BTreeMap<&'static str, String>,
}

/// What `made` returns, and the spans it makes, in the order in which they begin.
pub fn spans<T>(made: impl FnOnce() -> T) -> (T, Vec<Span>) {
    let notes = Notes::default();
    let made = tracing::subscriber::with_default(tracing_subscriber::registry().with(notes.clone()), made);
    let spans = notes.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (made, spans)
}

#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Span>>>);

struct Visitor<'a>(&'a mut BTreeMap<&'static str, String>);

impl field::Visit for Visitor<'_> {
    fn record_debug(&mut self, field: &field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Notes {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut data = BTreeMap::new();
        attributes.record(&mut Visitor(&mut data));
        let parent = context.span(id).and_then(|span| span.parent()).map(|parent| parent.name());
        let span = Span { id: id.into_u64(), op: attributes.metadata().name(), parent, data };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The registry gives an id again when its span has ended: the newest one is meant.
        if let Some(span) = spans.iter_mut().rev().find(|span| span.id == id.into_u64()) {
            values.record(&mut Visitor(&mut span.data));
        }
    }
}
