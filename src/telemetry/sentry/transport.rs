//! Envelopes to Sentry. The SDK's own transports lose the envelope's `trace` header, send no Content-Type, and send one envelope
//! at a time; this one keeps, sends, and has several on their way. What it cannot take at once it drops and counts: nobody waits.

use crate::telemetry::metrics;
use futures_util::{StreamExt, stream::FuturesUnordered};
use sentry::{
    Envelope, Transport, TransportFactory, TransportOptions,
    transports::{RateLimiter, RateLimitingCategory},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Envelopes that wait: with those of a registration at about 4 KB each, 8 MB.
const QUEUE: usize = 2_048;
/// Envelopes on their way at once. At 40 ms each, 400 a second.
const AT_ONCE: usize = 16;
/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the transport.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factory;

impl TransportFactory for Factory {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        Arc::new(Http::start(&options))
    }
}

struct Http {
    queue: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Taken and not yet sent or lost.
    pending: AtomicUsize,
    bytes: AtomicUsize,
    limits: Mutex<RateLimiter>,
}

impl Http {
    fn start(options: &TransportOptions) -> Self {
        let (queue, envelopes) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let post = Post {
            client: reqwest::Client::builder().timeout(TIMEOUT).build().ok(),
            url: options.dsn.envelope_api_url().to_string(),
            auth: options.dsn.to_auth(Some(&options.user_agent)).to_string(),
            agent: options.user_agent.to_string(),
            shared: shared.clone(),
        };
        let run = move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(run(envelopes, &post));
            }
        };
        // Without the thread the queue is closed, and everything counts as dropped.
        let _ = std::thread::Builder::new().name("sentry-transport".to_owned()).spawn(run);
        Self { queue, shared }
    }
}

impl Transport for Http {
    fn send_envelope(&self, envelope: Envelope) {
        let mut bytes = Vec::new();
        if envelope.to_writer(&mut bytes).is_err() {
            return metrics().telemetry_export("sentry", "failed", 1);
        }
        if self.shared.limits().is_disabled(category(&bytes)).is_some() {
            return metrics().telemetry_export("sentry", "rate_limited", 1);
        }
        let size = bytes.len();
        self.shared.took(size);
        if self.queue.try_send(bytes).is_err() {
            self.shared.done(size);
            metrics().telemetry_export("sentry", "dropped", 1);
        }
    }

    fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.shared.pending.load(Ordering::Relaxed) > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

impl Shared {
    fn limits(&self) -> std::sync::MutexGuard<'_, RateLimiter> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn took(&self, size: usize) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    fn done(&self, size: usize) {
        let pending = self.pending.fetch_sub(1, Ordering::Relaxed) - 1;
        let bytes = self.bytes.fetch_sub(size, Ordering::Relaxed) - size;
        metrics().telemetry_queue_depth("sentry", pending);
        metrics().telemetry_buffered_bytes(bytes);
    }
}

struct Post {
    client: Option<reqwest::Client>,
    url: String,
    auth: String,
    agent: String,
    shared: Arc<Shared>,
}

async fn run(mut envelopes: mpsc::Receiver<Vec<u8>>, post: &Post) {
    let mut sending = FuturesUnordered::new();
    loop {
        tokio::select! {
            envelope = envelopes.recv(), if sending.len() < AT_ONCE => match envelope {
                Some(envelope) => sending.push(post.send(envelope)),
                None => break,
            },
            Some(()) = sending.next() => {}
        }
    }
    while sending.next().await.is_some() {}
}

impl Post {
    async fn send(&self, envelope: Vec<u8>) {
        let size = envelope.len();
        // What was limited meanwhile would only be refused.
        let limited = self.shared.limits().is_disabled(category(&envelope)).is_some();
        let outcome = if limited { "rate_limited" } else { self.post(envelope).await };
        metrics().telemetry_export("sentry", outcome, 1);
        self.shared.done(size);
    }

    async fn post(&self, envelope: Vec<u8>) -> &'static str {
        let Some(client) = &self.client else { return "failed" };
        let request = client
            .post(&self.url)
            .header("X-Sentry-Auth", &self.auth)
            .header("User-Agent", &self.agent)
            // Without it, Spotlight answers 200 and drops what came.
            .header("Content-Type", "application/x-sentry-envelope")
            .body(envelope);
        let Ok(response) = request.send().await else { return "failed" };
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let refused = response.status() == reqwest::StatusCode::TOO_MANY_REQUESTS;
        // https://develop.sentry.dev/sdk/expected-features/rate-limiting/
        if let Some(limits) = header("x-sentry-rate-limits") {
            self.shared.limits().update_from_sentry_header(limits);
        } else if let Some(seconds) = header("retry-after").filter(|_| refused) {
            self.shared.limits().update_from_retry_after(seconds);
        } else if refused {
            self.shared.limits().update_from_429();
        }
        match (response.status().is_success(), refused) {
            (true, _) => "ok",
            (false, true) => "rate_limited",
            (false, false) => "failed",
        }
    }
}

/// Of what an envelope's first item is; those of ours have one kind of item each.
fn category(envelope: &[u8]) -> RateLimitingCategory {
    #[derive(serde::Deserialize)]
    struct Item<'a> {
        r#type: &'a str,
    }
    let header = envelope.split(|byte| *byte == b'\n').nth(1).unwrap_or_default();
    match serde_json::from_slice::<Item<'_>>(header).map(|item| item.r#type) {
        Ok("event") => RateLimitingCategory::Error,
        Ok("transaction") => RateLimitingCategory::Transaction,
        Ok("session" | "sessions") => RateLimitingCategory::Session,
        Ok("log") => RateLimitingCategory::LogItem,
        Ok("trace_metric") => RateLimitingCategory::TraceMetric,
        Ok("attachment") => RateLimitingCategory::Attachment,
        Ok(_) | Err(_) => RateLimitingCategory::Any,
    }
}
