//! Envelopes to Sentry. The SDK's own transports lose the envelope's `trace` header, send no Content-Type, and send one envelope
//! at a time; this one keeps, sends, and has several on their way. What it cannot take at once it drops and counts: nobody waits.

use crate::telemetry::{
    metrics::{ExportOutcome, ExportTarget, Queue, metrics},
    receiver_status::{QUEUE_ROOM_WAIT, ReceiverStatus},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use reqwest::redirect::Policy;
use sentry::{
    Envelope, Transport, TransportFactory, TransportOptions,
    client_report::{Reason, Recorder},
    transports::{RateLimiter, RateLimitingCategory},
    types::Dsn,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What waits may have this many bytes: two thousand registrations' transactions.
const MAX_QUEUED_BYTES: usize = 8 << 20;
/// Envelopes that wait, whatever they hold.
const MAX_QUEUED_ENVELOPES: usize = 4_096;
/// Envelopes on their way at once. At 40 ms each, 400 a second.
const MAX_CONCURRENT_SENDS: usize = 16;
/// How long one may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the transport that is there already: spans go to it without the client.
#[derive(Clone)]
pub(super) struct SharedTransportFactory(pub(super) Arc<EnvelopeQueue>);

impl TransportFactory for SharedTransportFactory {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        Arc::new(ClientTransport { queue: self.0.clone(), loss_recorder: options.client_report_recorder })
    }
}

/// The client's way in: errors, logs, metrics, sessions.
struct ClientTransport {
    queue: Arc<EnvelopeQueue>,
    loss_recorder: Recorder,
}

impl Transport for ClientTransport {
    fn send_envelope(&self, envelope: Envelope) {
        let mut bytes = Vec::new();
        if envelope.to_writer(&mut bytes).is_err() {
            return metrics().add_telemetry_exports(ExportTarget::Sentry, ExportOutcome::Failed, 1);
        }
        // Beside the queue of transactions, so that a crowd of those keeps no error back.
        match self.queue.try_enqueue(&self.queue.priority_tx, bytes) {
            Ok(()) => {}
            Err(QueueError::RateLimited) => self.loss_recorder.record_lost_data(&envelope, Reason::RatelimitBackoff),
            Err(QueueError::Full) => self.loss_recorder.record_lost_data(&envelope, Reason::QueueOverflow),
        }
    }

    fn flush(&self, timeout: Duration) -> bool {
        self.queue.flush(timeout)
    }
}

/// The way to Sentry.
pub(super) struct EnvelopeQueue {
    /// What people are told of: it goes first.
    priority_tx: mpsc::Sender<Vec<u8>>,
    transactions_tx: mpsc::Sender<Vec<u8>>,
    state: Arc<TransportState>,
}

struct TransportState {
    /// Taken and not yet sent or lost.
    pending: AtomicUsize,
    bytes: AtomicUsize,
    rate_limiter: Mutex<RateLimiter>,
    receiver_status: ReceiverStatus,
}

/// Why an envelope was not taken.
enum QueueError {
    RateLimited,
    Full,
}

impl EnvelopeQueue {
    /// Proxies are taken from HTTPS_PROXY and its like, on purpose: Sentry is often beyond one. Redirects are not followed, for the
    /// request holds the key.
    pub(super) fn start(dsn: &Dsn, agent: &str) -> Self {
        let ((told, first), (transactions, then)) =
            (mpsc::channel(MAX_QUEUED_ENVELOPES), mpsc::channel(MAX_QUEUED_ENVELOPES));
        let shared = Arc::new(TransportState {
            pending: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            rate_limiter: Mutex::new(RateLimiter::new()),
            receiver_status: ReceiverStatus::new("sentry"),
        });
        let client = reqwest::Client::builder().timeout(SEND_TIMEOUT).redirect(Policy::none());
        let post = EnvelopeSender {
            client: client.build().ok(),
            url: dsn.envelope_api_url().to_string(),
            auth: dsn.to_auth(Some(agent)).to_string(),
            agent: agent.to_owned(),
            state: shared.clone(),
        };
        let run = move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(send_loop(first, then, &post));
            }
        };
        // Without the thread the queues are closed, and everything counts as dropped.
        let _ = std::thread::Builder::new().name("sentry-transport".to_owned()).spawn(run);
        Self { priority_tx: told, transactions_tx: transactions, state: shared }
    }

    /// Takes a transaction, waiting a moment for room if there is none; not on a thread that anybody else waits for.
    pub(super) fn enqueue_transaction(&self, envelope: Vec<u8>) {
        self.state.receiver_status.wait_for_room(Instant::now() + QUEUE_ROOM_WAIT, || self.is_full());
        // What is lost is counted.
        let _ = self.try_enqueue(&self.transactions_tx, envelope);
    }

    fn is_full(&self) -> bool {
        self.transactions_tx.capacity() == 0 || self.state.bytes.load(Ordering::Relaxed) >= MAX_QUEUED_BYTES
    }

    fn try_enqueue(&self, queue: &mpsc::Sender<Vec<u8>>, envelope: Vec<u8>) -> Result<(), QueueError> {
        if self.state.lock_rate_limiter().is_disabled(rate_limit_category(&envelope)).is_some() {
            metrics().add_telemetry_exports(ExportTarget::Sentry, ExportOutcome::RateLimited, 1);
            return Err(QueueError::RateLimited);
        }
        let size = envelope.len();
        self.state.add_pending(size);
        // An error is taken as long as its own queue has room.
        let full = queue.same_channel(&self.transactions_tx) && self.is_full();
        if full || queue.try_send(envelope).is_err() {
            self.state.remove_pending(size);
            metrics().add_telemetry_exports(ExportTarget::Sentry, ExportOutcome::Dropped, 1);
            return Err(QueueError::Full);
        }
        Ok(())
    }

    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.state.pending.load(Ordering::Relaxed) > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

impl TransportState {
    fn lock_rate_limiter(&self) -> std::sync::MutexGuard<'_, RateLimiter> {
        self.rate_limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_pending(&self, size: usize) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    fn remove_pending(&self, size: usize) {
        let pending = self.pending.fetch_sub(1, Ordering::Relaxed) - 1;
        let bytes = self.bytes.fetch_sub(size, Ordering::Relaxed) - size;
        metrics().set_telemetry_queue_depth(Queue::Sentry, pending);
        metrics().set_telemetry_buffered_bytes(bytes);
    }
}

struct EnvelopeSender {
    client: Option<reqwest::Client>,
    url: String,
    auth: String,
    agent: String,
    state: Arc<TransportState>,
}

async fn send_loop(mut first: mpsc::Receiver<Vec<u8>>, mut then: mpsc::Receiver<Vec<u8>>, post: &EnvelopeSender) {
    let mut sending = FuturesUnordered::new();
    loop {
        let room = sending.len() < MAX_CONCURRENT_SENDS;
        tokio::select! {
            biased;
            Some(envelope) = first.recv(), if room => sending.push(post.send(envelope)),
            Some(envelope) = then.recv(), if room => sending.push(post.send(envelope)),
            Some(()) = sending.next() => {}
            else => break,
        }
    }
    while sending.next().await.is_some() {}
}

impl EnvelopeSender {
    async fn send(&self, envelope: Vec<u8>) {
        let size = envelope.len();
        // What was limited meanwhile would only be refused.
        let limited = self.state.lock_rate_limiter().is_disabled(rate_limit_category(&envelope)).is_some();
        let outcome = if limited { ExportOutcome::RateLimited } else { self.post(envelope).await };
        metrics().add_telemetry_exports(ExportTarget::Sentry, outcome, 1);
        self.state.remove_pending(size);
    }

    async fn post(&self, envelope: Vec<u8>) -> ExportOutcome {
        let Some(client) = &self.client else { return ExportOutcome::Failed };
        let request = client
            .post(&self.url)
            .header("X-Sentry-Auth", &self.auth)
            .header("User-Agent", &self.agent)
            // Without it, Spotlight answers 200 and drops what came.
            .header("Content-Type", "application/x-sentry-envelope")
            .body(envelope);
        let response = match request.send().await {
            Ok(response) => response,
            // Whole, it would hold the URL.
            Err(error) => {
                self.state.receiver_status.record_failure(if error.is_timeout() {
                    "it does not answer in time"
                } else {
                    "it cannot be reached"
                });
                return ExportOutcome::Failed;
            }
        };
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let refused = response.status() == reqwest::StatusCode::TOO_MANY_REQUESTS;
        // https://develop.sentry.dev/sdk/expected-features/rate-limiting/
        if let Some(limits) = header("x-sentry-rate-limits") {
            self.state.lock_rate_limiter().update_from_sentry_header(limits);
        } else if let Some(seconds) = header("retry-after").filter(|_| refused) {
            self.state.lock_rate_limiter().update_from_retry_after(seconds);
        } else if refused {
            self.state.lock_rate_limiter().update_from_429();
        }
        match (response.status().is_success(), refused) {
            (true, _) => {
                self.state.receiver_status.record_success();
                ExportOutcome::Ok
            }
            (false, true) => ExportOutcome::RateLimited,
            (false, false) => {
                self.state.receiver_status.record_failure(response.status().as_str());
                ExportOutcome::Failed
            }
        }
    }
}

/// Of what an envelope's first item is; those of ours have one kind of item each.
fn rate_limit_category(envelope: &[u8]) -> RateLimitingCategory {
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
