//! What is kept leaves on a thread of its own: nothing in a request waits for a collector, for Sentry, or for their encoding.

use super::{KeepReason, Segment};
use crate::telemetry::{
    SpanLimits,
    metrics::{Budget, Queue, metrics},
    scrub,
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

/// Spans that wait, about 8 MB: those of two thousand registrations.
const MAX_QUEUED_SPANS: usize = 8_192;

/// So long the thread lets work come together: waking for each segment by itself costs it, and whoever wakes it, more than the
/// work does.
const EXPORT_BATCH_DELAY: Duration = Duration::from_millis(50);

/// Somebody who is given what is kept.
pub trait Sink: Send + Debug {
    /// Takes a segment; waits for room no longer than a moment.
    fn export(&mut self, segment: &Segment, reason: KeepReason);

    /// Sends what it has, as far as that works in time, and takes nothing more; whether it did.
    fn shutdown(&mut self, timeout: Duration) -> bool;
}

enum Job {
    Export(Segment, KeepReason),
    Shutdown(Duration, Sender<bool>),
}

/// The way to the sinks.
#[derive(Debug)]
pub(super) struct ExportQueue {
    queue: Sender<Job>,
    /// Spans that wait.
    depth: Arc<AtomicUsize>,
    /// Without anybody to deliver to, nothing is worth the trouble.
    has_no_sinks: bool,
}

impl ExportQueue {
    pub(super) fn start(sinks: Vec<Box<dyn Sink>>, limits: SpanLimits) -> Self {
        let (queue, jobs) = channel();
        let depth = Arc::new(AtomicUsize::new(0));
        let (seen, idle) = (depth.clone(), sinks.is_empty());
        // Without the thread the queue is closed, and everything counts as lost. It ends with its queue.
        let _ = std::thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || run_export_thread(&jobs, sinks, limits, &seen));
        Self { queue, depth, has_no_sinks: idle }
    }

    /// Whether nobody is there to deliver to.
    pub(super) fn has_no_sinks(&self) -> bool {
        self.has_no_sinks
    }

    pub(super) fn enqueue(&self, segment: Segment, reason: KeepReason) {
        let spans = segment.span_count();
        let full = self.depth.fetch_add(spans, Ordering::Relaxed) >= MAX_QUEUED_SPANS;
        if full || self.queue.send(Job::Export(segment, reason)).is_err() {
            self.depth.fetch_sub(spans, Ordering::Relaxed);
            metrics().add_telemetry_dropped(Budget::Delivery, spans as u64);
        }
    }

    /// Ends it.
    pub(super) fn shutdown(&self, timeout: Duration) -> bool {
        let (done, ended) = channel();
        self.queue.send(Job::Shutdown(timeout, done)).is_ok() && ended.recv_timeout(timeout).unwrap_or(false)
    }
}

fn run_export_thread(jobs: &Receiver<Job>, mut sinks: Vec<Box<dyn Sink>>, limits: SpanLimits, depth: &AtomicUsize) {
    while let Ok(first) = jobs.recv() {
        if matches!(first, Job::Export(..)) {
            std::thread::sleep(EXPORT_BATCH_DELAY);
        }
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            handle_job(job, &mut sinks, limits, depth);
        }
    }
}

fn handle_job(job: Job, sinks: &mut [Box<dyn Sink>], limits: SpanLimits, depth: &AtomicUsize) {
    match job {
        Job::Export(segment, reason) => {
            let (begun, spans) = (Instant::now(), segment.span_count());
            // One that cannot be told is lost, and not all that come after it.
            let told = catch_unwind(AssertUnwindSafe(|| export_to_sinks(segment, limits, reason, sinks)));
            if told.is_err() {
                metrics().add_telemetry_dropped(Budget::Delivery, spans as u64);
            }
            let left = depth.fetch_sub(spans, Ordering::Relaxed) - spans;
            metrics().set_telemetry_queue_depth(Queue::Delivery, left);
            metrics().add_telemetry_processing(begun.elapsed());
        }
        Job::Shutdown(timeout, done) => {
            // Whoever waited may have given up.
            let _ = done.send(shutdown_sinks(sinks, timeout));
        }
    }
}

fn export_to_sinks(mut segment: Segment, limits: SpanLimits, reason: KeepReason, sinks: &mut [Box<dyn Sink>]) {
    segment.materialize(limits);
    segment.spans.iter_mut().for_each(scrub::span);
    sinks.iter_mut().for_each(|sink| sink.export(&segment, reason));
}

/// All at once, so that one that hangs takes no time from the others.
fn shutdown_sinks(sinks: &mut [Box<dyn Sink>], timeout: Duration) -> bool {
    std::thread::scope(|scope| {
        let ends: Vec<_> = sinks.iter_mut().map(|sink| scope.spawn(move || sink.shutdown(timeout))).collect();
        let ended: Vec<bool> = ends.into_iter().map(|end| end.join().unwrap_or(false)).collect();
        !ended.contains(&false)
    })
}
