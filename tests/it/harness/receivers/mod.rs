//! Where the service's telemetry goes: what Sentry and a collector would receive, and what they do when they are unwell.

pub mod encoding;
pub mod envelope;
mod mood;
mod otlp;
pub mod relay;
mod seen;
mod sentry;
mod span;

pub use envelope::Envelope;
pub use mood::{Mood, Reply};
pub use otlp::{OtlpStore, Protocol};
pub use sentry::{DSN_KEY, SentryStore};
pub use span::{Ids, Span};
