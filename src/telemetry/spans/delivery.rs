//! What is kept leaves on a thread of its own: nothing in a request waits for a collector, for Sentry, or for their encoding.

use super::{Reason, Segment};
use crate::telemetry::{SpanLimits, metrics, scrub};
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
const MOST_SPANS: usize = 8_192;

/// So long the thread lets work come together: waking for each segment by itself costs it, and whoever wakes it, more than the
/// work does.
const TOGETHER: Duration = Duration::from_millis(50);

/// Somebody who is given what is kept.
pub trait Sink: Send + Debug {
    /// Takes a segment, and does not wait.
    fn take(&mut self, segment: &Segment, reason: Reason);

    /// Sends what it has, as far as that works in time, and takes nothing more; whether it did.
    fn end(&mut self, timeout: Duration) -> bool;
}

enum Job {
    Deliver(Segment, Reason),
    End(Duration, Sender<bool>),
}

/// The way to the sinks.
#[derive(Debug)]
pub(super) struct Delivery {
    queue: Sender<Job>,
    /// Spans that wait.
    depth: Arc<AtomicUsize>,
    /// Without anybody to deliver to, nothing is worth the trouble.
    idle: bool,
}

impl Delivery {
    pub(super) fn start(sinks: Vec<Box<dyn Sink>>, limits: SpanLimits) -> Self {
        let (queue, jobs) = channel();
        let depth = Arc::new(AtomicUsize::new(0));
        let (seen, idle) = (depth.clone(), sinks.is_empty());
        // Without the thread the queue is closed, and everything counts as lost. It ends with its queue.
        let _ =
            std::thread::Builder::new().name("telemetry".to_owned()).spawn(move || run(&jobs, sinks, limits, &seen));
        Self { queue, depth, idle }
    }

    /// Whether nobody is there to deliver to.
    pub(super) fn is_idle(&self) -> bool {
        self.idle
    }

    pub(super) fn deliver(&self, segment: Segment, reason: Reason) {
        let spans = segment.len();
        let full = self.depth.fetch_add(spans, Ordering::Relaxed) >= MOST_SPANS;
        if full || self.queue.send(Job::Deliver(segment, reason)).is_err() {
            self.depth.fetch_sub(spans, Ordering::Relaxed);
            metrics().telemetry_dropped("delivery", spans as u64);
        }
    }

    /// Ends it.
    pub(super) fn end(&self, timeout: Duration) -> bool {
        let (done, ended) = channel();
        self.queue.send(Job::End(timeout, done)).is_ok() && ended.recv_timeout(timeout).unwrap_or(false)
    }
}

fn run(jobs: &Receiver<Job>, mut sinks: Vec<Box<dyn Sink>>, limits: SpanLimits, depth: &AtomicUsize) {
    while let Ok(first) = jobs.recv() {
        if matches!(first, Job::Deliver(..)) {
            std::thread::sleep(TOGETHER);
        }
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            act(job, &mut sinks, limits, depth);
        }
    }
}

fn act(job: Job, sinks: &mut [Box<dyn Sink>], limits: SpanLimits, depth: &AtomicUsize) {
    match job {
        Job::Deliver(segment, reason) => {
            let (begun, spans) = (Instant::now(), segment.len());
            // One that cannot be told is lost, and not all that come after it.
            let told = catch_unwind(AssertUnwindSafe(|| tell(segment, limits, reason, sinks)));
            if told.is_err() {
                metrics().telemetry_dropped("delivery", spans as u64);
            }
            let left = depth.fetch_sub(spans, Ordering::Relaxed) - spans;
            metrics().telemetry_queue_depth("delivery", left);
            metrics().telemetry_processing(begun.elapsed());
        }
        Job::End(timeout, done) => {
            // Whoever waited may have given up.
            let _ = done.send(end(sinks, timeout));
        }
    }
}

fn tell(mut segment: Segment, limits: SpanLimits, reason: Reason, sinks: &mut [Box<dyn Sink>]) {
    segment.write_out(limits);
    segment.spans.iter_mut().for_each(scrub::span);
    sinks.iter_mut().for_each(|sink| sink.take(&segment, reason));
}

/// All at once, so that one that hangs takes no time from the others.
fn end(sinks: &mut [Box<dyn Sink>], timeout: Duration) -> bool {
    std::thread::scope(|scope| {
        let ends: Vec<_> = sinks.iter_mut().map(|sink| scope.spawn(move || sink.end(timeout))).collect();
        let ended: Vec<bool> = ends.into_iter().map(|end| end.join().unwrap_or(false)).collect();
        !ended.contains(&false)
    })
}
