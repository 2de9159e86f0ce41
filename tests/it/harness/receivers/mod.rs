//! Receivers of the service's telemetry, Sentry and an OpenTelemetry collector, which can be made to fail.

mod behavior;
pub mod encoding;
pub mod envelope;
mod otlp;
mod received;
mod sentry;
pub mod sentry_relay;
mod span;

pub use behavior::{Behavior, Reply};
pub use envelope::Envelope;
pub use otlp::{OtlpStore, Protocol};
pub use sentry::{DSN_KEY, SentryStore};
pub use span::{Ids, Span};
