//! Exports kept segments on a thread of its own, so that no request waits for a collector, for Sentry, or for encoding.

use super::{segment::Segment, tail_policy::KeepReason};
use crate::telemetry::{
    metrics::{Budget, Queue, metrics},
    scrub,
    settings::SpanLimits,
};
use std::{
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};
use tokio::time::Instant;

/// About 8 MB: the spans of two thousand registrations.
const MAX_QUEUED_SPANS: usize = 8_192;

/// The thread lets jobs accumulate for this long: to wake it for each segment costs more, on both sides, than to export
/// it.
const EXPORT_BATCH_DELAY: Duration = Duration::from_millis(50);

pub(in crate::telemetry) trait Sink: Send + Debug {
    /// Waits for room at most [`QUEUE_ROOM_WAIT`](crate::telemetry::receiver_status::QUEUE_ROOM_WAIT).
    fn export(&mut self, segment: &Segment, reason: KeepReason);

    /// Flushes and closes the sink; returns whether it finished in time.
    fn shutdown(&mut self, timeout: Duration) -> bool;
}

enum Job {
    Export(Segment, KeepReason),
    Shutdown(Duration, Sender<bool>),
}

#[derive(Debug)]
pub(super) struct ExportQueue {
    jobs: Sender<Job>,
    queued_spans: Arc<AtomicUsize>,
    has_no_sinks: bool,
}

impl ExportQueue {
    pub(super) fn start(sinks: Vec<Box<dyn Sink>>, limits: SpanLimits) -> Self {
        let (sender, jobs) = channel();
        let has_no_sinks = sinks.is_empty();
        let queued_spans = Arc::new(AtomicUsize::new(0));
        let thread_queued_spans = queued_spans.clone();
        // If the thread cannot start, the channel is closed and all segments count as dropped. The thread ends with the
        // channel.
        let _ = std::thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || run_export_thread(&jobs, sinks, limits, &thread_queued_spans));
        Self { jobs: sender, queued_spans, has_no_sinks }
    }

    pub(super) fn has_no_sinks(&self) -> bool {
        self.has_no_sinks
    }

    pub(super) fn enqueue(&self, segment: Segment, reason: KeepReason) {
        let spans = segment.span_count();
        let is_full = self.queued_spans.fetch_add(spans, Ordering::Relaxed) >= MAX_QUEUED_SPANS;
        if is_full || self.jobs.send(Job::Export(segment, reason)).is_err() {
            self.queued_spans.fetch_sub(spans, Ordering::Relaxed);
            metrics().add_telemetry_dropped(Budget::Delivery, spans as u64);
        }
    }

    pub(super) fn shutdown(&self, timeout: Duration) -> bool {
        let (done, ended) = channel();
        self.jobs.send(Job::Shutdown(timeout, done)).is_ok() && ended.recv_timeout(timeout).unwrap_or(false)
    }
}

fn run_export_thread(
    jobs: &Receiver<Job>,
    mut sinks: Vec<Box<dyn Sink>>,
    limits: SpanLimits,
    queued_spans: &AtomicUsize,
) {
    while let Ok(first) = jobs.recv() {
        if matches!(first, Job::Export(..)) {
            std::thread::sleep(EXPORT_BATCH_DELAY);
        }
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            handle_job(job, &mut sinks, limits, queued_spans);
        }
    }
}

fn handle_job(job: Job, sinks: &mut [Box<dyn Sink>], limits: SpanLimits, queued_spans: &AtomicUsize) {
    match job {
        Job::Export(segment, reason) => {
            let (started, spans) = (Instant::now(), segment.span_count());
            // A panic loses this segment and not the ones after it.
            if catch_unwind(AssertUnwindSafe(|| export_to_sinks(segment, limits, reason, sinks))).is_err() {
                metrics().add_telemetry_dropped(Budget::Delivery, spans as u64);
            }
            let left = queued_spans.fetch_sub(spans, Ordering::Relaxed) - spans;
            metrics().set_telemetry_queue_depth(Queue::Delivery, left);
            metrics().add_telemetry_processing(started.elapsed());
        }
        Job::Shutdown(timeout, done) => {
            // The receiver is gone if it timed out.
            let _ = done.send(shutdown_sinks(sinks, timeout));
        }
    }
}

fn export_to_sinks(mut segment: Segment, limits: SpanLimits, reason: KeepReason, sinks: &mut [Box<dyn Sink>]) {
    segment.materialize(limits);
    segment.spans.iter_mut().for_each(scrub::span);
    sinks.iter_mut().for_each(|sink| sink.export(&segment, reason));
}

/// In parallel, so that a sink that hangs takes no time from the others.
fn shutdown_sinks(sinks: &mut [Box<dyn Sink>], timeout: Duration) -> bool {
    std::thread::scope(|scope| {
        let threads: Vec<_> = sinks.iter_mut().map(|sink| scope.spawn(move || sink.shutdown(timeout))).collect();
        let results: Vec<bool> = threads.into_iter().map(|thread| thread.join().unwrap_or(false)).collect();
        !results.contains(&false)
    })
}
