//! Sends envelopes to Sentry.
//!
//! The SDK's own transports drop the envelope's `trace` header, send no Content-Type, and send one envelope at a time.
//! This one keeps the header and sends several concurrently. What finds its queue full is dropped and counted; no
//! caller waits.

use super::breadcrumb_times::with_text_times;
use crate::telemetry::{
    metrics::{ExportOutcome, ExportTarget, Queue, metrics},
    receiver_status::{QUEUE_ROOM_WAIT, ReceiverStatus},
    settings::is_loopback,
    targets::SENTRY_TARGET,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use reqwest::redirect::Policy;
use sentry::{
    Envelope, Transport, TransportFactory, TransportOptions,
    client_report::{Reason, Recorder},
    transports::{RateLimiter, RateLimitingCategory},
    types::Dsn,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{sync::mpsc, time::Instant};
use tracing::debug;

/// The transactions of two thousand registrations.
const MAX_QUEUED_BYTES: usize = 8 << 20;
const MAX_QUEUED_ENVELOPES: usize = 4_096;
/// At 40 ms each, 400 envelopes per second.
const MAX_CONCURRENT_SENDS: usize = 16;
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Gives the client the existing queue, which transactions enter without the client.
#[derive(Clone)]
pub(super) struct SharedTransportFactory(pub(super) Arc<EnvelopeQueue>);

impl TransportFactory for SharedTransportFactory {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        Arc::new(ClientTransport { queue: self.0.clone(), loss_recorder: options.client_report_recorder })
    }
}

/// For errors, logs, metrics and sessions, which the client sends.
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
        let bytes = with_text_times(bytes);
        // Not in the queue of transactions, so that those delay no error.
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

pub(super) struct EnvelopeQueue {
    /// Errors, logs, metrics and sessions are sent before transactions.
    priority_tx: mpsc::Sender<Vec<u8>>,
    transactions_tx: mpsc::Sender<Vec<u8>>,
    state: Arc<TransportState>,
}

struct TransportState {
    /// Envelopes that are queued or being sent, and their bytes below.
    pending: AtomicUsize,
    bytes: AtomicUsize,
    rate_limiter: Mutex<RateLimiter>,
    receiver_status: ReceiverStatus,
}

enum QueueError {
    RateLimited,
    Full,
}

impl EnvelopeQueue {
    /// Uses the proxies of HTTPS_PROXY and the like, because Sentry is often behind one, except for loopback. Follows no
    /// redirects, because the request holds the key. With `debug`, each envelope is logged.
    pub(super) fn start(dsn: &Dsn, agent: &str, debug: bool) -> Self {
        let (priority_tx, priority_rx) = mpsc::channel(MAX_QUEUED_ENVELOPES);
        let (transactions_tx, transactions_rx) = mpsc::channel(MAX_QUEUED_ENVELOPES);
        let state = Arc::new(TransportState {
            pending: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            rate_limiter: Mutex::new(RateLimiter::new()),
            receiver_status: ReceiverStatus::new("sentry"),
        });
        let client = reqwest::Client::builder().timeout(SEND_TIMEOUT).redirect(Policy::none()).referer(false);
        let client = if is_loopback(dsn.host()) { client.no_proxy() } else { client };
        let sender = EnvelopeSender {
            client: client.build().ok(),
            url: dsn.envelope_api_url().to_string(),
            auth: dsn.to_auth(Some(agent)).to_string(),
            agent: agent.to_owned(),
            debug,
            state: state.clone(),
        };
        let run = move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(send_loop(priority_rx, transactions_rx, &sender));
            }
        };
        // If the thread cannot start, the channels are closed and all envelopes count as dropped.
        let _ = std::thread::Builder::new().name("sentry-transport".to_owned()).spawn(run);
        Self { priority_tx, transactions_tx, state }
    }

    /// Waits at most [`QUEUE_ROOM_WAIT`] for room, so it must not be called on a runtime thread.
    pub(super) fn enqueue_transaction(&self, envelope: Vec<u8>) {
        self.state.receiver_status.wait_for_room(Instant::now() + QUEUE_ROOM_WAIT, || self.is_full());
        // A loss is counted there.
        let _ = self.try_enqueue(&self.transactions_tx, envelope);
    }

    fn is_full(&self) -> bool {
        self.transactions_tx.capacity() == 0 || self.state.bytes.load(Ordering::Relaxed) >= MAX_QUEUED_BYTES
    }

    fn try_enqueue(&self, queue: &mpsc::Sender<Vec<u8>>, envelope: Vec<u8>) -> Result<(), QueueError> {
        if self.state.is_rate_limited(&envelope) {
            metrics().add_telemetry_exports(ExportTarget::Sentry, ExportOutcome::RateLimited, 1);
            return Err(QueueError::RateLimited);
        }
        let size = envelope.len();
        self.state.add_pending(size);
        // Transactions leave room for errors.
        let is_full = if queue.same_channel(&self.transactions_tx) {
            self.is_full()
        } else {
            self.state.bytes.load(Ordering::Relaxed) >= 2 * MAX_QUEUED_BYTES
        };
        if is_full || queue.try_send(envelope).is_err() {
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
    fn is_rate_limited(&self, envelope: &[u8]) -> bool {
        self.rate_limiter.lock().is_disabled(rate_limit_category(envelope)).is_some()
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
    debug: bool,
    state: Arc<TransportState>,
}

async fn send_loop(
    mut priority_rx: mpsc::Receiver<Vec<u8>>,
    mut transactions_rx: mpsc::Receiver<Vec<u8>>,
    sender: &EnvelopeSender,
) {
    let mut sending = FuturesUnordered::new();
    loop {
        let has_room = sending.len() < MAX_CONCURRENT_SENDS;
        tokio::select! {
            biased;
            Some(envelope) = priority_rx.recv(), if has_room => sending.push(sender.send(envelope)),
            Some(envelope) = transactions_rx.recv(), if has_room => sending.push(sender.send(envelope)),
            Some(()) = sending.next() => {}
            else => break,
        }
    }
    while sending.next().await.is_some() {}
}

impl EnvelopeSender {
    async fn send(&self, envelope: Vec<u8>) {
        let size = envelope.len();
        // The limit may be newer than the envelope's place in the queue.
        let kind = if self.debug { item_type(&envelope).unwrap_or_default().to_owned() } else { String::new() };
        let outcome =
            if self.state.is_rate_limited(&envelope) { ExportOutcome::RateLimited } else { self.post(envelope).await };
        if self.debug {
            debug!(target: SENTRY_TARGET, kind, bytes = size, ?outcome, "envelope for Sentry");
        }
        metrics().add_telemetry_exports(ExportTarget::Sentry, outcome, 1);
        self.state.remove_pending(size);
    }

    async fn post(&self, envelope: Vec<u8>) -> ExportOutcome {
        let Some(client) = &self.client else { return ExportOutcome::Failed };
        let envelope = with_sent_at(envelope, SystemTime::now());
        let request = client
            .post(&self.url)
            .header("X-Sentry-Auth", &self.auth)
            .header("User-Agent", &self.agent)
            // Without it, Spotlight answers 200 and drops the envelope.
            .header("Content-Type", "application/x-sentry-envelope")
            .body(envelope);
        let response = match request.send().await {
            Ok(response) => response,
            // The error's own text holds the URL.
            Err(error) => {
                let reason = if error.is_timeout() { "request timed out" } else { "connection failed" };
                self.state.receiver_status.record_failure(reason);
                return ExportOutcome::Failed;
            }
        };
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let is_rate_limited = response.status() == reqwest::StatusCode::TOO_MANY_REQUESTS;
        // https://develop.sentry.dev/sdk/expected-features/rate-limiting/
        if let Some(limits) = header("x-sentry-rate-limits") {
            self.state.rate_limiter.lock().update_from_sentry_header(limits);
        } else if let Some(seconds) = header("retry-after").filter(|_| is_rate_limited) {
            self.state.rate_limiter.lock().update_from_retry_after(seconds);
        } else if is_rate_limited {
            self.state.rate_limiter.lock().update_from_429();
        }
        match (response.status().is_success(), is_rate_limited) {
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

/// Adds the time to the envelope's header, by which Sentry corrects the times of a machine whose clock is wrong
/// (<https://develop.sentry.dev/sdk/data-model/envelopes/#envelope-headers>).
fn with_sent_at(envelope: Vec<u8>, now: SystemTime) -> Vec<u8> {
    let end = envelope.iter().position(|byte| *byte == b'\n').unwrap_or(envelope.len());
    let Ok(mut header) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&envelope[..end]) else {
        return envelope;
    };
    header.insert("sent_at".to_owned(), humantime::format_rfc3339_millis(now).to_string().into());
    let Ok(mut bytes) = serde_json::to_vec(&header) else { return envelope };
    bytes.extend_from_slice(&envelope[end..]);
    bytes
}

/// The type of the first item: our envelopes hold items of one type each.
fn item_type(envelope: &[u8]) -> serde_json::Result<&str> {
    #[derive(serde::Deserialize)]
    struct Item<'a> {
        r#type: &'a str,
    }
    let header = envelope.split(|byte| *byte == b'\n').nth(1).unwrap_or_default();
    serde_json::from_slice::<Item<'_>>(header).map(|item| item.r#type)
}

fn rate_limit_category(envelope: &[u8]) -> RateLimitingCategory {
    match item_type(envelope) {
        Ok("event") => RateLimitingCategory::Error,
        Ok("transaction") => RateLimitingCategory::Transaction,
        Ok("session" | "sessions") => RateLimitingCategory::Session,
        Ok("log") => RateLimitingCategory::LogItem,
        Ok("trace_metric") => RateLimitingCategory::TraceMetric,
        Ok("attachment") => RateLimitingCategory::Attachment,
        Ok(_) | Err(_) => RateLimitingCategory::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn the_time_is_added_to_the_header_alone() {
        let now = UNIX_EPOCH + Duration::from_millis(1_764_424_800_125);
        for (envelope, expected) in [
            ("{}\n{\"type\":\"log\"}\n{}\n", "{\"sent_at\":\"2025-11-29T14:00:00.125Z\"}\n{\"type\":\"log\"}\n{}\n"),
            ("{\"a\":\"1\"}", "{\"a\":\"1\",\"sent_at\":\"2025-11-29T14:00:00.125Z\"}"),
            ("[]\n{}\n", "[]\n{}\n"),
            ("", ""),
        ] {
            assert_eq!(with_sent_at(envelope.into(), now), expected.as_bytes(), "{envelope}");
        }
    }
}
