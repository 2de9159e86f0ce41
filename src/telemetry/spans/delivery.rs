//! What is kept leaves on a thread of its own: nothing in a request waits for a collector, for Sentry, or for their encoding.

use super::{Reason, Segment};
use crate::telemetry::{metrics, scrub};
use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Segments that wait, about 10 MB at most: twenty seconds at 200 registrations a second.
const QUEUE: usize = 8_192;

/// Somebody who is given what is kept.
pub trait Sink: Send + Debug {
    /// Takes a segment, and does not wait.
    fn take(&mut self, segment: &Segment, reason: Reason);

    /// Sends what it has, as far as that works in time; whether it did.
    fn flush(&mut self, timeout: Duration) -> bool;
}

enum Job {
    Deliver(Segment, Reason),
    Flush(Duration, SyncSender<bool>),
}

/// The way to the sinks.
#[derive(Debug)]
pub(super) struct Delivery {
    queue: SyncSender<Job>,
    depth: Arc<AtomicUsize>,
    _thread: Mutex<Option<JoinHandle<()>>>,
}

impl Delivery {
    pub(super) fn start(sinks: Vec<Box<dyn Sink>>) -> Self {
        let (queue, jobs) = sync_channel(QUEUE);
        let depth = Arc::new(AtomicUsize::new(0));
        let seen = depth.clone();
        let thread = std::thread::Builder::new().name("telemetry".to_owned()).spawn(move || run(&jobs, sinks, &seen));
        Self { queue, depth, _thread: Mutex::new(thread.ok()) }
    }

    pub(super) fn deliver(&self, segment: Segment, reason: Reason) {
        let spans = segment.spans.len() as u64;
        self.depth.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(Job::Deliver(segment, reason)).is_err() {
            self.depth.fetch_sub(1, Ordering::Relaxed);
            metrics().telemetry_dropped("delivery", spans);
        }
    }

    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let (done, flushed) = sync_channel(1);
        let mut job = Job::Flush(timeout, done);
        // A full queue is being emptied: there is room in a moment.
        while let Err(std::sync::mpsc::TrySendError::Full(back)) = self.queue.try_send(job) {
            if Instant::now() >= deadline {
                return false;
            }
            job = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        flushed.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap_or(false)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // The thread ends with its queue.
        drop(self._thread.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn run(jobs: &Receiver<Job>, mut sinks: Vec<Box<dyn Sink>>, depth: &AtomicUsize) {
    for job in jobs {
        match job {
            Job::Deliver(mut segment, reason) => {
                let begun = Instant::now();
                segment.spans.iter_mut().for_each(scrub::span);
                sinks.iter_mut().for_each(|sink| sink.take(&segment, reason));
                let left = depth.fetch_sub(1, Ordering::Relaxed) - 1;
                metrics().telemetry_queue_depth("delivery", left);
                metrics().telemetry_processing(begun.elapsed());
            }
            Job::Flush(timeout, done) => {
                let deadline = Instant::now() + timeout;
                let left = || deadline.saturating_duration_since(Instant::now());
                let flushed = sinks.iter_mut().map(|sink| sink.flush(left())).fold(true, |all, one| all && one);
                // Whoever waited may have given up.
                let _ = done.send(flushed);
            }
        }
    }
}
